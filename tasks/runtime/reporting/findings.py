"""Findings as files that a person can open: near-duplicates, likely label errors, rejected rows.

The object store keeps them. A store on this machine, started by a command (and stopped with it) or by `make up`, is not
browsed by people, so the findings are also copied to `findings/` in NIGHTSHIFT_HOME. They hold reviews, so only their
owner can read them. Nothing reads them again, and they may be deleted.
"""

import logging
from collections.abc import Mapping
from pathlib import Path

from tasks.connectors.local_paths import path_below
from tasks.connectors.private_files import make_private, private_files
from tasks.connectors.storage.object_store import ObjectStore
from tasks.core.errors import NightshiftError
from tasks.runtime.settings import read_settings

logger = logging.getLogger(__name__)

_MOST_BYTES = 256 << 20  # per call; the rest is in the store


def keep_findings(store: ObjectStore, folder: str, objects: Mapping[str, str]) -> Path | None:
    """Copy objects to a folder below `findings/`. Files of the same names are replaced.

    A failed copy is only a warning: the store still has the original.

    Args:
        store: that has the objects.
        folder: its name, such as `rejected/reviews-3`.
        objects: name in the folder to s3:// URI.
    Returns:
        The folder; None if the store is not on this machine, or no copy could be made.
    """
    settings = read_settings()
    if not objects or not settings.keeps_objects_here:
        return None
    try:
        make_private(settings.home)
        with private_files():
            return _copied(store, settings.home / "findings" / folder, objects)
    except (NightshiftError, OSError) as error:
        logger.warning("No copy of the findings could be made for %s: %s", folder, error)
        return None


def _copied(store: ObjectStore, into: Path, objects: Mapping[str, str]) -> Path:
    remaining, skipped = _MOST_BYTES, 0
    for name, uri in objects.items():
        size = store.size(uri)
        if size > remaining:
            skipped += 1
            continue
        remaining -= size
        store.download(uri, path_below(into, name, uri))
    if skipped:
        logger.warning(
            "%s larger files were not copied; they are in the object store", f"{skipped:,}"
        )
    return into
