"""The last lines of a retraining: the version, its report, and the next command to type."""

import io
import shlex

import pytest

from flows.cli.arguments import parse
from flows.cli.summaries import show_retrained
from flows.stages.results import Retrained
from tasks.core.evaluation.records import EvaluationSummary
from tasks.core.records import ModelVersion
from tasks.core.release.gate.evidence import Clause, Verdict
from tasks.runtime.reporting.terminal import Terminal

REPORT = "file:///artifacts/report/my-reviews-version-3.html"


def retrained(promoted: bool, passed: bool) -> Retrained:
    evaluation = EvaluationSummary.model_construct(model="student", rows=40, metrics={})
    return Retrained.model_construct(
        version=ModelVersion(name="my reviews", version="3", model_digest="d", run_id="r"),
        promoted=promoted,
        verdict=Verdict(promote=passed, clauses=[Clause(name="speed", passed=passed, text="1 ms")]),
        evaluation=evaluation,
        baseline=evaluation,
        train_rows=100,
        training_seconds=12.3,
        steps_reused=["tokens"],
        model_uri="s3://nightshift/prepared/training/0",
        report_uri=REPORT,
    )


@pytest.mark.parametrize(
    ("promoted", "passed", "standing", "flow", "overrule"),
    [
        (True, True, "is the champion", "score", False),
        (False, True, "stays challenger", "promote", True),
        (False, False, "stays challenger", "promote", True),
    ],
)
def test_a_retraining_ends_with_its_report_and_the_next_command(
    promoted: bool, passed: bool, standing: str, flow: str, overrule: bool
) -> None:
    output = io.StringIO()
    show_retrained(Terminal(file=output, width=80), retrained(promoted, passed))
    result, following = output.getvalue().splitlines()[-2:]
    assert result == f"my reviews version 3 {standing}; trained in 12 s. Report: {REPORT}"
    words = shlex.split(following.partition("python -m flows ")[2])
    params = parse(words[0], words[1:])
    assert (words[0], params.model_name) == (flow, "my reviews")
    assert ("--overrule" in words) == overrule
    if flow == "promote":
        assert (params.version, params.overrule) == ("3", overrule)
