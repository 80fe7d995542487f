"""The registry of scoring engines. Each one is a module here, has a line below, and passes the same contract test.

Engines other than torch are optional extras. Nothing of them is imported until one is requested, nor is torch, so that
forms can import this module.
"""

import importlib.util
import json
import logging
from collections.abc import Iterator, Mapping
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

from tasks.core.errors import ModelError, SettingsError

if TYPE_CHECKING:
    from tasks.core.engines.protocol import Engine, EngineKind, EngineOptions
    from tasks.core.models.classifier import Classifier

logger = logging.getLogger(__name__)

EngineName: TypeAlias = Literal[
    "torch", "torch-fp32", "openvino", "openvino-int8", "cascade", "cascade-bf16"
]
WantedEngine: TypeAlias = Literal["auto", EngineName]
#: Engines of release 0.1 that Nightshift no longer has; stored parameters may name them.
REMOVED = frozenset({"onnx", "onnx-int8", "cascade-torch"})

TORCH: Final = "torch"
TORCH_FP32: Final = "torch-fp32"  # fp32 even if the processor multiplies in bf16
#: Engines that run a version in the precision of its training if none is requested.
RUN_BY_TORCH = (TORCH, TORCH_FP32)
#: The result of comparing a model's engines, beside its config.json; "chosen" names the one to use.
CHOICE = "engines.json"
FOLDER = "engines"
#: Engine names and the module whose KIND each is; "module:NAME" if a module has several.
_MODULES: dict[str, str] = {
    TORCH: "tasks.core.engines.torch_engine",
    TORCH_FP32: "tasks.core.engines.torch_engine:FP32",
    "openvino": "tasks.core.engines.openvino_engine",
    "openvino-int8": "tasks.core.engines.openvino_engine:INT8",
    "cascade": "tasks.core.engines.cascade.engine",
    "cascade-bf16": "tasks.core.engines.cascade.engine:BF16",
}


class _Kinds(Mapping[str, "EngineKind"]):
    """A mapping from names to kinds. A module is imported when its kind is requested."""

    def __getitem__(self, name: str) -> "EngineKind":
        module, _, attribute = _MODULES[name].partition(":")
        return getattr(import_module(module), attribute or "KIND")

    def __iter__(self) -> Iterator[str]:
        return iter(_MODULES)

    def __len__(self) -> int:
        return len(_MODULES)


def warn_if_removed(name: object) -> bool:
    """Log a warning and return True for an engine that Nightshift no longer has."""
    if not isinstance(name, str) or name not in REMOVED:
        return False
    logger.warning("The engine %s is no longer part of Nightshift, and is left out", name)
    return True


def kinds() -> "Mapping[str, EngineKind]":
    """Return all engines, whether or not their packages are installed."""
    return _Kinds()


def kind_of(name: str) -> "EngineKind":
    """Return the kind of an engine. Raises SettingsError if there is none of that name."""
    if name not in _MODULES:
        raise SettingsError(
            f"No scoring engine {name!r}", "engine", f"choose one of {', '.join(_MODULES)}"
        )
    return _Kinds()[name]


def missing_packages(name: str) -> tuple[str, ...]:
    """Return the packages that an engine needs and that are not installed, without importing them."""
    return tuple(
        package for package in kind_of(name).packages if importlib.util.find_spec(package) is None
    )


def available(name: str) -> bool:
    """True if the packages of an engine are installed."""
    return name in _MODULES and not missing_packages(name)


def require(name: str) -> "EngineKind":
    """Return the kind of an engine whose packages are installed.

    Raises:
        SettingsError: no such engine, or a package is missing; the error names the extra that installs it.
    """
    kind = kind_of(name)
    if missing := missing_packages(name):
        raise SettingsError(
            f"The engine {name} needs {', '.join(missing)}, which is not installed here",
            "engine",
            f"pip install 'nightshift[{kind.extra}]' on every machine that scores, or choose the engine torch",
        )
    return kind


def open_engine(
    name: str, classifier: "Classifier", model_folder: Path, options: "EngineOptions"
) -> "Engine":
    """Open an engine for a model, ready to score.

    Args:
        name: one of `kinds()`.
        classifier: as `classifier.load` returns it; the engine may change or keep it, so do not use it elsewhere.
        model_folder: where it was loaded from.
        options: the settings to run it with.
    Raises:
        SettingsError: no such engine, or a package is missing.
        ModelError: the engine was not built for this model.
    """
    kind = require(name)
    folder = model_folder / FOLDER / name
    if name not in (TORCH, TORCH_FP32) and not folder.is_dir():
        raise ModelError(
            f"The model was registered without the engine {name}",
            str(folder),
            "choose the engine torch, or register the model again where the engine is installed",
        )
    return kind.open(classifier, folder, options)


def recommended(model_folder: Path) -> str:
    """Return the engine chosen for a model when it was registered, or torch if none were compared.

    Raises:
        ModelError: the record of the choice is damaged.
    """
    return _read_choice(model_folder)[0]


def substitute(model_folder: Path) -> str:
    """Return the fallback if the recommended engine's packages are missing: torch if it was eligible, else fp32.

    Raises:
        ModelError: the record of the choice is damaged.
    """
    return TORCH if TORCH in _read_choice(model_folder)[1] else TORCH_FP32


def _read_choice(model_folder: Path) -> tuple[str, set[str]]:
    """Return the chosen engine and all eligible ones."""
    path = model_folder / CHOICE
    if not path.is_file():
        return TORCH, {TORCH}
    try:
        choice = json.loads(path.read_text(encoding="utf-8"))
        rows = choice.get("rows", [])
        return str(choice["chosen"]), {str(row["name"]) for row in rows if row.get("eligible")}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ModelError(
            f"The record of the model's engine choice cannot be read: {error}",
            str(path),
            "choose an engine by name, or register the model again",
        ) from error
