"""Decisions of the gate and of people about a version, read from its tags and from the log of champions."""

import logging
import re
from collections.abc import Container

from tasks.core.errors import ModelError
from tasks.core.records import ModelVersion, Promotion
from tasks.core.tags import DECISION_TAG, GATE_TAG, REFUSED, VERDICT_TAG
from tasks.runtime.clients import model_registry, move_log
from tasks.runtime.steps import step

logger = logging.getLogger(__name__)

NOBODY = "nobody (time-out)"
_REJECTED = "rejected by"
_BY_PEOPLE = ("rollback", "promote", "overrule", "by hand")
_FAILED = re.compile(r"FAILED .*?(?=; (?:passed|FAILED) |\)?$)")


@step
def human_veto(version: ModelVersion) -> str:
    """Return why the gate may not promote a version by itself: people rolled it back or rejected it. '' if not.

    A decision is about weights: it applies to every version with the same weights, whatever its engine. A move between
    two such versions was about the engine, and applies to these two only.
    """
    versions = model_registry().versions(version.name)
    same_weights = [other for other in versions if other.version.has_weights_of(version)]
    numbers = {other.version.version for other in same_weights} | {version.version}
    moves = move_log().moves(version.name)
    relevant = [move for move in moves if _is_about(move, version.version, numbers)]
    if relevant:
        last = relevant[-1]
        is_replaced = last.from_version == version.version or last.to_version not in numbers
        if is_replaced and last.kind in _BY_PEOPLE:
            return f"move {last.number} ({last.kind} by {last.who}) took it back: {last.why}"
    # The version's own decision comes first, then the newest of the others.
    same_weights.sort(
        key=lambda other: (other.version.version == version.version, int(other.version.version)),
        reverse=True,
    )
    decisions = (other.tags.get(DECISION_TAG, "") for other in same_weights)
    decision = next(filter(None, decisions), "")
    return decision if _REJECTED in decision and NOBODY not in decision else ""


def _is_about(move: Promotion, version: str, same_weights: Container[str]) -> bool:
    """True if a move was from or to a version, or between its weights and others."""
    ends = move.from_version, move.to_version
    return version in ends or (ends[0] in same_weights) != (ends[1] in same_weights)


@step
def keep_challenger(version: ModelVersion, champion: ModelVersion | None, why: str) -> None:
    """Leave the version challenger, and store the reason in its tags."""
    model_registry().describe_version(version, {DECISION_TAG: f"stays challenger: {why}"})
    logger.warning(
        "promote: %s stays challenger, %s; the champion is %s", version, why, champion or "nobody"
    )


@step
def require_passed(version: ModelVersion, overrule: bool) -> str:
    """Return the kind of a person's promotion: `promote`, or `overrule` if the gate or people decided against it.

    Raises:
        ModelError: they decided against it, and `overrule` is not set. The error names the reason, or the clauses of
            the gate that failed.
    """
    tags = model_registry().tags_of(version)
    if veto := human_veto.fn(version):
        if overrule:
            logger.warning(
                "%s is promoted although people have decided against it: %s", version, veto
            )
            return "overrule"
        raise ModelError(
            f"People have decided against {version}: {veto}",
            "overrule",
            "to promote it anyway, set overrule, which is recorded with your name",
        )
    if tags.get(GATE_TAG) != REFUSED:
        return "promote"
    verdict = tags.get(VERDICT_TAG, "its verdict was not stored")
    failed = "; ".join(_FAILED.findall(verdict)) or verdict
    if overrule:
        logger.warning("%s is promoted although the gate has refused it: %s", version, failed)
        return "overrule"
    raise ModelError(
        f"The gate has refused {version}: {failed}",
        "overrule",
        "promote another version; to promote it anyway, set overrule, which is recorded with your name",
    )
