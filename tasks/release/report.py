"""The reports on a version for people: an HTML page and a model card, made from the results of the steps before."""

import dataclasses
import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from tasks.core.engines.selection.records import EngineChoice, EngineProof
from tasks.core.errors import ModelError, NightshiftError
from tasks.core.evaluation.attributions import Attribution, attribute
from tasks.core.evaluation.behaviour.params import BehaviourParams
from tasks.core.evaluation.comparison import Bools
from tasks.core.evaluation.params import EvaluationParams
from tasks.core.quality.records import InspectionSummary
from tasks.core.records import LoadedSummary, ModelVersion, Record, Reference, SplitSummary
from tasks.core.release.gate.evidence import Verdict
from tasks.core.release.gate.params import GateParams
from tasks.core.release.report import facts
from tasks.core.release.report.page import render
from tasks.core.release.report.params import ReportParams
from tasks.core.release.report.parts import (
    Calibration,
    DataFacts,
    Decision,
    LineageStep,
    Picture,
    Report,
    Scored,
    WorstError,
)
from tasks.core.tags import REPORT_TAG
from tasks.data.test_set import read_test_set
from tasks.evaluation.behavioural_tests import Checks, cases_of
from tasks.evaluation.predictions import Evaluation, Predictions, read_predictions
from tasks.registry.models import digest_of_model, opened
from tasks.release.gate import Candidate, Champion
from tasks.release.pictures import draw_plots, draw_slices
from tasks.runtime.clients import model_registry
from tasks.runtime.provenance import code_version
from tasks.runtime.reporting import artifacts
from tasks.runtime.steps import fetched, reuse_or_make, step, work_folder

logger = logging.getLogger(__name__)

ERRORS_VERSION = 1


class ErrorsSummary(Record):
    """The worst errors of a model on a test set; errors.json holds them, with texts and attributions."""

    errors: int
    explained: bool


@dataclass(frozen=True)
class Judged:
    """The contents of a report, by reference."""

    model_name: str
    candidate: Candidate
    baseline: Evaluation
    champion: Champion | None
    verdict: Reference[Verdict]
    split: Reference[SplitSummary]
    inspection: Reference[InspectionSummary]
    source: str
    lineage: Mapping[str, str]
    params: Mapping[str, Any]
    gate: GateParams
    evaluation: EvaluationParams
    behaviour: BehaviourParams
    checks: Checks
    loaded: LoadedSummary
    label_map: str
    engine: Reference[EngineChoice]
    proof: Reference[EngineProof] | None

    @property
    def scored_by(self) -> str:
        """The chosen engine and its results."""
        proven = f"; {self.proof.summary}" if self.proof else ""
        return f"{self.engine.summary}{proven}"

    @cached_property
    def plots(self) -> list[Picture]:
        """The plots of the candidate's evaluation, drawn once for MLflow and for every report."""
        return draw_plots(self.candidate.evaluation, self.evaluation.calibration_bins)


@step
def explain_errors(
    candidate: Candidate, split: Reference[SplitSummary], params: ReportParams
) -> Reference[ErrorsSummary]:
    """Find the model's most confident errors, and the words that caused them; or reuse an earlier result."""
    inputs = {
        "version": ERRORS_VERSION,
        "model": digest_of_model(candidate.model),
        "test": split.summary.test_digest,
        "params": params.identity(exclude={"show_texts"}),
    }

    def make(folder: Path) -> ErrorsSummary:
        errors, explained = _errors(candidate, split, params)
        content = [dataclasses.asdict(error) for error in errors]
        (folder / "errors.json").write_text(json.dumps(content), encoding="utf-8")
        return ErrorsSummary(errors=len(errors), explained=explained)

    return reuse_or_make("errors", inputs, ErrorsSummary, make)


def _errors(
    candidate: Candidate, split: Reference[SplitSummary], params: ReportParams
) -> tuple[list[WorstError], bool]:
    predictions, reviews = read_predictions(candidate.evaluation), read_test_set(split).reviews
    names = split.summary.label_names
    worst = facts.worst_errors(
        predictions.labels, predictions.predicted, predictions.probabilities, params.worst_errors
    ).tolist()
    predicted = predictions.predicted
    attributions: list[Attribution | None] = [None] * len(worst)
    if params.attributions and worst:
        try:
            with opened(candidate.model, names) as classifier:
                texts, targets = [reviews[i].text for i in worst], predicted[worst].tolist()
                attributions = list(attribute(classifier, texts, targets, params.attribution_steps))
        except ModelError as error:  # a rare architecture; the report omits this
            logger.warning("Errors cannot be explained: %s", error)
    errors: list[WorstError] = []
    for index, attribution in zip(worst, attributions, strict=True):
        review = reviews[index]
        file, _, row = review.where.rpartition(" row ")
        errors.append(
            WorstError(
                row=int(row) if row.isdigit() else index,
                file=file or review.where,
                true_label=names[review.label],
                predicted=names[int(predicted[index])],
                probability=float(predictions.probabilities[index, predicted[index]]),
                text=review.text,
                attribution=attribution,
            )
        )
    return errors, any(attributions)


@step
def report_version(
    version: ModelVersion,
    judged: Judged,
    errors: Reference[ErrorsSummary],
    params: ReportParams,
    decision: Decision | None = None,
    waits: bool = False,
) -> str:
    """Write the page to MLflow with the training, link it from the run's page, and return its location.

    A page that cannot be written causes a warning only: the decisions of gate and people do not depend on it.

    Args:
        version: the subject of the report.
        judged: the report's contents.
        errors: the worst errors, explained.
        params: what people want in it.
        decision: a person's decision, once there is one.
        waits: True if it waits for that person.
    """
    try:
        return _write_report(version, judged, errors, params, decision, waits)
    except NightshiftError as error:
        logger.warning("The report of %s could not be written: %s", version, error)
        return "not written; the log says why"


def _write_report(
    version: ModelVersion,
    judged: Judged,
    errors: Reference[ErrorsSummary],
    params: ReportParams,
    decision: Decision | None,
    waits: bool,
) -> str:
    collected = assemble(judged)
    report = dataclasses.replace(
        collected,
        version=version.version,
        pictures=[*judged.plots, *draw_slices(collected.slices)],
        decision=decision,
        waits_for_approval=waits,
        errors=_read_errors(errors),
        run_url=artifacts.this_runs_url(),
    )
    page = render(report, params.show_texts)
    with work_folder("report") as folder:
        path = folder / f"{version.name}-version-{version.version}.html"
        path.write_text(page, encoding="utf-8")
        run_id = model_registry().add_to_run(version.run_id, {}, {}, {"report": [path]})
        url = model_registry().artifact_url(run_id, f"report/{path.name}")
    artifacts.publish_link("report", url, f"{report.title}: the report, with curves and errors")
    model_registry().describe_version(version, {REPORT_TAG: url})
    logger.info("Wrote the report of %s: %s", version, url)
    return url


def _read_errors(reference: Reference[ErrorsSummary]) -> list[WorstError]:
    with fetched(reference, "errors.json") as folder:
        content = json.loads((folder / "errors.json").read_text(encoding="utf-8"))
    errors: list[WorstError] = []
    for entry in content:
        attribution = entry.pop("attribution")
        errors.append(
            WorstError(**entry, attribution=Attribution(**attribution) if attribution else None)
        )
    return errors


def assemble(judged: Judged) -> Report:
    """Collect all facts of a report except version, pictures, decision and errors."""
    candidate, split, champion = judged.candidate, judged.split, judged.champion
    own, summary = read_predictions(candidate.evaluation), candidate.evaluation.summary
    theirs = champion and champion.evaluation and read_predictions(champion.evaluation)
    right = _right(own)
    other = _right(theirs) if theirs else None
    name = str(champion.version) if champion else ""
    rows = facts.slice_rows(
        read_test_set(split).slices(judged.gate.slices)[0],
        right,
        other,
        judged.gate,
        judged.evaluation,
    )
    cases = cases_of(split, judged.checks, judged.behaviour)
    behaviour = champion.behaviour.summary if champion and champion.behaviour else None
    measured = champion.evaluation.summary.metrics if champion and champion.evaluation else None
    return Report(
        model_name=judged.model_name,
        version="",
        base_model=candidate.model.summary.base_model,
        when=datetime.now(UTC).isoformat(timespec="seconds"),
        code=code_version(),
        verdict=judged.verdict.summary,
        candidate=Scored(summary.model.rstrip("/").rpartition("/")[2], summary.metrics),
        test_rows=summary.rows,
        data=_data(judged),
        label_names=summary.label_names,
        confidence=judged.evaluation.confidence,
        baseline=Scored(judged.baseline.summary.model, judged.baseline.summary.metrics),
        champion=Scored(name, measured) if measured else None,
        comparison=None
        if other is None
        else facts.comparison(name, right, other, judged.verdict.summary, judged.evaluation),
        no_comparison=(champion.incomparable if champion else "") or "There is no champion yet.",
        classes=facts.class_rows(own.labels, summary.per_class),
        calibration=Calibration(summary.temperature, summary.uncalibrated, summary.metrics),
        slices=rows,
        checks=facts.check_rows(cases, candidate.behaviour.summary, behaviour),
        skipped_checks=[f"{c.name}: {c.reason}" for c in candidate.behaviour.summary.skipped],
        lineage=[
            LineageStep(kind, uri.rpartition("/")[2], uri) for kind, uri in judged.lineage.items()
        ],
        parameters=judged.params,
        class_costs=candidate.model.summary.class_costs,
        engine=judged.scored_by,
    )


def _data(judged: Judged) -> DataFacts:
    split, inspection = judged.split.summary, judged.inspection.summary
    return DataFacts(
        source=judged.source,
        rows=split.rows,
        train_digest=split.train_digest,
        test_digest=split.test_digest,
        card_uri=judged.inspection.uri,
        near_duplicates=inspection.test_rows_near_train,
        likely_label_errors=inspection.likely_label_errors if inspection.enabled else None,
        notes=inspection.notes,
        files=judged.loaded.files,
        more_files=judged.loaded.more_files,
        label_map=judged.label_map,
    )


def _right(predictions: Predictions) -> Bools:
    return np.asarray(predictions.predicted == predictions.labels)
