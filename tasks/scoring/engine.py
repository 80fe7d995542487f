"""Choose the engine and precision of a run, once at its start, so that all workers score alike."""

import logging
from typing import Literal

import torch

from tasks.core.engines import registry
from tasks.core.engines.registry import WantedEngine
from tasks.core.models import classifier
from tasks.core.models.devices import precision_of_version, resolve_precision
from tasks.core.models.params import Precision
from tasks.core.records import ModelVersion
from tasks.runtime.clients import model_registry
from tasks.runtime.steps import step, work_folder

logger = logging.getLogger(__name__)


@step
def pin_engine(
    version: ModelVersion, requested: WantedEngine, device: str, precision: Precision = "auto"
) -> str:
    """Return the name of the engine that all workers of a run use.

    Args:
        version: of the model.
        requested: from the form; auto uses the engine found best when the model was registered.
        device: the type of the device it runs on; the best engine was measured on a CPU.
        precision: from the form. If torch would run in fp32 anyway, it replaces an engine that is not installed.
    Raises:
        SettingsError: the requested engine is not installed here.
        ModelError: the record of the best engine is damaged.
    """
    if requested != "auto":
        registry.require(requested)
        return requested
    if device != "cpu":
        return registry.TORCH
    with work_folder("choice") as folder:
        model_registry().file_of(version, registry.CHOICE, folder)
        best = registry.recommended(folder)
        substitute = registry.substitute(folder)
    if registry.available(best):
        return best
    if resolve_precision(precision, torch.device(device)) == "fp32":
        substitute = registry.TORCH
    logger.warning(
        "%s runs best with %s, which is not installed here; it is scored by %s",
        version,
        best,
        substitute,
    )
    return substitute


@step
def pin_precision(
    version: ModelVersion, engine: str, device: str, requested: Precision
) -> Literal["fp32", "bf16"]:
    """Return the precision that all workers of a run compute in; for torch, the one that the version was judged in.

    Args:
        version: of the model.
        engine: that the run is pinned to.
        device: the type of the device it runs on.
        requested: from the form; auto leaves it to the version.
    Raises:
        ModelError: the record of the training precision of the version is damaged.
    """
    if engine == registry.TORCH_FP32:
        return "fp32"
    trained: Precision = "auto"
    if requested == "auto" and engine in registry.RUN_BY_TORCH:
        with work_folder("precision") as folder:
            model_registry().file_of(version, classifier.CARD, folder)
            trained = classifier.trained_precision(folder)
    return precision_of_version(requested, trained, torch.device(device))
