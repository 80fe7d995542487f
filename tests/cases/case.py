"""A case: small inputs, a command as a person types it, and what is right."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.cases.servers import Bench

Files = Mapping[str, bytes]  # name below the case's own prefix -> content


@dataclass(frozen=True)
class Found:
    """What became of a command."""

    status: int  # of its exit; negative: the signal that ended it
    text: str  # all that it printed
    rows: Mapping[str, int] = field(default_factory=dict[str, int])  # predictions of each object
    rejected: Mapping[str, int] = field(default_factory=dict[str, int])  # and its rejected rows
    content: Mapping[str, bytes] = field(
        default_factory=dict[str, bytes]
    )  # predictions as they lie in the store
    seconds: float = 0.0
    peak_mib: int = 0  # VmHWM of the run's process that took most
    timed_out: bool = False

    @property
    def errors(self) -> str:
        """The lines that say what is wrong, as one text."""
        flat = " ".join(self.text.split())
        return flat[flat.rfind("error:") :] if "error:" in flat else ""

    def __str__(self) -> str:
        if self.timed_out:
            return "does not end in time"
        scored = ", ".join(f"{name} {count}" for name, count in sorted(self.rows.items()))
        rejects = sum(self.rejected.values())
        rejected = f", {rejects:,} rejected" if rejects else ""
        if self.status < 0:
            end = f"ended by signal {-self.status}"
        elif not self.status:
            end = "done"
        else:
            end = self.errors or self.text.strip()[-160:] or f"exit status {self.status}"
        return f"{scored or 'nothing'} scored{rejected}; {end}"


@dataclass(frozen=True)
class Case:
    """One entry of the registry.

    Args:
        name: one word, which also names its prefix in the store.
        seen: what happened before it was mended.
        expected: what is right, for people.
        files: are put below {input}.
        command: a flow and its options, or `python` and its arguments; {input}, {output}, {base}, a tiny base model,
            and {side}, whose code it is, are put in. `score` gets input and output by itself.
        base: makes a base model of the case's own in a folder; without, a tiny BERT is there.
        wrong: says what is not as it should be, or nothing.
        most_seconds: beyond those of good data.
        environment: variables to set; of None, to unset.
        prepare: what happens before, such as a person's deletion; returns further variables.
    """

    name: str
    seen: str
    expected: str
    files: Callable[[], Files]
    wrong: Callable[[Found], str]
    command: Sequence[str] = ("score",)
    most_seconds: float = 60.0
    environment: Mapping[str, str | None] = field(default_factory=dict[str, str | None])
    prepare: "Callable[[Bench, Path, list[str]], Mapping[str, str]] | None" = None
    base: Callable[[Path], Path] | None = None


def scored(**rows: int) -> Callable[[Found], str]:
    """Exactly these objects are scored, named without their extensions, each with so many rows."""

    def wrong(found: Found) -> str:
        there = {name.partition(".")[0]: count for name, count in found.rows.items()}
        return "" if there == rows else f"scored are {there or 'none'}, not {rows}"

    return wrong


def done(found: Found) -> str:
    """The command ends well."""
    return "" if found.status == 0 else f"exit status {found.status}"


def fails(*words: str) -> Callable[[Found], str]:
    """The command ends with status 2 and a sentence that has all of these words, and no stack trace."""

    def wrong(found: Found) -> str:
        if found.status != 2:
            return f"exit status {found.status}, not 2"
        missing = [word for word in words if word not in found.errors]
        return f"{missing} is not in the error" if missing else ""

    return wrong


def both(*checks: Callable[[Found], str]) -> Callable[[Found], str]:
    """The first that is wrong."""

    def wrong(found: Found) -> str:
        return next((said for check in checks if (said := check(found))), "")

    return wrong


def fast_retrain(location: str, model: str) -> list[str]:
    """A retraining of seconds."""
    options = {
        "data.source.location": location,
        "registration.model-name": model,
        "training.base-model": "{base}",
        "tokenization.max-length-tokens": "48",
        "training.epochs": "3",
        "training.learning-rate": "5e-3",
        "training.device": "cpu",
        "evaluation.resamples": "100",
        "behaviour.max-cases": "10",
        "report.worst-errors": "2",
        "report.attribution-steps": "4",
    }
    return ["retrain", *(f"--{name}={value}" for name, value in options.items())]
