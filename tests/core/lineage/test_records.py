"""From records to the graph: one story of a model, whole and with holes, old and new, read from both ends."""

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.core.lineage.answers import said_of_row, trained_on, way_back
from tasks.core.lineage.graph import tree
from tasks.core.lineage.parts import RegisteredVersion, ScoredRun, folder_of, in_force
from tasks.core.lineage.records import LineageRecords
from tasks.core.records import Manifest, Promotion, StoredFile
from tasks.core.tags import LINEAGE_TAG, TEACHER_TAG

ROOT = "s3://bucket/prepared"
NAMES = ["loaded", "validated", "split", "other", "base-model"]
NAMES += ["tokens", "model", "evaluation", "baseline", "verdict"]
DIGEST = {name: f"{number:x}" * 32 for number, name in enumerate(NAMES, 1)}
TRAIN, TEST = "c" * 32, "d" * 64
FILE = {"train.parquet": StoredFile(bytes=1, sha256="e" * 64)}


#: The fields of summaries that no test is about.
REST: dict[str, dict[str, Any]] = {
    "loaded": {"unreadable": {}, "unreadable_examples": [], "label_names": None},
    "validated": {"label_names": ["a", "b"], "class_rows": {}, "source_rows": {}, "findings": []},
    "split": {"label_names": ["a", "b"], "slice_columns": [], "class_rows": {}},
    "base-model": {"revision": "main", "architecture": "BertModel"},
    "tokens": {
        "label_names": ["a", "b"],
        "rows": {"train": 81},
        "tokens": {"train": 900},
        "truncated_rows": {"train": 0},
        "max_length_tokens": 48,
    },
    "model": {
        "base_revision": "main",
        "label_names": ["a", "b"],
        "steps": 12,
        "epochs_run": 2,
        "best_epoch": 2,
        "seconds": 1,
        "reviews_per_second": 9,
        "precision": "fp32",
        "device": "cpu",
        "final_train_loss": 0.5,
        "temperature": 1,
        "validation_rows": 9,
        "validation": {"accuracy": 0.8},
    },
    "evaluation": {
        "label_names": ["a", "b"],
        "per_class": {},
        "uncalibrated": {},
        "temperature": 1,
        "confusion": [],
        "seconds": 1,
    },
}


def folder(which: str, kind: str, inputs: dict[str, Any], **summary: Any) -> tuple[str, Manifest]:
    digest = DIGEST[which]
    summary = REST.get(kind, {}) | summary
    made = Manifest(
        kind=kind, digest=digest, inputs=inputs, attempt="a", files=FILE, summary=summary
    )
    return f"{ROOT}/{kind}/{digest}", made


def interval(value: float) -> dict[str, float]:
    return {"value": value, "low": value - 0.1, "high": value + 0.1}


SPLIT = {"rows": {"train": 90, "test": 30}, "train_digest": TRAIN, "test_digest": TEST}
FOLDERS = [
    folder(
        "loaded",
        "loaded",
        {"sources": {"train": {"objects": {"s3://in/labelled/a.jsonl": [7, "etag1"]}}}},
        source="s3://in/labelled",
        rows={"train": 120},
    ),
    folder("validated", "validated", {"loaded": DIGEST["loaded"]}, rows={"train": 120}),
    folder("split", "split", {"validated": DIGEST["validated"], "split": {"seed": 42}}, **SPLIT),
    folder("other", "split", {"validated": "0" * 32, "split": {"seed": 42}}, **SPLIT),
    folder("base-model", "base-model", {"files": "f" * 32}, name="bert", parameters=1000),
    folder("tokens", "tokens", {"rows": TRAIN, "base_model": DIGEST["base-model"]}),
    folder(
        "model",
        "model",
        {
            "tokens": DIGEST["tokens"],
            "base_model": DIGEST["base-model"],
            "training": {"seed": 3, "epochs": 2},
        },
        base_model="bert",
        train_rows=81,
        mlflow_run_id="run1",
    ),
    folder(
        "evaluation",
        "evaluation",
        {"test": TEST, "model": DIGEST["model"]},
        model="bert",
        rows=30,
        test_digest=TEST,
        metrics={"accuracy": interval(0.8)},
    ),
    folder(
        "baseline",
        "evaluation",
        {"test": TEST, "train": TRAIN},
        model="TF-IDF",
        rows=30,
        test_digest=TEST,
        metrics={},
    ),
    folder(
        "verdict",
        "verdict",
        {
            "evaluation": DIGEST["evaluation"],
            "baseline": DIGEST["baseline"],
            "champion": ["reviews version 2", ""],
        },
        promote=True,
        clauses=[{"name": "beats the baseline", "passed": True, "text": "0.8 against 0.7"}],
    ),
]
URIS = {name: uri for name, (uri, _) in zip(NAMES, FOLDERS, strict=True)}
VERSION = RegisteredVersion(
    "reviews",
    "3",
    DIGEST["model"],
    "run1",
    {
        LINEAGE_TAG: json.dumps({k: v for k, v in URIS.items() if k != "other"}),
        "nightshift.data_digest": DIGEST["split"],
        "nightshift.accuracy": "0.8",
    },
    ["champion"],
)


def move(number: int, before: str, after: str, when: str, evidence: str = "") -> Promotion:
    return Promotion(
        number=number,
        model="reviews",
        kind="gate",
        from_version=before,
        to_version=after,
        who="retrain",
        why="passed",
        when=when,
        flow_run="flow1",
        evidence=evidence,
    )


MOVES = [
    move(1, "", "2", "2026-01-01T00:00:00+00:00"),
    move(2, "2", "3", "2026-01-02T00:00:00+00:00", URIS["verdict"]),
    move(3, "3", "2", "2026-01-05T00:00:00+00:00"),
]
PLACE = "s3://out/model=reviews/version=3/_runs/night"
PREDICTIONS = "s3://out/model=reviews/version=3/monday.jsonl"
RUN = ScoredRun(
    "reviews",
    "3",
    DIGEST["model"],
    PLACE,
    "2026-01-03T01:00:00+00:00",
    "flow2",
    predictions=[PREDICTIONS],
)
CHAIN = [
    "source s3://in/labelled",
    *(f"{m.kind} {m.digest}" for _, m in FOLDERS if m.digest != DIGEST["other"]),
    "version reviews/3",
    "move reviews/2",
    f"scoring run {PLACE}",
]


def story(
    without: set[str] = frozenset(),  # type: ignore[assignment]
    version: RegisteredVersion | None = VERSION,
    run: ScoredRun = RUN,
    moves: list[Promotion] = MOVES,
) -> LineageRecords:
    kept = [(uri, m) for uri, m in FOLDERS if uri not in {URIS[name] for name in without}]
    made = LineageRecords(kept, {}, [version] if version else [], moves)
    made.add_run(run)
    return made


UNTAGGED = replace(VERSION, tags={})


@pytest.mark.parametrize(
    "version", [VERSION, UNTAGGED, None], ids=["tagged", "older than the tag", "deleted"]
)
def test_a_prediction_and_its_source_find_one_another(version: RegisteredVersion | None) -> None:
    graph = story(version=version).graph
    back = graph.upstream(f"predictions {PREDICTIONS}")
    missing = [node for node in CHAIN if node not in back]
    assert missing == []
    for node in CHAIN:
        assert f"predictions {PREDICTIONS}" in graph.downstream(node)
    assert "move reviews/1" not in back and "move reviews/3" not in back
    assert graph["version reviews/3"].missing == ("" if version else "deleted from the registry")


def test_the_way_back_tells_when_why_and_with_what() -> None:
    facts = way_back(story(), RUN)
    assert facts["champion then"] == (
        "yes, since 2026-01-02T00:00:00+00:00 (move 2, gate, by retrain: passed; before it: version 2, evidence "
        f"{URIS['verdict']}, Prefect run flow1)"
    )
    assert facts["the version now"] == "champion"
    assert facts["verdict of the gate"] == f"promote {URIS['verdict']}"
    assert facts["clause beats the baseline"] == "passed: 0.8 against 0.7"
    assert "version reviews/2" not in story().graph.upstream(f"verdict {DIGEST['verdict']}")
    assert (
        story().graph[f"verdict {DIGEST['verdict']}"].facts["compared with"] == "reviews version 2"
    )
    assert facts["evaluation: accuracy"] == "0.8000 [0.7000, 0.9000]"
    assert facts["evaluation: test digest"] == TEST
    assert facts["trained model"] == URIS["model"] and "model" not in facts
    assert (
        facts["trained model: seed"] == "seed 3"
        and facts["trained model: training parameters"] == "epochs 2"
    )
    assert facts["trained model: MLflow run"] == "run1"
    assert facts["split"] == URIS["split"] and facts["split: rows"] == "train 90 rows, test 30 rows"
    assert facts["loaded: made of"] == "s3://in/labelled/a.jsonl (ETag etag1)"
    assert facts["source"] == "s3://in/labelled"


def test_what_is_gone_is_named_in_its_place() -> None:
    facts = way_back(story({"tokens", "verdict", "loaded"}), RUN)
    assert facts["tokens"] == f"MISSING, its folder is gone: {URIS['tokens']}"
    assert facts["verdict of the gate"] == f"MISSING, its folder is gone {URIS['verdict']}"
    assert facts["loaded"] == f"MISSING, its folder is gone: {URIS['loaded']}"
    assert facts["split"] == URIS["split"], "the tag leads over the hole"
    deleted = way_back(story(version=None), RUN)
    assert deleted["the version now"] == "deleted from the registry"
    assert deleted["evaluation: accuracy"] and deleted["source"] == "s3://in/labelled"


def test_which_move_was_in_force() -> None:
    numbers = {
        when: found.number if (found := in_force(MOVES, when)) else None
        for when in ("2025-12-31T00:00:00Z", "2026-01-02T00:00:00Z", "2026-01-04", "2027-01-01", "")
    }
    assert list(numbers.values()) == [None, 2, 2, 3, None]
    later = replace(RUN, when="2026-01-06T00:00:00+00:00")
    assert way_back(story(run=later), later)["champion then"].startswith("no, version 2 was, since")
    unknown = replace(RUN, when="")
    assert way_back(story(run=unknown), unknown)["champion then"].startswith("unknown")
    early = replace(RUN, when="2025-01-01")
    assert "no move of reviews before" in way_back(story(run=early), early)["champion then"]


def test_what_was_only_tested_on_does_not_look_trained_on() -> None:
    """A split with other training rows and the same test rows."""
    apart = {**SPLIT, "train_digest": "b" * 32}
    uri, manifest = folder("other", "split", {"validated": DIGEST["validated"]}, **apart)
    kept = [f for f in FOLDERS if f[0] != URIS["other"]]
    graph = LineageRecords([*kept, (uri, manifest)], {}, [VERSION], MOVES).graph
    other, own = f"split {DIGEST['other']}", f"split {DIGEST['split']}"
    assert other in graph.upstream(f"evaluation {DIGEST['evaluation']}")
    assert other not in graph.upstream("version reviews/3")
    assert own in graph.upstream("version reviews/3")
    assert trained_on(graph, own) == ["reviews/3"] and trained_on(graph, other) == []


def test_rows_of_a_review() -> None:
    said = said_of_row({"train": 2, "validation": 0, "test": 0}, ["reviews/3"])
    assert said == "in train: reviews/3 learned from it (2 rows have this name)"
    assert (
        said_of_row({"train": 0, "test": 0}, []) == "not in it: neither learned from nor tested on"
    )


@pytest.mark.parametrize(
    ("name", "node"),
    [
        ("reviews/3", "version reviews/3"),
        ("reviews/champion", "version reviews/3"),
        ("reviews/2", "version reviews/2"),
        (URIS["split"], f"split {DIGEST['split']}"),
        (f"{URIS['split']}/a/train.parquet", f"split {DIGEST['split']}"),
        (DIGEST["model"], f"model {DIGEST['model']}"),
        (DIGEST["model"][:10], f"model {DIGEST['model']}"),
        (TEST, f"test rows {TEST}"),
        ("run1", f"model {DIGEST['model']}"),
        ("flow2", f"scoring run {PLACE}"),
        ("s3://in/labelled", "source s3://in/labelled"),
        ("s3://in/labelled/a.jsonl", f"loaded {DIGEST['loaded']}"),
        ("s3://in", f"loaded {DIGEST['loaded']}"),
        ("s3://in/label", None),
        (f"{ROOT}/split/{'0' * 32}", None),
        ("reviews/9", None),
        ("", None),
    ],
)
def test_what_people_may_call_things(name: str, node: str | None) -> None:
    assert story().named(name) == ([node] if node else [])


@given(st.sets(st.sampled_from(sorted(URIS))), st.sampled_from([VERSION, UNTAGGED, None]))
def test_holes_break_nothing(without: set[str], version: RegisteredVersion | None) -> None:
    records = story(without, version)
    graph = records.graph
    for node in graph:
        for above in graph.upstream(node.id):
            assert node.id in graph.downstream(above)
        assert tree(graph, node.id, "upstream") is not None
    for name in without:
        if f"{folder_of(URIS[name])[1]} {DIGEST[name]}" in graph:  # type: ignore[index]
            assert graph.find(DIGEST[name])[0].missing
    assert way_back(records, RUN)["champion then"].startswith("yes")
    if version is VERSION:  # whatever else is gone, what the tag names is named
        back = graph.upstream(f"predictions {PREDICTIONS}")
        assert {n for n in CHAIN if not n.startswith("source")} <= back.keys()


def test_records_of_other_forms_are_no_reason_to_fail() -> None:
    odd = [
        folder("loaded", "loaded", {"sources": [1, 2]}, rows=7, source=None),
        folder("validated", "validated", {"loaded": {"x": None}}, findings=3),
        folder("evaluation", "evaluation", {"model": 5}, metrics=[1], rows="many"),
        folder("verdict", "verdict", {}, clauses={"a": 1}),
        folder("model", "unheard-of", {}, text="A review.", share=0.25),
    ]
    version = replace(VERSION, tags={LINEAGE_TAG: '{"loaded": 3, "split":'})
    wrong = {URIS["split"]: "3 fields differ"}
    records = LineageRecords(odd, wrong, [version], [move(1, "", "3", "yesterday", "by hand")])
    shown = "\n".join(map(str, records.graph))
    assert "A review" not in shown and "share 0.25" in shown
    assert "in a format that this version cannot read" in shown and "3 fields differ" in shown
    assert records.graph["version reviews/3"].facts["model digest"] == DIGEST["model"]


def test_what_a_teacher_knew_is_upstream_of_its_student() -> None:
    """Also where the teacher's folder is gone; and the reviews that it learned from are behind it."""
    lessons, student = "ab" * 16, "cd" * 16
    inputs: dict[str, dict[str, str]] = {
        "lessons": {"teacher": DIGEST["model"], "rows": TRAIN},
        "model": {"tokens": DIGEST["tokens"], "lessons": lessons},
    }
    logits = {"teacher": "reviews/3", "label_names": ["a", "b"], "rows": 81, "agreement": 0.9}
    trained = REST["model"] | {"base_model": "bert", "train_rows": 81, "mlflow_run_id": "run2"}
    trained["teacher"] = "reviews/3"
    made = [
        (
            f"{ROOT}/{kind}/{digest}",
            Manifest(
                kind=kind,
                digest=digest,
                inputs=inputs[kind],
                attempt="a",
                files=FILE,
                summary=summary,
            ),
        )
        for kind, digest, summary in (("lessons", lessons, logits), ("model", student, trained))
    ]
    graph = LineageRecords([*FOLDERS, *made], {}, [VERSION], []).graph
    before = graph.upstream(f"model {student}")
    assert {f"lessons {lessons}", f"model {DIGEST['model']}", f"training rows {TRAIN}"} <= set(
        before
    )
    assert graph[f"lessons {lessons}"].brief == "reviews/3, 81 rows"
    assert graph[f"model {student}"].facts["teacher"] == "reviews/3"
    distilled = replace(VERSION, tags=VERSION.tags | {TEACHER_TAG: "reviews/2"})
    assert way_back(story(version=distilled), RUN)["teacher"] == "reviews/2"
    gone = LineageRecords(made, {}, [], []).graph
    assert gone[f"model {DIGEST['model']}"].missing
    assert f"model {DIGEST['model']}" in gone.upstream(f"model {student}")
