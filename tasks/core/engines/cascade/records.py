"""What is kept of a cascade in cascade.json."""

from tasks.core.engines.cascade.bands import Use
from tasks.core.models.params import Precision
from tasks.core.records import Record


class StageRecord(Record):
    """A stage as it is written down; the fields are those of `Stage`."""

    name: str
    kind: str
    folder: str = ""
    model: str = ""
    cut_tokens: int = 0
    temperature: float = 1.0
    band: float = 0.0
    blend: float = 0.0
    precision: Precision = "auto"
    scored_share: float = 1.0  # of the validation rows: those that came so far


class CascadeRecord(Record):
    """A cascade as it is written down, with what it did on the rows it was fitted on."""

    version: int = 1
    use: Use
    stages: list[StageRecord]
    promise: str
    holds: bool = True  # what is promised, on the rows it was fitted on
    note: str = ""  # why its stages are not those that were asked for
    rows: int
    rescored_share: float  # of the rows: those that the last stage scores
    agreement: float  # of the labels with those of the engine that it is compared with
    largest_change: float  # of a probability, against that engine's
    accuracy: float | None = None
    exact_accuracy: float | None = None
    better: int | None = None  # rows that the cascade alone has right
    worse: int | None = None  # rows that the engine it is compared with alone has right
    mcnemar_p: float | None = None
