"""A run of `benchmarks.together` in a process of its own: a training or a scoring run that works on order.

    python -m benchmarks.together_run training FOLDER --seconds 8

It reads orders from the standard input. After `go` it works; when the span is over it prints its reviews per second and
works on until `stop`. A training pauses between two steps, because its listener does not return until then.
"""

import argparse
import itertools
import select
import sys
import tempfile
import time
from pathlib import Path

from datasets import Dataset

from benchmarks.speed import contenders, data, subject
from tasks.connectors.model_hub import base_model_folder
from tasks.core.models import classifier
from tasks.core.training import fine_tuning
from tasks.core.training.job import TrainingJob
from tasks.core.training.params import TrainingParams

TRAINING, MODEL = "training", "model"
_ROWS = 1024
_PIECE = 128  # reviews scored between two looks at the clock
_EPOCHS = 50  # more than any measurement takes


class Ended(Exception):
    """The standard input was closed; no more orders come."""


class Spans:
    """Counts reviews between orders; called after each piece of work, and returns only when there is more to do.

    Args:
        seconds: the length of a span.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._works = self._told = False
        self._reviews, self._started = 0, 0.0
        print(0.0, flush=True)  # ready

    def __call__(self, reviews: int) -> None:
        """Raise Ended if the other side has closed the standard input."""
        self._reviews += reviews
        if self._works and not self._told:
            spent = time.perf_counter() - self._started
            if spent >= self._seconds:
                print(self._reviews / spent, flush=True)
                self._told = True
        if self._told and select.select([sys.stdin], [], [], 0)[0]:
            self._read("stop")
            self._works = self._told = False
        if not self._works:
            self._read("go")
            self._works, self._reviews, self._started = True, 0, time.perf_counter()

    def _read(self, word: str) -> None:
        line = sys.stdin.readline()
        if not line:
            raise Ended
        assert line.strip() == word, line


class StepListener:
    """Counts the steps of a training, which is ready after its first."""

    def __init__(self, seconds: float, batch_size: int) -> None:
        self._seconds, self._batch_size = seconds, batch_size
        self._spans: Spans | None = None

    def on_step(self, step: int, total_steps: int) -> None:
        self._spans = self._spans or Spans(self._seconds)
        self._spans(self._batch_size)

    def on_metrics(self, step: int, metrics: dict[str, float]) -> None: ...


def score(engine: str, folder: Path, seconds: float) -> None:
    """Score reviews with an engine, repeatedly."""
    texts = _reviews().texts
    contender = contenders.opened(engine, folder / MODEL, contenders.EngineOptions())
    pieces = [texts[i : i + _PIECE] for i in range(0, len(texts), _PIECE)]
    contender.answers(pieces[0])
    spans = Spans(seconds)
    spans(0)
    for piece in itertools.cycle(pieces):
        contender.answers(piece)
        spans(len(piece))


def train(base: str, folder: Path, seconds: float) -> None:
    """Train on reviews with the form's own settings, repeatedly."""
    encoder = classifier.load(folder / MODEL).encoder
    tokens: Dataset = subject.tokenized(encoder, _reviews())
    params = TrainingParams(epochs=_EPOCHS, best_epoch_by="last")
    job = TrainingJob(
        base_folder=base_model_folder(base, None)[0],
        label_names=data.LABELS,
        tokenization=encoder.params,
        params=params,
    )
    with tempfile.TemporaryDirectory(dir=folder) as work:
        listener = StepListener(seconds, params.batch_size)
        fine_tuning.fine_tune(job, tokens, tokens.select(range(8)), Path(work), listener)


def _reviews() -> data.Reviews:
    return data.as_long_as_imdb(data.read("train", None), _ROWS)


def main() -> None:
    """Work until the standard input is closed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.together_run")
    parser.add_argument("kind", help="training, or an engine")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--base", required=True)
    given = parser.parse_args()
    try:
        if given.kind == TRAINING:
            train(given.base, given.folder, given.seconds)
        else:
            score(given.kind, given.folder, given.seconds)
    except Ended:
        return


if __name__ == "__main__":
    main()
