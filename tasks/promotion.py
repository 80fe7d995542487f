"""Promotion steps: who is the champion, how a version becomes it, how it goes back, and what there was before."""

import logging
import re
from collections.abc import Container
from datetime import UTC, datetime

from pydantic import Field

from tasks import reports
from tasks.connect import exact_objects, model_registry
from tasks.connectors.champion import CHAMPION, PREVIOUS, Champions, Mover, Standing
from tasks.connectors.model_registry import DELETING_TAG
from tasks.connectors.move_log import MoveLog
from tasks.core.errors import ModelError, RegistryAwayError, StoreAwayError, StoreError
from tasks.core.records import ModelVersion, Move, Record
from tasks.provenance import flow_run_id
from tasks.settings import read_settings
from tasks.steps import step

logger = logging.getLogger(__name__)

GATE_TAG, VERDICT_TAG = "nightshift.gate", "nightshift.verdict"
DECISION_TAG = "nightshift.decision"
NOBODY = "nobody (time-out)"
_REJECTED = "rejected by"
_BY_PEOPLE = ("rollback", "promote", "overrule", "by hand")
_JUST_NOW_SECONDS = 600
PASSED, REFUSED = "passed", "refused"  # in GATE_TAG
_FAILED = re.compile(r"FAILED .*?(?=; (?:passed|FAILED) |\)?$)")


class Opponent(Record):
    """Who is champion, and whom a new model is compared with."""

    champion: ModelVersion | None
    to_beat: ModelVersion | None


class History(Record):
    """Every move of a model's champion, the oldest first."""

    model: str
    moves: list[Move]
    versions: list[str] | None = Field(
        description="Numbers of those that still exist; None where MLflow did not answer."
    )


def move_log() -> MoveLog:
    """The log in the configured object store."""
    return MoveLog(exact_objects(), read_settings().bucket)


def champions() -> Champions:
    """Champions in the configured registry and log."""
    return Champions(model_registry(), move_log())


@step
def find_champion(model_name: str) -> ModelVersion | None:
    """The version that is champion now, pinned; None where there is none, also where somebody deleted it."""
    return champions().settle(model_name).champion


@step
def find_opponent(model_name: str) -> Opponent:
    """Whom a new model has to beat, and who is champion now; they differ where the champion was deleted by hand."""
    standing = champions().settle(model_name)
    if standing.champion or not standing.previous:
        return Opponent(champion=standing.champion, to_beat=standing.champion)
    before = model_registry().resolve(model_name, standing.previous)
    if before:
        logger.warning("There is no champion any more; the model is compared with %s", before)
    return Opponent(champion=None, to_beat=before)


@step
def what_people_said(version: ModelVersion) -> str:
    """Why a gate alone must not promote a version: people have taken it back, or rejected it; empty where neither.

    What they said of a version they said of its weights, and so of every version with these, whatever scores with it;
    a move between two such versions was about the engine, and concerns these two.
    """
    known = model_registry().versions(version.name)
    alike = [one for one in known if one.version.has_weights_of(version)]
    numbers = {one.version.version for one in alike} | {version.version}
    moves = move_log().moves(version.name)
    concerned = [m for m in moves if _concerns(m, version.version, numbers)]
    if concerned:
        last = concerned[-1]
        leaves = last.from_version == version.version or last.to_version not in numbers
        if leaves and last.kind in _BY_PEOPLE:
            return f"move {last.number} ({last.kind} by {last.who}) took it back: {last.why}"
    alike.sort(key=lambda one: (one.version.version == version.version, int(one.version.version)))
    # Its own, and then the newest.
    decisions = (one.tags.get(DECISION_TAG, "") for one in reversed(alike))
    decided = next(filter(None, decisions), "")
    return decided if _REJECTED in decided and NOBODY not in decided else ""


def _concerns(move: Move, version: str, alike: Container[str]) -> bool:
    """Whether a move is about a version: its own, or one between its weights and others."""
    ends = move.from_version, move.to_version
    return version in ends or (ends[0] in alike) != (ends[1] in alike)


@step
def require_former(version: ModelVersion, named: bool) -> None:
    """That one may roll back to a version: it has been champion before, and nobody has just done the same.

    Raises:
        ModelError: it never was, or the last move is a rollback of some minutes ago and no version was named.
    """
    moves = move_log().moves(version.name)
    if version.version not in {m.to_version for m in moves}:
        raise ModelError(
            f"{version} has never been champion, so there is nothing to go back to",
            "to_version",
            "use promote, which asks the gate, or name a version that `history` shows",
        )
    last = moves[-1]
    age = (datetime.now(UTC) - datetime.fromisoformat(last.when)).total_seconds()
    if not named and last.kind == "rollback" and age < _JUST_NOW_SECONDS:
        raise ModelError(
            f"{last.who} has rolled back from version {last.from_version} to version {last.to_version} {age:.0f} "
            f"seconds ago ({last.why}); a second rollback would take that back",
            "to_version",
            f"if that is what you want, name the version: {version.version}",
        )


@step
def pin_version(model_name: str, alias_or_version: str) -> ModelVersion:
    """Resolve an alias once, so that a whole run uses one version.

    Raises:
        ModelError: there is no such model, alias or version, or it is being deleted.
    """
    if alias_or_version in (CHAMPION, PREVIOUS):
        standing = champions().settle(model_name)
        wanted = standing.previous
        version = standing.champion
        if alias_or_version == PREVIOUS:
            version = model_registry().resolve(model_name, wanted) if wanted else None
    else:
        standing = None
        version = model_registry().resolve(model_name, alias_or_version)
    if version is None:
        raise _missing(model_name, alias_or_version, standing)
    require_not_deleted(version)
    logger.info("Pinned %s (%s)", version, alias_or_version)
    return version


@step
def require_still_there(version: ModelVersion) -> None:
    """Asked once the mark of scoring is written: retention that had not seen it has left its own mark by now."""
    require_not_deleted(version)


def require_not_deleted(version: ModelVersion) -> None:
    """Raises ModelError where retention has begun to delete a version."""
    if DELETING_TAG in model_registry().tags_of(version):
        raise ModelError(
            f"Retention has begun to delete {version}", "model_version", "name another version"
        )


def _missing(model_name: str, wanted: str, standing: Standing | None) -> ModelError:
    if wanted == PREVIOUS and standing and standing.champion:
        return ModelError(
            f"{standing.champion} has no version before it that still exists",
            "to_version",
            "name the version to go back to; `history` shows which there were",
        )
    if standing and standing.last and not standing.champion:
        last, back = standing.last, standing.previous
        again = f"run rollback to go back to version {back}, or " if back else ""
        return ModelError(
            f"The model {model_name!r} has no champion any more: {last.why} (version {last.from_version} was it)",
            "model_version",
            f"{again}promote a version; `history` shows which there were",
        )
    return ModelError(
        f"The registry has no {wanted!r} of model {model_name!r}",
        "model_version",
        "run retrain first (a model that fails its gate is no champion), or name another model, alias or version",
    )


@step
def keep_challenger(version: ModelVersion, champion: ModelVersion | None, why: str) -> None:
    """Leave the champion as it is, and write down with the version why."""
    model_registry().describe_version(version, {DECISION_TAG: f"stays challenger: {why}"})
    logger.warning(
        "promote: %s stays challenger, %s; the champion is %s", version, why, champion or "nobody"
    )


@step
def move_champion(
    to: ModelVersion,
    kind: str,
    who: str,
    why: str,
    expected: ModelVersion | None,
    evidence: str = "",
) -> Move:
    """Make a version the champion, if the champion is still the one that was expected.

    Tried again after an outage, it finds what it has begun, and ends it.

    Args:
        to: the version.
        kind: of the move: gate, approval, overrule, promote or rollback.
        who, why: for the history; taken as they are said.
        expected: the champion when it was decided.
        evidence: where the verdict lies that it rests on.
    Returns:
        The move; where the version is champion already, the one that made it so.
    Raises:
        ConflictError: somebody else has moved the champion meanwhile.
        ModelError: the version was deleted meanwhile.
    """
    mover = Mover(kind, who, why, flow_run_id(), evidence)
    move = champions().move(to, expected, mover)
    model_registry().describe_version(to, {DECISION_TAG: f"champion, {kind} by {who}: {why}"})
    return move


@step
def moved_by_this_run(model_name: str) -> Move | None:
    """The move that this flow run has made before it was tried again; a second rollback would undo the first."""
    mine = flow_run_id()
    champions().settle(model_name)
    made = [m for m in move_log().moves(model_name) if mine and m.flow_run == mine]
    if made:
        logger.info("This run has moved the champion already: move %s", made[-1].number)
    return made[-1] if made else None


@step
def require_passed(version: ModelVersion, overrule: bool) -> str:
    """The kind of move that a promotion by a person is: `promote`, or `overrule` where the gate has refused it.

    Raises:
        ModelError: the gate has refused the version, and it is not to be overruled; names the clauses that failed.
    """
    tags = model_registry().tags_of(version)
    if said := what_people_said.fn(version):
        if overrule:
            logger.warning("%s is promoted although %s", version, said)
            return "overrule"
        raise ModelError(
            f"People have decided against {version}: {said}",
            "overrule",
            "to promote it all the same set overrule, which is recorded with your name",
        )
    if tags.get(GATE_TAG) != REFUSED:
        return "promote"
    verdict = tags.get(VERDICT_TAG, "no verdict is kept")
    failed = "; ".join(_FAILED.findall(verdict)) or verdict
    if overrule:
        logger.warning("%s is promoted although the gate has refused it: %s", version, failed)
        return "overrule"
    raise ModelError(
        f"The gate has refused {version}: {failed}",
        "overrule",
        "promote another version; to promote it all the same set overrule, which is recorded with your name",
    )


@step
def read_history(model_name: str, last: int) -> History:
    """The newest moves of a model's champion, from the object store; with MLflow away, as far as it is known there."""
    try:
        champions().settle(model_name)
        versions = [r.version.version for r in model_registry().versions(model_name)]
    except RegistryAwayError as error:
        logger.warning("Moves by hand since the last one are not known: %s", error)
        versions = None
    moves = move_log().moves(model_name)
    history = History(model=model_name, moves=moves[-last:], versions=versions)
    said = f"Moves of the champion of {model_name}: {len(moves)}, the newest first"
    reports.publish_table("moves", rows_of(history) or [{"move": "none"}], said)
    return history


def rows_of(history: History) -> list[dict[str, str]]:
    """A history as a table, the newest move first."""

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
def settle_all() -> int:
    """End moves whose mover died, and write down moves by hand, of every model with a history; returns how many."""
    settled = 0
    for name in move_log().models():
        try:
            before = move_log().last(name)
            undone = before is not None and not move_log().is_done(before)
            last = champions().settle(name).last
        except StoreAwayError:
            raise
        except StoreError as error:  # one model's record is no reason to leave the others
            logger.warning("The moves of %s are left as they are: %s", name, error)
            continue
        settled += undone or last != before
    return settled
