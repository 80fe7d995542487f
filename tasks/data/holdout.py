"""The frozen test set: one per model and source, so that champion and candidate are judged on the same reviews.

A source with a test split of its own uses that. For any other source, the first retraining of a model draws a fraction
once and keeps it: s3://<bucket>/registry/<model>/test-sets/<source>.json names it. Later arrivals are training data.
"""

import logging
from pathlib import Path
from typing import Any

from pydantic import ValidationError as PydanticError

from tasks.connectors.sources.params import SourceParams
from tasks.connectors.storage.conditional_reads import FINGERPRINT
from tasks.core.data import tables
from tasks.core.data.labels import same_labels
from tasks.core.data.params import SplitParams
from tasks.core.data.splits import splitting
from tasks.core.digests import digest_of
from tasks.core.errors import ConflictError, MissingDataError, StoreError
from tasks.core.records import HeldOutSummary, Record, Reference, ValidatedSummary
from tasks.runtime.clients import exact_objects, object_store, prepared_store
from tasks.runtime.settings import read_settings
from tasks.runtime.steps import fetched, reuse_or_make, step

logger = logging.getLogger(__name__)

HELD_OUT_VERSION = 1


class _Frozen(Record):
    """The record that names the test set of a model and a source."""

    source: str
    uri: str


@step
def hold_out_test(
    validated: Reference[ValidatedSummary],
    source: SourceParams,
    params: SplitParams,
    model_name: str,
) -> Reference[HeldOutSummary]:
    """Return the test set of this model and source: the source's own, the one drawn first, or one drawn now."""
    if "test" in validated.summary.rows:
        return _hold_out(validated, params, drawn=False)
    pointer = _pointer(source, model_name)
    head = exact_objects().head(pointer)
    frozen = None if params.new_test_set else _frozen(pointer)
    names = validated.summary.label_names
    if frozen and same_labels(frozen.summary.label_names, names):
        logger.info(
            "test-set: reused, %s reviews drawn by an earlier run <- %s",
            f"{frozen.summary.rows:,}",
            frozen.uri,
        )
        return frozen
    if frozen:
        logger.warning("test-set: drawn again, because the label names have changed")
    held_out = _hold_out(validated, params, drawn=True)
    record = _Frozen(source=source.location, uri=held_out.uri).model_dump_json().encode()
    if exact_objects().write(
        record, pointer, {FINGERPRINT: digest_of({"uri": held_out.uri})}, head
    ):
        return held_out
    first = _frozen(pointer)  # by another retraining that started at the same time
    if first is None or not same_labels(first.summary.label_names, names):
        raise ConflictError(
            "Another retraining of this model froze a different test set at the same time",
            pointer,
            "run again once it has finished",
        )
    logger.info("test-set: reused, drawn by another retraining at the same time <- %s", first.uri)
    return first


def _pointer(source: SourceParams, model_name: str) -> str:
    """Return the address of the record. The columns that cut the test set are part of its identity."""
    identity = source.identity(
        include={"text_column", "label_column", "hub_configuration", "slice_columns"}
    )
    # A test set whose labels are mapped differently is another test set.
    identity |= {"label_map": source.label_map} if source.label_map else {}
    name = digest_of(identity | {"location": source.location.rstrip("/")})
    return f"s3://{read_settings().bucket}/registry/{model_name}/test-sets/{name}.json"


def _frozen(pointer: str) -> Reference[HeldOutSummary] | None:
    """Return the test set that was drawn first; None if none was drawn yet.

    An unavailable store or an invalid record is no reason to draw another one.

    Raises:
        StoreError: the test set cannot be read. Another one is drawn only if a user asks for it.
    """
    content = object_store().read_bytes(pointer)
    if content is None:
        return None
    otherwise = "restore it, or set data.split.new_test_set to draw another"
    try:
        uri = _Frozen.model_validate_json(content).uri
    except PydanticError as error:
        raise StoreError("Not a record of a test set", pointer, otherwise) from error
    try:
        return prepared_store().reference(uri, HeldOutSummary)
    except MissingDataError as error:
        raise StoreError("The frozen test set is gone", uri, otherwise) from error


def _hold_out(
    validated: Reference[ValidatedSummary], params: SplitParams, drawn: bool
) -> Reference[HeldOutSummary]:
    inputs: dict[str, Any] = {"version": HELD_OUT_VERSION, "validated": validated.digest}
    if drawn:
        inputs |= params.identity(include={"test_fraction", "seed"})

    def make(folder: Path) -> HeldOutSummary:
        name = "train" if drawn else "test"
        with fetched(validated, f"{name}.parquet") as rows:
            reviews = tables.read_labelled(rows / f"{name}.parquet")
        if drawn:
            reviews = splitting.held_out(reviews, params.test_fraction, params.seed)
        tables.write_reviews(folder / "test.parquet", reviews)
        return HeldOutSummary(
            label_names=validated.summary.label_names, rows=len(reviews), drawn=drawn
        )

    return reuse_or_make("test-set", inputs, HeldOutSummary, make)
