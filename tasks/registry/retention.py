"""Retention: delete old versions of a model that nothing needs any more.

A version is kept while it has an alias, while one of the last moves names it, while it is among the newest, while it is
young, or while predictions name it. Retention deletes the version and the model's files in MLflow. The training's run
stays there, and so does the prepared folder in the object store, from which the same retraining registers it again.

    s3://<bucket>/registry/<model>/deleted/<version>.json    a `Deletion`: what it was, and who deleted it

A version is tagged before it is deleted, and then checked once more; a promotion looks for the tag after it has written
its record. So if a deletion and a promotion happen at the same time, at least one of them sees the other.
"""

import itertools
import logging
import time
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from datetime import UTC, datetime

from pydantic import Field

from tasks.connectors.tracking.model_registry import ModelRegistry, Registered
from tasks.core.digests import canonical_json
from tasks.core.records import Record
from tasks.core.tags import DELETING_TAG
from tasks.registry.champion import require_model
from tasks.registry.usage_records import marked_predictions, predictions_below
from tasks.runtime.clients import champions, model_registry, move_log, object_store
from tasks.runtime.provenance import flow_run_id
from tasks.runtime.reporting import artifacts
from tasks.runtime.settings import read_settings
from tasks.runtime.steps import step

logger = logging.getLogger(__name__)

_LAST_MOVES = 5  # people may want to go back to their versions
_DAY_SECONDS = 86_400
_BEGUN = "begun: "  # in the tag: files may already be gone, so the deletion must be completed


class Rule(Record):
    """The rule for versions of a model to keep, besides those that something needs."""

    model: str
    keep_last: int
    min_age_days: int
    predictions: list[str] = Field(
        description="Prefixes to look below, besides those of the usage records."
    )


class RetentionDecision(Record):
    """The outcome of retention for one version."""

    version: str
    created: str = Field(description="ISO 8601, UTC.")
    age_days: float
    kept_because: str = Field(description="Empty: it is deleted, or would be.")
    deleted: bool = False


class Deletion(Record):
    """The record of a deleted version."""

    model: str
    version: str
    model_digest: str
    training_run: str
    tags: dict[str, str]
    created: str
    who: str
    why: str
    when: str
    flow_run: str


class Retained(Record):
    """The result of retention."""

    rule: Rule
    decisions: list[RetentionDecision] = Field(description="Of every version, the oldest first.")
    dry_run: bool


@dataclass(slots=True, frozen=True)
class _Named:
    """The versions that are in use now: number to reason."""

    by_alias: Mapping[str, str]
    by_move: Mapping[str, str]
    newest: Set[str]


@step
def plan_retention(rule: Rule) -> list[RetentionDecision]:
    """Apply the rule to every version of a model, the oldest first, without changing anything.

    Raises:
        MissingDataError: the bucket of one of the rule's prefixes does not exist.
        ModelError: no model of that name is registered, and none ever was.
    """
    champions().reconcile(rule.model)
    versions = model_registry().versions(rule.model)
    if not versions and not move_log().last(rule.model):
        require_model(rule.model)
    named = _named(rule, versions)
    return [_decision(registered, _reason(rule, registered, named)) for registered in versions]


def _decision(registered: Registered, reason: str, deleted: bool = False) -> RetentionDecision:
    age = (time.time() - registered.created) / _DAY_SECONDS
    return RetentionDecision(
        version=registered.version.version,
        created=_iso(registered.created),
        age_days=round(age, 1),
        kept_because=reason,
        deleted=deleted,
    )


def _named(rule: Rule, versions: Sequence[Registered]) -> _Named:
    aliases: dict[str, list[str]] = {}
    for alias, number in sorted(model_registry().aliases(rule.model).items()):
        aliases.setdefault(number, []).append(alias)
    last = move_log().last(rule.model)
    by_move: dict[str, str] = {}
    for move in itertools.islice(move_log().backwards(last), _LAST_MOVES) if last else ():
        reason = f"move {move.number} names it, one of the last {_LAST_MOVES}"
        by_move = {move.from_version: reason, move.to_version: reason} | by_move
    return _Named(
        by_alias={number: f"has the alias {', '.join(names)}" for number, names in aliases.items()},
        by_move=by_move,
        newest={r.version.version for r in versions[-rule.keep_last :]},
    )


def _reason(rule: Rule, registered: Registered, named: _Named) -> str:
    """Return the reason to keep a version, or '' if nothing needs it. The object store is asked last."""
    number = registered.version.version
    if number in named.by_alias:
        return named.by_alias[number]
    if registered.tags.get(DELETING_TAG, "").startswith(_BEGUN):
        return ""
    if number in named.by_move:
        return named.by_move[number]
    if number in named.newest:
        return f"among the newest {rule.keep_last}"
    if time.time() - registered.created < rule.min_age_days * _DAY_SECONDS:
        return f"younger than {rule.min_age_days} days"
    location = marked_predictions(rule.model, number)
    for prefix in rule.predictions:
        location = location or predictions_below(prefix, rule.model, number)
    return f"predictions name it: {location}" if location else ""


@step
def delete_versions(
    rule: Rule, decisions: Sequence[RetentionDecision], who: str
) -> list[RetentionDecision]:
    """Delete the versions that nothing needs, after checking again. Returns the outcome for every version.

    Args:
        rule: as given to `plan_retention`.
        decisions: the result of `plan_retention`.
        who: for the record of each deletion; not verified.
    """
    registry = model_registry()
    remaining = registry.versions(rule.model)
    done: list[RetentionDecision] = []
    for decision in decisions:
        registered = next((r for r in remaining if r.version.version == decision.version), None)
        if registered is None:  # already deleted, by an earlier attempt or by others
            decision = decision.model_copy(update={"deleted": True})
        elif not decision.kept_because:
            decision = _delete(registry, rule, registered, remaining, who)
            remaining = [r for r in remaining if r is not registered or not decision.deleted]
        elif DELETING_TAG in registered.tags:  # left by a process that died before it decided
            registry.remove_tag(registered.version, DELETING_TAG)
        done.append(decision)
    return done


def _delete(
    registry: ModelRegistry,
    rule: Rule,
    registered: Registered,
    remaining: Sequence[Registered],
    who: str,
) -> RetentionDecision:
    version = registered.version
    if not registered.tags.get(DELETING_TAG, "").startswith(_BEGUN):
        registry.describe_version(version, {DELETING_TAG: f"looked at by {who}, {_iso()}"})
        if reason := _reason(rule, registered, _named(rule, remaining)):
            registry.remove_tag(version, DELETING_TAG)
            return _decision(registered, reason)
        registry.describe_version(version, {DELETING_TAG: f"{_BEGUN}{who}, {_iso()}"})
        _record_deletion(rule, registered, who)
    shared = sum(other.source == registered.source for other in remaining) > 1
    registry.delete(registered, with_files=not shared)
    logger.warning("retention: deleted %s, requested by %s", version, who)
    return _decision(registered, "", deleted=True)


def _record_deletion(rule: Rule, registered: Registered, who: str) -> None:
    record = Deletion(
        model=rule.model,
        version=registered.version.version,
        model_digest=registered.version.model_digest,
        training_run=registered.version.run_id,
        tags=dict(registered.tags),
        created=_iso(registered.created),
        who=who,
        why=f"older than {rule.min_age_days} days, not among the newest {rule.keep_last}, and nothing named it",
        when=_iso(),
        flow_run=flow_run_id(),
    )
    uri = f"s3://{read_settings().bucket}/registry/{rule.model}/deleted/{record.version}.json"
    object_store().write_bytes(canonical_json(record.model_dump()).encode(), uri)


def publish_retained(retained: Retained) -> None:
    """Publish the outcome for every version as a table on the run's page."""
    gone = sum(not decision.kept_because for decision in retained.decisions)
    outcome = f"{'would be' if retained.dry_run else 'are'} deleted"
    text = (
        f"Versions of {retained.rule.model}: {len(retained.decisions)}, of which {gone} {outcome}"
    )
    logger.info(text)
    artifacts.publish_table("retention", rows_of(retained) or [{"version": "none"}], text)


def rows_of(retained: Retained) -> list[dict[str, str]]:
    """Return the outcome for every version as rows of a table, the newest first."""
    gone = "would be deleted" if retained.dry_run else "deleted"
    return [
        {
            "version": decision.version,
            "registered": decision.created[:10],
            "age (days)": f"{decision.age_days:.1f}",
            "outcome": f"kept: {decision.kept_because}" if decision.kept_because else gone,
        }
        for decision in reversed(retained.decisions)
    ]


def _iso(seconds: float | None = None) -> str:
    moment = datetime.now(UTC) if seconds is None else datetime.fromtimestamp(seconds, UTC)
    return moment.isoformat(timespec="milliseconds")
