"""The report: whole, self-contained, deaf to hostile texts, honest about what is missing."""

import base64
import dataclasses
import hashlib
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from tasks.core.evaluation.plots import figures
from tasks.core.evaluation.plots.figures import SliceRow
from tasks.core.release.gate.evidence import Clause, Verdict
from tasks.core.release.report.page import render
from tasks.core.release.report.parts import Comparison, Decision, Report, WorstError
from tests.core.release.report.report_example import (
    HOSTILE,
    SECRET,
    attribution,
    bare,
    interval,
    whole,
)

VOID = {"meta", "img", "br", "line", "circle"}
HEAD = {"html", "head", "meta", "title", "style", "body"}
BLOCKS = {
    "header",
    "main",
    "footer",
    "nav",
    "section",
    "div",
    "p",
    "h1",
    "h2",
    "h3",
    "figure",
    "img",
}
LISTS = {"dl", "dt", "dd", "ul", "ol", "li", "table", "thead", "tbody", "tr", "th", "td"}
INLINE = {"a", "b", "br", "span", "code", "mark", "details", "summary"}
ALLOWED = HEAD | BLOCKS | LISTS | INLINE | {"svg", "line", "text", "circle"}


class Page(HTMLParser):
    """What a browser would make of it: elements, their attributes, and the text outside the style sheet."""

    def __init__(self, content: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.text = ""
        self._open: list[str] = []
        self.feed(content)
        assert self._open == [], "elements left open"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))
        if tag in ("td", "th", "dd"):
            self.text += " "
        if tag not in VOID:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self._open.pop() == tag, f"</{tag}> closes another element"

    def handle_data(self, data: str) -> None:
        if self._open and self._open[-1] != "style":
            self.text += data

    def all(self, tag: str) -> list[dict[str, str]]:
        return [attributes for name, attributes in self.elements if name == tag]


@pytest.fixture(scope="module")
def content() -> str:
    return render(whole())


def test_hostile_texts_are_shown_and_do_nothing(content: str) -> None:
    page = Page(content)
    assert {tag for tag, _ in page.elements} <= ALLOWED
    assert not [a for _, a in page.elements if any(k.startswith("on") or k == "style" for k in a)]
    shown = " ".join(page.text.split())
    assert (
        shown.count('<script>alert("x")</script>') >= 8
    )  # label, slice, source, note, case, error ...
    assert "<b>plot" in page.text


def test_nothing_is_fetched_and_nothing_may_be(content: str) -> None:
    page = Page(content)
    assert all(image["src"].startswith("data:image/png;base64,") for image in page.all("img"))
    assert not [t for t, _ in page.elements if t in ("script", "link", "iframe", "object", "form")]
    links = [link["href"] for link in page.all("a")]
    assert {link for link in links if not link.startswith("#")} == {"https://host.test/r"}
    (policy,) = [m["content"] for m in page.all("meta") if "http-equiv" in m]
    style = content.split("<style>")[1].split("</style>")[0]
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    assert policy.split("; ")[:3] == [
        "default-src 'none'",
        "img-src data:",
        f"style-src 'sha256-{digest}'",
    ]
    assert "url(" not in style and "@import" not in style


def test_every_link_inside_has_a_target(content: str) -> None:
    page = Page(content)
    ids = [a["id"] for _, a in page.elements if "id" in a]
    assert len(ids) == len(set(ids))
    targets = {a["href"][1:] for a in page.all("a") if a["href"].startswith("#")}
    assert targets | {a["aria-labelledby"] for a in page.all("section")} == set(ids)
    assert all(image["alt"] for image in page.all("img"))
    assert all("scope" in header for header in page.all("th"))


def test_figures_are_there(content: str) -> None:
    text = " ".join(Page(content).text.split())
    for figure in (
        "0.8900 0.8700 to 0.9100",  # accuracy of the candidate
        "22,713,986 400,000,000",  # a limit that is a count
        "right on 30 of 1,000 reviews, reviews version 6 alone on 20",
        "+0.0100 (\N{MINUS SIGN}0.0050 to +0.0250",
        "test p = 0.2000",
        "temperature of 1.250",
        "31.0%",
        "Said NEGATIVE with 97.0%",
        "test.parquet, row 66",
        "training.epochs",
        "a, b",
        "a warning of the gate",
        "not defined",
    ):
        assert figure in text, figure
    best = re.findall(r'class="n best">.*?value">([\d.]+)<', content, re.DOTALL)
    assert best == ["0.8900", "0.3000", "0.5100"]  # of log-loss the lower one


def test_the_engine_that_scores_with_it_is_named() -> None:
    given = dataclasses.replace(whole(), engine="openvino: 100 reviews/s")
    text = " ".join(Page(render(given)).text.split())
    assert "Scored by openvino: 100 reviews/s." in text


def test_class_costs_are_named() -> None:
    given = dataclasses.replace(whole(), class_costs={"NEGATIVE": 5.0, "POSITIVE": 1.0})
    assert "Class costs NEGATIVE 5, POSITIVE 1" in " ".join(Page(render(given)).text.split())
    assert "Class costs" not in Page(render(whole())).text


def test_words_are_tinted_by_sign_and_strength(content: str) -> None:
    marks = dict(
        re.findall(r'<mark class="((?:for|against) t\d)" title="[+-][\d.]+">([^<]+)<', content)
    )
    assert marks == {
        "for t4": "dull",
        "against t3": SECRET,
        "for t2": "&lt;b&gt;plot",
        "against t1": "overall",
    }
    review = re.search(r'<p class="review" dir="auto">(.*?)</p>', content, re.DOTALL)
    assert review
    assert Page(f"<p>{review[1]}</p>").text == "".join(attribution().tokens)


def test_texts_can_be_left_out() -> None:
    page = render(whole(), show_texts=False)
    assert SECRET not in page and "became this" not in page and "<mark" not in page
    assert "test.parquet, row 66" in page and "left out of this report, as asked for" in page


def test_a_very_long_review_is_shortened() -> None:
    found = dataclasses.replace(
        attribution(), tokens=[f" w{i}" for i in range(5000)], scores=[1.0, -1.0] * 2500
    )
    errors = [
        WorstError(i, "f", "A", "B", 0.9, text, a)
        for i, (text, a) in enumerate([("", found), ("x" * 1_000_000, None)])
    ]
    page = render(whole(errors=errors))
    assert " w0<" not in page and page.count("<mark") < 620 and len(page) < 150_000
    assert "w149<" in page and "w150<" not in page and "w4999<" in page


def test_what_is_missing_is_said() -> None:
    text = " ".join(Page(render(bare())).text.split())
    for sentence in (
        "There is no champion yet.",
        "The gate asked for nothing.",
        "No baseline was measured.",
        "No pictures were drawn.",
        "Precision and recall by label were not measured.",
        "No temperature was fitted",
        "The test set was not cut into slices.",
        "No behavioural checks were made.",
        "No wrong answers were collected.",
        "not looked for",
        "none was made",
        "Where the version came from was not recorded.",
        "No parameters were recorded.",
    ):
        assert sentence in text, sentence


def _failed(name: str) -> Verdict:
    clauses = [
        Clause(name=name, passed=False, text="0.7 against 0.8"),
        Clause(name="other", passed=True, text=""),
    ]
    return Verdict(promote=False, clauses=clauses)


WORD = {"who": "Ada", "why": "known", "when": "today"}


@pytest.mark.parametrize(
    ("given", "sentence", "mood"),
    [
        ({}, "reviews version 7 becomes champion: all 2 conditions of the gate are met.", "good"),
        (
            {"verdict": _failed("beats the baseline")},
            "stays challenger: 1 of 2 conditions of the gate is not met (beats the baseline).",
            "bad",
        ),
        ({"waits_for_approval": True}, "waits for approval: all 2 conditions", "wait"),
        ({"decision": Decision("approved", **WORD)}, "are met, and Ada approved it.", "good"),
        ({"decision": Decision("rejected", **WORD)}, "stays challenger: all 2", "bad"),
        (
            {"verdict": _failed("x"), "decision": Decision("overruled", **WORD)},
            "becomes champion although 1 of 2 conditions of the gate is not met (x): Ada overruled",
            "wait",
        ),
    ],
)
def test_the_outcome_is_one_sentence(given: dict[str, object], sentence: str, mood: str) -> None:
    report = whole(**given)
    page = render(report)
    assert sentence in report.outcome
    assert f'class="outcome {mood}"' in page
    if report.decision:
        assert "by Ada, today: “known”" in page


@pytest.mark.parametrize(("value", "margin"), [(-0.05, 0.01), (0.0, 0.0), (0.03, None)])
def test_the_difference_is_drawn_to_scale(value: float, margin: float | None) -> None:
    gap = interval(value, 0.01) if margin != 0.0 else interval(0.0, 0.0)
    page = render(whole(comparison=Comparison("v6", gap, 1, 2, 10, 0.5, margin)))
    zero, low, high, mean = (
        float(re.search(pattern, page)[1])  # type: ignore[index]
        for pattern in (
            r'class="zero" x1="([\d.]+)%',
            r'class="interval" x1="([\d.]+)%',
            r'class="interval" x1="[\d.]+%" x2="([\d.]+)%',
            r'cx="([\d.]+)%',
        )
    )
    assert 0 <= low <= mean <= high <= 100 and 0 <= zero <= 100
    assert np.sign(round(mean - zero, 2)) == np.sign(value)
    assert ('class="margin"' in page) == (margin is not None)


def test_two_hundred_labels_stay_small(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    names = [f"label {i}" for i in range(200)]
    labels = generator.integers(0, 199, 600)  # one label does not occur
    p = generator.dirichlet(np.ones(200), 600)
    drawn = figures.draw_all(tmp_path, labels, p, names, "model", 15, p[:, ::-1])
    assert {d.stem for d in drawn} == {
        "confusion",
        "roc",
        "precision_recall",
        "reliability",
        "scores",
    }
    assert sum(d.stat().st_size for d in drawn) < 1_500_000


@pytest.mark.parametrize("classes", [2, 7, 13])
def test_pictures_of_odd_names_are_drawn(tmp_path: Path, classes: int) -> None:
    """Formulas, leading underscores, scripts that the font lacks: no warning, no error; the same to the byte."""
    names = ["$\\frac$", "_hidden", "\u5f88\u597d", "x" * 300, "a\nb", *"cdefghij"][:classes]
    labels = np.arange(26) % classes
    p = np.random.default_rng(0).dirichlet(np.ones(classes), 26)
    first = [d.read_bytes() for d in figures.draw_all(tmp_path, labels, p, names, "$m", 5)]
    assert first == [d.read_bytes() for d in figures.draw_all(tmp_path, labels, p, names, "$m", 5)]
    rows = [SliceRow(name, 9, interval(0.8), None, None, None, False) for name in names]
    assert figures.draw_slices(tmp_path / "slices.png", rows).stat().st_size > 1_000


def test_the_page_of_a_report_is_the_same_each_time() -> None:
    report: Report = whole()
    assert render(report) == render(report)
    assert HOSTILE not in render(report)
