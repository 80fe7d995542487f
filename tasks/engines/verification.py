"""The step that verifies the engine chosen on validation reviews on the frozen test set.

The gate judges a model as torch runs it. Deferral thresholds of a cascade are fitted on the validation reviews, and a
linear model may answer most of them. Only reviews that no choice was made on show whether the engine is as accurate as
the model that was judged.
"""

import logging
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tasks.core.decision import without_costs
from tasks.core.engines import registry
from tasks.core.engines.params import EngineChoiceParams
from tasks.core.engines.protocol import EngineOptions, softmax
from tasks.core.engines.selection.records import EngineChoice, EngineProof
from tasks.core.errors import ModelError
from tasks.core.evaluation.comparison import Pair
from tasks.core.models import classifier as modeling
from tasks.core.records import Reference, SplitSummary
from tasks.core.training.records import TokensSummary, TrainingSummary
from tasks.data.test_set import read_test_set
from tasks.engines.selection import choose_engine
from tasks.evaluation.predictions import (
    Evaluation,
    Predictions,
    logits_of,
    read_predictions,
    write_predictions,
)
from tasks.runtime.steps import fetched, reuse_or_make, step

logger = logging.getLogger(__name__)

PROOF_VERSION = 2
_RISK = 0.05


def proven_engine(
    model: Reference[TrainingSummary],
    tokens: Reference[TokensSummary],
    evaluation: Evaluation,
    split: Reference[SplitSummary],
    params: EngineChoiceParams,
    model_name: str,
) -> tuple[Reference[EngineChoice], Reference[EngineProof] | None]:
    """Return the engine that is to score, and its result on the test set; None for torch, which was judged.

    An engine that is less accurate there than the model as judged is not used: a cascade falls back to an exact engine,
    and an exact engine to torch. Torch in fp32 is the reference that engines are compared with: it is used whatever the
    test set says, and also if torch was not shown to agree with it.

    Args:
        model: the trained model.
        tokens: the tokens that it was trained on.
        evaluation: the model's evaluation on the test set.
        split: the split with the test set.
        params: what is compared, and the tolerances.
        model_name: the registered model.
    """
    again = [params.model_copy(update={"cascade": "exact"})] if params.cascade != "exact" else []
    torch_may = True
    for attempt in (params, *again):
        engine = choose_engine(model, tokens, split, attempt, model_name)
        torch_may = any(r.name == registry.TORCH and r.eligible for r in engine.summary.rows)
        if engine.summary.chosen == registry.TORCH:
            return engine, None
        try:
            proof = prove_engine(model, engine, evaluation, split, params)
        except ModelError as error:  # an engine's failure must not end hours of training
            logger.warning("The engine is not used: %s", error)
            continue
        if proof.summary.holds or engine.summary.chosen == registry.TORCH_FP32:
            return engine, proof
        logger.warning("The engine is not used: %s", proof.summary)
    alone = {"candidates": [registry.TORCH, registry.TORCH_FP32], "cascade": "exact"}
    of_torch = params.model_copy(update={"measure": False} if torch_may else alone)
    return choose_engine(model, tokens, split, of_torch, model_name), None


@step
def prove_engine(
    model: Reference[TrainingSummary],
    engine: Reference[EngineChoice],
    evaluation: Evaluation,
    split: Reference[SplitSummary],
    params: EngineChoiceParams,
) -> Reference[EngineProof]:
    """Score the test set with the chosen engine, and compare it with the model as it was judged.

    Args:
        model: the trained model.
        engine: the engine chosen for it.
        evaluation: torch's predictions for each test review.
        split: the split with the test set.
        params: the margin by which the accuracy may appear lower.
    Raises:
        ModelError: the engine fails on the test set.
    """
    inputs = {
        "version": PROOF_VERSION,
        "engine": engine.digest,
        "evaluation": evaluation.digest,
        "margin": params.accuracy_margin,
    }

    def make(folder: Path) -> EngineProof:
        judged = read_predictions(evaluation)
        answers, costs = softmax(_compute_logits(model, engine, split)), judged.class_costs
        scored = Predictions(judged.labels, without_costs(answers, costs), None, costs)
        write_predictions(folder, scored)
        predicted, reference = scored.predicted, judged.predicted
        pair = Pair.of(predicted == judged.labels, reference == judged.labels)
        lower = pair.lower(_RISK)
        return EngineProof(
            engine=engine.summary.chosen,
            rows=len(predicted),
            agreement=float((predicted == reference).mean()),
            largest_change=float(np.abs(scored.probabilities - judged.probabilities).max()),
            accuracy=float((predicted == judged.labels).mean()),
            judged_accuracy=float((reference == judged.labels).mean()),
            better=pair.better,
            worse=pair.worse,
            lower_bound=lower,
            margin=params.accuracy_margin,
            holds=pair.difference >= 0 or lower >= -params.accuracy_margin,
        )

    proof = reuse_or_make("engine-proof", inputs, EngineProof, make)
    logger.info("%s", proof.summary)
    return proof


def _compute_logits(
    model: Reference[TrainingSummary],
    engine: Reference[EngineChoice],
    split: Reference[SplitSummary],
) -> NDArray[np.float32]:
    """Return the engine's logits of the test set, shape (rows, classes). Raises ModelError if the engine fails."""
    texts = read_test_set(split).texts
    with fetched(model) as model_folder, fetched(engine) as built:
        if (built / registry.FOLDER).is_dir():  # torch has no such folder
            (built / registry.FOLDER).rename(model_folder / registry.FOLDER)
        classifier = modeling.load(model_folder)
        options = EngineOptions(device="cpu")
        opened = registry.open_engine(engine.summary.chosen, classifier, model_folder, options)
        try:
            return logits_of(classifier, texts, "Test reviews scored by the engine", opened)
        except RuntimeError as error:  # from third-party kernels
            raise ModelError(
                f"The engine failed on the test reviews: {str(error).partition(chr(10))[0]}",
                engine.summary.chosen,
                "report it to the engine's project; another engine scores the model",
            ) from error
