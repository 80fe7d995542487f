"""Decisions about a version, by the gate and by people, read from its tags and from the moves of the champion."""

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
    """Return why the gate alone must not promote a version (people rolled it back or rejected it), or ''.

    A decision about a version applies to its weights, and so to every version with the same weights, whatever its
    engine. A move between two such versions was about the engine, and concerns only these two.
    """
    versions = model_registry().versions(version.name)
    alike = [one for one in versions if one.version.has_weights_of(version)]
    numbers = {one.version.version for one in alike} | {version.version}
    moves = move_log().moves(version.name)
    concerned = [m for m in moves if _concerns(m, version.version, numbers)]
    if concerned:
        last = concerned[-1]
        leaves = last.from_version == version.version or last.to_version not in numbers
        if leaves and last.kind in _BY_PEOPLE:
            return f"move {last.number} ({last.kind} by {last.who}) took it back: {last.why}"
    alike.sort(key=lambda one: (one.version.version == version.version, int(one.version.version)))
    # The version's own decision first, then the newest.
    decisions = (one.tags.get(DECISION_TAG, "") for one in reversed(alike))
    decided = next(filter(None, decisions), "")
    return decided if _REJECTED in decided and NOBODY not in decided else ""


def _concerns(move: Promotion, version: str, alike: Container[str]) -> bool:
    """True if a move concerns a version: a move of the version itself, or one between its weights and others."""
    ends = move.from_version, move.to_version
    return version in ends or (ends[0] in alike) != (ends[1] in alike)


@step
def keep_challenger(version: ModelVersion, champion: ModelVersion | None, why: str) -> None:
    """Keep the champion, and record the reason with the version."""
    model_registry().describe_version(version, {DECISION_TAG: f"stays challenger: {why}"})
    logger.warning(
        "promote: %s stays challenger, %s; the champion is %s", version, why, champion or "nobody"
    )


@step
def require_passed(version: ModelVersion, overrule: bool) -> str:
    """Return the kind of a promotion by a person: `promote`, or `overrule` if the gate or people have refused it.

    Raises:
        ModelError: the version was refused, and `overrule` is not set; for the gate it names the clauses that failed.
    """
    tags = model_registry().tags_of(version)
    if veto := human_veto.fn(version):
        if overrule:
            logger.warning("%s is promoted although %s", version, veto)
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
