"""What is written down of the engines of a model: each one's speed and answers, and which was chosen."""

from pydantic import Field

from tasks.core.cascade import CascadeRecord
from tasks.core.records import Record


class EngineRow(Record):
    """An engine, and what it did on the validation rows; None where it was not measured, and `note` says why."""

    name: str
    reviews_per_second: float | None = None
    agreement: float | None = Field(default=None, description="Share of labels that are fp32's.")
    largest_change: float | None = Field(default=None, description="Of a probability.")
    accuracy: float | None = None
    eligible: bool = False
    note: str = ""


class EngineChoice(Record):
    """The engine chosen for a model, and what it was chosen from."""

    version: int = 1
    chosen: str
    rows: list[EngineRow] = Field(default=[])
    judged_rows: int = 0
    fp32_accuracy: float | None = None
    cascades: dict[str, CascadeRecord] = Field(default={}, description="What was fitted of each.")
    machine: dict[str, str] = Field(default={})

    @property
    def row(self) -> EngineRow | None:
        """What the chosen engine did."""
        return next((row for row in self.rows if row.name == self.chosen), None)

    @property
    def cascade(self) -> CascadeRecord | None:
        """What the chosen engine is made of, where it is a cascade."""
        return self.cascades.get(self.chosen)

    def __str__(self) -> str:
        row = self.row
        if row is None or row.agreement is None:
            return f"{self.chosen}; none was compared"
        text = (
            f"{self.chosen}: {row.reviews_per_second:,.1f} reviews/s, {row.agreement:.2%} of labels as in fp32 on "
            f"{self.judged_rows:,} validation reviews"
        )
        if cascade := self.cascade:
            bands = ", ".join(f"{stage.name} {stage.band:.3g}" for stage in cascade.stages[:-1])
            text += f"; band {bands}, {cascade.rescored_share:.1%} scored again"
        return text
