"""Which engine scores a run: settled once, when it begins, so that all of it is scored alike."""

import logging

from tasks.connect import model_registry
from tasks.core import engines
from tasks.core.engine_names import WantedEngine
from tasks.core.records import ModelVersion
from tasks.steps import step, work_folder

logger = logging.getLogger(__name__)


@step
def pin_engine(version: ModelVersion, wanted: WantedEngine, device: str) -> str:
    """The name of the engine that all workers of a run use.

    Args:
        version: of the model.
        wanted: by the form; auto asks what was found best when the model was registered.
        device: the type of the device it runs on; what was found best was found on a CPU.
    Raises:
        SettingsError: the engine that was named is not installed here.
        ModelError: the record of what was found best is damaged.
    """
    if wanted != "auto":
        engines.require(wanted)
        return wanted
    if device != "cpu":
        return engines.TORCH
    with work_folder("choice") as folder:
        model_registry().file_of(version, engines.CHOICE, folder)
        best = engines.recommended(folder)
    if engines.available(best):
        return best
    logger.warning("%s runs best with %s, which is not installed here: torch it is", version, best)
    return engines.TORCH
