"""Texts, labels, sampling, splitting, batching: what happens to rows before and after the model."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.core.data.params import SplitParams
from tasks.core.data.splits.sampling import quotas, stratified_split
from tasks.core.data.splits.splitting import held_out, require_rows, split
from tasks.core.data.texts import is_blank, matching_form, without_markup
from tasks.core.data.usable_rows import LabelledReview
from tasks.core.errors import ValidationError
from tasks.core.models.batching import plan as batching

class_ids = st.lists(st.integers(0, 3), min_size=1, max_size=200).map(
    lambda v: np.array(v, dtype=np.int64)
)


def test_markup_goes_and_text_that_looks_like_it_stays() -> None:
    assert without_markup("Fine.<br /><br />Really &amp; truly") == "Fine.  Really & truly"
    assert without_markup("I <3 it, 5 < 6 & 7 > 2") == "I <3 it, 5 < 6 & 7 > 2"


@pytest.mark.parametrize("text", ["", "  \n", "<br />", "\u200b\u00a0", "&nbsp;"])
def test_blank(text: str) -> None:
    assert is_blank(text)


def test_not_blank() -> None:
    assert not is_blank("!") and not is_blank("👍")


@given(st.text())
def test_matching_form_is_stable_under_case_and_space(text: str) -> None:
    assert matching_form(f"  {text}\n") == matching_form(text)


@given(class_ids, st.data())
def test_quotas_are_proportional_and_never_more_than_there_is(
    labels: np.ndarray, data: st.DataObject
) -> None:
    rows = np.bincount(labels).astype(np.int64)
    wanted = data.draw(st.integers(0, len(labels)))
    share = quotas(rows, wanted)
    assert share.sum() == wanted and (share <= rows).all() and (share >= 0).all()
    if wanted >= (rows > 0).sum() * 2:
        assert (np.abs(share - rows * wanted / len(labels)) < len(rows)).all()


def test_quotas_of_given_proportions() -> None:
    assert quotas(np.array([480, 500]), 100, np.array([1, 1])).tolist() == [50, 50]
    assert quotas(np.array([30, 500, 9]), 200, np.array([1, 1, 0])).tolist() == [30, 169, 1]
    assert quotas(np.array([3, 4]), 7, np.array([9, 1])).tolist() == [3, 4]


@given(class_ids, st.data(), st.integers(0, 5))
def test_split_is_disjoint_seeded_and_of_the_sizes_asked_for(
    labels: np.ndarray, data: st.DataObject, seed: int
) -> None:
    first = data.draw(st.integers(0, len(labels)))
    sizes = [first, data.draw(st.integers(0, len(labels) - first))]
    samples = stratified_split(labels, sizes, seed)
    together = np.concatenate(samples)
    assert [len(s) for s in samples] == sizes and len(set(together.tolist())) == len(together)
    again = stratified_split(labels, sizes, seed)
    assert all((a == b).all() for a, b in zip(samples, again, strict=True))


def test_a_thousand_of_a_sorted_set_hold_five_hundred_of_each() -> None:
    rows = [LabelledReview(str(i), int(i >= 12_500), "") for i in range(25_000)]
    left = rows[700:]  # as if 700 had been duplicates
    made = split(
        {"train": left, "test": rows[::50]},
        {"train": [12_500, 12_500], "test": [250, 250]},
        SplitParams(limit_train_rows=1000, limit_test_rows=100),
    )
    assert sum(r.label for r in made["train"]) == 500 and len(made["train"]) == 1000
    assert sum(r.label for r in made["test"]) == 50
    assert not {r.text for r in made["train"]} & {r.text for r in made["validation"]}
    assert [r.label for r in made["train"]] != sorted(r.label for r in made["train"])


def test_a_test_set_is_split_off_where_there_is_none() -> None:
    rows = [LabelledReview(str(i), i % 2, "") for i in range(100)]
    test = held_out(rows, 0.2, 42)
    made = split({"train": rows, "test": test}, {"train": [50, 50]}, SplitParams())
    assert {name: len(r) for name, r in made.items()} == {"train": 72, "validation": 8, "test": 20}
    assert len({r.text for part in made.values() for r in part}) == 100


def test_a_test_review_stays_one_when_the_data_grows() -> None:
    rows = [LabelledReview(f"review {i}", i % 2, "") for i in range(2000)]
    tested = {r.text for r in held_out(rows[:1000], 0.2, 42)}
    later = {r.text for r in held_out(rows, 0.2, 42)}
    assert len(tested) == 200 and len(later) == 400
    assert len(tested - later) < 20  # only those near the edge; a new draw would lose 160


def test_a_test_set_that_is_kept_is_not_trained_on() -> None:
    rows = [LabelledReview(f"review {i}", i % 2, "") for i in range(500)]
    kept = [LabelledReview(f"Review  {i}<br />", i % 2, "") for i in range(100)]
    made = split({"train": rows, "test": kept}, {"train": [250, 250]}, SplitParams())
    assert made["test"] == kept
    trained = {r.text for r in made["train"] + made["validation"]}
    assert trained == {f"review {i}" for i in range(100, 500)}


def test_rows_of_a_class_are_counted_after_the_split() -> None:
    rows = [LabelledReview(f"review {i}", i % 2, "") for i in range(20)]
    made = split(
        {"train": rows, "test": held_out(rows, 0.2, 42)}, {"train": [10, 10]}, SplitParams()
    )
    assert [len(made[name]) for name in ("train", "validation", "test")] == [14, 2, 4]
    with pytest.raises(
        ValidationError, match=r"train: after the split it has 7 of neg, 7 of pos, but .* needs 8"
    ):
        require_rows(made, ["neg", "pos"], 8)
    found = require_rows(made, ["neg", "pos"], 7)
    assert [(f.split, f.severity, f.count) for f in found] == [
        ("validation", "warning", 1),
        ("test", "warning", 2),
    ]
    assert require_rows({**made, "validation": rows, "test": rows}, ["neg", "pos"], 7) == []


@pytest.mark.parametrize("lacks", ["train", "validation", "test"])
def test_a_split_without_a_class_is_refused(lacks: str) -> None:
    rows = [LabelledReview(str(i), i % 3, "") for i in range(60)]
    made = {name: list(rows) for name in ("train", "validation", "test")}
    made[lacks] = [row for row in rows if row.label != 1]
    with pytest.raises(ValidationError, match=rf"^{lacks}: after the split it has 0 of b"):
        require_rows(made, ["a", "b", "c"], 2)


@given(st.lists(st.integers(0, 600), max_size=300), st.integers(1, 4096), st.integers(1, 64))
def test_a_plan_holds_each_row_once_within_the_budget(
    lengths: list[int], tokens: int, rows: int
) -> None:
    plan = batching.plan(lengths, tokens, rows)
    assert sorted(i for batch in plan for i in batch.tolist()) == list(range(len(lengths)))
    for batch in plan:
        assert len(batch) <= rows
        assert len(batch) == 1 or len(batch) * max(lengths[i] for i in batch) <= tokens


def test_padding() -> None:
    ids, mask = batching.pad([[5, 6, 7], [8]], pad_id=9)
    assert ids.tolist() == [[5, 6, 7], [8, 9, 9]] and mask.tolist() == [[1, 1, 1], [1, 0, 0]]


def test_a_plan_needs_room() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        batching.plan([1], 0, 1)
