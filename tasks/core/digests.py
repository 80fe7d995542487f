"""Digests that serve as names: the same inputs give the same name on every machine."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

NAME_LENGTH = 32  # hexadecimal digits (128 bits), enough that no two inputs share a name


def canonical_json(value: Any) -> str:
    """Return a value as canonical JSON: keys sorted, no spaces. Raises ValueError on NaN or infinity."""
    return json.dumps(
        value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    )


def digest_of(inputs: Mapping[str, Any]) -> str:
    """Return the digest of inputs; it names whatever depends on exactly these."""
    return hashlib.sha256(canonical_json(inputs).encode()).hexdigest()[:NAME_LENGTH]


def file_digest(path: Path) -> str:
    """Return the sha256 of a file's bytes, in hexadecimal."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def folder_digest(folder: Path) -> str:
    """Return one digest over the relative names and bytes of all files below `folder`."""
    files = sorted(p for p in folder.rglob("*") if p.is_file())
    return digest_of({p.relative_to(folder).as_posix(): file_digest(p) for p in files})
