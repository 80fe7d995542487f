"""Check that a trained model's folder holds only safetensors weights, tokenizer and configuration, and no code.

The GPU pool writes such folders, and other machines fetch them whole. A worker of the pool may be hostile, so file
names, sizes and the references in the configuration are checked before anything is loaded or registered.
"""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tasks.core.errors import ModelError
from tasks.core.records import StoredFile

_WEIGHTS = re.compile(r"model(-\d{5}-of-\d{5})?\.safetensors")
_OTHERS = re.compile(r"[^./][^/]*\.(json|txt|model|jinja)")
_MOST_FILES = 100
_FP32_BYTES = 4
# Allows for a head, a pooler and the file's header on top of a base model's parameters.
_MORE_WEIGHTS, _MORE_BYTES = 1.25, 64 << 20
_LARGEST_OTHER = 64 << 20  # bytes; the largest tokenizers have 35 million
_ADAPTER = "adapter_config.json"  # makes transformers load a second model, from wherever it says
_FIX = "do not use it; find out which worker wrote it, and train again"


def check_model_files(
    files: Mapping[str, StoredFile],
    parameters: int,
    where: str,
    base_files: Mapping[str, StoredFile] | None = None,
) -> None:
    """Check the files of a trained model before they are fetched.

    Args:
        files: the files by name.
        parameters: the number of parameters of the base model.
        where: the folder, for the message.
        base_files: the files of the base model; identical files are accepted.
    Raises:
        ModelError: a file does not belong in a model folder, or is larger than such a model's can be.
    """
    weights = {name: file for name, file in files.items() if _WEIGHTS.fullmatch(name)}
    for name, file in files.items():
        if name in weights or file == (base_files or {}).get(name):
            continue
        if not _OTHERS.fullmatch(name) or name == _ADAPTER:
            raise ModelError(f"A trained model has no file such as {name!r}", where, _FIX)
        if file.bytes > _LARGEST_OTHER:
            raise ModelError(f"{name!r} has {file.bytes:,} bytes, which is too large", where, _FIX)
    if not weights or "config.json" not in files:
        raise ModelError("Weights or config.json are missing", where, _FIX)
    if len(files) > _MOST_FILES:
        raise ModelError(f"{len(files):,} files are too many for a model", where, _FIX)
    size = sum(file.bytes for file in weights.values())
    limit = int(parameters * _FP32_BYTES * _MORE_WEIGHTS) + _MORE_BYTES
    if size > limit:
        raise ModelError(
            f"The weights have {size:,} bytes; a base model of {parameters:,} parameters allows at most {limit:,}",
            where,
            _FIX,
        )


def refuse_foreign_code(folder: Path) -> None:
    """Check that nothing in a model folder makes transformers fetch a kernel or a second model.

    `auto_map` is harmless: it is only followed with `trust_remote_code`, which is never on.

    Raises:
        ModelError: there is an adapter, or a kernel from a hub.
    """
    if (folder / _ADAPTER).exists():
        raise ModelError(
            "The folder holds an adapter, which names another model to load",
            str(folder / _ADAPTER),
            "merge it into the weights (peft's merge_and_unload) and save the model",
        )
    path = folder / "config.json"
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return  # loading it reports the error
    if kernel := _kernel_in(config):
        raise ModelError(
            f"config.json names a kernel to fetch from a hub: {kernel!r}",
            str(path),
            "remove the setting; code that is not installed is never run",
        )


def _kernel_in(value: Any, of_implementation: bool = False) -> str:
    """Return the first implementation in a configuration that is a hub repository's id, or '' if there is none."""
    if isinstance(value, str):
        return value if of_implementation and "/" in value else ""
    inner: list[str] = []
    if isinstance(value, list):
        inner = [_kernel_in(item, of_implementation) for item in value]
    elif isinstance(value, dict):
        inner = [
            _kernel_in(item, of_implementation or "_implementation" in str(key))
            for key, item in value.items()
        ]
    return next(filter(None, inner), "")
