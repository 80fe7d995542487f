"""The registry of scoring engines. Each is one file here, one line below, and passes the one contract test.

Engines beside torch are optional extras; nothing of them is imported before one is asked for.
"""

import importlib.util
import json
from collections.abc import Iterator, Mapping
from importlib import import_module
from pathlib import Path

from tasks.core.engines.protocol import Engine, EngineKind, EngineOptions
from tasks.core.errors import ModelError, SettingsError
from tasks.core.models.classifier import Classifier

TORCH = "torch"
TORCH_FP32 = "torch-fp32"  # whatever the processor multiplies in
#: Those that run a version in the precision of its training where none is asked for.
RUN_BY_TORCH = (TORCH, TORCH_FP32, "cascade-torch")
#: What was found when the engines of a model were compared, beside its config.json; "chosen" names the one to use.
CHOICE = "engines.json"
FOLDER = "engines"
#: Engines by name, and the module whose KIND each is; "module:NAME" where a module has several.
_MODULES = {
    TORCH: "tasks.core.engines.torch_engine",
    TORCH_FP32: "tasks.core.engines.torch_engine:FP32",
    "openvino": "tasks.core.engines.openvino_engine",
    "openvino-int8": "tasks.core.engines.openvino_engine:INT8",
    "onnx": "tasks.core.engines.onnx_engine",
    "onnx-int8": "tasks.core.engines.onnx_engine:INT8",
    "cascade": "tasks.core.engines.cascade.engine",
    "cascade-bf16": "tasks.core.engines.cascade.engine:BF16",
    "cascade-torch": "tasks.core.engines.cascade.engine:BY_TORCH",
}


class _Kinds(Mapping[str, EngineKind]):
    """Names to kinds; a module is imported when its kind is asked for."""

    def __getitem__(self, name: str) -> EngineKind:
        module, _, attribute = _MODULES[name].partition(":")
        return getattr(import_module(module), attribute or "KIND")

    def __iter__(self) -> Iterator[str]:
        return iter(_MODULES)

    def __len__(self) -> int:
        return len(_MODULES)


def kinds() -> Mapping[str, EngineKind]:
    """Every engine there is, whether or not its packages are installed."""
    return _Kinds()


def kind_of(name: str) -> EngineKind:
    """Raises SettingsError where there is no such engine."""
    if name not in _MODULES:
        raise SettingsError(
            f"No scoring engine {name!r}", "engine", f"choose one of {', '.join(_MODULES)}"
        )
    return _Kinds()[name]


def missing_packages(name: str) -> tuple[str, ...]:
    """Which packages an engine wants that are not installed; they are not imported for that."""
    return tuple(
        package for package in kind_of(name).packages if importlib.util.find_spec(package) is None
    )


def available(name: str) -> bool:
    """True where the packages of an engine are installed."""
    return name in _MODULES and not missing_packages(name)


def require(name: str) -> EngineKind:
    """An engine whose packages are there.

    Raises:
        SettingsError: no such engine, or a package is missing; it says which extra brings it.
    """
    kind = kind_of(name)
    if missing := missing_packages(name):
        raise SettingsError(
            f"The engine {name} wants {', '.join(missing)}, which is not installed here",
            "engine",
            f"pip install 'nightshift[{kind.extra}]' on every machine that scores, or choose the engine torch",
        )
    return kind


def open_engine(
    name: str, classifier: Classifier, model_folder: Path, options: EngineOptions
) -> Engine:
    """An engine for a model, ready to score.

    Args:
        name: one of `kinds()`.
        classifier: as `modeling.load` gives it; the engine may change or keep it, so do not use it otherwise.
        model_folder: where it was loaded from.
        options: how to run it.
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
    """The engine that was found best for a model when it was registered; torch where nothing was compared.

    Raises:
        ModelError: the record of it is damaged.
    """
    return _found(model_folder)[0]


def substitute(model_folder: Path) -> str:
    """What scores where the packages of the recommended engine are missing: torch where it was shown to do, else fp32.

    Raises:
        ModelError: the record of it is damaged.
    """
    return TORCH if TORCH in _found(model_folder)[1] else TORCH_FP32


def _found(model_folder: Path) -> tuple[str, set[str]]:
    """The engine that was chosen, and all that might have been."""
    path = model_folder / CHOICE
    if not path.is_file():
        return TORCH, {TORCH}
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        rows = found.get("rows", [])
        return str(found["chosen"]), {str(row["name"]) for row in rows if row.get("eligible")}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ModelError(
            f"It cannot be read which engine suits the model: {error}",
            str(path),
            "choose an engine by name, or register the model again",
        ) from error
