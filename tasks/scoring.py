"""Scoring steps: shards of objects in, one output object for each, and a manifest at the end."""

import functools
import logging
import time
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import IO, Any

from pydantic import Field

from tasks import reports
from tasks.connect import model_registry, object_store
from tasks.connectors.object_store import ObjectInfo, ObjectStore, parse_uri
from tasks.core import formats, modeling, scoring
from tasks.core.digests import canonical_json
from tasks.core.engine import TorchEngine
from tasks.core.errors import DataError, MissingDataError, SettingsError
from tasks.core.records import ModelVersion, Record
from tasks.core.scoring import EngineParams, Prediction, Review
from tasks.reports import Progress
from tasks.steps import step, work_folder

logger = logging.getLogger(__name__)

REJECTED = "_rejected"
MANIFEST = "_manifest.json"
_SHARD_BYTES = 64 * 1024 * 1024
_SHARD_OBJECTS = 200


class ObjectScore(Record):
    """What became of one input object. rows_in = rows_out + rows_rejected."""

    input: str
    etag: str
    output: str = ""
    rejected: str = ""
    rows_in: int = 0
    rows_out: int = 0
    rows_rejected: int = 0
    labels: dict[str, int] = Field(default_factory=dict)
    reasons: dict[str, int] = Field(default_factory=dict)
    error: str = ""


class ScoreManifest(Record):
    """What one scoring run did."""

    model: str
    version: str
    objects: list[ObjectScore]
    failed: int
    rows_in: int
    rows_out: int
    rows_rejected: int
    seconds: float
    reviews_per_second: float


class Columns(Record):
    """Names of the columns to read."""

    text: str
    id: str


class Shard(Record):
    """Objects that one task scores, with where each goes."""

    objects: list[tuple[str, str, int, str]]  # bucket, key, size, etag
    prefix: str
    output: str


@step
def list_shards(source: str, output: str) -> list[Shard]:
    """List the objects below `source` and group them into shards.

    Raises:
        MissingDataError: nothing there.
        SettingsError: the output would lie among the inputs and be scored next time.
    """
    prefix = parse_uri(source, "input")[1]
    parse_uri(output, "output")
    found = [
        item
        for item in object_store().list(source)
        if not formats.is_hidden(item.key.removeprefix(prefix))
    ]
    if not found:
        raise MissingDataError(
            "Nothing but hidden objects (names that begin with _ or .) is there", source, "check it"
        )
    _refuse_overlap(found, source, prefix, output)
    shards: list[Shard] = []
    group: list[ObjectInfo] = []
    for item in found:
        if group and (
            len(group) >= _SHARD_OBJECTS or sum(o.size for o in group) + item.size > _SHARD_BYTES
        ):
            shards.append(_shard(group, prefix, output))
            group = []
        group.append(item)
    if group:
        shards.append(_shard(group, prefix, output))
    logger.info(
        "%s objects, %.1f MB, in %s shards",
        len(found),
        sum(o.size for o in found) / 1e6,
        len(shards),
    )
    return shards


def _refuse_overlap(found: list[ObjectInfo], source: str, prefix: str, output: str) -> None:
    """Raises SettingsError where a prediction would replace a review, or be scored by the next run."""
    inputs = {item.uri for item in found}
    below = source if source.endswith("/") else f"{source}/"
    for item in found:
        for written in (output_uri(item, prefix, output), rejected_uri(item, prefix, output)):
            if written in inputs or written.startswith(below):
                raise SettingsError(
                    f"The output {written} would lie among the input {source}: it could replace a review, and the "
                    "next run would score it",
                    "output",
                    "choose a prefix beside the input",
                )


def output_uri(item: ObjectInfo, prefix: str, output: str) -> str:
    """Where an input object's predictions go: the same name below the output prefix."""
    relative = item.key.removeprefix(prefix).lstrip("/") or PurePosixPath(item.key).name
    return f"{output.rstrip('/')}/{relative}"


def rejected_uri(item: ObjectInfo, prefix: str, output: str) -> str:
    """Where its rejected rows go."""
    root = output.rstrip("/")
    return f"{root}/{REJECTED}{output_uri(item, prefix, output).removeprefix(root)}.jsonl"


def _shard(group: list[ObjectInfo], prefix: str, output: str) -> Shard:
    listed = [(o.bucket, o.key, o.size, o.etag) for o in group]
    return Shard(objects=listed, prefix=prefix, output=output.rstrip("/"))


@step
def score_shard(
    shard: Shard, version: ModelVersion, columns: Columns, params: EngineParams
) -> list[ObjectScore]:
    """Score each object of a shard. An object that cannot be read fails alone, with its reason."""
    store = object_store()
    classifier, engine = _loaded(version, params)  # pyright: ignore[reportArgumentType] - frozen, so hashable
    total = sum(size for _, _, size, _ in shard.objects)
    progress, done = Progress("scoring-progress", "Bytes of reviews scored"), 0
    results: list[ObjectScore] = []
    for entry in shard.objects:
        item = ObjectInfo(*entry)
        writer = _Writer(store, item, shard, version, classifier.label_names)
        try:
            with store.open(item) as stream:
                reviews = _reviews(item, stream, columns)
                results.append(
                    writer.write(
                        scoring.score(reviews, classifier.encoder, engine, params.window_reviews)
                    )
                )
        except DataError as error:
            logger.error("%s was not scored: %s", item.uri, error)
            results.append(ObjectScore(input=item.uri, etag=item.etag, error=str(error)))
        done += item.size
        progress.at(done, total)
    return results


@functools.lru_cache(maxsize=1)
def _loaded(version: ModelVersion, params: EngineParams) -> tuple[modeling.Classifier, TorchEngine]:
    """The model in memory; kept, so that the shards of a run load it once a process."""
    with work_folder("version") as folder:
        classifier = modeling.load(model_registry().download(version, folder))
    return classifier, TorchEngine(classifier, params.device, params.precision, params.batch_tokens)


def _reviews(item: ObjectInfo, stream: IO[bytes], columns: Columns) -> Iterator[Review]:
    rows = formats.decode(item.uri, stream)
    for row in formats.with_columns(rows, [columns.text], item.uri):
        yield scoring.to_review(row, columns.text, columns.id)


class _Writer:
    """Writes predictions and rejects of one object; both appear whole, the output last."""

    def __init__(
        self,
        store: ObjectStore,
        item: ObjectInfo,
        shard: Shard,
        version: ModelVersion,
        label_names: list[str],
    ) -> None:
        self._store, self._item, self._version, self._labels = store, item, version, label_names
        self._output = output_uri(item, shard.prefix, shard.output)
        self._rejected = rejected_uri(item, shard.prefix, shard.output)
        self._rejects: list[dict[str, Any]] = []
        self._counts: dict[str, int] = {}

    def write(self, results: Iterator[Prediction | Review]) -> ObjectScore:
        columns = [
            "id",
            "row",
            "label",
            "score",
            *(f"probability_{n}" for n in self._labels),
            "model",
            "model_version",
        ]
        with work_folder("scored") as folder:
            path = folder / "output"
            with path.open("wb") as stream:
                formats.encode(self._output, self._rows(results), columns, stream)
            if self._rejects:
                rejects = folder / "rejected"
                with rejects.open("wb") as stream:
                    formats.encode(self._rejected, self._rejects, ["id", "row", "reason"], stream)
                self._store.upload(rejects, self._rejected)
            else:
                self._store.delete(self._rejected)  # of an earlier run over the same object
            self._store.upload(path, self._output)
        rows_out = sum(self._counts.values())
        reasons: dict[str, int] = {}
        for reject in self._rejects:
            reasons[reject["reason"]] = reasons.get(reject["reason"], 0) + 1
        return ObjectScore(
            input=self._item.uri,
            etag=self._item.etag,
            output=self._output,
            rejected=self._rejected if self._rejects else "",
            rows_in=rows_out + len(self._rejects),
            rows_out=rows_out,
            rows_rejected=len(self._rejects),
            labels=self._counts,
            reasons=reasons,
        )

    def _rows(self, results: Iterator[Prediction | Review]) -> Iterator[dict[str, Any]]:
        for result in results:
            if isinstance(result, Review):
                self._rejects.append({"id": result.id, "row": result.row, "reason": result.problem})
                continue
            self._counts[result.label] = self._counts.get(result.label, 0) + 1
            shares = zip(self._labels, result.probabilities, strict=True)
            yield {
                "id": result.review.id,
                "row": result.review.row,
                "label": result.label,
                "score": round(result.score, 6),
                **{f"probability_{name}": round(p, 6) for name, p in shares},
                "model": self._version.name,
                "model_version": self._version.version,
            }


@step
def publish_manifest(
    scores: list[ObjectScore], version: ModelVersion, output: str, started: float
) -> ScoreManifest:
    """Write what the run did beside its outputs, and show it on the run's page.

    Args:
        scores: of all objects.
        version: that scored them.
        output: prefix of the outputs.
        started: `time.time()` when scoring began.
    """
    seconds = max(time.time() - started, 1e-9)
    rows_out = sum(s.rows_out for s in scores)
    manifest = ScoreManifest(
        model=version.name,
        version=version.version,
        objects=scores,
        failed=sum(bool(s.error) for s in scores),
        rows_in=sum(s.rows_in for s in scores),
        rows_out=rows_out,
        rows_rejected=sum(s.rows_rejected for s in scores),
        seconds=round(seconds, 2),
        reviews_per_second=round(rows_out / seconds, 2),
    )
    object_store().write_bytes(
        canonical_json(manifest.model_dump()).encode(), f"{output.rstrip('/')}/{MANIFEST}"
    )
    rows = [
        {
            "input": s.input,
            "rows in": s.rows_in,
            "scored": s.rows_out,
            "rejected": s.rows_rejected,
            "error": s.error,
        }
        for s in scores
    ]
    reports.publish_table("scored", rows[:1000], f"{rows_out:,} reviews scored by {version}")
    return manifest
