"""Near-duplicates against brute force, label errors against flipped labels, and the data card that says so."""

import csv
import dataclasses
import itertools
import json
import random
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
import yaml
from datasets import Features
from huggingface_hub import DatasetCard
from hypothesis import given, settings
from hypothesis import strategies as st
from prefect import flow, get_client
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterFlowRunId
from prefect.context import FlowRunContext

from tasks.connectors.storage.object_store import ObjectStore
from tasks.core.data.tables import write_reviews
from tasks.core.data.usable_rows import LabelledReview
from tasks.core.data.validation import class_rows
from tasks.core.quality import near_duplicates
from tasks.core.quality.data_card import Origin, data_card, front_matter
from tasks.core.quality.inspection import inspect, summarize, write_findings
from tasks.core.quality.label_errors import find_label_errors
from tasks.core.quality.near_duplicates import find_near_duplicates, jaccard, shingles_of, words_of
from tasks.core.quality.params import InspectionParams
from tasks.core.quality.records import InspectionSummary
from tasks.core.records import Finding, LoadedSummary, Reference, SplitSummary, ValidatedSummary
from tasks.data.inspection import inspect_reviews
from tasks.runtime.clients import prepared_store
from tasks.runtime.steps import fetched, reuse_or_make
from tests.core.test_markdown import require_harmless

WORDS = [f"w{number}" for number in range(2000)]
GENRES = {
    0: ["ghost", "scream", "blood"],
    1: ["joke", "laugh", "silly"],
    2: ["kiss", "heart", "tears"],
}


def plain(rows: int, seed: int, split: str = "train") -> list[LabelledReview]:
    """Reviews of random words: no two are alike."""
    generator = random.Random(seed)
    return [
        LabelledReview(
            " ".join(generator.choices(WORDS, k=generator.randint(20, 80))),
            i % 2,
            f"{split} row {i}",
        )
        for i in range(rows)
    ]


def edited(review: LabelledReview, changes: int, generator: random.Random) -> LabelledReview:
    """The review with some words replaced, in capitals and with markup, as copies often are."""
    words = review.text.split()
    for position in generator.sample(range(len(words)), changes):
        words[position] = "changed"
    return dataclasses.replace(review, text="<br />" + " ".join(words).upper() + "!")


def genres(rows: int, classes: int, seed: int, split: str = "train") -> list[LabelledReview]:
    """Reviews whose words tell their class, more or less."""
    generator = random.Random(seed)
    made: list[LabelledReview] = []
    for i in range(rows):
        label = i % classes
        other = generator.randrange(classes)
        words = generator.choices(GENRES[label], k=4) + generator.choices(GENRES[other], k=1)
        words += generator.choices(WORDS[:50], k=8)
        generator.shuffle(words)
        made.append(LabelledReview(" ".join(words), label, f"{split} row {i}"))
    return made


def flipped(
    rows: list[LabelledReview], share: float, classes: int, seed: int
) -> tuple[list[LabelledReview], set[int]]:
    generator = random.Random(seed)
    hit = set(generator.sample(range(len(rows)), round(share * len(rows))))
    wrong = [
        dataclasses.replace(r, label=(r.label + generator.randrange(1, classes)) % classes)
        if i in hit
        else r
        for i, r in enumerate(rows)
    ]
    return wrong, hit


# --- near-duplicates ---


@pytest.mark.parametrize("threshold", [0.4, 0.5, 0.7, 0.9])
def test_pairs_are_those_of_brute_force(threshold: float) -> None:
    generator = random.Random(1)
    train = plain(150, seed=1)
    test = plain(50, seed=2, split="test")
    test += [
        edited(generator.choice(train), generator.randint(0, 6), generator) for _ in range(150)
    ]
    found = find_near_duplicates({"train": train, "test": test}, threshold, seed=3)
    shingles = {
        s: [shingles_of(words_of(r.text)) for r in rows]
        for s, rows in (("train", train), ("test", test))
    }
    true = {
        (s, i, t, j): similarity
        for (s, i), (t, j) in itertools.combinations(
            [(s, i) for s in ("train", "test") for i in range(len(shingles[s]))], 2
        )
        if (similarity := jaccard(shingles[s][i], shingles[t][j])) >= threshold
    }
    got = {(p.split, p.row, p.other_split, p.other_row): p.similarity for p in found.pairs()}
    assert len(true) > 40
    assert set(got) <= set(true)  # exact: no pair is a guess
    assert all(similarity == pytest.approx(true[key], abs=1e-4) for key, similarity in got.items())
    assert len(got) >= 0.98 * len(true)
    assert sum(count.pairs for count in found.counts.values()) == len(got)


def test_what_is_counted() -> None:
    generator = random.Random(5)
    train, validation, test = plain(40, 1), plain(20, 2, "validation"), plain(20, 3, "test")
    validation[0] = edited(train[7], 1, generator)
    test[4] = edited(train[9], 1, generator)
    test[5] = dataclasses.replace(edited(train[9], 0, generator), label=1 - train[9].label)
    test[6] = edited(validation[3], 1, generator)
    found = find_near_duplicates(
        {"train": train, "validation": validation, "test": test}, threshold=0.5, seed=0
    )
    counts = {
        key: (c.pairs, c.identical, c.other_label) for key, c in found.counts.items() if c.pairs
    }
    assert counts == {
        ("train", "validation"): (1, 0, 0),
        ("train", "test"): (2, 1, 1),
        ("validation", "test"): (1, 0, 0),
        ("test", "test"): (1, 0, 1),
    }
    assert found.overlapping_rows == {"train": 0, "validation": 1, "test": 3}
    first, *_, last = found.pairs()
    assert (first.split, first.row, first.other_split, first.other_row) == ("train", 9, "test", 5)
    assert first.similarity == 1.0 and not first.same_label
    assert last.split == last.other_split == "test"


def test_many_copies_are_counted_by_multiplication(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(near_duplicates, "MOST_LISTED", 100)
    copies = [LabelledReview(text, 1, "") for text in ("Good film!", "good film", "GOOD, film")]
    train = [*copies * 500, LabelledReview("Good film", 0, "")]
    found = find_near_duplicates({"train": train, "test": copies * 200}, 0.5, seed=0)
    counts = found.counts
    assert counts["train", "train"].pairs == 1501 * 1500 // 2
    assert counts["train", "train"].other_label == 1500
    assert counts["train", "test"].pairs == counts["train", "test"].identical == 1501 * 600
    assert counts["train", "test"].other_label == 600
    assert found.overlapping_rows["test"] == 600
    assert all(len(listed) == 100 for listed in found.listed.values())


def test_a_large_family_is_cut_short_and_said_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(near_duplicates, "_MOST_ALIKE", 20)
    generator = random.Random(2)
    template = plain(1, seed=9)[0]
    template = dataclasses.replace(
        template, text=" ".join(template.text.split()[:20] * 2 + WORDS[:60])
    )
    family = [
        dataclasses.replace(template, text=f"{template.text} number {number}")
        for number in range(400)
    ]
    generator.shuffle(family)
    found = find_near_duplicates({"train": family[:300], "test": family[300:]}, 0.7, seed=0)
    assert found.cut_short > 300
    assert found.overlapping_rows["test"] == 100
    assert found.counts["train", "train"].pairs < 300 * 20  # not 300 * 299 / 2


@given(st.lists(st.text("ab c", max_size=30), min_size=2, max_size=12), st.integers(0, 9))
@settings(max_examples=60, deadline=None)
def test_pairs_are_true_and_nothing_identical_is_missed(texts: list[str], seed: int) -> None:
    rows = [LabelledReview(text, index % 2, "") for index, text in enumerate(texts)]
    middle = len(rows) // 2
    splits = {"train": rows[:middle], "test": rows[middle:]}
    found = find_near_duplicates(splits, 0.6, seed)
    assert found == find_near_duplicates(splits, 0.6, seed)
    shingles = {s: [shingles_of(words_of(r.text)) for r in part] for s, part in splits.items()}
    for pair in found.pairs():
        similarity = jaccard(
            shingles[pair.split][pair.row], shingles[pair.other_split][pair.other_row]
        )
        assert 0.6 <= similarity == pytest.approx(pair.similarity, abs=1e-4)
    same = sum(a == b for a in shingles["train"] for b in shingles["test"])
    exact = sum(
        p.similarity == 1.0 for p in found.pairs() if (p.split, p.other_split) == ("train", "test")
    )
    assert same == exact


@given(st.floats(0.3, 1.0))
def test_bands_keep_the_promised_recall(threshold: float) -> None:
    bands, rows = near_duplicates._bands(threshold)
    assert bands >= 2 and bands * rows <= 128
    assert 1 - (1 - threshold**rows) ** bands >= 0.99


def test_scripts_without_spaces_and_texts_without_words() -> None:
    chinese = "这部电影非常好看我很喜欢演员的表演也很出色值得推荐给大家"
    train = [
        LabelledReview(chinese, 1, ""),
        LabelledReview("👍👍", 1, ""),
        LabelledReview("?", 0, ""),
    ]
    test = [LabelledReview(chinese.replace("出色", "糟糕"), 0, ""), LabelledReview("👍👍", 1, "")]
    found = find_near_duplicates({"train": train, "test": test}, 0.5, seed=0)
    assert [(p.row, p.other_row, p.same_label) for p in found.pairs()] == [
        (1, 1, True),
        (0, 0, False),
    ]
    assert find_near_duplicates({"train": [], "test": []}, 0.5, 0).pairs() == []


# --- label errors ---


@pytest.mark.parametrize("classes", [2, 3])
def test_flipped_labels_are_found(classes: int) -> None:
    train, wrong_train = flipped(genres(1500, classes, 1), 0.06, classes, 1)
    test, wrong_test = flipped(genres(500, classes, 2, "test"), 0.06, classes, 2)
    true = {"train": genres(1500, classes, 1), "test": genres(500, classes, 2, "test")}
    found = find_label_errors({"train": train, "test": test}, folds=5, max_rows=10_000, seed=0)
    for split, wrong in (("train", wrong_train), ("test", wrong_test)):
        issues = found.issues[split]
        listed = {issue.row for issue in issues}
        assert len(listed & wrong) >= 0.9 * len(wrong)
        assert len(listed & wrong) >= 0.8 * len(listed)
        hits = [issue for issue in issues if issue.row in wrong]
        right = sum(issue.suggested == true[split][issue.row].label for issue in hits)
        assert right >= 0.9 * len(hits)
        beliefs = [issue.given_confidence for issue in issues]
        assert beliefs == sorted(beliefs)
    assert found.rows == {"train": 1500, "test": 500} and found.notes == []


def test_clean_labels_raise_next_to_no_doubt() -> None:
    splits = {"train": genres(1000, 2, 1), "test": genres(300, 2, 2, "test")}
    found = find_label_errors(splits, 5, 10_000, seed=0)
    assert len(found.issues["train"]) <= 20 and len(found.issues["test"]) <= 6


def test_a_large_split_is_sampled_by_class_and_said_so() -> None:
    by_class = sorted(genres(1500, 3, 1), key=lambda review: review.label)  # as IMDb is
    train, wrong = flipped(by_class, 0.06, 3, 1)
    found = find_label_errors({"train": train}, 3, max_rows=600, seed=4)
    assert found.rows == {"train": 600}
    assert found.notes == [
        "Labels of train were judged on 600 of 1,500 reviews, a stratified sample."
    ]
    listed = {issue.row for issue in found.issues["train"]}
    assert all(any(row // 500 == part for row in listed) for part in range(3))  # of every class
    assert len(listed & wrong) >= 0.25 * len(wrong) and len(listed & wrong) >= 0.8 * len(listed)
    again = find_label_errors({"train": train}, 3, max_rows=600, seed=4)
    assert again.issues == found.issues


def test_rare_classes() -> None:
    train = genres(200, 2, 1)
    few = [LabelledReview(f"kiss heart tears {i}", 2, "") for i in range(3)]
    found = find_label_errors({"train": [*train, *few], "test": genres(60, 3, 2)}, 5, 10_000, 0)
    assert found.rows == {"train": 203, "test": 60} and found.notes == []
    found = find_label_errors({"train": [*train, few[0]], "test": genres(60, 3, 2)}, 5, 10_000, 0)
    assert found.rows == {"train": 200, "test": 40}
    assert all("fewer than two of their class" in note for note in found.notes)


@pytest.mark.parametrize(
    ("rows", "note"),
    [
        ([LabelledReview("a b", 0, "")] * 5, "fewer than two classes"),
        (
            [LabelledReview(c * 3, i % 2, "") for i, c in enumerate("abcdef")],
            "no two reviews share",
        ),
        ([LabelledReview("!" * (i + 1), i % 2, "") for i in range(6)], "no two reviews share"),
    ],
)
def test_labels_that_cannot_be_judged(rows: list[LabelledReview], note: str) -> None:
    found = find_label_errors({"train": rows, "test": rows}, 5, 100, 0)
    assert found.issues == {} and note in found.notes[0]


# --- the whole, its files and its card ---

NAMES = ["horror", "come|dy"]


def doubtful() -> dict[str, list[LabelledReview]]:
    train, _ = flipped(genres(600, 2, 1), 0.05, 2, 1)
    splits = {
        "train": train,
        "validation": genres(60, 2, 2, "validation"),
        "test": genres(200, 2, 3, "test"),
    }
    splits["test"][10] = edited(train[20], 1, random.Random(0))
    return splits


def split_summary(splits: dict[str, list[LabelledReview]]) -> SplitSummary:
    return SplitSummary(
        label_names=NAMES,
        slice_columns=[],
        rows={name: len(rows) for name, rows in splits.items()},
        class_rows=class_rows(splits, NAMES),
        train_digest="abc",
        test_digest="def",
    )


def card_of(params: InspectionParams, tmp_path: Path) -> str:
    splits = doubtful()
    found = inspect(splits, params)
    summary = summarize(found, params, seconds=1.25)
    write_findings(tmp_path, found, summary, NAMES)
    split = split_summary(splits)
    origin = Origin(
        source="s3://bucket/labelled",
        loaded_digest="123",
        columns=["text", "label"],
        split_params={"seed": 42, "limit_train_rows": None},
        digest="456",
    )
    findings = [Finding(severity="warning", rule="leak", split="train", count=3, message="3 rows")]
    return front_matter(split, params) + data_card(origin, split, findings, summary, params)


def test_files_and_card(tmp_path: Path) -> None:
    card = card_of(InspectionParams(language="en"), tmp_path)
    shown = json.loads((tmp_path / "inspection.json").read_text())
    summary = shown["summary"]
    assert summary["test_rows_near_train"] == 1
    assert (
        summary["rows_judged"] == summary["rows"] == {"train": 600, "validation": 60, "test": 200}
    )
    with (tmp_path / "near-duplicates.csv").open(newline="") as stream:
        (pair,) = [p for p in csv.DictReader(stream) if p["other_split"] == "test"]
    assert (pair["where"], pair["other_where"]) == ("train row 20", "train row 20")
    with (tmp_path / "label-errors.csv").open(newline="") as stream:
        errors = list(csv.DictReader(stream))
    texts = {row.text for rows in doubtful().values() for row in rows}
    assert len(errors) == sum(summary["likely_label_errors"].values()) == len(shown["label_errors"])
    assert all(
        error["text"] in texts and error["given_label"] != error["suggested_label"]
        for error in errors
    )

    front = DatasetCard(card).data.to_dict()
    assert front["language"] == ["en"] and front["size_categories"] == ["n<1K"]
    features = Features._from_yaml_list(front["dataset_info"]["features"])
    assert features["label"].names == NAMES and list(features) == ["text", "label", "row", "extras"]
    assert "| split | horror | come\\|dy | reviews |" in card
    assert "1 test reviews have a near-duplicate in train or validation" in card
    assert f"| train | 600 | {summary['likely_label_errors']['train']} |" in card
    assert "| test | 13 | 13 | 13 | 13 | 13 | 13 | 13 | 13.0 |" in card
    assert "| warning | train | leak | 3 rows |" in card and "seed 42" in card
    for content in (card, (tmp_path / "inspection.json").read_text()):
        assert not any(text in content for text in texts)


def test_switched_off_it_still_makes_a_card(tmp_path: Path) -> None:
    card = card_of(InspectionParams(enabled=False), tmp_path)
    summary = json.loads((tmp_path / "inspection.json").read_text())["summary"]
    assert summary["test_rows_near_train"] is None and summary["likely_label_errors"] == {}
    assert card.count("Not checked.") == 2 and "Languages: not specified" in card
    assert "language" not in yaml.safe_load(card.split("---")[1])


def test_large_splits_are_compared_by_sample() -> None:
    splits = {"train": plain(400, 1), "validation": plain(50, 2), "test": plain(120, 3)}
    params = InspectionParams(max_rows_near_duplicates=100, max_rows_label_errors=100, folds=2)
    summary = summarize(inspect(splits, params), params, 0)
    assert summary.rows_compared == {"train": 100, "validation": 50, "test": 100}
    assert summary.rows_judged == {"train": 100, "validation": 50, "test": 100}
    assert len(summary.notes) == 4


# --- the step ---


def prepared(splits: dict[str, list[LabelledReview]], source: str) -> tuple[Any, Any]:
    """The folders of a validated and a split set, as the steps before leave them."""
    loaded = reuse_or_make(
        "loaded",
        {"source": source, "columns": ["text", "label"]},
        LoadedSummary,
        lambda _: LoadedSummary(
            source=source, rows={}, unreadable={}, unreadable_examples=[], label_names=None
        ),
    )
    validated = reuse_or_make(
        "validated",
        {"loaded": loaded.digest},
        ValidatedSummary,
        lambda _: ValidatedSummary(
            label_names=NAMES, rows={}, class_rows={}, source_rows={}, findings=[]
        ),
    )

    def make(folder: Path) -> SplitSummary:
        for name, rows in splits.items():
            write_reviews(folder / f"{name}.parquet", rows)
        return split_summary(splits)

    inputs = {"validated": validated.digest, "split": {"seed": 17}}
    return validated, reuse_or_make("split", inputs, SplitSummary, make)


@pytest.mark.prefect
def test_the_step_lists_what_it_found_and_shows_no_review(
    services: ObjectStore, prefix: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", logger="tasks")
    splits = doubtful()
    validated, split = prepared(splits, f"{prefix}/labelled")
    params = InspectionParams(listed=5)
    found: list[Reference[InspectionSummary]] = []

    @flow
    def night() -> None:
        found.append(inspect_reviews(split, validated, params))
        found.append(inspect_reviews(split, validated, params.model_copy(update={"listed": 7})))
        run_id.append(str(FlowRunContext.get().flow_run.id))

    run_id: list[str] = []
    night()
    first, again = found
    summary = first.summary
    assert again.reused and again.summary == summary
    assert summary.test_rows_near_train == 1 and summary.likely_label_errors["train"] >= 25
    with fetched(first.uri) as folder:
        files = {path.name: path.read_text(encoding="utf-8") for path in folder.iterdir()}
    assert set(files) == {"README.md", "inspection.json", "label-errors.csv", "near-duplicates.csv"}
    for known in (f"{prefix}/labelled", split.digest, "seed 17"):
        assert known in files["README.md"]

    messages = [record.getMessage() for record in caplog.records]
    (near,) = {m for m in messages if "near-duplicate in train or validation" in m}
    place = near.split(" listed at ")[1]
    assert near.startswith("1 test reviews have") and Path(place).read_text().count("\n") == 2
    shown = artifacts(run_id[0])
    assert set(shown) == {"near-duplicates", "label-errors", "data-card"}
    assert sorted(len(json.loads(table)) for table in shown["label-errors"]) == [5, 7]
    everything = "\n".join([*messages, *itertools.chain.from_iterable(shown.values())])
    assert not any(row.text in everything for rows in splits.values() for row in rows)


@pytest.mark.prefect
def test_a_folder_that_somebody_else_wrote_brings_nothing_onto_the_page(
    services: ObjectStore, prefix: str, tmp_path: Path
) -> None:
    """Who may write to prepared/ can commit a folder of any content at the address that is asked for."""
    image = "![x](http://evil.test/x.png)"
    validated, split = prepared(doubtful(), f"{prefix}/{image}")
    summary = split.summary.model_copy(update={"label_names": [image, "x"]})
    split = split.model_copy(update={"summary": summary})
    params = InspectionParams(enabled=False)
    run_ids: list[str] = []

    @flow
    def night() -> Reference[InspectionSummary]:
        run_ids.append(str(FlowRunContext.get().flow_run.id))
        return inspect_reviews(split, validated, params)

    made = night()
    manifest = prepared_store().manifest_of(made)
    (tmp_path / "README.md").write_text(f"# {image}")
    lists = {
        "near_duplicates": [{image: image, "x": [image]}],
        "label_errors": [{"x": {"": image}}],
    }
    (tmp_path / "inspection.json").write_text(json.dumps(lists))
    theirs = made.summary.model_copy(update={"notes": [image], "test_rows_near_train": 0})
    prepared_store().commit("inspection", manifest.inputs, tmp_path, theirs, replace=True)
    assert night().reused
    for shown in map(artifacts, run_ids):
        for text in shown["data-card"]:
            require_harmless(text)
            assert "evil.test" in text
    for name in ("near-duplicates", "label-errors"):
        (rows,) = map(json.loads, shown[name])
        for text in itertools.chain.from_iterable(row.items() for row in rows):
            require_harmless(" ".join(text))


def artifacts(run_id: str) -> dict[str, list[str]]:
    """What is shown on a run's page: key to contents, as text."""
    wanted = ArtifactFilter(flow_run_id=ArtifactFilterFlowRunId(any_=[UUID(run_id)]))
    with get_client(sync_client=True) as client:
        made = client.read_artifacts(artifact_filter=wanted)
    by_key: dict[str, list[str]] = {}
    for artifact in made:
        by_key.setdefault(str(artifact.key), []).append(str(artifact.data))
    return by_key
