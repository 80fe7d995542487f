"""The step that selects the engine that will score with a model, after training and before registration."""

import logging
import platform
import shutil
import time
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as installed
from pathlib import Path

import numpy as np
import torch
from datasets import Dataset

from tasks.core.data.texts import matching_form
from tasks.core.data.tokens.token_tables import read_tokens
from tasks.core.engines import registry
from tasks.core.engines.params import EngineChoiceParams
from tasks.core.engines.selection.agreement import too_few_for_linear
from tasks.core.engines.selection.choice import choose, worth_measuring
from tasks.core.engines.selection.records import EngineChoice
from tasks.core.engines.selection.texts import TokenRows
from tasks.core.engines.selection.timing import Clock
from tasks.core.models import classifier
from tasks.core.models.devices import resolve_precision
from tasks.core.records import Reference, SplitSummary
from tasks.core.training.records import TokensSummary, TrainingSummary
from tasks.data.test_set import read_test_set
from tasks.engines.build import build_apart
from tasks.engines.scored_texts import texts_scored_before
from tasks.runtime.steps import fetched, reuse_or_make, step

logger = logging.getLogger(__name__)

ENGINES_VERSION = 6
CLOCK: Clock = time.perf_counter
# Nightshift no longer uses onnxruntime; where it is installed, digests of release 0.1 name it.
_PACKAGES = ("torch", "transformers", "openvino", "nncf", "onnxruntime")
_NO_ROWS = TokenRows([], np.empty(0, dtype=np.int64))


@step
def choose_engine(
    model: Reference[TrainingSummary],
    tokens: Reference[TokensSummary],
    split: Reference[SplitSummary],
    params: EngineChoiceParams,
    model_name: str,
) -> Reference[EngineChoice]:
    """Build and compare the engines that are installed here, or reuse the result for identical inputs.

    The result is a folder with engines.json and engines/, which is kept with the model. If there is nothing to compare,
    the step takes no time.

    Args:
        model: the trained model.
        tokens: the tokens that it was trained on.
        split: the split with the test set, whose reviews are excluded from the comparison.
        params: what is compared, and the tolerances.
        model_name: the registered model; engines are compared on reviews that its versions have scored, before others.
    """
    params = _params_here(params)
    compares = worth_measuring(params)
    scored = _scored_before(model_name, split, params.judged_rows) if compares else []
    machine = this_machine() if compares else {}
    inputs = {
        "version": ENGINES_VERSION,
        "model": model.digest,
        "params": params.identity(),
        # More texts justify another comparison, different texts do not.
        "scored_before": len(scored),
        "kept_out": split.digest if scored else "",
        "installed": [name for name in params.candidates if registry.available(name)],
        "machine": machine,
    }

    def make(folder: Path) -> EngineChoice:
        if not compares:
            return choose(folder, _NO_ROWS, _NO_ROWS, params, CLOCK, machine)
        with fetched(model) as source, fetched(tokens) as data:
            validation, train = map(_rows, read_tokens(data, ("validation", "train")))
            ids = classifier.load(source).encoder.encode(scored).input_ids if scored else []
            choice = choose(source, validation, train, params, CLOCK, machine, build_apart, ids)
            shutil.move(source / registry.CHOICE, folder)
            if (source / registry.FOLDER).is_dir():
                shutil.move(source / registry.FOLDER, folder)
        return choice

    reference = reuse_or_make("engines", inputs, EngineChoice, make)
    log = logger.warning if reference.summary.too_few else logger.info
    log("The model will be scored by %s", reference.summary)
    return reference


def _scored_before(model_name: str, split: Reference[SplitSummary], most: int) -> list[str]:
    """Return reviews that were scored, without those of the test set, which has to verify the choice."""
    tested = set(map(matching_form, read_test_set(split).texts))
    return texts_scored_before(model_name, most, tested)


def warn_of_few_rows(split: Reference[SplitSummary], params: EngineChoiceParams) -> None:
    """Warn before a training that a cascade cannot begin with a linear model although that was requested."""
    if why_not := too_few_for_linear(split.summary.rows["validation"], _params_here(params)):
        logger.warning(why_not)


def _params_here(params: EngineChoiceParams) -> EngineChoiceParams:
    """Return the settings for this machine: nothing is compared on a GPU, because the other engines are for CPUs."""
    measure = params.measure and not torch.cuda.is_available()
    return params.model_copy(update={"measure": measure})


def this_machine() -> dict[str, str]:
    """Return what an engine's speed depends on besides the model: the processor, its threads, the libraries."""
    versions: dict[str, str] = {}
    for name in _PACKAGES:
        try:
            versions[name] = installed(name)
        except PackageNotFoundError:
            continue
    return {
        "cpu": _processor(),
        "threads": str(torch.get_num_threads()),
        "precision": resolve_precision("auto", torch.device("cpu")),
        **versions,
    }


def _processor() -> str:
    """Return the processor's name from Linux, or what Python knows of it elsewhere."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, "") or platform.processor() or platform.machine()


def _rows(tokens: Dataset) -> TokenRows:
    return TokenRows(list(tokens["input_ids"]), np.asarray(tokens["labels"], dtype=np.int64))
