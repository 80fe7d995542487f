"""Base models whose answers depend on what stands beside a text, tried from outside."""

from collections.abc import Iterator, Mapping
from pathlib import Path

from tests.cases.case import Case, Files, both, done, fast_retrain
from tests.cases.labelled_files import labelled, says
from tests.cases.servers import Bench
from tests.models import tiny_bert, tiny_gpt2
from tests.neighbours.tiny import tiny_base

#: Retrains, then scores the same texts twice: all together, and one by one.
_PROGRAM = "tests.cases.alone_and_together"


def _nothing() -> Files:
    return {}


def _made(bench: Bench, _code: Path, command: list[str]) -> Mapping[str, str]:
    """The base model, and reviews of very different lengths to learn from."""
    base = Path(next(a for a in command if "base-model=" in a).partition("=")[2])
    architecture, side = base.name.split("-")
    if not base.exists():
        folders = {"bert": tiny_bert(base.parent / "b"), "gpt2": tiny_gpt2(base.parent / "g")}
        tiny_base(architecture, folders, base)
    reviews = labelled(["neg", "pos"], 400)
    bench.store.write_bytes(reviews, f"s3://nightshift/cases/{architecture}-{side}/r.csv")
    return {}


def _cases() -> Iterator[Case]:
    for architecture, seen in {
        "fnet": "28 of 100 labels differed between alone and in a batch",
    }.items():
        place = "{base}/../" + architecture + "-{side}"
        retraining = fast_retrain(
            f"s3://nightshift/cases/{architecture}-" + "{side}/", architecture + "-{side}"
        )
        given = [part.replace("{base}", place) for part in retraining]
        yield Case(
            architecture,
            seen,
            "every text has the same label and probability alone and among others",
            _nothing,
            both(done, says(r"alone and together: 60 texts, 0 labels differ, .* at most 0\.00\d")),
            ["python", "-m", _PROGRAM, *given],
            300.0,
            prepare=_made,
        )


CASES = [*_cases()]
