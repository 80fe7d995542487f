"""Behavioural checks as steps: the cases, made from checks and test reviews, and a model's results on them."""

import hashlib
import logging
from pathlib import Path

from pydantic import Field

from tasks.connectors.local_paths import local_path
from tasks.connectors.storage.object_store import S3_LIKE, parse_uri
from tasks.core.decision import without_costs
from tasks.core.engines.protocol import softmax
from tasks.core.errors import SettingsError
from tasks.core.evaluation.behaviour import checks as behaviour
from tasks.core.evaluation.behaviour.checks import Cases
from tasks.core.evaluation.behaviour.files import MAX_BYTES
from tasks.core.evaluation.behaviour.params import BehaviourParams
from tasks.core.evaluation.behaviour.results import BehaviourResult
from tasks.core.records import Record, Reference, SplitSummary
from tasks.data.test_set import read_test_set
from tasks.evaluation.predictions import logits_of
from tasks.registry.models import JudgedModel, digest_of_model, name_of, opened
from tasks.runtime.clients import object_store
from tasks.runtime.steps import fetched, reuse_or_make, step

logger = logging.getLogger(__name__)

_OWN = "checks.yaml"
Behaviour = Reference[BehaviourResult]


class ChecksSummary(Record):
    """The user's own checks as they were when the run began, in checks.yaml; no file if there are none."""

    checks: int = Field(description="With those that are built in.")
    own: bool


Checks = Reference[ChecksSummary]


@step
def keep_checks(params: BehaviourParams) -> Checks:
    """Read all checks before a training starts, and keep them, so that candidate and champion face the same ones.

    Raises:
        SettingsError: the file of the user's checks does not exist, or one of them is invalid.
    """
    content = read_checks(params)
    inputs = {
        "built_in": params.built_in,
        "name": params.checks,
        "content": None if content is None else hashlib.sha256(content).hexdigest(),
        "cases": behaviour.CASES_VERSION,
    }
    count = len(behaviour.all_checks(params, content))

    def make(folder: Path) -> ChecksSummary:
        if content is not None:
            (folder / _OWN).write_bytes(content)
        return ChecksSummary(checks=count, own=content is not None)

    return reuse_or_make("checks", inputs, ChecksSummary, make)


def read_checks(params: BehaviourParams) -> bytes | None:
    """Read the file of the user's own checks, up to the size limit; None if none is named.

    Raises:
        SettingsError: it does not exist.
        StoreError: the object is larger than such a file may be.
    """
    if not params.checks:
        return None
    content: bytes | None = None
    why = "there is no such object"
    if S3_LIKE.match(params.checks):
        parse_uri(params.checks, "behaviour.checks")
        content = object_store().read_bytes(params.checks, at_most=MAX_BYTES)
    else:
        try:
            with local_path(params.checks).open("rb") as file:
                content = file.read(MAX_BYTES + 1)
        except OSError as error:
            why = error.strerror or type(error).__name__
    if content is None:
        raise SettingsError(
            f"The file of behavioural checks cannot be read: {why}",
            params.checks,
            "correct behaviour.checks, or leave it empty",
        )
    return content


def cases_of(split: Reference[SplitSummary], checks: Checks, params: BehaviourParams) -> Cases:
    """Return the cases for every model that is evaluated on this test set."""
    content: bytes | None = None
    if checks.summary.own:
        with fetched(checks, _OWN) as folder:
            content = (folder / _OWN).read_bytes()
    checks_to_run = behaviour.all_checks(params, content)
    return behaviour.make_cases(
        checks_to_run, read_test_set(split).texts, split.summary.label_names, params
    )


@step
def check_behaviour(
    model: JudgedModel, split: Reference[SplitSummary], checks: Checks, params: BehaviourParams
) -> Behaviour:
    """Run the checks on a model, or reuse its results on the same cases.

    Raises:
        ModelError: it has different labels than the test set, or cannot be loaded.
    """
    cases = cases_of(split, checks, params)
    inputs = {
        "model": digest_of_model(model),
        "test": split.summary.test_digest,
        "cases": cases.digest(),
    }

    def make(folder: Path) -> BehaviourResult:
        with opened(model, split.summary.label_names) as classifier:
            answers = softmax(logits_of(classifier, cases.texts, "Behavioural cases scored"))
            costs = classifier.class_costs
        result = behaviour.judge_cases(cases, without_costs(answers, costs), costs)
        (folder / "behaviour.json").write_text(result.model_dump_json(indent=2), encoding="utf-8")
        return result

    reference = reuse_or_make("behaviour", inputs, BehaviourResult, make)
    _log(name_of(model), reference.summary)
    return reference


def _log(name: str, result: BehaviourResult) -> None:
    cases = sum(check.cases for check in result.checks)
    failures = sum(check.failures for check in result.checks)
    worst = max(result.checks, key=lambda check: check.share, default=None)
    logger.info(
        "%s: %s of %s behavioural cases failed in %s checks%s%s",
        name,
        f"{failures:,}",
        f"{cases:,}",
        len(result.checks),
        f"; most in {worst}" if worst and worst.failures else "",
        f"; {len(result.skipped)} checks do not apply" if result.skipped else "",
    )
