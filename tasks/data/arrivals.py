"""Detect newly labelled reviews once they have landed completely, and announce them once by an event."""

import json
import logging

from prefect.events import emit_event

from tasks.connectors.storage.object_store import parse_uri
from tasks.core.digests import canonical_json, digest_of
from tasks.core.errors import MissingDataError
from tasks.core.formats.detection.names import is_hidden
from tasks.core.records import Record
from tasks.runtime.clients import object_store
from tasks.runtime.settings import read_settings
from tasks.runtime.steps import step

logger = logging.getLogger(__name__)

ARRIVED = "nightshift.reviews.labelled"


class Arrival(Record):
    """The objects below a prefix, as a digest, a count and a size."""

    digest: str
    objects: int
    bytes: int


@step
def look(location: str) -> Arrival | None:
    """Return what has landed below a prefix, once it is complete; None if it is not, or was announced before.

    An arrival is complete when two looks in a row find the same objects, so files that land one by one start one
    retraining.
    """
    arrival = _listed(location)
    seen = _remembered(location)
    if arrival is None or arrival.digest == seen.get("announced"):
        return None
    if arrival.digest != seen.get("seen"):
        _remember(location, seen | {"seen": arrival.digest})
        logger.info(
            "%s: %s objects, new or still arriving; announced once a second check finds the same ones",
            location,
            arrival.objects,
        )
        return None
    return arrival


@step
def announce(location: str, arrived: Arrival) -> None:
    """Emit the event, and record that it was emitted."""
    emitted = emit_event(
        ARRIVED,
        resource={"prefect.resource.id": f"nightshift.reviews.{location}"},
        payload={"location": location, "objects": arrived.objects, "bytes": arrived.bytes},
    )
    _remember(location, {"seen": arrived.digest, "announced": arrived.digest})
    logger.info(
        "%s: %s objects, %.1f MB; announced as %s (%s)",
        location,
        arrived.objects,
        arrived.bytes / 1e6,
        ARRIVED,
        f"event {emitted.id}" if emitted else "no Prefect server received it",
    )


def _listed(location: str) -> Arrival | None:
    prefix = parse_uri(location, "location")[1]
    try:
        objects = object_store().list(location)
    except MissingDataError:
        return None
    shown = [o for o in objects if not is_hidden(o.key.removeprefix(prefix))]
    if not shown:
        return None
    digest = digest_of({o.key: o.etag for o in shown})
    return Arrival(digest=digest, objects=len(shown), bytes=sum(o.size for o in shown))


def _remembered(location: str) -> dict[str, str]:
    content = object_store().read_bytes(_record_uri(location))
    return json.loads(content) if content else {}


def _remember(location: str, state: dict[str, str]) -> None:
    object_store().write_bytes(canonical_json(state).encode(), _record_uri(location))


def _record_uri(location: str) -> str:
    name = digest_of({"location": location})
    return f"s3://{read_settings().bucket}/prepared/watched/{name}.json"
