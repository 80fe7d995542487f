"""A report with something in every part, and hostile texts wherever texts come from outside."""

from io import BytesIO

from matplotlib.figure import Figure

from tasks.core.evaluation.attributions import GAP, Attribution
from tasks.core.evaluation.plots.figures import SliceRow
from tasks.core.evaluation.records import Interval, Metrics
from tasks.core.records import SourceFile
from tasks.core.release.gate.evidence import Clause, Verdict
from tasks.core.release.report.parts import (
    Calibration,
    CheckRow,
    ClassRow,
    Comparison,
    DataFacts,
    LineageStep,
    Picture,
    Report,
    Scored,
    WorstError,
)

HOSTILE = '<script>alert("x")</script><img src=http://evil.test/a onerror=alert(1)> | `$x$` *b*'
SECRET = "unrepeatable-review-text"


def interval(value: float, width: float = 0.02) -> Interval:
    return Interval(value=value, low=value - width, high=value + width)


def metrics(shift: float = 0.0) -> Metrics:
    return {
        "log_loss": interval(0.31 - shift),
        "accuracy": interval(0.88 + shift),
        "own_metric": interval(0.5 + shift),
    }


def png() -> bytes:
    out = BytesIO()
    Figure(figsize=(1, 1)).savefig(out, format="png")
    return out.getvalue()


def attribution() -> Attribution:
    tokens = ["  A", " dull", ",", " " + SECRET, GAP, " <b>plot", "</b>", " overall", "!"]
    scores = [0.0, 1.0, 0.01, -0.55, 0.0, 0.3, 0.001, -0.2, 0.0]
    return Attribution(tokens, scores, "NEGATIVE", 0.6, 0.04, 0.0)


def whole(**given: object) -> Report:
    """Everything is there."""
    clauses = [
        Clause(
            name="beats the baseline", passed=True, text="0.88 against 0.85", value=0.03, limit=0
        ),
        Clause(name="parameters", passed=True, text="fits", value=22713986, limit=4e8),
    ]
    parts: dict[str, object] = {
        "model_name": "reviews",
        "version": "7",
        "base_model": "minilm",
        "when": "2026-01-05 02:41 UTC",
        "code": "6a3aa6c",
        "verdict": Verdict(promote=True, clauses=clauses, warnings=["a warning of the gate"]),
        "candidate": Scored("reviews version 7", metrics(0.01)),
        "champion": Scored("reviews version 6", metrics()),
        "baseline": Scored("TF-IDF", {"accuracy": interval(0.85)}),
        "comparison": Comparison(
            "reviews version 6", interval(0.01, 0.015), 30, 20, 1000, 0.2, 0.01
        ),
        "test_rows": 1000,
        "label_names": ["NEGATIVE", HOSTILE],
        "data": DataFacts(
            f"s3://bucket/{HOSTILE}",
            {"train": 4000, "test": 1000},
            "1111aaaa",
            "2222bbbb",
            "javascript:alert(2)",
            3,
            {"train": 14},
            [f"a note {HOSTILE}"],
            files=[
                SourceFile(name=f"train {HOSTILE}.csv", split="train", why="its name says so"),
                SourceFile(name="notes.xlsx", split="-", why="its format is not supported"),
            ],
            more_files={"train": 9_980},
            label_map=f"1={HOSTILE}, 3=-",
        ),
        "classes": [
            ClassRow("NEGATIVE", 500, interval(0.9), interval(0.8)),
            ClassRow(HOSTILE, 500, None, interval(0.9)),
        ],
        "calibration": Calibration(
            1.25,
            {"log_loss": interval(0.4), "calibration_error": interval(0.08)},
            {"log_loss": interval(0.3), "calibration_error": interval(0.03)},
        ),
        "slices": [
            SliceRow("length", 300, interval(0.9), interval(0.89), interval(0.01), 0.03, True),
            SliceRow(f"source {HOSTILE}", 30, interval(0.7), None, None, None, None),
        ],
        "checks": [
            CheckRow("negation", "minimum functionality", "not good", 100, 31, 30, [(SECRET, "")]),
            CheckRow("typos", "invariance", "", 50, 1, None, [(HOSTILE, "became this")]),
        ],
        "skipped_checks": ["movers: no review is short enough"],
        "errors": [
            WorstError(66, "test.parquet", "POSITIVE", "NEGATIVE", 0.97, "unused", attribution()),
            WorstError(7, "", "NEGATIVE", "POSITIVE", 0.91, f"{SECRET} {HOSTILE}"),
        ],
        "pictures": [Picture("confusion", f"Confusion {HOSTILE}", png())],
        "lineage": [LineageStep("source", HOSTILE), LineageStep("run", "r", "https://host.test/r")],
        "parameters": {"training": {"epochs": 2, "note": HOSTILE}, "columns": ["a", "b"]},
    }
    return Report(**(parts | given))  # type: ignore[arg-type]


def bare() -> Report:
    """A first version of which next to nothing was measured."""
    return Report(
        model_name="reviews",
        version="1",
        base_model="minilm",
        when="2026-01-05",
        code="6a3aa6c",
        verdict=Verdict(promote=True, clauses=[]),
        candidate=Scored("reviews version 1", {"accuracy": interval(0.8)}),
        test_rows=10,
        data=DataFacts("reviews/", {}, "1111aaaa", "2222bbbb"),
        label_names=["NEGATIVE", "POSITIVE"],
    )
