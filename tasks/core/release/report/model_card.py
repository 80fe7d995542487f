"""A version's model card: README.md in the form of Hugging Face's hub, for the folder of the model.

Mitchell et al., 2019, "Model Cards for Model Reporting". The front matter states what is known and leaves out the
rest: a wrong licence or language is worse than none. The card contains no review text, so it can go wherever the
weights go.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import yaml
from jinja2 import Environment, PackageLoader, StrictUndefined

from tasks.core.evaluation.params import METRIC_NAMES
from tasks.core.evaluation.records import Interval
from tasks.core.markdown import Markdown, code, escape
from tasks.core.release.report.parts import Report

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")
_METRIC_TYPES = {
    "macro_f1": "f1",
    "calibration_error": "expected_calibration_error",
    "mean_absolute_error": "mae",
    "quadratic_weighted_kappa": "cohen_kappa",
}
_MOST_LABELS = 20
_FAILS_OFTEN = 0.1  # fraction of failed cases from which a check is named as a limitation


@dataclass(frozen=True)
class CardDetails:
    """Contents of a card beyond the report."""

    max_length_tokens: int
    truncation: str
    base_hub_id: str = ""  # of the base model, if it came from a hub
    base_license: str = ""  # as the hub names licences
    languages: Sequence[str] = ()  # codes such as en; empty: unknown
    dataset_hub_id: str = ""
    purpose: str = "A classifier of reviews, fine-tuned and judged by Nightshift."
    versions: Mapping[str, str] = field(default_factory=dict[str, str])  # of the libraries


def model_card(report: Report, details: CardDetails) -> str:
    """Return the card as Markdown with YAML front matter.

    Args:
        report: the facts about the version; its errors and examples are not shown.
        details: everything else that the card states.
    """
    environment = Environment(
        loader=PackageLoader("tasks.core.release", "report"),
        autoescape=False,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=escape,
    )
    environment.filters |= {"code": code, "figure": _figure}
    models = [m for m in (report.candidate, report.champion, report.baseline) if m is not None]
    often = [c for c in report.checks if c.cases and c.failures / c.cases >= _FAILS_OFTEN]
    text = environment.get_template("model_card.md.j2").render(
        report=report,
        details=details,
        models=models,
        metric_names=_metric_names(report),
        shown_labels=_labels(report.label_names),
        worst_checks=sorted(often, key=lambda c: -c.failures / c.cases),
    )
    text = re.sub(r"\n{3,}", "\n\n", text).strip()
    return f"---\n{_front_matter(report, details)}---\n\n{text}\n"


def _front_matter(report: Report, details: CardDetails) -> str:
    facts: dict[str, Any] = {
        "language": list(details.languages),
        "license": details.base_license,
        "library_name": "transformers",
        "pipeline_tag": "text-classification",
        "base_model": details.base_hub_id if _HUB_ID.fullmatch(details.base_hub_id) else "",
        "datasets": [details.dataset_hub_id] if _HUB_ID.fullmatch(details.dataset_hub_id) else [],
        "tags": ["text-classification", "nightshift"],
        "metrics": [_METRIC_TYPES.get(key, key) for key, _ in _metric_names(report)],
        "model-index": [{"name": report.title, "results": [_result(report, details)]}],
    }
    if facts["base_model"]:
        facts["base_model_relation"] = "finetune"
    present = {name: value for name, value in facts.items() if value}
    return yaml.safe_dump(present, sort_keys=False, allow_unicode=True)


def _result(report: Report, details: CardDetails) -> dict[str, Any]:
    measured = [
        {
            "type": _METRIC_TYPES.get(key, key),
            "name": name,
            "value": round(report.candidate.metrics[key].value, 6),
        }
        for key, name in _metric_names(report)
    ]
    return {
        "task": {"type": "text-classification", "name": "Text classification"},
        "dataset": {
            "type": details.dataset_hub_id or "reviews",
            "name": report.data.source,
            "split": "test",
            "args": {"digest": report.data.test_digest, "rows": report.test_rows},
        },
        "metrics": measured,
    }


def _metric_names(report: Report) -> list[tuple[str, str]]:
    measured = report.candidate.metrics
    ordered = [(key, name) for key, name in METRIC_NAMES.items() if key in measured]
    return ordered + [(key, key) for key in measured if key not in METRIC_NAMES]


def _figure(value: Interval | None) -> str:
    return "not defined" if value is None else str(value)


def _labels(names: Sequence[str]) -> Markdown:
    shown = Markdown(", ").join(names[:_MOST_LABELS])
    more = len(names) - _MOST_LABELS
    return Markdown("{} and {} more").format(shown, more) if more > 0 else shown
