"""A cascade of engines, cheapest first: a row goes on to the next stage if its answer is not clear enough.

The clearness of an answer is its margin: the logit of the best class minus that of the second best, which is the
log-odds between the two. Rows whose margin is below a stage's deferral threshold (`band`) go on to the next stage; the
last stage answers all that it gets. The decision depends on the row only, and every row has exactly one answer.

A stage may add the first stage's logits to its own, with a weight (`blending.py`): the first stage is a linear model,
which every row has passed anyway.

`fitting.py` fits the thresholds and records the results; `bands.py` describes what they promise.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tasks.core.decision import log_costs
from tasks.core.engines.cascade.bands import (
    margins,
)
from tasks.core.engines.protocol import Engine
from tasks.core.errors import ModelError
from tasks.core.models.params import Precision

Logits = NDArray[np.float32]
Ints = NDArray[np.int64]
_HEAD_SHARE = 4  # a cut row keeps a quarter of the tokens from its beginning, the rest from its end


@dataclass(frozen=True)
class Stage:
    """One engine of a cascade.

    Attributes:
        name: a name for people.
        engine: computes the logits.
        kind: the engine's name in the registry, or linear.
        folder: the engine's files, relative to the cascade's folder; the model's own folder if empty.
        model: the folder of the classifier that it runs, also relative; empty for the model itself.
        cut_tokens: rows are cut to this many tokens; 0 does not cut them.
        temperature: its logits are divided by this.
        band: the deferral threshold: rows whose margin is below it go on; the last stage answers all rows.
        blend: the weight of the first stage's logits, which are added to its own.
        precision: the engine is opened with it; auto takes the options that the cascade is opened with.
        class_costs: those in its engine's logits. A stage leaves them out; the cascade adds its model's to any answer.
    """

    name: str
    engine: Engine
    kind: str = ""
    folder: str = ""
    model: str = ""
    cut_tokens: int = 0
    temperature: float = 1.0
    band: float = 0.0
    blend: float = 0.0
    precision: Precision = "auto"
    class_costs: Sequence[float] = ()

    def logits(self, input_ids: Sequence[Sequence[int]]) -> Logits:
        """Logits on the common, calibrated scale, shape (rows, classes)."""
        if self.cut_tokens:
            input_ids = [cut(row, self.cut_tokens) for row in input_ids]
        logits = self.without_costs(self.engine.logits(input_ids))
        return logits if self.temperature == 1.0 else logits / np.float32(self.temperature)

    def without_costs(self, logits: Logits) -> Logits:
        """Return its engine's logits without the class costs."""
        return logits - log_costs(self.class_costs) if self.class_costs else logits


class Cascade:
    """An engine that consists of stages.

    Args:
        stages: cheapest first; the last is the exact one.
        class_costs: of the model, on which the labels depend; empty: none.
    Raises:
        ModelError: no stages, or their labels differ.
    """

    def __init__(self, stages: Sequence[Stage], class_costs: Sequence[float] = ()) -> None:
        if not stages:
            raise ModelError("A cascade needs a stage", "", "register the model again")
        self.label_names = stages[-1].engine.label_names
        for stage in stages:
            if stage.engine.label_names != self.label_names:
                raise ModelError(
                    "The stages of a cascade have different labels", stage.name, "fit it again"
                )
        self.stages, self._class_costs = list(stages), class_costs

    def with_costs(self, logits: Logits) -> Logits:
        """Return logits with the class costs, whose largest is the label."""
        return logits + log_costs(self._class_costs) if self._class_costs else logits

    def logits(self, input_ids: Sequence[Sequence[int]]) -> Logits:
        """Logits of unpadded rows, shape (rows, classes), float32, each row's from the stage that answered it."""
        logits = np.empty((len(input_ids), len(self.label_names)), dtype=np.float32)
        remaining = np.arange(len(input_ids))
        evidence = logits
        for number, stage in enumerate(self.stages):
            if not len(remaining):
                break
            stage_logits = stage.logits([input_ids[row] for row in remaining.tolist()])
            if not number:
                evidence = stage_logits
            elif stage.blend:
                stage_logits = np.asarray(
                    stage_logits + stage.blend * evidence[remaining], dtype=np.float32
                )
            answers = self.with_costs(stage_logits)
            logits[remaining] = answers
            remaining = remaining[~(margins(answers) >= stage.band)]  # NaN goes on, too
        return logits


def cut(row: Sequence[int], tokens: int) -> Sequence[int]:
    """Cut a row to `tokens`: a quarter from its beginning and the rest from its end, special tokens included."""
    if len(row) <= tokens:
        return row
    head = tokens // _HEAD_SHARE
    return [*row[:head], *row[head - tokens :]]
