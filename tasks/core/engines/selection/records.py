"""Records of a model's engine selection: throughput and agreement of each engine, and the choice."""

from pydantic import Field

from tasks.core.engines.cascade.records import CascadeRecord
from tasks.core.records import Record


class EngineRow(Record):
    """The results of an engine on the texts. Values are None if it was not measured; `note` says why."""

    name: str
    reviews_per_second: float | None = None
    agreement: float | None = Field(default=None, description="Share of labels that are fp32's.")
    differing: int | None = Field(
        default=None,
        description="Texts with another label, or a probability that changed too much.",
    )
    shown: float | None = Field(
        default=None, description="Share of all reviews that do not differ, at least, at 95%."
    )
    largest_change: float | None = Field(default=None, description="Of a probability.")
    accuracy: float | None = Field(
        default=None, description="On validation reviews among the texts."
    )
    eligible: bool = False
    note: str = ""


class EngineChoice(Record):
    """The engine chosen for a model, and the results of all candidates."""

    version: int = 1
    chosen: str
    rows: list[EngineRow] = Field(default=[])
    judged_rows: int = 0
    judged_on: str = Field(default="", description="The texts, by their origin.")
    too_few: str = Field(
        default="", description="Why they cannot show what is asked for; fp32 scores."
    )
    fp32_accuracy: float | None = None
    cascades: dict[str, CascadeRecord] = Field(default={}, description="What was fitted of each.")
    machine: dict[str, str] = Field(default={})

    @property
    def row(self) -> EngineRow | None:
        """The results of the chosen engine."""
        return next((row for row in self.rows if row.name == self.chosen), None)

    @property
    def cascade(self) -> CascadeRecord | None:
        """The record of the chosen engine if it is a cascade."""
        return self.cascades.get(self.chosen)

    @property
    def identity(self) -> str:
        """The identity of the chosen engine among the model's engines: its name and stages, without measurements."""
        cascade = self.cascade
        if cascade is None:
            return self.chosen
        stages = (f"{s.name} (blended)" if s.blend else s.name for s in cascade.stages)
        return f"{self.chosen}, {cascade.use}: {' > '.join(stages)}"

    def __str__(self) -> str:
        row = self.row
        if row is None or row.agreement is None:
            return f"{self.chosen}; none was compared"
        text = (
            f"{self.chosen}: {row.reviews_per_second:,.1f} reviews/s, {row.agreement:.2%} of labels as in fp32 on "
            f"{self.judged_on}, probabilities within {row.largest_change or 0:.3f}"
        )
        if self.too_few:
            return f"{text}; {self.too_few}{self._others}"
        if cascade := self.cascade:
            thresholds = ", ".join(
                f"{stage.name} {stage.band:.3g}" for stage in cascade.stages[:-1]
            )
            text += f"; deferral threshold {thresholds}, {cascade.rescored_share:.1%} re-scored"
        return text

    @property
    def _others(self) -> str:
        """The agreement shown for the other engines, as text."""
        others = [r for r in self.rows if r.shown is not None and r.name != self.chosen]
        shown = (f"{r.name} {r.differing:,}, shows {r.shown:.1%}" for r in others)
        return f" (texts that differ: {'; '.join(shown)})" if others else ""


class EngineProof(Record):
    """The result of a chosen engine on the test set, compared with the model as it was judged, which is torch."""

    engine: str
    rows: int
    agreement: float = Field(description="Share of labels that are those of the model as judged.")
    largest_change: float = Field(default=0.0, description="Of a probability.")
    accuracy: float
    judged_accuracy: float
    better: int = Field(description="Reviews that it alone has right.")
    worse: int
    lower_bound: float = Field(description="Of the difference in accuracy, one-sided, 5%.")
    margin: float
    holds: bool = Field(description="It is no less right, or less by no more than the margin.")

    def __str__(self) -> str:
        return (
            f"on {self.rows:,} test reviews {self.engine} is right in {self.accuracy:.2%}, the model as judged in "
            f"{self.judged_accuracy:.2%} ({self.better} better, {self.worse} worse, lower by at most "
            f"{max(0.0, -self.lower_bound):.2%} at a risk of 5%); {self.agreement:.2%} of labels are the same, "
            f"probabilities within {self.largest_change:.3f}"
        )
