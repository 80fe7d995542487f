"""The champion of a model, and how it moves: the log says it first, the aliases follow.

A move is written to the log, then the alias `champion` is set, then the move is marked as done. `settle` brings log and
aliases together again, whatever happened between; everybody who asks for the champion asks through it:

    the last move is not done           its mover is on the way, or died: the alias is set, the move done
    done, and the alias stands          nothing to do
    done, and the alias is elsewhere    people have moved it in MLflow: that is a move too, of the kind "by hand"
    done, and its version is deleted    so there is no champion: likewise
    no log, and a champion              an installation from before the log: its first move, "by hand"

`previous` is the newest champion before the present one that still exists; it follows from the log alone.

MLflow has no condition for an alias. So a mover looks at the log again after setting it, and one that was overtaken (it
stood still for long between record and alias) sets it as the newest move says. Only if it dies in that instant is its
alias taken for one that was set by hand.
"""

import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from tasks.connectors.model_registry import DELETING_TAG, ModelRegistry
from tasks.connectors.move_log import MoveLog
from tasks.core.errors import ConflictError, ModelError, RegistryAwayError, RegistryError
from tasks.core.records import ModelVersion, Move

logger = logging.getLogger(__name__)

CHAMPION, PREVIOUS, CHALLENGER = "champion", "previous", "challenger"
BY_HAND = "by hand"
_TRIES = 8  # while others move at the same moment
_LATE_SECONDS = 1.0  # a mover that was overtaken needs less to put right what it spoiled


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
        for _ in range(_TRIES):
            if standing := self._look(model):
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
            self._finish(move, move.from_version)
            last = self.settle(to.name).last
            self._require_usable(to)
            if last and last.kind == BY_HAND and last.number == move.number + 1:
                raise ConflictError(
                    f"The move to {to} did not hold: {last.why}", to.name, "look at `history`"
                )
            return move
        raise ConflictError(
            "The champion is moved by others again and again", to.name, "try again in a minute"
        )

    def _look(self, model: str) -> Standing | None:
        """How things stand; None where something had to be put right first, or changed meanwhile."""
        last = self._log.last(model)
        aliases = self._registry.aliases(model)
        found = aliases.get(CHAMPION, "")
        if last is None and not found:
            return Standing(None, "", None)
        if last is None:
            self._adopt(model, None, found, "was champion before there was a history")
        elif not self._log.is_done(last):
            self._finish(last, found)
        elif found != last.to_version:
            if self._stays(last, found):
                self._adopt(model, last, found, self._what_happened(last, found))
        else:
            champion = self._registry.resolve(model, found) if found else None
            if champion or not found:
                return Standing(champion, self._put_previous_right(last, aliases), last)
        return None

    def _finish(self, move: Move, found: str) -> None:
        """End a move that was begun: set the alias, unless people have moved it since, or the version is gone.

        Args:
            move: the last one of its model.
            found: where the alias is; '' for nowhere.
        """
        if move.kind != BY_HAND and found != move.to_version:
            untouched = found == move.from_version
            vanished = not found and not self._exists(move.model, move.from_version)
            if (untouched or vanished) and self._is_usable(move.model, move.to_version):
                self._point(move)
        self._log.mark_done(move, _now())
        before, after = move.from_version or "nobody", move.to_version or "nobody"
        logger.info(
            "The champion of %s: %s -> %s (%s, %s)",
            move.model,
            before,
            after,
            move.kind,
            move.who,
        )

    def _point(self, move: Move) -> None:
        """Set the alias as a move says; whoever comes too late for that sets it as the newest one says."""
        if not move.to_version:
            self._registry.remove_alias(move.model, CHAMPION)
        elif version := self._registry.resolve(move.model, move.to_version):
            self._registry.set_alias(version, CHAMPION)
        newest = self._log.last(move.model)
        if newest and newest.number > move.number:
            self._point(newest)

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

    def _put_previous_right(self, last: Move, aliases: Mapping[str, str]) -> str:
        stands = aliases.get(PREVIOUS, "")
        if stands and stands == last.from_version:
            return stands
        wanted = ""
        for move in self._log.backwards(last):
            if move.from_version != last.to_version and self._exists(last.model, move.from_version):
                wanted = move.from_version
                break
        version = self._registry.resolve(last.model, wanted) if wanted else None
        if version and wanted != stands:
            self._registry.set_alias(version, PREVIOUS)
        elif stands and not wanted:
            self._remove_previous(last.model)
        return wanted

    def _remove_previous(self, model: str) -> None:
        try:
            self._registry.remove_alias(model, PREVIOUS)
        except RegistryAwayError:
            raise
        except RegistryError as error:  # an account may be allowed to set aliases only
            logger.warning("The alias %r of %s is out of date: %s", PREVIOUS, model, error.what)

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


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
