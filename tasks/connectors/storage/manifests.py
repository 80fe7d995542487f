"""Parsing of manifests: one that this version of the code cannot read raises an error that says what to do."""

import json
from typing import Any

from pydantic import ValidationError as PydanticError

from tasks.connectors.local_paths import require_names
from tasks.core.digests import digest_of
from tasks.core.errors import StoreError
from tasks.core.records import Manifest

MADE_AGAIN = "delete the folder; the next run creates it again"


def parse_manifest(content: bytes, uri: str) -> tuple[Manifest, str]:
    """Parse a manifest; returns it and the digest of its inputs. Raises StoreError if the bytes are not a manifest."""
    try:
        manifest = Manifest.model_validate(json.loads(content, object_pairs_hook=_without_twins))
        inputs = digest_of(manifest.inputs)
    except PydanticError as error:
        raise StoreError(
            f"The manifest has another format: {error.error_count()} fields differ",
            uri,
            MADE_AGAIN,
        ) from error
    except (ValueError, RecursionError) as error:
        raise StoreError(f"Not a manifest: {type(error).__name__}", uri, MADE_AGAIN) from error
    require_names(manifest.files, uri)
    return manifest, inputs


def _without_twins(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Build a JSON object and refuse duplicate names: parsers differ in which of the two they take."""
    record = dict(pairs)
    if len(record) != len(pairs):
        raise ValueError("a name occurs twice")
    return record
