"""The records of a cascade in cascade.json."""

from tasks.core.engines.cascade.bands import Use
from tasks.core.models.params import Precision
from tasks.core.records import Record


class StageRecord(Record):
    """The record of a stage. The fields are those of `Stage`."""

    name: str
    kind: str
    folder: str = ""
    model: str = ""
    cut_tokens: int = 0
    temperature: float = 1.0
    band: float = 0.0
    blend: float = 0.0
    precision: Precision = "auto"
    scored_share: float = 1.0  # fraction of the validation rows that reach the stage


class CascadeRecord(Record):
    """The record of a cascade, with its results on the rows it was fitted on."""

    version: int = 1
    use: Use
    stages: list[StageRecord]
    promise: str
    holds: bool = True  # True if the promise holds on the rows it was fitted on
    note: str = ""  # why its stages differ from the requested ones
    rows: int
    rescored_share: float  # fraction of the rows that the last stage scores
    agreement: float  # label agreement with the engine it is compared with
    largest_change: float  # of a probability, against that engine
    accuracy: float | None = None
    exact_accuracy: float | None = None
    better: int | None = None  # rows that only the cascade answers correctly
    worse: int | None = None  # rows that only the engine it is compared with answers correctly
    mcnemar_p: float | None = None
