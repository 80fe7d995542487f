"""Behavioural checks: a model's answers to unambiguous sentences, and to reviews changed in known ways.

A good average hides a model that reads "not bad" as blame, or that changes its answer because of a typo. The checks
follow CheckList (Ribeiro et al., 2020, "Beyond Accuracy: Behavioral Testing of NLP Models with CheckList") and are
plain YAML, both those that come with Nightshift (`tasks/checks/`) and those that users add.

    checks, test reviews, label names --make_cases--> Cases
    Cases, any model's probabilities --judge_cases--> BehaviourResult

The cases do not depend on a model, so candidate and champion are compared case by case. The texts of failures stay in
`Cases` and enter only the reports in the object store.
"""

import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tasks.core.data.labels import index_of, meaning
from tasks.core.data.texts import both_ends, encodable, is_blank
from tasks.core.decision import with_costs
from tasks.core.digests import digest_of
from tasks.core.errors import SettingsError
from tasks.core.evaluation.behaviour.files import built_in_checks, load_checks
from tasks.core.evaluation.behaviour.kinds import Check, Probabilities
from tasks.core.evaluation.behaviour.params import BehaviourParams
from tasks.core.evaluation.behaviour.results import BehaviourResult, CheckResult, SkippedCheck

# Increased if the same checks and reviews give other cases, or are judged differently.
CASES_VERSION = 1
_MOST_CHARACTERS = 100_000  # of a longer review, only both ends are used
_ROLE_NAMES = {
    "positive": {"positive", "pos", "good"},
    "negative": {"negative", "neg", "bad"},
}


@dataclass(frozen=True)
class CheckCases:
    """The cases of one check, as indices into `Cases.texts`."""

    check: Check
    label: int | None  # class id, if the check names a label
    before: NDArray[np.int64]  # shape (cases,)
    after: NDArray[np.int64]  # same shape; for minimum functionality the same indices


@dataclass(frozen=True)
class Cases:
    """All texts to score for the checks; the same for every model with the same labels."""

    texts: list[str]  # each once, however many cases share it
    checks: list[CheckCases]
    skipped: list[SkippedCheck]
    label_names: list[str]

    def identity(self) -> dict[str, Any]:
        """Return everything but the model that results depend on, as small JSON: the key for caches and comparisons."""
        content = {
            "texts": self.texts,
            "checks": [
                {
                    "kind": group.check.kind,
                    "label": group.label,
                    "before": group.before.tolist(),
                    "after": group.after.tolist(),
                    "check": group.check.model_dump(exclude={"lexicons", "templates"}),
                }
                for group in self.checks
            ],
            "skipped": [check.model_dump() for check in self.skipped],
        }
        return {
            "version": CASES_VERSION,
            "label_names": self.label_names,
            "cases": digest_of(content),
        }

    def digest(self) -> str:
        """Return the digest of these cases."""
        return digest_of(self.identity())

    def examples(self, result: CheckResult, most: int = 5) -> list[tuple[str, str]]:
        """Return the texts before and after of the first failed cases of a check; for reports, never for logs."""
        groups = [g for g in self.checks if g.check.name == result.name]
        if not groups:
            return []
        group = groups[0]
        return [
            (self.texts[group.before[case]], self.texts[group.after[case]])
            for case in result.failed_cases[:most]
        ]


def all_checks(params: BehaviourParams, content: str | bytes | None = None) -> list[Check]:
    """Return the checks selected in a form: the built-in ones, then the user's.

    Args:
        params: the form.
        content: of the file that `params.checks` names; None if it names none.
    Raises:
        SettingsError: the file cannot be used, or gives a check the name of a built-in one.
    """
    checks = list(built_in_checks()) if params.built_in else []
    own = [] if content is None else load_checks(content, params.checks)
    taken = {check.name for check in checks}
    if shared := [check.name for check in own if check.name in taken]:
        raise SettingsError(
            f"These names are taken by built-in checks: {', '.join(shared)}",
            params.checks,
            "rename yours, or switch built_in off",
        )
    return checks + own


def label_roles(label_names: Sequence[str], params: BehaviourParams) -> dict[str, int]:
    """Return class ids of the roles `positive` and `negative`, as far as the form or the label names determine them.

    With two classes, naming one in the form determines the other.

    Raises:
        SettingsError: the form names a label that does not exist, or one label for both roles.
    """
    labels = {"positive": params.positive_label, "negative": params.negative_label}
    roles: dict[str, int] = {}
    for role, label in labels.items():
        index = index_of(label, label_names) if label else None
        if label and index is None:
            raise SettingsError(
                f"No label is called {label!r}; the labels are {_listed(label_names)}",
                f"behaviour.{role}_label",
                f"name one of them, or leave it empty: --behaviour.{role}-label NAME",
            )
        if index is not None:
            roles[role] = index
    if len(roles) == 1 and len(label_names) == 2:
        role, index = next(iter(roles.items()))
        roles["negative" if role == "positive" else "positive"] = 1 - index
    for role in _ROLE_NAMES.keys() - roles.keys():
        matches = [i for i, name in enumerate(label_names) if meaning(name) in _ROLE_NAMES[role]]
        if len(matches) == 1:
            roles[role] = matches[0]
    if len(roles) == 2 and len(set(roles.values())) == 1:
        raise SettingsError(
            f"The label {label_names[roles['positive']]!r} is named both as positive and as negative",
            "behaviour.positive_label, behaviour.negative_label",
            "name two labels, or leave both empty",
        )
    return roles


def make_cases(
    checks: Iterable[Check],
    texts: Sequence[str],
    label_names: Sequence[str],
    params: BehaviourParams,
) -> Cases:
    """Return all cases of the checks, deterministic in the arguments.

    Args:
        checks: with distinct names.
        texts: the test reviews, from which the reviews to change are drawn.
        label_names: of the models, in order of their ids.
        params: number of cases, seed, and the labels that mean positive and negative.
    Raises:
        SettingsError: the form names a label that does not exist.
    """
    roles = label_roles(label_names, params)
    reviews = _shuffled(texts, params.seed)
    indices: dict[str, int] = {}
    groups: list[CheckCases] = []
    skipped: list[SkippedCheck] = []
    for check in checks:
        label, reason = _label(check.named_label(), label_names, roles)
        pairs = [] if reason else check.pairs(reviews, params.max_cases, params.seed)
        if not pairs:
            reason = reason or "there is no test review that it could change"
            skipped.append(SkippedCheck(name=check.name, kind=check.kind, reason=reason))
            continue
        before, after = (
            np.array([indices.setdefault(encodable(t), len(indices)) for t in side], dtype=np.int64)
            for side in zip(*pairs, strict=True)
        )
        groups.append(CheckCases(check, label, before, after))
    return Cases(list(indices), groups, skipped, list(label_names))


def judge_cases(
    cases: Cases, probabilities: Probabilities, class_costs: Sequence[float] = ()
) -> BehaviourResult:
    """Judge which cases a model fails.

    Args:
        cases: the cases that the model was tested with.
        probabilities: of the model's classes for `cases.texts`, shape (texts, classes).
        class_costs: of the model, on which its labels depend; empty: none.
    Raises:
        ValueError: the probabilities have another shape or are not numbers, so there is no result.
    """
    shape = (len(cases.texts), len(cases.label_names))
    if probabilities.shape != shape:
        raise ValueError(f"probabilities of shape {probabilities.shape}, not {shape}")
    if not np.isfinite(probabilities).all():
        raise ValueError("probabilities that are not finite numbers")
    answers = with_costs(probabilities, class_costs)
    results: list[CheckResult] = []
    for group in cases.checks:
        judged = answers if group.check.judges == "labels" else probabilities
        failed = group.check.failed(judged[group.before], judged[group.after], group.label)
        results.append(
            CheckResult(
                name=group.check.name,
                kind=group.check.kind,
                description=group.check.description,
                cases=len(group.after),
                failed_cases=np.flatnonzero(failed).tolist(),
            )
        )
    return BehaviourResult(cases_digest=cases.digest(), checks=results, skipped=cases.skipped)


def _shuffled(texts: Sequence[str], seed: int) -> list[str]:
    """Return the distinct readable reviews in a seeded order. All checks take theirs from its start and share them."""
    bounded = (both_ends(text, _MOST_CHARACTERS) for text in dict.fromkeys(texts))
    readable = [text for text in bounded if not is_blank(text)]
    random.Random(seed).shuffle(readable)
    return readable


def _label(
    named: str | None, label_names: Sequence[str], roles: Mapping[str, int]
) -> tuple[int | None, str]:
    """Return the class id of a check's label, or why the model has none. Roles are tried before label names."""
    if named is None:
        return None, ""
    if named in roles:
        return roles[named], ""
    if (index := index_of(named, label_names)) is not None:
        return index, ""
    if named in _ROLE_NAMES:
        return None, (
            f"the labels {_listed(label_names)} do not tell which is {named}; set behaviour.{named}_label"
        )
    return None, f"it names the label {named!r}, and there are {_listed(label_names)}"


def _listed(label_names: Sequence[str]) -> str:
    """List label names, cut short: if the wrong column was chosen as label, these are whole reviews."""
    more = f" and {len(label_names) - 20} more" if len(label_names) > 20 else ""
    return ", ".join(name[:40] for name in label_names[:20]) + more
