"""The data of a registered version: its split, its source, and which reviews of a test set it knows."""

import json
import logging
from pathlib import Path
from typing import Any

from tasks.core.data import tables
from tasks.core.errors import MissingDataError, StoreAwayError, StoreError
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
_OF_INSPECTION = {"near_duplicate_similarity", "max_rows_near_duplicates", "seed"}


class Known(Record):
    """Of a test set."""

    reviews: int


def split_of(version: ModelVersion) -> Reference[SplitSummary] | None:
    """The split that a version was trained and judged on; None where it is not there any more."""
    prepared = prepared_store()
    uri = _made_of(version, "split")
    if not prepared.is_address(uri):  # a version may come from an installation with another bucket
        return None
    try:
        return prepared.reference(uri, SplitSummary)
    except StoreAwayError:
        raise
    except (MissingDataError, StoreError) as error:
        logger.warning("What %s was trained on is not known any more: %s", version, error)
        return None


def source_of(version: ModelVersion) -> str:
    """Where the reviews of a version came from; '' where that is not known any more."""
    prepared, uri = prepared_store(), _made_of(version, "loaded")
    try:
        manifest = prepared.read(uri) if prepared.is_address(uri) else None
    except StoreAwayError:
        raise
    except StoreError:
        return ""
    return str(manifest.summary.get("source", "")) if manifest else ""


def known_by(
    seen: Reference[SplitSummary], split: Reference[SplitSummary], params: InspectionParams
) -> int:
    """How many reviews of a test set whoever was trained on a split knows: near-duplicates in train and validation.

    Args:
        seen: what the model was trained on.
        split: with the test set.
        params: what a near-duplicate is; also where the inspection itself is switched off.
    """
    inputs = {
        "version": KNOWN_VERSION,
        "seen": seen.summary.train_digest,
        "test": split.summary.test_digest,
        "params": params.model_dump(include=_OF_INSPECTION),
    }

    def make(_: Path) -> Known:
        with fetched(seen, *(f"{name}.parquet" for name in _SEEN)) as folder:
            rows = {name: tables.read_labelled(folder / f"{name}.parquet") for name in _SEEN}
        return Known(reviews=known_reviews(rows, list(read_test_set(split).reviews), params))

    return reuse_or_make("known-reviews", inputs, Known, make).summary.reviews


def _made_of(version: ModelVersion, kind: str) -> str:
    """Where a step of a version's training lies, by its lineage; '' where that is not known."""
    lineage: dict[str, Any] = json.loads(model_registry().tags_of(version).get(LINEAGE_TAG, "{}"))
    return str(lineage.get(kind, ""))
