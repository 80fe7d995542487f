"""The data of a registered version: its split, its source, and the reviews of a test set that it has seen."""

import json
import logging
from pathlib import Path
from typing import Any

from tasks.core.data import tables
from tasks.core.errors import MissingDataError, StoreError, StoreUnavailableError
from tasks.core.quality.known_reviews import known_reviews
from tasks.core.quality.params import InspectionParams
from tasks.core.records import ModelVersion, Record, Reference, SplitSummary
from tasks.core.tags import LINEAGE_TAG
from tasks.data.test_set import read_test_set
from tasks.runtime.clients import model_registry, prepared_store
from tasks.runtime.steps import fetched, reuse_or_make

logger = logging.getLogger(__name__)

KNOWN_VERSION = 1
_SEEN = ("train", "validation")
_INSPECTION_FIELDS = {"near_duplicate_similarity", "max_rows_near_duplicates", "seed"}


class Known(Record):
    """The number of reviews of a test set that a model has seen."""

    reviews: int


def split_of(version: ModelVersion) -> Reference[SplitSummary] | None:
    """Return the split that a version was trained and evaluated on; None if it no longer exists."""
    prepared = prepared_store()
    uri = _lineage_uri(version, "split")
    if not prepared.is_address(uri):  # a version may come from an installation with another bucket
        return None
    try:
        return prepared.reference(uri, SplitSummary)
    except StoreUnavailableError:
        raise
    except (MissingDataError, StoreError) as error:
        logger.warning("The training data of %s can no longer be read: %s", version, error)
        return None


def source_of(version: ModelVersion) -> str:
    """Return the source of a version's reviews; '' if it is no longer known."""
    prepared, uri = prepared_store(), _lineage_uri(version, "loaded")
    try:
        manifest = prepared.read(uri) if prepared.is_address(uri) else None
    except StoreUnavailableError:
        raise
    except StoreError:
        return ""
    return str(manifest.summary.get("source", "")) if manifest else ""


def known_by(
    seen: Reference[SplitSummary], split: Reference[SplitSummary], params: InspectionParams
) -> int:
    """Count the test reviews that have a near-duplicate in the train or validation part a model was trained on.

    Args:
        seen: the split that the model was trained on.
        split: the split with the test set.
        params: the definition of a near-duplicate; may also switch the inspection off.
    """
    inputs = {
        "version": KNOWN_VERSION,
        "seen": seen.summary.train_digest,
        "test": split.summary.test_digest,
        "params": params.identity(include=_INSPECTION_FIELDS),
    }

    def make(_: Path) -> Known:
        with fetched(seen, *(f"{name}.parquet" for name in _SEEN)) as folder:
            rows = {name: tables.read_labelled(folder / f"{name}.parquet") for name in _SEEN}
        return Known(reviews=known_reviews(rows, list(read_test_set(split).reviews), params))

    return reuse_or_make("known-reviews", inputs, Known, make).summary.reviews


def _lineage_uri(version: ModelVersion, kind: str) -> str:
    """Return the URI of a step of a version's training, by its lineage; '' if unknown."""
    lineage: dict[str, Any] = json.loads(model_registry().tags_of(version).get(LINEAGE_TAG, "{}"))
    return str(lineage.get(kind, ""))
