"""The champion of a model and its moves: the log is written first, the alias follows.

A move is written to the log, then the alias `champion` is set, then the move is marked as done. `reconcile` makes log
and alias agree again, whatever happened in between. All code that reads the champion calls it:

    the alias is where the last move says    nothing to do
    it is where that move comes from         the mover is on the way, or died: the alias is set, the move done
    an announced write brings it there       a write came late, after a newer move: the alias is set as the newest says
    anything else                            people have moved it in MLflow: that is a move too, of the kind "by hand"

MLflow has no conditional write of an alias and keeps no history of it. So a writer does the following, in this order:

    1. announces the write in the store (`PromotionLog.begin_write`), with the version
    2. reads the log: the move that it writes for is still the last one
    3. reads the alias: nobody has moved it by hand
    4. sets the alias, and marks the move as done
    5. reads log and alias until they agree, and then withdraws the announcement

A write that arrives after a newer move was announced before that move was written (2 follows 1), and stays announced
until its writer has seen log and alias agree (5). So if an alias is not where the log says, any process can tell
whether a process or a person has put it there. Announcements of dead processes are withdrawn once log and alias agree
and none of their requests can still be under way. docs/registry.md describes the remaining gaps.

`previous` is the newest champion before the present one that still exists; it follows from the log alone.
"""

import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

from tasks.connectors.tracking.model_registry import ModelRegistry
from tasks.connectors.tracking.promotion_log import PromotionLog
from tasks.connectors.tracking.timeouts import longest_request_seconds
from tasks.core.errors import (
    ConflictError,
    ModelError,
    RegistryError,
    RegistryUnavailableError,
    StoreError,
    StoreUnavailableError,
)
from tasks.core.records import ModelVersion, Promotion
from tasks.core.tags import DELETING_TAG

logger = logging.getLogger(__name__)

CHAMPION, PREVIOUS, CHALLENGER = "champion", "previous", "challenger"
BY_HAND, PUT_RIGHT = "by hand", "put right"
_TRIES = 8  # while others move at the same time
_LATE_SECONDS = 1.0  # a mover that was overtaken needs less time to correct its write
# A slower answer may belong to a retry, with the first request still under way.
_PROMPT_SECONDS = 1.0


@dataclass(slots=True, frozen=True)
class AliasState:
    """The champion, `previous` and last move of a model, with log and aliases in agreement."""

    champion: ModelVersion | None
    previous: str  # number of a version that exists; '' if there is none
    last: Promotion | None


@dataclass(slots=True, frozen=True)
class Mover:
    """The author of a move and the reason for it, for the log."""

    kind: str
    who: str
    why: str
    flow_run: str = ""
    evidence: str = ""


@dataclass(slots=True)
class _Writes:
    """Writes of the alias that one call has announced or made."""

    # Announced, and certainly no longer under way.
    over: list[str] = field(default_factory=list[str])
    # Numbers of the moves that were written.
    moves_written: set[int] = field(default_factory=set[int])
    # Written too late: other processes may have stopped waiting for it.
    late: list[Promotion] = field(default_factory=list[Promotion])


class Champions:
    """Settles and moves the champions of models.

    Raises:
        RegistryError, StoreError: from every method, if MLflow or the object store refuses.
        RegistryUnavailableError, StoreUnavailableError: if one does not answer. A later call completes a move that was
            begun.
    """

    def __init__(self, registry: ModelRegistry, log: PromotionLog) -> None:
        self._registry = registry
        self._log = log

    def reconcile(self, model: str) -> AliasState:
        """Make log and aliases agree, and return the resulting standing.

        Raises:
            ConflictError: others keep moving the champion meanwhile.
        """
        mine = _Writes()
        for _ in range(_TRIES):
            if (state := self._look(model, mine)) and not self._put_right(state, mine):
                self._take_back(model, mine)
                return state
        raise ConflictError("Others keep moving the champion", model, "try again in a minute")

    def move(self, to: ModelVersion, expected: ModelVersion | None, mover: Mover) -> Promotion:
        """Make a version the champion if the present champion is still the expected one.

        Returns:
            The move. If the version is already champion, the move that made it so.
        Raises:
            ConflictError: another process or person has moved the champion meanwhile.
            ModelError: the version is deleted, or about to be.
        """
        for _ in range(_TRIES):
            state = self.reconcile(to.name)
            if state.last and state.last.to_version == to.version:
                return state.last
            _require_expected(state, to.name, expected)
            self._require_usable(to)
            move = _moved(state.last, to.name, to.version, mover)
            if not self._log.append(move) or self._log.read(to.name, move.number) != move:
                continue  # another move has this number: look again
            last = self.reconcile(to.name).last
            self._require_usable(to)
            self._require_held(move, last)
            return move
        raise ConflictError("Others keep moving the champion", to.name, "try again in a minute")

    def _look(self, model: str, mine: _Writes) -> AliasState | None:
        """Return the standing; None if something had to be corrected first, or changed meanwhile."""
        last = self._log.last(model)
        aliases = self._registry.aliases(model)
        alias = aliases.get(CHAMPION, "")
        if last is None and not alias:
            return AliasState(None, "", None)
        if last is None:
            self._adopt(model, None, alias, "was champion before the history began")
        elif alias == last.to_version:
            return self._alias_state(last, aliases)
        elif alias in self._replaceable(last, mine):
            self._point(last, mine)
        elif not self._log.is_done(last):
            self._log.mark_done(last, _now())
        elif self._stays(last, alias):
            self._adopt(model, last, alias, self._what_happened(last, alias))
        return None

    def _alias_state(self, last: Promotion, aliases: Mapping[str, str]) -> AliasState | None:
        """Return the standing when log and alias agree; None if something else had to be corrected."""
        if not self._log.is_done(last):
            self._mark_done(last)
        champion = self._registry.resolve(last.model, last.to_version) if last.to_version else None
        if last.to_version and not champion:
            return None
        previous, changed = self._put_previous_right(last, aliases)
        return None if changed else AliasState(champion, previous, last)

    def _replaceable(self, last: Promotion, mine: _Writes) -> set[str]:
        """Return the versions ('' for none) that the alias may have without a move by hand since the last move.

        Empty if the alias may not be set as the move says: its version is gone, or retention has begun to delete it.
        """
        versions = {version for version, _ in self._log.pending_writes(last.model).values()}
        begun = last.kind != BY_HAND and last.number not in mine.moves_written
        if begun and not self._log.is_done(last):
            versions.add(last.from_version)
            if not self._exists(last.model, last.from_version):
                versions.add("")  # MLflow has removed the alias with the version
        return versions if self._is_usable(last.model, last.to_version) else set()

    def _point(self, move: Promotion, mine: _Writes) -> None:
        """Set the alias as the last move says, in the order given in the module's docstring."""
        model, version = move.model, None
        if move.to_version and not (version := self._registry.resolve(model, move.to_version)):
            return
        announced, began = self._log.begin_write(model, move.to_version), _clock()
        if self._log.last(model) == move:
            replaceable = self._replaceable(move, mine)
            alias = self._registry.aliases(model).get(CHAMPION, "")
            if alias in replaceable:
                sent = _clock()
                if sent - began > longest_request_seconds():
                    return  # the announcement is too old: look again, and announce anew
                self._set(move, version)
                mine.moves_written.add(move.number)
                if _clock() - began > longest_request_seconds():
                    mine.late.append(move)
                self._mark_done(move)
                if alias != move.from_version:
                    logger.warning(
                        "A late write had made %s version %s the champion; undone", model, alias
                    )
                if (seconds := _clock() - sent) > _PROMPT_SECONDS:
                    logger.warning(
                        "Setting the alias of %s took %.1f s; a change by hand in that time would be lost",
                        model,
                        seconds,
                    )
                    return
        mine.over.append(announced)

    def _set(self, move: Promotion, version: ModelVersion | None) -> None:
        if version:
            self._registry.set_alias(version, CHAMPION)
        else:
            self._registry.remove_alias(move.model, CHAMPION)

    def _mark_done(self, move: Promotion) -> None:
        self._log.mark_done(move, _now())
        before, after = move.from_version or "nobody", move.to_version or "nobody"
        logger.info(
            "The champion of %s: %s -> %s (%s, %s)", move.model, before, after, move.kind, move.who
        )

    def _put_right(self, state: AliasState, mine: _Writes) -> bool:
        """Undo a recorded move by hand that was in fact a late write of this call. Returns True if there was one."""
        last = state.last
        if not last or last.kind != BY_HAND:
            return False
        for late in mine.late:
            if last.number > late.number and last.to_version == late.to_version:
                why = f"move {last.number} was a late write of move {late.number}, not a person's decision"
                mover = Mover(PUT_RIGHT, "Nightshift", why)
                self._log.append(_moved(last, last.model, last.from_version, mover))
                mine.late.clear()
                return True
        return False

    def _take_back(self, model: str, mine: _Writes) -> None:
        """Withdraw the announcements of this call and of dead processes, now that log and alias agree."""
        longest = 2 * longest_request_seconds()  # one until it is sent, one until it is answered
        pending = self._log.pending_writes(model).items()
        for announced in [*mine.over, *(uri for uri, (_, age) in pending if age > longest)]:
            try:
                self._log.end_write(announced)
            except StoreUnavailableError:
                raise
            except StoreError as error:  # this account may not be allowed to delete; others may be
                logger.warning(
                    "Could not withdraw the announcement of a finished write: %s", error.what
                )

    def _stays(self, last: Promotion, before: str) -> bool:
        """Wait, then return True if the alias still differs from the log in the same way and the log is unchanged."""
        time.sleep(_LATE_SECONDS)
        alias = self._registry.aliases(last.model).get(CHAMPION, "")
        return alias == before and self._log.last(last.model) == last

    def _adopt(self, model: str, last: Promotion | None, version: str, why: str) -> None:
        """Record a change made by people in MLflow as a move. If another process records it first, its move counts."""
        move = _moved(last, model, version, Mover(BY_HAND, "MLflow", why))
        if self._log.append(move):
            before, after = move.from_version or "nobody", version or "nobody"
            logger.warning(
                "The champion of %s: %s -> %s, not by Nightshift: %s", model, before, after, why
            )

    def _what_happened(self, last: Promotion, alias: str) -> str:
        if last.to_version and not self._exists(last.model, last.to_version):
            return f"version {last.to_version} was deleted in MLflow"
        if not self._is_usable(last.model, last.to_version):
            return f"version {last.to_version} is being deleted by retention"
        return f"the alias was {'moved' if alias else 'removed'} in MLflow"

    def _put_previous_right(self, last: Promotion, aliases: Mapping[str, str]) -> tuple[str, bool]:
        """Return the version for `previous`, and True if its alias had to change: the log may have moved meanwhile."""
        alias = aliases.get(PREVIOUS, "")
        if alias and alias == last.from_version:
            return alias, False
        previous = ""
        for move in self._log.backwards(last):
            if move.from_version != last.to_version and self._exists(last.model, move.from_version):
                previous = move.from_version
                break
        version = self._registry.resolve(last.model, previous) if previous else None
        if version and previous != alias:
            self._registry.set_alias(version, PREVIOUS)
            return previous, True
        return previous, bool(alias and not previous and self._remove_previous(last.model))

    def _remove_previous(self, model: str) -> bool:
        try:
            self._registry.remove_alias(model, PREVIOUS)
        except RegistryUnavailableError:
            raise
        except RegistryError as error:  # this account may only be allowed to set aliases
            logger.warning("The alias %r of %s is out of date: %s", PREVIOUS, model, error.what)
            return False
        return True

    def _exists(self, model: str, version: str) -> bool:
        return bool(version) and self._registry.resolve(model, version) is not None

    def _is_usable(self, model: str, version: str) -> bool:
        """True if an alias may be set to this: to '' (removed), or to a version that retention is not deleting."""
        registered = self._registry.resolve(model, version) if version else None
        return not version or (
            registered is not None and DELETING_TAG not in self._registry.tags_of(registered)
        )

    def _require_usable(self, to: ModelVersion) -> None:
        if not self._is_usable(to.name, to.version):
            raise ModelError(
                f"{to} is deleted, or retention has begun to delete it",
                "version",
                "name another version; `history` lists them",
            )

    def _require_held(self, move: Promotion, last: Promotion | None) -> None:
        """Raise ConflictError if the alias has never stood as a move says, or no record of the move is left."""
        if last is None or last == move:
            return
        why = "a record written at the same moment has replaced its own"
        if last.number > move.number:
            after = self._log.read(move.model, move.number + 1)
            if after is None or after.kind != BY_HAND:
                return
            why = after.why
        raise ConflictError(
            f"The move to {move.model} version {move.to_version} did not hold: {why}",
            move.model,
            "see `history`",
        )


def _require_expected(state: AliasState, model: str, expected: ModelVersion | None) -> None:
    present, last = state.champion, state.last
    if (present and present.version) == (expected and expected.version):
        return
    last_move = f"; move {last.number}: {last.kind} by {last.who}, {last.why}" if last else ""
    raise ConflictError(
        f"The champion is now {present.version if present else 'nobody'}, no longer "
        f"{expected.version if expected else 'nobody'}{last_move}",
        model,
        "look at that move, decide again, and run again",
    )


def _moved(last: Promotion | None, model: str, to_version: str, mover: Mover) -> Promotion:
    return Promotion(
        number=last.number + 1 if last else 1,
        model=model,
        kind=mover.kind,
        from_version=last.to_version if last else "",
        to_version=to_version,
        who=mover.who,
        why=mover.why,
        when=_now(),
        flow_run=mover.flow_run,
        evidence=mover.evidence,
    )


def _clock() -> float:
    """Return the seconds since the machine started, including time asleep if the system has such a clock."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
