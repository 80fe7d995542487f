"""Label agreement of an engine with fp32: the observed value, and the lower bound it shows for all reviews."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tasks.core.decision import predict_labels
from tasks.core.engines import registry
from tasks.core.engines.cascade.bands import (
    CascadeRule,
    changes,
    disagree,
    least_rows,
    most_failures,
    shown_share,
)
from tasks.core.engines.cascade.engine import CASCADES
from tasks.core.engines.params import EngineChoiceParams
from tasks.core.engines.protocol import Engine
from tasks.core.engines.selection.texts import JudgedTexts
from tasks.core.errors import ModelError

_RISK = CascadeRule().risk
_SINGLE_TEXTS = 24  # texts that an engine also scores one by one
_BATCH_NOISE = 1e-3  # change of a probability between batches of different sizes


@dataclass(frozen=True)
class Agreement:
    """The agreement of an engine's answers with those of fp32.

    Args:
        differs: True for texts with a different label or probability, shape (texts,).
        same_labels: the fraction of texts with the same label.
        largest_change: the largest change of a probability.
        maximum_change: the allowed change; from 1 on, only labels count.
    """

    differs: NDArray[np.bool_]
    same_labels: float
    largest_change: float
    maximum_change: float

    @property
    def shown(self) -> float:
        """The lower bound of the fraction of all reviews in which the engine agrees."""
        return shown_share(int(self.differs.sum()), len(self.differs), _RISK)

    def shows(self, minimum: float) -> bool:
        """True if the engine is shown to agree in this fraction of all reviews."""
        return int(self.differs.sum()) <= most_failures(len(self.differs), 1 - minimum, _RISK)

    def __str__(self) -> str:
        how = " in label"
        if self.maximum_change < 1:
            how += f" or by more than {self.maximum_change:g} in a probability"
        counted = f"{self.differs.sum():,} of {len(self.differs):,} texts differ{how}"
        return f"{counted}: shows {self.shown:.1%}"


def agreement(
    logits: NDArray[np.float32],
    fp32: NDArray[np.float32],
    maximum_change: float,
    class_costs: Sequence[float] = (),
) -> Agreement:
    """Compare an engine's logits with those of fp32, both of shape (texts, classes); probabilities without costs."""
    return Agreement(
        disagree(logits, fp32, maximum_change + _BATCH_NOISE, class_costs),
        float((predict_labels(logits) == predict_labels(fp32)).mean()),
        float(changes(logits, fp32, class_costs).max(initial=0.0)),
        maximum_change,
    )


def require_independence(
    engine: Engine,
    input_ids: Sequence[Sequence[int]],
    answers: NDArray[np.float32],
    maximum_change: float,
    class_costs: Sequence[float] = (),
) -> None:
    """Raise ModelError if an engine's logits depend on the rest of the batch: int8 may scale by the whole batch.

    Args:
        engine: the engine.
        input_ids: the texts, as unpadded rows.
        answers: its logits of them in batches, shape (texts, classes).
        maximum_change: the allowed change of a probability.
        class_costs: those in the logits.
    """
    indices = np.linspace(0, len(answers) - 1, min(_SINGLE_TEXTS, len(answers))).astype(int)
    alone = [engine.logits([input_ids[i]]) for i in indices.tolist()]
    change = float(changes(np.concatenate(alone), answers[indices], class_costs).max(initial=0.0))
    if change > maximum_change:
        raise ModelError(
            f"Its outputs depend on the other texts in a batch: alone, a text's probability differs by {change:.3f}"
        )


def too_few(texts: JudgedTexts, minimum: float) -> str:
    """Say why no engine can be shown to agree in this fraction of all reviews; empty if the texts are enough."""
    needed = least_rows(1 - minimum, _RISK)
    if len(texts) >= needed:
        return ""
    enough = f"{needed:,} are needed" if math.isfinite(needed) else "no number is enough"
    return (
        f"{texts} cannot show that another engine agrees with fp32 in {minimum:.4g} of all reviews ({enough}), so "
        "fp32 scores; engines.keep=all also registers the engines that were built, for scoring runs that name one"
    )


def too_few_for_linear(rows: int, params: EngineChoiceParams) -> str:
    """Say why a cascade that keeps labels cannot begin with a linear model; empty if it can, or if none is requested.

    Args:
        rows: the number of texts that were not trained on.
        params: the settings of the choice.
    """
    needed = least_rows(1 - params.minimum_agreement, _RISK)
    cascades = any(name in CASCADES and registry.available(name) for name in params.candidates)
    linear_requested = params.measure and params.cascade == "labels" and cascades
    if not linear_requested or min(rows, params.judged_rows) >= needed:
        return ""
    enough = f"{needed:,}" if math.isfinite(needed) else "infinitely many"
    judged = f", of which {params.judged_rows:,} are compared" if params.judged_rows < rows else ""
    return (
        f"No linear first stage: to show that its labels match the model's, {enough} reviews that were not "
        f"trained on are needed, and there are {rows:,}{judged} [engines.cascade]: raise "
        "data.split.validation_fraction or engines.judged_rows, or lower engines.minimum_agreement"
    )
