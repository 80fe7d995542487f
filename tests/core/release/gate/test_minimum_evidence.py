"""What the test set must show of a first champion, clause by clause, and what of it is said of later ones."""

from dataclasses import replace
from math import ceil, floor
from typing import Any

import numpy as np
import pytest
from scipy import stats

from benchmarks.gate import first_champions
from flows.cli.arguments import parse
from tasks.core.evaluation.comparison import least_share, rows_to_exceed
from tasks.core.release.gate.evidence import Evidence, Verdict
from tasks.core.release.gate.minimum_evidence import (
    ABOVE_LARGEST,
    ENOUGH,
    ENOUGH_A_CLASS,
    EVERY_CLASS,
    MORE_REVIEWS,
)
from tests.core.release.gate.test_decision import NOT_WORSE, clause, evidence, failing, judged

ALONE = {"must_beat_baseline": False, "limits": {"maximum_calibration_error": 1.0}}


def classes(rows: list[int], right: list[int], champion: list[int] | None = None) -> Evidence:
    """A model that gets so many of the reviews of each class right, and takes the others for the first class."""
    labels = np.repeat(np.arange(len(rows)), rows)
    names = ["neg", "pos", *(f"rare {n}" for n in range(1, len(rows) - 1))]

    def answers(right: list[int]) -> np.ndarray:
        place = np.concatenate([np.arange(n) for n in rows])
        hit = place < np.repeat(right, rows)
        wrong = (labels == 0).astype(np.int64)  # the first class is taken for the second
        return np.eye(len(rows))[np.where(hit, labels, wrong)]

    return evidence(
        rows=len(labels),
        labels=labels,
        label_names=names,
        candidate=answers(right),
        baseline=answers([0] * len(rows)),
        champion=answers(champion) if champion else None,
        validation_rows=0,
    )


def verdict(rows: list[int], right: list[int], **asked: Any) -> Verdict:
    return judged(classes(rows, right), **ALONE, first_champion=asked)


def test_a_good_model_on_enough_reviews_passes_and_says_on_what() -> None:
    found = verdict([50, 50], [45, 45])
    assert found.promote and not found.warnings
    assert clause(found, ENOUGH).text == "100, and a first champion needs 100"
    assert clause(found, ENOUGH_A_CLASS).text == "each needs 10: neg has 50, the fewest"
    told = clause(found, ABOVE_LARGEST)
    assert told.text.startswith("0.9000 on 100 test reviews, at least 0.8363 at a risk of 0.05, ")
    assert told.text.endswith("against 0.5000 of the answer neg to all of them")
    assert clause(found, EVERY_CLASS).text == "each of 2 at least once"


def test_the_first_model_of_imdb_passes() -> None:
    """Accuracy 0.8555 on 2,000 test reviews, as `make gate-imdb` measured it: docs/gate.md."""
    found = verdict([1000, 1000], [840, 871])
    assert found.promote and not found.warnings
    assert clause(found, ABOVE_LARGEST).text.startswith(
        "0.8555 on 2,000 test reviews, at least 0.84"
    )


def test_twelve_test_reviews_are_too_few_though_all_answers_are_right() -> None:
    found = verdict([6, 6], [6, 6])
    assert failing(found) == [ENOUGH, ENOUGH_A_CLASS]
    assert clause(found, ENOUGH).text == "12, and a first champion needs 100: 88 are missing"
    told = "each needs 10: neg has 6, 4 are missing, pos has 6, 4 are missing"
    assert clause(found, ENOUGH_A_CLASS).text == told
    assert found.warnings == [MORE_REVIEWS]
    assert verdict([6, 6], [6, 6], min_test_rows=12, min_test_rows_a_class=6).promote
    assert verdict([6, 6], [6, 6], min_test_rows=0, min_test_rows_a_class=0).promote


@pytest.mark.parametrize(("rows", "fails"), [(99, [ENOUGH]), (100, []), (101, [])])
def test_the_limit_of_rows_is_the_first_that_passes(rows: int, fails: list[str]) -> None:
    assert failing(verdict([50, rows - 50], [45, rows - 55])) == fails


@pytest.mark.parametrize(("rows", "fails"), [(9, [ENOUGH_A_CLASS]), (10, [])])
def test_a_class_with_few_test_reviews_is_named(rows: int, fails: list[str]) -> None:
    found = verdict([60, 60, rows], [55, 55, 5])
    assert failing(found) == fails
    told = clause(found, ENOUGH_A_CLASS)
    assert told.value == rows and told.limit == 10
    assert ("rare 1 has 9, 1 are missing" in told.text) == bool(fails)


def test_a_review_that_comes_again_counts_once() -> None:
    found = classes([60, 60], [55, 55])
    again = judged(replace(found, repeats=np.arange(120) % 10 > 0), **ALONE)
    assert failing(again) == [ENOUGH, ENOUGH_A_CLASS]
    assert clause(again, ENOUGH).text == "12, and a first champion needs 100: 88 are missing"
    assert "on 12 test reviews" in clause(again, ABOVE_LARGEST).text
    assert judged(replace(found, repeats=np.arange(120) >= 110), **ALONE).promote


def test_a_class_without_any_test_review_is_named() -> None:
    found = verdict([60, 60, 0], [55, 55, 0])
    assert failing(found) == [ENOUGH_A_CLASS]
    assert "rare 1 has 0, 10 are missing" in clause(found, ENOUGH_A_CLASS).text
    assert verdict([60, 60, 0], [55, 55, 0], min_test_rows_a_class=0).promote


def test_a_model_no_better_than_the_largest_class_is_refused() -> None:
    """It answers both classes, and is right as often as the answer of the larger would be."""
    found = verdict([100, 25], [88, 12])
    assert failing(found) == [ABOVE_LARGEST]
    told = clause(found, ABOVE_LARGEST).text
    assert "0.8000 on 125 test reviews" in told and "against 0.8000 of the answer neg" in told
    assert told.endswith("more test reviews would not help, a better model would")
    assert verdict([100, 25], [88, 12], must_beat_largest_class=False).promote


def test_above_the_largest_class_by_chance_says_how_many_reviews_would_show_it() -> None:
    found = verdict([100, 25], [92, 12])
    assert failing(found) == [ABOVE_LARGEST]
    told = clause(found, ABOVE_LARGEST).text
    needed = rows_to_exceed(104 / 125, 0.8, 0.05)
    assert told.endswith(
        f"about {needed:,} test reviews would show it, {needed - 125:,} are missing"
    )
    times = needed / 125
    more = verdict([round(n * times) for n in (100, 25)], [round(n * times) for n in (92, 12)])
    bound = clause(more, ABOVE_LARGEST)
    assert bound.value is not None and bound.limit is not None
    assert abs(bound.value - bound.limit) < 0.003


@pytest.mark.parametrize("share", [0.5, 0.8])
@pytest.mark.parametrize("rows", [20, 100, 1000])
def test_a_worthless_model_passes_no_more_often_than_stated(rows: int, share: float) -> None:
    right = np.arange(rows + 1)
    passes = np.array([least_share(int(k), rows, 0.05) > share for k in right])
    chance = float(stats.binom.pmf(right[passes], rows, share).sum())
    assert 0.01 < chance <= 0.05


@pytest.mark.parametrize(("hits", "rows"), [(0, 9), (1, 9), (9, 9), (62, 100), (1990, 2000)])
def test_the_bound_is_that_of_scipy(hits: int, rows: int) -> None:
    low = stats.binomtest(hits, rows).proportion_ci(0.9, method="exact").low
    assert least_share(hits, rows, 0.05) == pytest.approx(low)


@pytest.mark.parametrize(("share", "limit"), [(0.9, 0.5), (0.6, 0.5), (0.83, 0.8), (0.99, 0.97)])
def test_the_rows_that_would_show_a_share_do(share: float, limit: float) -> None:
    rows = rows_to_exceed(share, limit, 0.05)
    more, fewer = ceil(rows * 1.1), floor(rows * 0.8)
    assert least_share(ceil(share * more), more, 0.05) > limit
    assert least_share(floor(share * fewer), fewer, 0.05) <= limit


def test_a_class_that_is_never_recognized_is_named() -> None:
    found = verdict([60, 60, 12, 11], [58, 58, 0, 0])
    assert failing(found) == [EVERY_CLASS]
    told = clause(found, EVERY_CLASS).text
    assert told.startswith("rare 1 in none of 12 reviews, rare 2 in none of 11 reviews; label more")
    assert verdict([60, 60, 12, 11], [58, 58, 0, 0], must_recall_every_class=False).promote


def test_a_later_model_that_loses_a_class_is_refused() -> None:
    """Twelve of 1,012 reviews are far less than the margin, and fewer than a slice has at least."""
    found = judged(classes([500, 500, 12], [495, 495, 0], [490, 490, 10]), **ALONE)
    assert failing(found) == [EVERY_CLASS]
    told = clause(found, EVERY_CLASS).text
    assert told == "rare 1 in none of 12 reviews; reviews version 3 in 10"
    off = {"first_champion": {"must_recall_every_class": False}}
    assert judged(classes([500, 500, 12], [495, 495, 0], [490, 490, 10]), **ALONE, **off).promote


@pytest.mark.parametrize("champion", [0, 9])
def test_and_warned_of_where_the_champion_knows_it_no_better_for_certain(champion: int) -> None:
    found = judged(classes([500, 500, 12], [495, 495, 0], [490, 490, champion]), **ALONE)
    assert found.promote
    (warning,) = [w for w in found.warnings if "never recognized" in w]
    assert f"rare 1 in none of 12 reviews; reviews version 3 in {champion}" in warning


def test_what_refuses_a_first_champion_is_said_of_later_ones() -> None:
    """Right on the same twelve reviews is no evidence that two models are equal."""
    found = judged(classes([6, 6], [6, 5], [6, 5]), **ALONE)
    assert found.promote and clause(found, NOT_WORSE).passed
    told = [
        w for w in found.warnings if w.startswith("A first champion would be refused, as it fails ")
    ]
    assert len(told) == 2
    assert f"'{ENOUGH}': 12, and a first champion needs 100: 88 are missing" in told[0]
    off = {"first_champion": {"min_test_rows": 0, "min_test_rows_a_class": 0}}
    assert not judged(classes([6, 6], [6, 5], [6, 5]), **ALONE, **off).warnings


def test_one_that_cannot_be_compared_is_no_first_one() -> None:
    other = replace(classes([6, 6], [6, 6]), incomparable="it has other labels")
    found = judged(other, **ALONE)
    assert failing(found) == ["comparable with the champion"]
    assert any("88 are missing" in warning for warning in found.warnings)


def test_many_classes_are_listed_in_part() -> None:
    found = verdict([9] * 30, [9] * 30)
    assert clause(found, ENOUGH_A_CLASS).text.endswith("rare 18 has 9, 1 are missing and 10 more")


def test_the_promise_holds_in_a_small_simulation() -> None:
    found = first_champions.simulate(models=30, rows=[50, 200], workers=1)
    assert len(found) == 3 * 2 * 6 and all(cell.kept for cell in found)
    through = {(c.classes, c.rows, c.model): c.through for c in found}
    assert through["two, 1:1", 50, "four fifths of the way"] == 0
    assert through["two, 1:1", 200, "four fifths of the way"] == 1
    assert through["two, 4:1", 200, "half of the way"] > 0.6
    assert through["two, 4:1", 200, "one answer"] == 0


def test_the_advice_can_be_typed() -> None:
    option = MORE_REVIEWS.split()[-1]
    given = parse("retrain", ["--data.source.location", "x", option])
    assert given.data.split.new_test_set
    fields = [
        "--gate.first-champion.min-test-rows=0",
        "--gate.first-champion.min-test-rows-a-class=0",
    ]
    asked = parse("retrain", ["--data.source.location", "x", *fields]).gate.first_champion
    assert (asked.min_test_rows, asked.min_test_rows_a_class) == (0, 0)
