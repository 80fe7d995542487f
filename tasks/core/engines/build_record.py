"""The record of an engine's build: `engine.json`, written last, which serves as the commit marker."""

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tasks.core.errors import ModelError
from tasks.core.models.classifier import Classifier

RECORD = "engine.json"


def write_record(
    folder: Path,
    engine: str,
    classifier: Classifier,
    files: Sequence[str],
    facts: Mapping[str, Any],
) -> None:
    """Write the record of a build: its files, versions and weights. It must be the last file written."""
    record = {
        "engine": engine,
        "head": _head_digest(classifier),
        "files": {name: (folder / name).stat().st_size for name in files},
        **facts,
    }
    part = folder / f"{RECORD}.part"
    part.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    os.replace(part, folder / RECORD)


def read_record(folder: Path, engine: str, classifier: Classifier) -> dict[str, Any]:
    """Read the record that `write_record` wrote, and check it against the files and the classifier.

    Raises:
        ModelError: nothing was built, files are missing or truncated, or they belong to other weights.
    """
    again = "register the model again, or choose the engine torch"
    try:
        record = json.loads((folder / RECORD).read_text(encoding="utf-8"))
        files = dict(record["files"])
        same = record["engine"] == engine and record["head"] == _head_digest(classifier)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelError(
            f"The build record of the engine {engine} cannot be read: {error}", str(folder), again
        ) from error
    for name, size in files.items():
        path = folder / Path(name).name
        if not path.is_file() or path.stat().st_size != size:
            raise ModelError("A file of the engine is missing or truncated", str(path), again)
    if not same:
        raise ModelError(
            f"The folder is not a build of the engine {engine} for this model's weights",
            str(folder),
            again,
        )
    return record


def _head_digest(classifier: Classifier) -> str:
    """Return a digest that identifies the weights: that of the head, which every training and temperature changes."""
    body = {id(tensor) for tensor in classifier.model.base_model.parameters()}
    digest = hashlib.sha256()
    for name, tensor in classifier.model.named_parameters():
        if id(tensor) not in body:
            digest.update(name.encode())
            digest.update(tensor.detach().float().cpu().contiguous().numpy().tobytes())
    if classifier.class_costs:  # those of a head without a bias are in no parameter
        digest.update(repr(classifier.class_costs).encode())
    return digest.hexdigest()
