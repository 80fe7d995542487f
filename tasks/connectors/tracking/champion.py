"""The champion of a model, and how it moves: the log says it first, the alias follows.

A move is written to the log, then the alias `champion` is set, then the move is marked as done. `settle` brings log and
alias together again, whatever happened between; everybody who asks for the champion asks through it:

    the alias is where the last move says    nothing to do
    it is where that move comes from         the mover is on the way, or died: the alias is set, the move done
    an announced write brings it there       a write came late, after a newer move: the alias is set as the newest says
    anything else                            people have moved it in MLflow: that is a move too, of the kind "by hand"

MLflow has no condition for an alias and keeps no history of it. So whoever writes it, in this order:

    1. announces the write in the store (`MoveLog.begin_write`), with the version
    2. reads the log: the move that it writes for is still the last one
    3. reads the alias: nobody has moved it by hand
    4. sets the alias, and marks the move as done
    5. reads log and alias until they agree, and then takes the announcement back

A write that comes after a newer move was announced before that move was written (2 follows 1), and stays announced
until its writer has seen log and alias agree (5). So of any alias that is not where the log says, everybody can tell
whether a process or a person has put it there. What the dead have announced is taken back when log and alias agree and
no request of theirs can be under way any more. docs/registry.md says what that leaves open.

`previous` is the newest champion before the present one that still exists; it follows from the log alone.
"""

import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

from tasks.connectors.tracking.model_registry import ModelRegistry
from tasks.connectors.tracking.promotion_log import MoveLog
from tasks.connectors.tracking.timeouts import longest_request_seconds
from tasks.core.errors import (
    ConflictError,
    ModelError,
    RegistryAwayError,
    RegistryError,
    StoreAwayError,
    StoreError,
)
from tasks.core.records import ModelVersion, Move
from tasks.core.tags import DELETING_TAG

logger = logging.getLogger(__name__)

CHAMPION, PREVIOUS, CHALLENGER = "champion", "previous", "challenger"
BY_HAND, PUT_RIGHT = "by hand", "put right"
_TRIES = 8  # while others move at the same moment
_LATE_SECONDS = 1.0  # a mover that was overtaken needs less to put right what it spoiled
# An answer that took longer may be a second try's, and the first one still under way.
_PROMPT_SECONDS = 1.0


@dataclass(slots=True, frozen=True)
class Standing:
    """How things stand, log and aliases agreeing."""

    champion: ModelVersion | None
    previous: str  # number of a version that exists; '' where there is none
    last: Move | None


@dataclass(slots=True, frozen=True)
class Mover:
    """Who moves a champion, and why, for the log."""

    kind: str
    who: str
    why: str
    flow_run: str = ""
    evidence: str = ""


@dataclass(slots=True)
class _Writes:
    """Writes of the alias that one call has announced or made."""

    # Announced, and certainly not under way any more.
    over: list[str] = field(default_factory=list[str])
    # Numbers of the moves that were written.
    made: set[int] = field(default_factory=set[int])
    # Written when nobody waited for it any more.
    late: list[Move] = field(default_factory=list[Move])


class Champions:
    """Settles and moves the champions of models.

    Raises:
        RegistryError, StoreError: from every method, when MLflow or the object store refuses.
        RegistryAwayError, StoreAwayError: when one does not answer. Asked again later, a move that was begun is ended.
    """

    def __init__(self, registry: ModelRegistry, log: MoveLog) -> None:
        self._registry = registry
        self._log = log

    def settle(self, model: str) -> Standing:
        """Bring log and aliases together, and say how things stand.

        Raises:
            ConflictError: others move the champion again and again meanwhile.
        """
        mine = _Writes()
        for _ in range(_TRIES):
            if (standing := self._look(model, mine)) and not self._put_right(standing, mine):
                self._take_back(model, mine)
                return standing
        raise ConflictError(
            "The champion is moved by others again and again", model, "try again in a minute"
        )

    def move(self, to: ModelVersion, expected: ModelVersion | None, mover: Mover) -> Move:
        """Make a version the champion if the champion is still the one that was expected.

        Returns:
            The move; where the version is champion already, the one that made it so.
        Raises:
            ConflictError: somebody else has moved the champion meanwhile.
            ModelError: the version is deleted, or about to be.
        """
        for _ in range(_TRIES):
            standing = self.settle(to.name)
            if standing.last and standing.last.to_version == to.version:
                return standing.last
            _require_expected(standing, to.name, expected)
            self._require_usable(to)
            move = _moved(standing.last, to.name, to.version, mover)
            if not self._log.append(move) or self._log.read(to.name, move.number) != move:
                continue  # somebody else has this number: look again
            last = self.settle(to.name).last
            self._require_usable(to)
            self._require_held(move, last)
            return move
        raise ConflictError(
            "The champion is moved by others again and again", to.name, "try again in a minute"
        )

    def _look(self, model: str, mine: _Writes) -> Standing | None:
        """How things stand; None where something had to be put right first, or changed meanwhile."""
        last = self._log.last(model)
        aliases = self._registry.aliases(model)
        found = aliases.get(CHAMPION, "")
        if last is None and not found:
            return Standing(None, "", None)
        if last is None:
            self._adopt(model, None, found, "was champion before there was a history")
        elif found == last.to_version:
            return self._standing(last, aliases)
        elif found in self._replaceable(last, mine):
            self._point(last, mine)
        elif not self._log.is_done(last):
            self._log.mark_done(last, _now())
        elif self._stays(last, found):
            self._adopt(model, last, found, self._what_happened(last, found))
        return None

    def _standing(self, last: Move, aliases: Mapping[str, str]) -> Standing | None:
        """How things stand where log and alias agree; None where something beside them was put right."""
        if not self._log.is_done(last):
            self._mark_done(last)
        champion = self._registry.resolve(last.model, last.to_version) if last.to_version else None
        if last.to_version and not champion:
            return None
        previous, changed = self._put_previous_right(last, aliases)
        return None if changed else Standing(champion, previous, last)

    def _replaceable(self, last: Move, mine: _Writes) -> set[str]:
        """Where the alias may be ('': nowhere) without anybody having put it there by hand since the last move.

        Empty where the alias may not be set as the move says: its version is gone, or retention has begun to delete it.
        """
        found = {version for version, _ in self._log.pending_writes(last.model).values()}
        begun = last.kind != BY_HAND and last.number not in mine.made
        if begun and not self._log.is_done(last):
            found.add(last.from_version)
            if not self._exists(last.model, last.from_version):
                found.add("")  # MLflow has taken the alias away with the version
        return found if self._is_usable(last.model, last.to_version) else set()

    def _point(self, move: Move, mine: _Writes) -> None:
        """Set the alias as the last move says, in the order that the module describes."""
        model, version = move.model, None
        if move.to_version and not (version := self._registry.resolve(model, move.to_version)):
            return
        announced, began = self._log.begin_write(model, move.to_version), _clock()
        if self._log.last(model) == move:
            replaceable = self._replaceable(move, mine)
            found = self._registry.aliases(model).get(CHAMPION, "")
            if found in replaceable:
                asked = _clock()
                if asked - began > longest_request_seconds():
                    return  # too old to be relied on: look again, and announce it anew
                self._set(move, version)
                mine.made.add(move.number)
                if _clock() - began > longest_request_seconds():
                    mine.late.append(move)
                self._mark_done(move)
                if found != move.from_version:
                    logger.warning("A write of %s version %s came late: undone", model, found)
                if (seconds := _clock() - asked) > _PROMPT_SECONDS:
                    logger.warning(
                        "Setting the alias of %s took %.1f s; one set by hand meanwhile would be lost",
                        model,
                        seconds,
                    )
                    return
        mine.over.append(announced)

    def _set(self, move: Move, version: ModelVersion | None) -> None:
        if version:
            self._registry.set_alias(version, CHAMPION)
        else:
            self._registry.remove_alias(move.model, CHAMPION)

    def _mark_done(self, move: Move) -> None:
        self._log.mark_done(move, _now())
        before, after = move.from_version or "nobody", move.to_version or "nobody"
        logger.info(
            "The champion of %s: %s -> %s (%s, %s)", move.model, before, after, move.kind, move.who
        )

    def _put_right(self, standing: Standing, mine: _Writes) -> bool:
        """Undo what was taken for a move by hand and was a write of this call, which nobody waited for any more."""
        last = standing.last
        if not last or last.kind != BY_HAND:
            return False
        for late in mine.late:
            if last.number > late.number and last.to_version == late.to_version:
                why = (
                    f"move {last.number} was a late write of move {late.number}, and nobody's deed"
                )
                mover = Mover(PUT_RIGHT, "Nightshift", why)
                self._log.append(_moved(last, last.model, last.from_version, mover))
                mine.late.clear()
                return True
        return False

    def _take_back(self, model: str, mine: _Writes) -> None:
        """Log and alias agree: forget what this call has announced, and what the dead have."""
        longest = 2 * longest_request_seconds()  # one until it is sent, one until it is answered
        pending = self._log.pending_writes(model).items()
        for announced in [*mine.over, *(uri for uri, (_, age) in pending if age > longest)]:
            try:
                self._log.end_write(announced)
            except StoreAwayError:
                raise
            except StoreError as error:  # an account may not be allowed to delete; others are
                logger.warning("A write that is over is still announced: %s", error.what)

    def _stays(self, last: Move, found: str) -> bool:
        """Whether an alias that is not where the log says is still there after a while, and the log the same."""
        time.sleep(_LATE_SECONDS)
        alias = self._registry.aliases(last.model).get(CHAMPION, "")
        return alias == found and self._log.last(last.model) == last

    def _adopt(self, model: str, last: Move | None, found: str, why: str) -> None:
        """Write down what people have done in MLflow, as a move. Somebody else may be first; then theirs holds."""
        move = _moved(last, model, found, Mover(BY_HAND, "MLflow", why))
        if self._log.append(move):
            before, after = move.from_version or "nobody", found or "nobody"
            logger.warning(
                "The champion of %s: %s -> %s, not by Nightshift: %s", model, before, after, why
            )

    def _what_happened(self, last: Move, found: str) -> str:
        if last.to_version and not self._exists(last.model, last.to_version):
            return f"version {last.to_version} was deleted in MLflow"
        if not self._is_usable(last.model, last.to_version):
            return f"version {last.to_version} is being deleted by retention"
        return f"the alias was {'moved' if found else 'removed'} in MLflow"

    def _put_previous_right(self, last: Move, aliases: Mapping[str, str]) -> tuple[str, bool]:
        """The version that `previous` is, and whether the alias had to be set: the log may have moved meanwhile."""
        stands = aliases.get(PREVIOUS, "")
        if stands and stands == last.from_version:
            return stands, False
        wanted = ""
        for move in self._log.backwards(last):
            if move.from_version != last.to_version and self._exists(last.model, move.from_version):
                wanted = move.from_version
                break
        version = self._registry.resolve(last.model, wanted) if wanted else None
        if version and wanted != stands:
            self._registry.set_alias(version, PREVIOUS)
            return wanted, True
        return wanted, bool(stands and not wanted and self._remove_previous(last.model))

    def _remove_previous(self, model: str) -> bool:
        try:
            self._registry.remove_alias(model, PREVIOUS)
        except RegistryAwayError:
            raise
        except RegistryError as error:  # an account may be allowed to set aliases only
            logger.warning("The alias %r of %s is out of date: %s", PREVIOUS, model, error.what)
            return False
        return True

    def _exists(self, model: str, version: str) -> bool:
        return bool(version) and self._registry.resolve(model, version) is not None

    def _is_usable(self, model: str, version: str) -> bool:
        """Whether an alias may be set so: to nowhere, or to a version that retention has not begun to delete."""
        found = self._registry.resolve(model, version) if version else None
        return not version or (
            found is not None and DELETING_TAG not in self._registry.tags_of(found)
        )

    def _require_usable(self, to: ModelVersion) -> None:
        if not self._is_usable(to.name, to.version):
            raise ModelError(
                f"{to} is deleted, or retention has begun to delete it",
                "version",
                "name another version; `history` shows which there were",
            )

    def _require_held(self, move: Move, last: Move | None) -> None:
        """Raises ConflictError where the alias has never stood as a move says, or no record of it is left."""
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
            "look at `history`",
        )


def _require_expected(standing: Standing, model: str, expected: ModelVersion | None) -> None:
    found, last = standing.champion, standing.last
    if (found and found.version) == (expected and expected.version):
        return
    told = f"; move {last.number}: {last.kind} by {last.who}, {last.why}" if last else ""
    raise ConflictError(
        f"The champion is {found.version if found else 'nobody'} now, and not "
        f"{expected.version if expected else 'nobody'} any more{told}",
        model,
        "look at that, decide again, and run again",
    )


def _moved(last: Move | None, model: str, to_version: str, mover: Mover) -> Move:
    return Move(
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
    """Seconds since the machine was started; it goes on while the machine sleeps, where the system has such a clock."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
