"""Manifests as they are read: of this version of the code, or an error that says what to do."""

import json
from typing import Any

from pydantic import ValidationError as PydanticError

from tasks.connectors.local_paths import require_names
from tasks.core.digests import digest_of
from tasks.core.errors import StoreError
from tasks.core.records import Manifest

MADE_AGAIN = "delete the folder; it is made again"


def parse_manifest(content: bytes, place: str) -> tuple[Manifest, str]:
    """The manifest that bytes are, and the digest of its inputs. Raises StoreError where they are none."""
    try:
        manifest = Manifest.model_validate(json.loads(content, object_pairs_hook=_without_twins))
        inputs = digest_of(manifest.inputs)
    except PydanticError as error:
        raise StoreError(
            f"Not a manifest of this version: {error.error_count()} fields differ",
            place,
            MADE_AGAIN,
        ) from error
    except (ValueError, RecursionError) as error:
        raise StoreError(f"Not a manifest: {type(error).__name__}", place, MADE_AGAIN) from error
    require_names(manifest.files, place)
    return manifest, inputs


def _without_twins(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object; readers differ in which of two equal names they take, so that none may be there twice."""
    made = dict(pairs)
    if len(made) != len(pairs):
        raise ValueError("a name is there twice")
    return made
