"""Names, labels, keys and messages of others in Markdown: a renderer finds no image, no link and no HTML of theirs."""

import ast
import re
from collections.abc import Callable

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from markdown_it.token import Token

from flows.forms import pipelines
from tasks.core.data.usable_rows import LabelledReview
from tasks.core.evaluation.records import EvaluationSummary, Interval
from tasks.core.markdown import Markdown, bullets, code, escape, link, table
from tasks.core.quality.data_card import Origin, data_card
from tasks.core.quality.inspection import inspect, summarize
from tasks.core.quality.params import InspectionParams
from tasks.core.records import Finding, ModelVersion, SplitSummary
from tasks.core.release.gate.evidence import Clause, Verdict
from tasks.core.release.report.model_card import CardDetails, model_card
from tasks.core.release.report.parts import ClassRow, LineageStep, Scored
from tasks.core.scoring.results import Counts, ScoreSummary
from tasks.core.training.records import TrainingSummary
from tasks.release.registration import _description, _summary
from tasks.runtime.reporting import artifacts
from tasks.scoring.summary import summary_text
from tests.core.release.report.report_example import whole
from tests.paths import ROOT

EVIL = [
    "![x](http://evil.test/x.png)",
    "[click](http://evil.test/)",
    "[click][evil.test]\n\n[evil.test]: http://evil.test/",
    "<img src=//evil.test/x.png>",
    "<http://evil.test/>",
    "http://evil.test/x.png",
    "www.evil.test",
    "evil@evil.test",
    "xhttp://evil.test/x",
    "1HTTPS://evil.test/x",
    "_www.evil.test",
    "xwww.evil.test",
    "s3://bucket/in/https://evil.test/a",
    "ftp://evil.test/x mailto:evil xmpp:evil",
    "a|b `c` https://evil.test/`\\n`d",
    "a | ![x](//evil.test/x) | b",
    "`code` ``![x](//evil.test/x)``",
    "line\n\n![x](//evil.test/x)\n\n<script>alert('evil.test')</script>",
    "\x1b[31mred\x1b[0m",
    "\u202egnp.live\u202c",
    "\\![x](//evil.test/x)",
    "&#33;&#91;x&#93;&#40;//evil.test/x&#41;",
    "--> <!-- evil.test -->",
    "[bold]x[/] **x** __x__ ~~x~~ $x$",
    "# evil.test\n---\n- evil.test",
]


# More than renderers turn into links by themselves: remark-gfm and marked (Prefect's pages), showdown (MLflow's).
LINKED_BY_ITSELF = re.compile(r"(?i)(https?|ftp|dict)://|(mailto|xmpp):|www\.|\S@|@\S")


def tokens(text: str) -> list[Token]:
    """All of a document, inline ones, too, as a renderer that lets HTML through has them."""
    rendered = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"])
    found = rendered.parse(text)
    return [inner for token in found for inner in (token, *(token.children or []))]


def require_harmless(text: str) -> None:
    """Nothing that somebody else has written is a link, an image, HTML, or steers what shows it."""
    for token in tokens(text):
        assert token.type not in ("html_inline", "html_block", "image"), token
        assert "evil.test" not in str(token.attrs), token
        # linkifiers take a text as it is shown, after its escapes are resolved
        assert token.type != "text" or not LINKED_BY_ITSELF.search(token.content), token
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", text)


@pytest.mark.parametrize("evil", EVIL)
def test_a_value_is_only_text(evil: str) -> None:
    shown = Markdown("# {}\n\nthe value {}, **{}**\n\n{}\n{}{}").format(
        evil, evil, evil, table(["name", evil], [[evil, 1]]), bullets([evil]), code(evil)
    )
    require_harmless(shown)
    cells = [t for t in tokens(shown) if t.type in ("td_open", "th_open")]
    assert len(cells) == 4, "a name does not add a cell"
    assert [t.tag for t in tokens(shown) if t.type == "heading_open"] == ["h1"]


@given(st.text(max_size=60))
def test_any_text_stays_one_text(text: str) -> None:
    (paragraph, inline, _) = MarkdownIt("commonmark", {"html": True}).parse(
        Markdown("x {} x").format(text)
    )
    assert paragraph.type == "paragraph_open"
    assert {t.type for t in inline.children or []} <= {"text", "code_inline"}
    for shown in inline.children or []:
        assert shown.type == "code_inline" or not LINKED_BY_ITSELF.search(shown.content)


@given(st.from_regex(r"[\[\]()!<>`*_~\\|#&;:/.a-z \n-]{0,40}", fullmatch=True))
def test_punctuation_reads_as_it_was_written(text: str) -> None:
    assume(not re.search(r"(https?|ftp|dict|mailto|xmpp):|www\.", text))  # shown as code
    found = MarkdownIt("commonmark").renderInline(Markdown("x {} x").format(text))
    shown = re.sub(
        r"&(lt|gt|amp|quot);", lambda m: dict(lt="<", gt=">", amp="&", quot='"')[m[1]], found
    )
    assert shown.split() == f"x {text} x".split()


def test_figures_and_names_stay_readable() -> None:
    for plain in ("0.9123 [0.9001, 0.9244]", "-0.0123 [-0.0200, 0.0100]", "1,234", "95.0%"):
        assert escape(plain) == plain
    for plain in ("model_v2", "s3://bucket/prefix/x", "R&D", "a-b.c", "not defined"):
        assert escape(plain) == plain


def test_a_value_with_an_address_is_code() -> None:
    assert escape("in s3://b/x@y") == "`in s3://b/x@y`"
    assert escape("see http://x.test/`|\n\\") == "`see http://x.test/'%7C \\`"
    assert link("http://x.test", "http://x.test") == "[`http://x.test`](<http://x.test>)"


def test_only_pages_of_the_web_are_links() -> None:
    assert link("a_b", "https://x.test/(a b)<c>") == "[a_b](<https://x.test/(a%20b)%3Cc%3E>)"
    assert link("here", "javascript:alert(1)") == "`here`"
    assert Markdown("{}").format(link("x", "https://x.test")) == "[x](<https://x.test>)"


def hostile_summary(evil: str) -> ScoreSummary:
    root = f"s3://bucket/out/{evil}/model=m/version=1"
    return ScoreSummary(
        place=f"{root}/_runs/1",
        root=root,
        model=evil,
        version="1",
        objects=2,
        scored_before=0,
        scored=1,
        failed=1,
        overwritten=0,
        counts=Counts(rows_in=3, rows_out=2, rows_rejected=1, labels={evil: 2}, reasons={evil: 1}),
        seconds=1,
        reviews_per_second=2,
        errors=[f"No column 'text' [s3://bucket/in/{evil}.jsonl] -> check it"],
    )


def scoring(evil: str) -> str:
    return summary_text(hostile_summary(evil), hostile_summary(evil))


def evaluations(evil: str) -> tuple[EvaluationSummary, Verdict, ModelVersion]:
    figure = Interval(value=0.9, low=0.8, high=1.0)
    said = EvaluationSummary(
        model=evil,
        label_names=[evil, "x"],
        test_digest="0",
        rows=10,
        metrics={"accuracy": figure},
        per_class={},
        uncalibrated={},
        temperature=1,
        confusion=[[1]],
        seconds=1,
    )
    clause = Clause(name=evil, passed=False, text=evil, value=0, limit=0)
    version = ModelVersion(name=evil, version="1", model_digest="", run_id="")
    return said, Verdict(promote=False, clauses=[clause], warnings=[evil]), version


def evaluation(evil: str) -> str:
    said, verdict, version = evaluations(evil)
    return artifacts.evaluation_text(said, said, verdict, version)


def description(evil: str) -> str:
    said, _, _ = evaluations(evil)
    trained = TrainingSummary.model_construct(base_model=evil, train_rows=1)
    return _description(_summary(trained, said, said, beats_baseline=False))


def card_of_data(evil: str) -> str:
    splits = {
        name: [LabelledReview(f"{word} {evil}", label, f"{evil} row {label}") for label in (0, 1)]
        for name, word in (("train", "a"), ("validation", "b"), ("test", "c"))
    }
    split = SplitSummary(
        label_names=[evil, "x"],
        slice_columns=[evil],
        rows=dict.fromkeys(splits, 2),
        class_rows={name: {evil: 1, "x": 1} for name in splits},
        train_digest="1",
        test_digest="2",
    )
    params = InspectionParams()
    found = summarize(inspect(splits, params), params, 0.0)
    found = found.model_copy(update={"notes": [evil]})
    origin = Origin(
        source=f"s3://bucket/{evil}",
        loaded_digest="1",
        columns=[evil],
        split_params={evil: evil},
        digest="2",
    )
    findings = [Finding(severity="warning", rule=evil, split=evil, count=1, message=evil)]
    return data_card(origin, split, findings, found, params)


def card_of_model(evil: str) -> str:
    figure = Interval(value=0.9, low=0.8, high=1.0)
    report = whole(
        base_model=evil,
        label_names=[evil, "x"],
        candidate=Scored(evil, {"accuracy": figure}),
        classes=[ClassRow(evil, 5, figure, None)],
        lineage=[LineageStep(evil, evil, f"s3://bucket/{evil}")],
        engine=evil,
        verdict=evaluations(evil)[1],
    )
    details = CardDetails(max_length_tokens=8, truncation="head", versions={evil: evil})
    return model_card(report, details).split("---\n", 2)[2]


DOCUMENTS = [scoring, evaluation, description, card_of_data, card_of_model]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda d: d.__name__)
@pytest.mark.parametrize("evil", EVIL)
def test_no_document_shows_anything_of_theirs(document: Callable[[str], str], evil: str) -> None:
    require_harmless(document(evil))


@pytest.mark.parametrize("evil", EVIL)
def test_tables_and_descriptions_of_a_run_are_escaped(
    evil: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Prefect's UI renders both as Markdown."""
    sent: list[str] = []

    def keep(*given: object, **named: object) -> None:
        sent.extend(str(v) for v in (*given, *named.values()) if isinstance(v, str))
        sent.extend(
            str(x) for v in given if isinstance(v, list) for r in v for i in r.items() for x in i
        )

    monkeypatch.setattr(artifacts, "in_a_run", lambda: True)
    for kind in ("table", "markdown", "link", "progress", "image"):
        monkeypatch.setattr(artifacts, f"create_{kind}_artifact", keep)
    artifacts.publish_table("key", [{evil: evil, "count": 1}], evil)
    artifacts.publish_text("key", Markdown("{}").format(evil), evil)
    artifacts.publish_link("key", f"file:///{evil}", evil)
    artifacts.publish_findings(
        [Finding(severity="note", rule=evil, split=evil, count=1, message=evil)], {evil: {evil: 1}}
    )
    artifacts.Progress("key", evil)
    assert len(sent) > 12
    for text in sent:
        require_harmless(text)


def test_a_page_is_built_with_markdown_or_not_at_all() -> None:
    with pytest.raises(TypeError, match=r"tasks\.core\.markdown"):
        artifacts.publish_text("key", f"# {pipelines}", "")  # pyright: ignore[reportArgumentType]


SOURCES = [
    p for room in ("deployments", "flows", "tasks") for p in sorted((ROOT / room).rglob("*.py"))
]


def called(source: str, name: str) -> list[ast.Call]:
    """Calls of a function or class of that name, or of a method."""
    return [
        node
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Call)
        and name in (getattr(node.func, "id", ""), getattr(node.func, "attr", ""))
    ]


def is_template(call: ast.Call) -> bool:
    """Only a text that stands in the source may be trusted: no f-string, no variable."""
    return all(isinstance(given, ast.Constant) for given in call.args)


def test_templates_are_literals_and_artifacts_are_made_in_one_place() -> None:
    for path in SOURCES:
        name, source = path.relative_to(ROOT).as_posix(), path.read_text(encoding="utf-8")
        assert all(map(is_template, called(source, "Markdown"))), name
        assert not called(source, "_trusted") or name == "tasks/core/markdown.py", name
        if name != "tasks/runtime/reporting/artifacts.py":
            assert "prefect.artifacts" not in source, (
                f"{name}: publish it with tasks.runtime.reporting.artifacts"
            )
    assert not is_template(called("Markdown(f'{x}')", "Markdown")[0])
    assert not is_template(called("Markdown(x)", "Markdown")[0])
