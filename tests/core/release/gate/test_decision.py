"""The gate: every clause catches what it is for, refuses nothing else, and says so with its numbers."""

from dataclasses import fields, replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.gate import simulation
from tasks.core.decision import with_costs
from tasks.core.evaluation.comparison import Pair
from tasks.core.evaluation.params import EvaluationParams
from tasks.core.evaluation.slices import Slice
from tasks.core.release.gate.decision import decide
from tasks.core.release.gate.evidence import Clause, Evidence, Verdict
from tasks.core.release.gate.other_test_set import NOT_WORSE_THERE, OTHER, OtherTestSet
from tasks.core.release.gate.params import GateParams

EVALUATION = EvaluationParams(resamples=200)
NOT_WORSE = "not worse than the champion"
SLICES = "no slice worse than the champion's"
CHECKS = "behavioural checks not worse than the champion's"


def said(labels: np.ndarray, right: np.ndarray, confidence: float = 0.9) -> np.ndarray:
    """Probabilities of two classes of a classifier that is right where `right` says."""
    answer = np.where(right, labels, 1 - labels)
    p = np.where(answer == 1, confidence, 1 - confidence)
    return np.column_stack([1 - p, p])


def evidence(
    rows: int = 2000, wrong: int = 200, champion_wrong: int | None = 200, **others: Any
) -> Evidence:
    """A candidate and a champion that are wrong on the first so many rows, and a worse baseline."""
    labels = np.arange(rows) % 2
    number = np.arange(rows)
    champion = None if champion_wrong is None else said(labels, number >= champion_wrong)
    known = Evidence(
        labels=labels,
        label_names=["NEGATIVE", "POSITIVE"],
        candidate=said(labels, number >= wrong),
        baseline=said(labels, number >= rows // 4),
        champion=champion,
        champion_name="reviews version 3",
        incomparable="",
        slices=[],
        behaviour={},
        parameters=22_000_000,
        champion_parameters=None if champion is None else 110_000_000,
        reviews_per_second=80.0,
        champion_reviews_per_second=None if champion is None else 40.0,
        validation_right=450,
        validation_rows=500,
        overlap=0,
    )
    return replace(known, **others)


def judged(given_evidence: Evidence, **params: Any) -> Verdict:
    return decide(given_evidence, GateParams.model_validate(params), EVALUATION)


def clause(verdict: Verdict, name: str) -> Clause:
    return next(c for c in verdict.clauses if c.name == name)


def failing(verdict: Verdict) -> list[str]:
    assert verdict.promote == (not verdict.failed)
    return [c.name for c in verdict.failed]


def test_the_first_champion_is_compared_with_nothing() -> None:
    found = evidence(champion_wrong=None, behaviour={"negation": (np.zeros(9, dtype=bool), None)})
    verdict = judged(found)
    assert verdict.promote and not verdict.warnings
    for name in (NOT_WORSE, SLICES, CHECKS):
        assert f"passed {name}: there is none yet" in str(verdict)


def test_a_verdict_survives_being_written_down() -> None:
    verdict = judged(evidence(wrong=230))
    assert Verdict.model_validate_json(verdict.model_dump_json()) == verdict


@given(st.integers(1, 400), st.integers(0, 99), st.sampled_from(["widen", "refuse"]))
def test_a_candidate_that_equals_the_champion_in_every_answer_passes(
    rows: int, seed: int, small: str
) -> None:
    generator = np.random.default_rng(seed)
    right = generator.random(rows) < 0.8
    labels = generator.integers(0, 2, rows)
    failed = generator.random(20) < 0.3
    found = evidence(rows)
    found = replace(
        found,
        labels=labels,
        candidate=said(labels, right, 0.8),
        champion=said(labels, right, 0.8),
        slices=[Slice("label", str(c), labels == c) for c in (0, 1) if (labels == c).any()],
        behaviour={"negation": (failed, failed)},
        validation_right=int(right.sum()),
        validation_rows=rows,
    )
    verdict = judged(found, must_beat_baseline=False, champion={"small_test_set": small})
    assert verdict.promote, str(verdict)


def test_a_tie_with_the_baseline_is_not_enough() -> None:
    found = evidence(champion_wrong=None)
    tie = replace(found, baseline=found.candidate)
    assert failing(judged(tie)) == ["beats the baseline"]
    assert "0.9000 against 0.9000, difference 0.0000 [0.0000, 0.0000]" in str(judged(tie))
    assert judged(tie, must_beat_baseline=False).promote


def test_a_champion_may_be_followed_by_a_model_within_the_margin() -> None:
    assert judged(evidence(25_000, 2600, 2500)).promote  # lower by 0.0040, at most by 0.0047
    worse = judged(evidence(25_000, 2800, 2500))
    assert failing(worse) == [NOT_WORSE]
    told = clause(worse, NOT_WORSE)
    assert told.value == pytest.approx(-0.0132, abs=1e-3) and told.limit == -0.01
    for part in (
        "0.8880 against 0.9000 of reviews version 3 on the same 25,000",
        "0 better, 300 worse",
    ):
        assert part in told.text
    assert "McNemar's exact p 9.82e-91" in told.text and "margin 0.0100" in told.text


def test_worse_for_certain_though_within_the_margin_is_told() -> None:
    verdict = judged(evidence(25_000, 2600, 2500))
    assert verdict.promote and len(verdict.warnings) == 1
    assert (
        "Within the margin, yet significantly worse than reviews version 3" in verdict.warnings[0]
    )


def differing(rows: int, better: int, worse: int) -> Evidence:
    """A candidate and a champion that are wrong on 50 rows together, and differ on others."""
    labels, number = np.arange(rows) % 2, np.arange(rows)
    candidate = (number >= 50 + worse) | (number < 50 - 50)
    champion = (number >= 50) & ((number < rows - better) | (better == 0))
    return evidence(
        rows,
        labels=labels,
        candidate=said(labels, candidate),
        champion=said(labels, champion),
        validation_rows=0,
    )


def test_a_small_test_set_widens_the_margin_and_says_so() -> None:
    found = differing(500, better=19, worse=21)
    verdict = judged(found, must_beat_baseline=False)
    assert verdict.promote, str(verdict)
    assert "(widened from 0.0100)" in clause(verdict, NOT_WORSE).text
    (warning,) = verdict.warnings
    assert "500 reviews cannot resolve a margin of 0.0100, so one of 0.0368 was applied" in warning
    assert "about 5,9" in warning and "reviews resolve 0.0100" in warning


def test_or_refuses_where_that_is_wanted_or_would_be_too_wide() -> None:
    found = differing(500, better=19, worse=21)
    for champion in ({"small_test_set": "refuse"}, {"widest_margin": 0.02}):
        verdict = judged(found, must_beat_baseline=False, champion=champion)
        assert failing(verdict) == [NOT_WORSE]
        assert "the test set is too small to tell: about" in clause(verdict, NOT_WORSE).text


def test_a_small_test_set_can_show_that_a_model_is_better() -> None:
    found = differing(500, better=40, worse=10)
    verdict = judged(found, champion={"small_test_set": "refuse"}, must_beat_baseline=False)
    assert verdict.promote and not verdict.warnings


def test_models_with_other_labels_cannot_be_compared() -> None:
    verdict = judged(evidence(champion_wrong=None, incomparable="it has other labels"))
    assert failing(verdict) == ["comparable with the champion"]
    assert "it has other labels" in str(verdict) and "there is none yet" not in str(verdict)


def test_a_model_broken_on_long_reviews_is_caught_by_its_slice() -> None:
    """As good as the champion on average: better on short reviews, at chance on long ones."""
    found, long = evidence(), np.arange(2000) >= 1800
    right = np.arange(2000) % 14 > 0
    right[long] = np.arange(200) % 2 > 0
    found = replace(
        found,
        candidate=said(found.labels, right),
        champion=said(found.labels, np.arange(2000) % 9 > 0),
        slices=[Slice("length", "600 words and more", long), Slice("length", "less", ~long)],
    )
    verdict = judged(found)
    assert failing(verdict) == [SLICES]
    told = clause(verdict, SLICES)
    assert (
        "1 shown to be worse by more than 0.0300; worst: length 600 words and more (200)"
        in told.text
    )
    assert told.value is not None and told.value < -0.03 == told.limit
    assert judged(found, slices={"margin": 1.0}).promote


def test_thirty_rows_suffice_to_see_a_slice_that_is_broken() -> None:
    found, few = evidence(), np.arange(2000) >= 1970
    right = np.arange(2000) >= 200
    right[1970:1988] = False
    right[:18] = True  # as many more elsewhere
    found = replace(found, candidate=said(found.labels, right), slices=[Slice("source", "x", few)])
    assert failing(judged(found)) == [SLICES]


def test_chance_among_many_slices_and_checks_refuses_no_equal() -> None:
    """Thirty slices and twenty checks: of 200 equals as many are refused as the two clauses may, 0.0125 each."""
    refused = 0
    for seed in range(200):
        generator = np.random.default_rng(seed)
        labels = generator.integers(0, 2, 1000)
        differ = generator.random(1000) < 0.1
        first = generator.random(1000) < 0.5
        both = generator.random(1000) < 0.94
        part = generator.integers(0, 30, 1000)
        found = evidence(
            1000,
            labels=labels,
            candidate=said(labels, np.where(differ, first, both)),
            champion=said(labels, np.where(differ, ~first, both)),
            slices=[Slice("source", str(i), part == i) for i in range(30)],
            behaviour={
                str(i): (generator.random(40) < 0.1, generator.random(40) < 0.1) for i in range(20)
            },
        )
        refused += bool({SLICES, CHECKS} & set(failing(judged(found))))
    assert refused <= 200 * 0.025 + 5


def test_behaviour_may_not_get_worse() -> None:
    fails = np.arange(60) < 30
    fine = np.arange(60) < 3
    found = evidence(behaviour={"negation": (fails, fine), "names": (fine, fine)})
    verdict = judged(found)
    assert failing(verdict) == [CHECKS]
    assert "worst: negation (60) -0.4500" in clause(verdict, CHECKS).text
    assert judged(evidence(behaviour={"negation": (fine, fails)})).promote
    assert judged(evidence(behaviour={"negation": (fails, fails)})).promote


def checks(rises: list[float], cases: int = 100) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Checks in which the candidate fails so much more than a champion that fails half of the cases."""
    made: dict[str, tuple[np.ndarray, np.ndarray]] = {}
    for number, rise in enumerate(rises):
        failing_cases = np.arange(cases) < round((0.5 + rise) * cases)
        made[f"check {number}"] = (failing_cases, np.arange(cases) < cases // 2)
    return made


def test_one_check_that_swings_is_told_and_refuses_nothing() -> None:
    rises = [0.36, -0.2, 0.05, -0.1, 0.0, 0.1, -0.05, 0.0, -0.12, 0.03]
    verdict = judged(evidence(behaviour=checks(rises)))
    assert verdict.promote
    assert any("check 0 (100)" in warning for warning in verdict.warnings)


def test_checks_that_get_worse_on_average_refuse() -> None:
    verdict = judged(evidence(behaviour=checks([0.1 + 0.01 * (n % 3) for n in range(12)])))
    assert failing(verdict) == [CHECKS]
    clause = next(c for c in verdict.clauses if c.name == CHECKS)
    assert clause.value is not None and 0.08 < clause.value < 0.11
    assert judged(evidence(behaviour=checks([0.1] * 12)), behaviour={"margin": 0.2}).promote


def test_what_the_champion_could_do_must_not_be_lost() -> None:
    rises = [0.5, *[-0.05] * 11]
    assert judged(evidence(behaviour=checks(rises))).promote
    found = evidence(behaviour=checks(rises))
    assert failing(judged(found, behaviour={"max_single_rise": 0.4})) == [CHECKS]


def test_behaviour_may_have_a_limit_of_its_own() -> None:
    found = evidence(
        behaviour={"negation": (np.arange(60) < 30, None), "names": (np.arange(9) < 0, None)}
    )
    verdict = judged(found, behaviour={"max_failure_fraction": 0.4})
    assert failing(verdict) == ["behavioural checks"]
    assert "negation fails in 0.5000 of its cases" in str(verdict)


def test_an_overconfident_model_is_refused_but_not_for_chance() -> None:
    found = evidence(wrong=500, champion_wrong=500, validation_rows=0)
    sure = replace(found, candidate=said(found.labels, np.arange(2000) >= 500, 0.99))
    verdict = judged(sure, must_beat_baseline=False)
    assert failing(verdict) == ["calibration error"] and "0.2400 against a limit of 0.1000" in str(
        verdict
    )
    assert judged(sure, must_beat_baseline=False, limits={"maximum_calibration_error": 1.0}).promote
    few = evidence(20, wrong=4, champion_wrong=4, validation_rows=0)
    few = replace(few, candidate=said(few.labels, np.arange(20) >= 4, 0.95))  # 0.15, of twenty rows
    assert judged(few, must_beat_baseline=False).promote


def test_a_champion_of_another_test_set_is_said_first_and_asked_there() -> None:
    known = evidence(validation_rows=0)
    same = OtherTestSet("both are others", Pair(2000, 60, 50), (0.85, 0.845), "", "overrule it")
    verdict = judged(replace(known, other_test_set=same))
    first, second, *_ = verdict.clauses
    assert verdict.promote and (first.name, first.text) == (OTHER, "both are others")
    assert second.name == NOT_WORSE_THERE and "0.8500 against 0.8450 on its 2,000" in second.text
    worse = replace(same, pair=Pair(2000, 60, 260), accuracies=(0.75, 0.85))
    verdict = judged(replace(known, other_test_set=worse))
    assert failing(verdict) == [NOT_WORSE_THERE] and verdict.failed[0].text.endswith("overrule it")
    few = replace(same, pair=Pair(30, 1, 9), accuracies=(0.6, 0.87))
    assert failing(judged(replace(known, other_test_set=few))) == [NOT_WORSE_THERE]
    alike = replace(same, pair=Pair(30, 0, 0))
    assert judged(replace(known, other_test_set=alike)).promote
    gone = OtherTestSet("both are others", why_not="it is gone")
    verdict = judged(replace(known, other_test_set=gone))
    assert verdict.promote and "not compared there: it is gone" in str(verdict)
    assert "The model's accuracy on the champion's test set is unknown" in verdict.warnings[0]


def test_calibration_is_judged_on_what_will_score() -> None:
    found = evidence(wrong=500, champion_wrong=500, validation_rows=0)
    sure = said(found.labels, np.arange(2000) >= 500, 0.99)
    fine = said(found.labels, np.arange(2000) >= 500, 0.75)
    by_engine = replace(found, candidate=fine, scored=sure, scored_by="cascade")
    verdict = judged(by_engine, must_beat_baseline=False)
    assert failing(verdict) == ["calibration error"]
    assert clause(verdict, "calibration error").text.startswith("as cascade scores, 0.2400 against")
    well = replace(found, candidate=sure, scored=fine, scored_by="cascade")
    assert judged(well, must_beat_baseline=False).promote


def test_class_costs_move_labels_and_leave_the_calibration() -> None:
    """Accuracy is that of the labels that are shipped; calibration is that of the probabilities."""
    found = evidence(wrong=500, champion_wrong=500, validation_rows=0)
    fine = said(found.labels, np.arange(2000) >= 500, 0.75)
    costs = [1.0, 1e4]  # everything becomes the second class
    answers = with_costs(fine, costs)
    dear = replace(found, candidate=answers, champion=answers, class_costs=costs)
    verdict = judged(replace(dear, champion_class_costs=costs), must_beat_baseline=False)
    assert clause(verdict, "not worse than the champion").text.startswith("0.5000, right on")
    assert clause(verdict, "calibration error").text.startswith("0.0000 against")
    assert clause(verdict, "class costs of the champion").passed


@pytest.mark.parametrize(
    ("own", "champion", "same", "text"),
    [
        ([5.0, 1.0], [], False, "NEGATIVE=5, POSITIVE=1 against none of reviews version 3; set"),
        ([], [5.0, 1.0], False, "none against NEGATIVE=5, POSITIVE=1 of reviews version 3; set"),
        ([5.0, 1.0], [1.0, 0.2], True, "NEGATIVE=5, POSITIVE=1 against NEGATIVE=1, POSITIVE=0.2"),
    ],
)
def test_other_class_costs_are_for_a_person_to_decide(
    own: list[float], champion: list[float], same: bool, text: str
) -> None:
    given = evidence(class_costs=own, champion_class_costs=champion)
    found = clause(judged(given), "class costs of the champion")
    assert found.passed == same and found.text.startswith(text)
    assert not any("class costs" in c.name for c in judged(evidence()).clauses)
    first = judged(evidence(champion_wrong=None, class_costs=own or champion))
    assert clause(first, "class costs of the champion").passed


@pytest.mark.parametrize("wrong", [20, 100])
def test_a_model_that_has_seen_the_test_reviews_is_caught(wrong: int) -> None:
    verdict = judged(evidence(wrong=wrong, validation_right=430))
    assert failing(verdict) == ["test reviews unseen in training"]
    assert "against 0.8600 on 500 of validation" in str(verdict)
    assert judged(
        evidence(wrong=200, validation_right=430)
    ).promote  # higher by 0.04, which may be chance


def test_reviews_that_are_in_training_too_are_caught() -> None:
    assert judged(evidence(overlap=100)).promote
    verdict = judged(evidence(overlap=101))
    assert failing(verdict) == ["overlap with training"] and "101 test reviews (0.0505)" in str(
        verdict
    )


def test_floors_hold_whatever_the_champion_does() -> None:
    found = evidence()
    assert failing(judged(found, limits={"minimum_accuracy": 0.91})) == ["minimum accuracy"]
    assert failing(judged(found, limits={"minimum_macro_f1": 0.91})) == ["minimum macro-F1"]
    met = judged(found, limits={"minimum_accuracy": 0.9, "minimum_macro_f1": 0.9})
    assert met.promote and "0.9000 against a floor of 0.9000" in str(met)


def test_budgets_of_size_and_speed() -> None:
    found = evidence()
    assert failing(judged(found, budget={"max_parameters": 20.0})) == ["size"]
    assert judged(found, budget={"max_parameters": 22.0, "max_slowdown": 0.5}).promote
    assert failing(judged(found, budget={"max_slowdown": 0.4})) == ["not slower than the champion"]
    assert failing(judged(found, budget={"min_reviews_per_second": 81.0})) == ["speed"]
    unmeasured = replace(found, reviews_per_second=None)
    verdict = judged(unmeasured, budget={"max_slowdown": 2.0, "min_reviews_per_second": 1.0})
    assert failing(verdict) == ["not slower than the champion", "speed"]
    first = evidence(champion_wrong=None)
    assert judged(first, budget={"max_slowdown": 2.0}).promote


def test_promotion_can_be_switched_off() -> None:
    assert failing(judged(evidence(), promote=False)) == ["promotion wanted"]


def test_evidence_of_other_rows_is_refused() -> None:
    found = evidence()
    with pytest.raises(ValueError, match="broadcast"):
        judged(replace(found, champion=found.candidate[:-1]))


def test_every_field_of_the_form_says_what_it_means() -> None:
    for group in GateParams.model_fields.values():
        assert group.description
        for field in getattr(group.annotation, "model_fields", {}).values():
            assert field.description
    assert {f.name for f in fields(Evidence)} >= {"labels", "candidate", "champion"}


def test_the_promises_hold_in_a_small_simulation() -> None:
    """A hundredth of `make gate-simulation`, through the same code."""
    found = simulation.simulate(pairs=40, rows=[500], disagreements=[0.1], workers=1)
    assert len(found) == 2 * 3
    assert all(cell.kept for cell in found)
    equals = [c for c in found if c.truth == "equal" and c.small_test_set == "widen"]
    assert all(c.through > 0.6 for c in equals)
    assert all(c.through < 0.12 for c in found if c.truth == "worse by twice the margin")


def test_of_a_scale_the_verdict_says_how_far_off_answers_are() -> None:
    labels = np.arange(1000) % 5
    sure = np.eye(5)
    next_star = sure[np.minimum(labels + (np.arange(1000) < 200), 4)]
    found = evidence(
        rows=1000,
        labels=labels,
        label_names=["1", "2", "3", "4", "5"],
        candidate=next_star,
        champion=sure[labels],
        baseline=sure[np.zeros(1000, np.int64)],
        scale=[1.0, 2.0, 3.0, 4.0, 5.0],
    )
    error, kappa = judged(found).beside
    assert error == "mean absolute error 0.1600 (baseline 2.0000, reviews version 3 0.0000)"
    assert kappa.startswith("quadratic weighted kappa 0.9") and "reviews version 3 1.0000" in kappa
    assert judged(evidence()).beside == []
