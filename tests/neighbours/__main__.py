"""Whether answers depend on neighbours, over every architecture: `python -m tests.neighbours` (`make neighbours`).

Each sequence classifier of transformers is built tiny and asked as before a training. Then it scores texts as a version
does, all together and one by one: a text whose answer differs is a miss, and the exit status 1. What was found goes to
docs/neighbours.md and docs/neighbours.json.
"""

import argparse
import contextlib
import io
import json
import logging
import sys
import tempfile
import time
import warnings
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers

from tasks.core.engines.torch_engine import TorchEngine
from tasks.core.errors import NightshiftError, first_line
from tasks.core.models.batching import neighbours, plan
from tasks.core.models.classifier import Classifier
from tests.models import tiny_bert, tiny_gpt2
from tests.neighbours.tiny import ARCHITECTURES, LONGEST, tiny

DOCS = Path("docs")
TEXTS = 40
#: Outcomes, in the order of the page, and what each means.
MEANINGS = {
    "padded": "passed: batches of any texts, padded on the side that is right, or packed where that is the same",
    "equal lengths": "scored in batches of texts of one length",
    "alone": "scored one by one",
    "refused": "refused with a sentence, before the training",
    "not built": "cannot be built tiny from a configuration alone, or tells no text from another here",
}
_LEAST_BUILT = 0.9  # of all: else it is the builder that is broken


@dataclass
class Row:
    """What was found of an architecture."""

    architecture: str
    outcome: str
    note: str = ""
    side: str = ""
    packed: bool = False
    difference: float | None = (
        None  # between together and alone as scored: share of the logits' range
    )
    labels: int | None = None  # of TEXTS that differ
    plain_difference: float | None = (
        None  # the same where all are padded on the right, as was done before
    )
    plain_labels: int | None = None

    @property
    def missed(self) -> bool:
        """An answer depends on its neighbours."""
        allowed = neighbours.FP32_TOLERANCE[0] + neighbours.FP32_TOLERANCE[1] * 50
        return bool(self.labels) or (self.difference or 0) > allowed


def texts(classifier: Classifier) -> list[list[int]]:
    """Rows of all lengths, with the special tokens of a text."""
    generator = np.random.default_rng(1)
    before, after = classifier.encoder.frame
    words = len(classifier.encoder.tokenizer)
    lengths = [1, LONGEST - len(before) - len(after)]
    lengths += generator.integers(1, lengths[1], TEXTS - 2).tolist()
    return [[*before, *generator.integers(5, words, n).tolist(), *after] for n in lengths]


def asked(architecture: str, folders: dict[str, Path]) -> Row:
    """Build it, ask it, and score with it."""
    try:
        classifier = tiny(architecture, folders)
    except Exception as error:  # whatever a model's code makes of a small configuration
        return Row(architecture, "not built", first_line(error))
    try:
        found = neighbours.with_batch_rule(classifier)
    except NightshiftError as error:
        return Row(architecture, "refused", error.what)
    return _scored(architecture, found)


def _scored(architecture: str, classifier: Classifier) -> Row:
    rows = texts(classifier)
    alone = neighbours.alone(classifier, rows).numpy()
    spread = float(np.ptp(alone, axis=0).max())
    if spread < 1e-3 * np.abs(alone).max():
        return Row(architecture, "not built", "it gives every text the same answer here")
    padded = neighbours.run(classifier.model, *plan.pad(rows, classifier.pad_id)).numpy()
    engine = TorchEngine(classifier, "cpu", "fp32")
    scored = [engine.logits(rows), engine.logits(rows[::-1])[::-1]]
    return Row(
        architecture,
        classifier.batch_rule,
        side=classifier.padding_side,
        packed=engine.is_packed,
        difference=max(float(np.abs(s - alone).max()) for s in scored) / spread,
        labels=max(_other_labels(s, alone) for s in scored),
        plain_difference=float(np.abs(padded - alone).max()) / spread,
        plain_labels=_other_labels(padded, alone),
    )


def _other_labels(one: Any, other: Any) -> int:
    return int((one.argmax(axis=1) != other.argmax(axis=1)).sum())


def page(rows: Sequence[Row]) -> str:
    """The documentation of what was found."""
    counts = {name: [r for r in rows if r.outcome == name] for name in MEANINGS}
    listed = "".join(
        f"| {name} | {len(found)} | {meaning} |\n"
        for (name, meaning), found in zip(MEANINGS.items(), counts.values(), strict=True)
    )
    batched = [r for r in rows if r.difference is not None]
    largest = max((r.difference or 0 for r in batched), default=0)
    minding = [r.plain_difference or 0 for r in batched if _minds(r)]
    table = "".join(
        _line(r) for r in sorted(batched, key=lambda r: (not _minds(r), r.architecture))
    )
    others = "".join(f"| {r.architecture} | {r.outcome} | {r.note} |\n" for r in rows if r.note)
    versions = (
        f"transformers {transformers.__version__} and torch {torch.__version__.split('+')[0]}"
    )
    other = sum(r.labels or 0 for r in batched)
    return f"""# Answers that depend on their neighbours

Made by `make neighbours` with {versions}: every architecture that
transformers has as a sequence classifier, tiny, with random weights. What is asked of a model, and what follows:
[engines.md](engines.md#no-answer-depends-on-its-neighbours).

| outcome | of {len(rows)} | |
|---|---|---|
{listed}
As a version is scored, {other} labels of {TEXTS} texts each differ between alone and in company, and logits by at
most {largest:.1e} of their range: that is the order of sums in fp32. Padded on the right, as was done before, what
minds its neighbours moved by {min(minding, default=0):.1e} of the range and more. Between the two lies what is allowed,
{neighbours.FP32_TOLERANCE[0]:.0e}.

| architecture | rule | padding | as scored: of the range | labels | padded on the right: of the range | labels |
|---|---|---|---|---|---|---|
{table}
| neither | | why |
|---|---|---|
{others}"""


def _minds(row: Row) -> bool:
    return (row.plain_difference or 0) > neighbours.FP32_TOLERANCE[0]


def _line(row: Row) -> str:
    how = "none: packed" if row.packed else row.side if row.outcome == "padded" else "none"
    return (
        f"| {row.architecture} | {row.outcome} | {how} | {row.difference:.1e} | {row.labels} | "
        f"{row.plain_difference:.1e} | {row.plain_labels} |\n"
    )


def _quiet() -> None:
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    transformers.logging.disable_progress_bar()


def main() -> int:
    """Exit status 1 where an answer depends on its neighbours, or too few architectures are built."""
    parser = argparse.ArgumentParser(prog="python -m tests.neighbours")
    parser.add_argument(
        "architectures", nargs="*", help="all without any; with some nothing is written"
    )
    given = parser.parse_args()
    if unknown := set(given.architectures) - set(ARCHITECTURES):
        parser.error(f"transformers has no sequence classifier {', '.join(sorted(unknown))}")
    _quiet()
    torch.set_num_threads(1)  # such small products gain nothing from two
    rows: list[Row] = []
    with tempfile.TemporaryDirectory(prefix="nightshift-neighbours-") as place:
        folders = {"bert": tiny_bert(Path(place) / "bert"), "gpt2": tiny_gpt2(Path(place) / "gpt2")}
        for architecture in given.architectures or ARCHITECTURES:
            began = time.perf_counter()
            with contextlib.redirect_stderr(io.StringIO()):
                row = asked(architecture, folders)
            took = time.perf_counter() - began
            rows.append(row)
            told = row.note or f"{row.difference:.1e} of the range, {row.labels} labels"
            verdict = "MISS" if row.missed else "ok"
            print(
                f"{verdict:<5}{architecture:<22}{row.outcome:<15}{took:5.1f} s  {told[:120]}",
                flush=True,
            )
    misses = sum(row.missed for row in rows)
    built = sum(row.outcome != "not built" for row in rows)
    if not given.architectures:
        (DOCS / "neighbours.md").write_text(page(rows), encoding="utf-8")
        written = json.dumps([asdict(row) for row in rows], indent=1)
        (DOCS / "neighbours.json").write_text(written + "\n", encoding="utf-8")
    enough = built >= _LEAST_BUILT * len(rows) or bool(given.architectures)
    print(
        f"neighbours: {built} of {len(rows)} built, {misses} misses{'' if enough else '; TOO FEW BUILT'}"
    )
    return int(bool(misses) or not enough)


if __name__ == "__main__":
    sys.exit(main())
