"""The step that also evaluates on the champion's own test set, if a candidate is judged on another one."""

import logging

from tasks.core.errors import ModelError, RegistryError, RegistryUnavailableError
from tasks.core.evaluation.comparison import Pair
from tasks.core.evaluation.params import EvaluationParams
from tasks.core.quality.params import InspectionParams
from tasks.core.records import ModelVersion, Reference, SplitSummary
from tasks.core.release.gate.other_test_set import OtherTestSet
from tasks.core.training.records import TrainingSummary
from tasks.data.champion_data import known_by, source_of, split_of
from tasks.evaluation.predictions import evaluate_model, read_predictions
from tasks.runtime.steps import step

logger = logging.getLogger(__name__)


@step
def evaluate_on_old_test_set(
    model: Reference[TrainingSummary],
    version: ModelVersion | None,
    split: Reference[SplitSummary],
    source: str,
    evaluation: EvaluationParams,
    inspection: InspectionParams,
    most_known: float,
) -> OtherTestSet | None:
    """Evaluate both models on the champion's test set; None if it is the candidate's too, or there is no champion.

    Args:
        model: the candidate.
        version: the champion.
        split: the candidate's split.
        source: the source of the candidate's reviews.
        evaluation: how models are judged.
        inspection: the definition of a near-duplicate.
        most_known: the largest share of the old test set that the candidate may have seen; above it, it is no evidence.
    """
    if version is None:
        return None
    old = split_of(version)
    if old is None:
        gone = (
            f"the data that {version} was trained and tested on are no longer in the object store"
        )
        theirs = source_of(version)
        if theirs == source:
            return None  # the same source, whose test set is otherwise unknown
        return OtherTestSet(_differs(version, source, theirs, split, None), why_not=gone)
    if old.summary.test_digest == split.summary.test_digest:
        return None
    differs = _differs(version, source, source_of(version), split, old)
    instead = f"'promote --model-name={version.name} --who=NAME --reason=WHY --overrule' allows it"
    overlap, rows = known_by(split, old, inspection), old.summary.rows["test"]
    if overlap > most_known * rows:
        why_not = (
            f"{overlap:,} of its {rows:,} reviews ({overlap / rows:.4f}) have a near-duplicate in what the new model "
            f"was trained on, limit {most_known:.4f}"
        )
        return OtherTestSet(differs, why_not=why_not)
    try:
        own = read_predictions(evaluate_model.fn(model, old, evaluation))
        their = read_predictions(evaluate_model.fn(version, old, evaluation))
    except RegistryUnavailableError:
        raise
    except (ModelError, RegistryError) as error:  # different labels; files that are gone
        return OtherTestSet(differs, why_not=str(error))
    right = [predictions.predicted == predictions.labels for predictions in (own, their)]
    accuracies = float(right[0].mean()), float(right[1].mean())
    return OtherTestSet(differs, Pair.of(*right), accuracies, instead=instead)


def _differs(
    version: ModelVersion,
    source: str,
    theirs: str,
    split: Reference[SplitSummary],
    old: Reference[SplitSummary] | None,
) -> str:
    sets = f"{split.summary.rows['test']:,} test reviews"
    if old is not None:
        sets += f", and {version} was judged on {old.summary.rows['test']:,} others"
    if theirs == source:
        return f"the test set is a different one of the same source: {sets}"
    if not theirs:
        return (
            f"they may differ from the champion's; the prepared data of {version} are gone, so nobody can tell: this "
            f"model was trained on {source}; {sets}"
        )
    return f"both differ from the champion's: this model was trained on {source}, {version} on {theirs}; {sets}"
