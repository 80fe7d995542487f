"""The report of a model version as one self-contained HTML page: no script, no request, no other file.

Review texts, labels and names are untrusted input: everything is escaped, and a Content-Security-Policy forbids
scripts and requests that get past the escaping (styles are allowed by their digest). Texts can be left out.
"""

import base64
import hashlib
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from tasks.core.evaluation.attributions import GAP
from tasks.core.evaluation.params import LOWER_IS_BETTER, METRIC_NAMES
from tasks.core.evaluation.records import Interval
from tasks.core.release.report.parts import Comparison, Report, WorstError

_MINUS = "\N{MINUS SIGN}"
_LEVELS = 4  # strengths of tint
_FAINTEST = 0.12  # fraction of a review's largest score below which a word has no tint
_MOST_WORDS = 600  # words shown of a review: a quarter from its start, three quarters from its end
_MOST_CHARACTERS = 4_000  # characters shown of a text without attributions
_PICTURE_ORDER = ("confusion", "roc", "precision_recall", "scores")


def render(report: Report, show_texts: bool = True) -> str:
    """Render the page, a few hundred KB with its pictures.

    Args:
        report: the facts about the version.
        show_texts: show the reviews behind errors and failing checks; if False, only their positions.
    """
    environment = Environment(
        loader=PackageLoader("tasks.core.release", "report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    filters: dict[str, Callable[..., Any]] = {
        "number": _number,
        "signed": lambda value: f"{value:+.4f}".replace("-", _MINUS),
        "share": lambda value: f"{value:.1%}",
        "coverage": lambda value: f"{100 * value:g}%",
        "count": lambda value: f"{value:,}",
        "p_value": lambda value: f"= {value:.4f}" if value >= 1e-4 else "< 0.0001",
        "data_uri": _data_uri,
        "is_web": _is_web,
    }
    environment.filters.update(filters)
    style = files("tasks.core.release.report").joinpath("page.css").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    pictures = {picture.name: picture for picture in report.pictures}
    page = environment.get_template("page.html.j2").render(
        report=report,
        show_texts=show_texts,
        style=style,
        style_digest=digest,
        metrics=_metric_rows(report),
        pictures=pictures,
        shown_pictures=[pictures[name] for name in _PICTURE_ORDER if name in pictures],
        axis=_Axis.of(report.comparison) if report.comparison else None,
        errors=[(error, list(_runs(error))) for error in report.errors],
        parameters=list(_flat(report.parameters)),
    )
    return page.lstrip()


def _number(value: float | None) -> str:
    if value is None:
        return ""
    return (f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4f}").replace("-", _MINUS)


def _data_uri(png: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(png).decode()}"


def _is_web(uri: str) -> bool:
    """True if a URI may become a link. Anything else, including `javascript:`, is shown as text."""
    return uri.startswith(("https://", "http://"))


@dataclass(frozen=True)
class _MetricRow:
    name: str
    better: str
    values: list[Interval | None]
    best: int  # index of the best value


def _metric_rows(report: Report) -> list[_MetricRow]:
    """Metrics of the candidate, and of champion and baseline if there are any, in a fixed order."""
    models = [m for m in (report.candidate, report.champion, report.baseline) if m is not None]
    names = [key for key in METRIC_NAMES if key in report.candidate.metrics]
    names += [key for key in report.candidate.metrics if key not in METRIC_NAMES]
    rows: list[_MetricRow] = []
    for key in names:
        values = [model.metrics.get(key) for model in models]
        sign = -1.0 if key in LOWER_IS_BETTER else 1.0
        scores = [-math.inf if v is None else sign * v.value for v in values]
        best = scores.index(max(scores)) if len(models) > 1 else -1
        better = "lower" if key in LOWER_IS_BETTER else "higher"
        rows.append(_MetricRow(METRIC_NAMES.get(key, key), better, values, best))
    return rows


@dataclass(frozen=True)
class _Axis:
    """Positions on an axis of width 100 that shows a difference, its interval, zero and the margin."""

    low: float
    high: float
    value: float
    zero: float
    margin: float | None

    @classmethod
    def of(cls, comparison: Comparison) -> "_Axis":
        gap = comparison.difference
        limit = None if comparison.margin is None else -comparison.margin
        points = [gap.low, gap.high, 0.0, *([] if limit is None else [limit])]
        start, stop = min(points), max(points)
        room = 0.15 * (stop - start) or 0.01

        def position(value: float) -> float:
            return round(100 * (value - start + room) / (stop - start + 2 * room), 2)

        return cls(
            low=position(gap.low),
            high=position(gap.high),
            value=position(gap.value),
            zero=position(0.0),
            margin=None if limit is None else position(limit),
        )


@dataclass(frozen=True)
class _Run:
    """A part of a review's text: plain, left out, or one word with its tint."""

    text: str
    tint: str = ""  # CSS class; empty for plain text
    score: float = 0.0
    space: str = ""  # white space before a tinted word


def _runs(error: WorstError) -> Iterator[_Run]:
    attribution = error.attribution
    if attribution is None:
        text = error.text
        yield _Run(text if len(text) <= _MOST_CHARACTERS else f"{text[:_MOST_CHARACTERS]} […]")
        return
    largest = max((abs(score) for score in attribution.scores), default=0.0) or 1.0
    plain = ""
    for token, score in _shortened(list(zip(attribution.tokens, attribution.scores, strict=True))):
        word = token.lstrip()
        if abs(score) < _FAINTEST * largest or not word:
            plain += token
            continue
        yield _Run(plain)
        plain = ""
        level = math.ceil(_LEVELS * abs(score) / largest)
        tint = f"{'for' if score > 0 else 'against'} t{level}"
        yield _Run(word, tint, score, token[: len(token) - len(word)])
    yield _Run(plain)


def _shortened(tokens: list[tuple[str, float]]) -> list[tuple[str, float]]:
    if len(tokens) <= _MOST_WORDS:
        return tokens
    head = _MOST_WORDS // 4
    return [*tokens[:head], (GAP, 0.0), *tokens[head - _MOST_WORDS :]]


def _flat(parameters: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Flatten nested parameters to dotted names, with values as text."""
    for name, value in parameters.items():
        if isinstance(value, Mapping) and value:
            yield from _flat(value, f"{prefix}{name}.")
        elif isinstance(value, Sequence) and not isinstance(value, str):
            yield f"{prefix}{name}", ", ".join(str(item) for item in value)
        else:
            yield f"{prefix}{name}", str(value)
