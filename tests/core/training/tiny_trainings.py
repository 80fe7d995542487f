"""Trainings of tiny models that take seconds, and ways to end them."""

from pathlib import Path

from datasets import Dataset

from tasks.connectors.storage.checkpoints import CheckpointStore
from tasks.core.data.params import TokenizationParams
from tasks.core.data.tokens.tokenization import Encoder
from tasks.core.models import folders
from tasks.core.training.fine_tuning import Trained, fine_tune
from tasks.core.training.job import TrainingJob
from tasks.core.training.params import TrainingParams
from tasks.core.training.protocols import SilentListener
from tests.reviews import reviews

LABELS = ["NEGATIVE", "POSITIVE"]


SHORT = TokenizationParams(max_length_tokens=32)


def dataset(encoder: Encoder, rows: int, seed: int) -> Dataset:
    texts, labels = zip(*reviews(rows, seed), strict=True)
    ids = encoder.encode(texts).input_ids
    return Dataset.from_dict(
        {
            "input_ids": ids,
            "length": [len(i) for i in ids],
            "labels": [LABELS.index(label) for label in labels],
        }
    )


def job(base: Path, params: TrainingParams) -> TrainingJob:
    """A training of the sentences that `dataset` makes."""
    return TrainingJob(base_folder=base, label_names=LABELS, tokenization=SHORT, params=params)


class Losses(SilentListener):
    """Keeps the training losses, one every ten steps."""

    def __init__(self) -> None:
        self.train: list[float] = []

    def on_metrics(self, step: int, metrics: dict[str, float]) -> None:
        if "train_loss" in metrics:
            self.train.append(metrics["train_loss"])


def trained(
    base: Path,
    work: Path,
    rows: int = 128,
    listener: SilentListener | None = None,
    **given: object,
) -> Trained:
    params = TrainingParams.model_validate(
        {"learning_rate": 5e-3, "epochs": 2, "device": "cpu"} | given
    )
    encoder = Encoder(folders.load_tokenizer(base), SHORT)
    sets = dataset(encoder, rows, 0), dataset(encoder, 32, 1)
    return fine_tune(job(base, params), *sets, work, listener or SilentListener())


class Killed(BaseException):
    """Ends a training as a kill does: nothing may catch it."""


class KilledAt(SilentListener):
    def __init__(self, step: int) -> None:
        self.step = step

    def on_step(self, step: int, total_steps: int) -> None:
        if step == self.step:
            raise Killed


class EveryStep(CheckpointStore):
    """Does not pass a step over because the one before it is still being uploaded."""

    def due(self) -> bool:
        if self._uploading:
            self._uploading.result()
        return True
