"""Promotion steps: find the champion, promote a version, roll back, and read the history."""

import difflib
import logging
from datetime import UTC, datetime

from pydantic import Field

from tasks.connectors.tracking.champion import CHAMPION, PREVIOUS, AliasState, Mover
from tasks.core.errors import (
    ModelError,
    RegistryUnavailableError,
    StoreError,
    StoreUnavailableError,
)
from tasks.core.records import ModelVersion, Promotion, Record
from tasks.core.tags import DECISION_TAG, DELETING_TAG
from tasks.runtime.clients import champions, model_registry, move_log, registered_models
from tasks.runtime.provenance import flow_run_id
from tasks.runtime.reporting import artifacts
from tasks.runtime.steps import step

logger = logging.getLogger(__name__)

_RECENT_SECONDS = 600
_MOST_NAMED = 20  # models listed in an error


class Opponent(Record):
    """The champion, and the version that a new model is compared with."""

    champion: ModelVersion | None
    to_beat: ModelVersion | None


class History(Record):
    """The moves of a model's champion, the oldest first."""

    model: str
    moves: list[Promotion]
    versions: list[str] | None = Field(
        description="Version numbers that still exist; None if MLflow did not answer."
    )


@step
def find_champion(model_name: str) -> ModelVersion | None:
    """Return the present champion, as a pinned version; None if there is none or if it was deleted by hand."""
    return champions().reconcile(model_name).champion


@step
def find_opponent(model_name: str) -> Opponent:
    """Return the champion and the version to beat. They differ only if the champion was deleted by hand."""
    state = champions().reconcile(model_name)
    if state.champion or not state.previous:
        return Opponent(champion=state.champion, to_beat=state.champion)
    before = model_registry().resolve(model_name, state.previous)
    if before:
        logger.warning(
            "The champion was deleted; the model is compared with the previous one, %s", before
        )
    return Opponent(champion=None, to_beat=before)


@step
def require_former_champion(version: ModelVersion, named: bool) -> None:
    """Check that a rollback to a version is allowed: it was champion before, and nobody has just rolled back.

    Raises:
        ModelError: it was never champion, or the last move is a recent rollback and no version was named.
    """
    moves = move_log().moves(version.name)
    if version.version not in {m.to_version for m in moves}:
        raise ModelError(
            f"{version} has never been champion, so there is nothing to go back to",
            "to_version",
            "use promote, which applies the gate, or name a version that `history` lists",
        )
    last = moves[-1]
    age = (datetime.now(UTC) - datetime.fromisoformat(last.when)).total_seconds()
    if not named and last.kind == "rollback" and age < _RECENT_SECONDS:
        raise ModelError(
            f"{last.who} rolled back from version {last.from_version} to version {last.to_version} {age:.0f} "
            f"seconds ago ({last.why}); a second rollback would undo it",
            "to_version",
            f"if that is what you want, name the version: {version.version}",
        )


@step
def pin_version(model_name: str, alias_or_version: str) -> ModelVersion:
    """Resolve an alias once, so that the whole run uses one version.

    Raises:
        ModelError: there is no such model, alias or version, or it is being deleted.
    """
    if alias_or_version in (CHAMPION, PREVIOUS):
        state = champions().reconcile(model_name)
        previous = state.previous
        version = state.champion
        if alias_or_version == PREVIOUS:
            version = model_registry().resolve(model_name, previous) if previous else None
    else:
        state = None
        version = model_registry().resolve(model_name, alias_or_version)
    if version is None:
        if not (state and state.last):
            require_model(model_name)
        raise _missing_version(model_name, alias_or_version, state)
    require_not_deleted(version)
    logger.info("Pinned %s (%s)", version, alias_or_version)
    return version


@step
def require_still_there(version: ModelVersion) -> None:
    """Check that retention is not deleting the version, once this run has recorded that it scores with it.

    A retention run that did not see that record has tagged the version for deletion by now.
    """
    require_not_deleted(version)


def require_not_deleted(version: ModelVersion) -> None:
    """Raise ModelError if retention has begun to delete a version."""
    if DELETING_TAG in model_registry().tags_of(version):
        raise ModelError(
            f"Retention has begun to delete {version}", "model_version", "name another version"
        )


def require_model(model_name: str) -> None:
    """Raise ModelError, listing the registered models, if no model of that name is registered."""
    names = registered_models().names()
    if model_name in names:
        return
    near = difflib.get_close_matches(model_name, names, 3)
    others = f"the registry has {', '.join(names[:_MOST_NAMED])}" if names else "it has no model"
    raise ModelError(
        f"The registry has no model {model_name!r}",
        "model_name",
        f"did you mean {' or '.join(near)}?" if near else f"{others}; retrain registers one",
    )


def _missing_version(
    model_name: str, alias_or_version: str, state: AliasState | None
) -> ModelError:
    if alias_or_version == PREVIOUS and state and state.champion:
        return ModelError(
            f"{state.champion} has no predecessor that still exists",
            "to_version",
            "name the version to go back to; `history` lists them",
        )
    if state and state.last and not state.champion:
        last, back = state.last, state.previous
        again = f"run rollback to go back to version {back}, or " if back else ""
        return ModelError(
            f"The model {model_name!r} no longer has a champion: {last.why} (it was version {last.from_version})",
            "model_version",
            f"{again}promote a version; `history` lists them",
        )
    return ModelError(
        f"The registry has no {alias_or_version!r} of model {model_name!r}",
        "model_version",
        "run retrain first (a model that fails the gate is not promoted), or name another model, alias or version",
    )


@step
def move_champion(
    to: ModelVersion,
    kind: str,
    who: str,
    why: str,
    expected: ModelVersion | None,
    evidence: str = "",
) -> Promotion:
    """Make a version the champion, if the present champion is still the expected one.

    A retry after an outage finds the move that was begun, and completes it.

    Args:
        to: the version.
        kind: kind of move: gate, approval, overrule, promote or rollback.
        who, why: for the history; not verified.
        expected: the champion at the time of the decision.
        evidence: URI of the verdict that justifies the move.
    Returns:
        The move. If the version is already champion, the move that made it so.
    Raises:
        ConflictError: another process or person has moved the champion meanwhile.
        ModelError: the version was deleted meanwhile.
    """
    mover = Mover(kind, who, why, flow_run_id(), evidence)
    move = champions().move(to, expected, mover)
    model_registry().describe_version(to, {DECISION_TAG: f"champion, {kind} by {who}: {why}"})
    return move


@step
def moved_by_this_run(model_name: str) -> Promotion | None:
    """Return the move that this flow run made before a retry, if any: a second rollback would undo the first."""
    mine = flow_run_id()
    champions().reconcile(model_name)
    moves = [m for m in move_log().moves(model_name) if mine and m.flow_run == mine]
    if moves:
        logger.info("This run has already moved the champion: move %s", moves[-1].number)
    return moves[-1] if moves else None


@step
def read_history(model_name: str, last: int) -> History:
    """Return the newest moves of a model's champion from the object store.

    If MLflow is unavailable, moves by hand since the last recorded one are missing.

    Raises:
        ModelError: no model of that name is registered, and none ever was.
    """
    try:
        champions().reconcile(model_name)
        versions = [r.version.version for r in model_registry().versions(model_name)]
    except RegistryUnavailableError as error:
        logger.warning("Moves by hand since the last recorded one are unknown: %s", error)
        versions = None
    moves = move_log().moves(model_name)
    if not moves and versions == []:
        require_model(model_name)
    history = History(model=model_name, moves=moves[-last:], versions=versions)
    title = f"Moves of the champion of {model_name}: {len(moves)}, the newest first"
    artifacts.publish_table("moves", rows_of(history) or [{"move": "none"}], title)
    return history


def rows_of(history: History) -> list[dict[str, str]]:
    """Return a history as rows of a table, the newest move first."""

    def named(version: str) -> str:
        gone = version and history.versions is not None and version not in history.versions
        return f"{version} (deleted)" if gone else version or "nobody"

    return [
        {
            "move": str(m.number),
            "when (UTC)": m.when[:16].replace("T", " "),
            "kind": m.kind,
            "from": named(m.from_version),
            "to": named(m.to_version),
            "who": m.who,
            "why": m.why,
        }
        for m in reversed(history.moves)
    ]


@step
def reconcile_all() -> int:
    """Complete moves whose process died and record moves by hand, for all models. Return their number."""
    reconciled = 0
    for name in move_log().models():
        try:
            before = move_log().last(name)
            unfinished = before is not None and not move_log().is_done(before)
            last = champions().reconcile(name).last
        except StoreUnavailableError:
            raise
        except StoreError as error:  # go on with the other models
            logger.warning("Cannot reconcile the champion of %s; skipping it: %s", name, error)
            continue
        reconciled += unfinished or last != before
    return reconciled
