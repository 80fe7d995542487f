"""Cascades of simulated engines: every row answered once, in order; bands monotone; what is promised is kept."""

import dataclasses
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.core.engines.cascade.bands import NOTHING, CascadeRule, fit_deferral_thresholds, margins
from tasks.core.engines.cascade.blending import fit_weights
from tasks.core.engines.cascade.fitting import Rows, fit_cascade
from tasks.core.engines.cascade.stages import Cascade, Stage, cut
from tasks.core.errors import ModelError
from tests.core.engines.cascade.simulated_cascades import Table, World, logits_of


@settings(max_examples=40)
@given(st.data(), st.lists(st.floats(0, 5), min_size=2, max_size=2))
def test_every_row_is_answered_once_by_the_first_stage_that_is_clear(
    data: st.DataObject, bands: list[float]
) -> None:
    first = np.array(data.draw(logits_of), dtype=np.float32)
    second, last = first[::-1].copy(), np.roll(first, 1, axis=1)
    tables = [Table(found) for found in (first, second, last)]
    stages = [Stage("", table, band=b) for table, b in zip(tables, [*bands, 0.0], strict=True)]
    numbers = data.draw(st.permutations(range(len(first))))
    found = Cascade(stages).logits([[n] for n in numbers])
    assert found.dtype == np.float32
    for place, n in enumerate(numbers):
        clear = [t.known[n] for t, b in zip(tables, bands, strict=False) if margins(t.known[[n]])[0] >= b]  # fmt: skip
        np.testing.assert_array_equal(found[place], [*clear, last[n]][0])
    assert sorted(tables[0].asked) == list(range(len(first)))
    assert len(set(tables[2].asked)) == len(tables[2].asked) <= len(tables[1].asked)


def test_no_rows_give_no_logits() -> None:
    world = World(20, 0)
    assert Cascade(world.stages()).logits([]).shape == (0, 2)


@pytest.mark.parametrize("classes", [2, 4])
def test_the_promise_of_agreement_is_kept(classes: int) -> None:
    """In at least 95% of draws the agreement on other rows is what was asked for; few rows are scored twice."""
    elsewhere = World(20_000, 999, noise=(0.25,), classes=classes)
    agreements: list[float] = []
    shares: list[float] = []
    for seed in range(25):
        world = World(4_000, seed, noise=(0.25,), classes=classes)
        fitted, _ = fit_cascade(world.stages(), world.known(), CascadeRule(minimum_agreement=0.998))
        found = elsewhere.labels_by(fitted)
        agreements.append(float((found == elsewhere.answers[-1].argmax(1)).mean()))
        shares.append(float((margins(elsewhere.answers[0]) < fitted.stages[0].band).mean()))
    assert sum(agreement < 0.998 for agreement in agreements) <= 3  # one is expected
    assert max(shares) < 0.35


def test_few_rows_give_a_wide_band_that_holds() -> None:
    """Too few for a bound: the largest overstatement seen, and more."""
    elsewhere = World(20_000, 999, noise=(0.25,))
    for seed in range(10):
        small = World(300, seed, noise=(0.25,))
        fitted, record = fit_cascade(small.stages(), small.known(labelled=False), CascadeRule())
        assert "too few for 99.90%" in record.promise and record.agreement == 1
        found = elsewhere.labels_by(fitted)
        assert (found == elsewhere.answers[-1].argmax(1)).mean() >= 0.998
        assert record.rescored_share < 0.5 and record.accuracy is None


def test_another_model_answers_where_its_labels_are_the_exact_ones() -> None:
    """A linear model before an exact engine's own in less precision; the promise holds for other rows."""
    noise = (1.2, 0.05)
    elsewhere = World(20_000, 999, noise=noise)
    agreements: list[float] = []
    for seed in range(15):
        world = World(3_500, seed, noise=noise)
        fitted, record = fit_cascade(world.stages(), world.known(), CascadeRule("labels"))
        assert [stage.name for stage in fitted.stages] == ["stage 0", "stage 1", "stage 2"]
        assert record.agreement == 1 and "other models" in record.promise
        assert record.stages[0].temperature != 1 == record.stages[1].temperature
        assert 0.05 < record.stages[1].scored_share < 0.95 and record.rescored_share < 0.1
        found = elsewhere.labels_by(fitted)
        agreements.append(float((found == elsewhere.answers[-1].argmax(1)).mean()))
    assert sum(agreement < 0.999 for agreement in agreements) <= 2  # one in twenty is expected


def test_another_model_that_would_answer_hardly_any_or_on_too_few_rows_is_not_asked() -> None:
    rule = CascadeRule("labels")
    coin = World(3_500, 1, noise=(40.0, 0.05))
    _, record = fit_cascade(coin.stages(), coin.known(), rule)
    assert [stage.name for stage in record.stages] == ["stage 1", "stage 2"]
    assert "at least 99.90% of reviews" in record.promise
    few = World(300, 1, noise=(0.3, 0.05))
    _, record = fit_cascade(few.stages(), few.known(), rule)
    assert [stage.name for stage in record.stages] == ["stage 1", "stage 2"]
    assert "too few for 99.90%" in record.promise


def test_a_fast_cascade_is_not_less_accurate() -> None:
    """Three stages, the first two with answers of their own; on other rows, too, within the margin."""
    rule: dict[str, Any] = {"use": "fast", "accuracy_margin": 0.01}
    elsewhere = World(20_000, 999, noise=(2.0, 1.0))
    exact = (elsewhere.answers[-1].argmax(1) == elsewhere.labels).mean()
    below = 0
    for seed in range(10):
        world = World(5_000, seed, noise=(2.0, 1.0))
        fitted, record = fit_cascade(world.stages(), world.known(), CascadeRule(**rule))
        assert record.accuracy and record.exact_accuracy
        assert record.accuracy >= record.exact_accuracy and len(record.stages) == 3
        assert record.stages[0].temperature > record.stages[1].temperature
        shares = [stage.scored_share for stage in record.stages]
        assert shares[0] == 1 and shares == sorted(shares, reverse=True)
        assert shares[-1] == record.rescored_share < 0.9
        found = elsewhere.labels_by(fitted)
        below += (found == elsewhere.labels).mean() < exact - 0.01
    assert below <= 2


def blended_world(rows: int, seed: int) -> tuple[World, list[Stage]]:
    """An exact engine that is often wrong, and a first stage that errs in other reviews."""
    world = World(rows, seed, noise=(0.1,))
    generator = np.random.default_rng(seed + 77)
    first = generator.normal(0, 2.0, world.answers[0].shape)
    first[np.arange(rows), world.labels] += 2.5
    evidence = Stage("linear", Table(first.astype(np.float32)))
    return world, [evidence, *world.stages()]


def test_a_blended_cascade_is_more_accurate_and_says_how() -> None:
    """On other rows, too: the sum of both is right where either alone is not."""
    world, stages = blended_world(4_000, 1)
    rule = CascadeRule("fast", blends=True)
    cascade, record = fit_cascade(stages, Rows(world.rows, world.labels), rule)
    assert record.accuracy and record.rescored_share < 0.9
    assert record.accuracy > (world.answers[-1].argmax(1) == world.labels).mean() + 0.007
    assert all(stage.blend > 0 for stage in record.stages[1:]) and record.stages[0].blend == 0
    other, tables = blended_world(4_000, 2)
    engines = {stage.name: stage.engine for stage in tables}
    elsewhere = Cascade([dataclasses.replace(s, engine=engines[s.name]) for s in cascade.stages])
    found = (elsewhere.logits(other.rows).argmax(1) == other.labels).mean()
    assert found > (other.answers[-1].argmax(1) == other.labels).mean() + 0.01


@pytest.mark.parametrize("blends", [False, True])
def test_class_costs_count_once_whatever_stage_answers(blends: bool) -> None:
    """The linear stage and its evidence have none, the engines of the model have them in their head."""
    costs = [1.0, 6.0]
    shift = np.log(np.array(costs, dtype=np.float32))
    world, (linear, *engines) = blended_world(4_000, 1)
    plain_rule = CascadeRule("fast", blends=blends)
    plain, _ = fit_cascade([linear, *engines], Rows(world.rows, world.labels), plain_rule)
    shifted = [
        dataclasses.replace(stage, engine=Table(stage.engine.known + shift), class_costs=costs)
        for stage in engines
    ]
    rows = Rows(world.rows, world.labels)
    rule = dataclasses.replace(plain_rule, class_costs=costs)
    cascade, record = fit_cascade([linear, *shifted], rows, rule)
    known = {stage.name: stage for stage in plain.stages}
    both = [(stage, known[stage.name]) for stage in cascade.stages if stage.name in known]
    assert both and len(record.stages) == len(cascade.stages)
    for stage, other in both:  # fitted on probabilities, not on products with costs
        assert stage.temperature == pytest.approx(other.temperature, rel=1e-3)
        assert stage.blend == pytest.approx(other.blend, abs=1e-3)
    own = {"linear": linear.engine, **{stage.name: stage.engine for stage in engines}}
    first = cascade.stages[0].logits(world.rows)
    answers = [
        own[stage.name].logits(world.rows) / stage.temperature + stage.blend * first + shift
        for stage in cascade.stages
    ]
    found = cascade.logits(world.rows)
    nearest = np.min([np.abs(found - answer).max(axis=1) for answer in answers], axis=0)
    assert nearest.max() < 1e-4
    assert (found.argmax(1) == 1).mean() > (plain.logits(world.rows).argmax(1) == 1).mean() + 0.02


def test_a_first_stage_that_answers_nothing_still_adds_its_evidence() -> None:
    world, stages = blended_world(300, 4)
    rule = CascadeRule("fast", accuracy_margin=1e-6, blends=True)
    cascade, record = fit_cascade([stages[0], stages[-1]], Rows(world.rows, world.labels), rule)
    assert [stage.name for stage in cascade.stages] == ["linear", "stage 1"]
    assert record.stages[0].band > 100 and record.rescored_share == 1
    heat, weight = cascade.stages[1].temperature, cascade.stages[1].blend
    first = stages[0].logits(world.rows) / np.float32(cascade.stages[0].temperature)
    expected = world.answers[-1] / np.float32(heat) + np.float32(weight) * first
    np.testing.assert_allclose(cascade.logits(world.rows), expected, rtol=1e-5)


def test_where_the_last_stage_is_less_accurate_nothing_is_promised() -> None:
    world = World(2_000, 1, noise=(3.0, 2.5))
    cheap, rather = world.stages()[:2]
    rows = Rows(world.rows, world.labels, reference=world.answers[-1])
    _, record = fit_cascade([cheap, rather], rows, CascadeRule("fast"))
    assert (record.worse or 0) > (record.better or 0) and record.promise.startswith("none")
    assert not record.holds


def test_a_few_rows_without_a_difference_promise_nothing() -> None:
    """Forty rows alike bound a difference of six points, and not of half a point."""
    rows = Rows([[n] for n in range(40)], np.arange(40) % 2)
    sure = np.eye(2, dtype=np.float32)[np.arange(40) % 2] * 9
    rule = CascadeRule("fast", blends=True)
    _, record = fit_cascade([Stage("linear", Table(sure)), Stage("all", Table(sure))], rows, rule)
    assert len(record.stages) == 2 and record.agreement == 1.0
    assert not record.holds and record.promise.startswith("none: the rows are too few")
    _, alone = fit_cascade([Stage("all", Table(sure))], rows, CascadeRule("fast"))
    assert alone.holds and alone.promise == "every row is scored exactly"


def test_weights_of_a_blend_are_those_that_made_the_labels() -> None:
    generator = np.random.default_rng(0)
    one, other = np.asarray(generator.normal(0, 2, (2, 40_000, 2)), dtype=np.float32)
    odds = 0.8 * (one[:, 1] - one[:, 0]) + 0.4 * (other[:, 1] - other[:, 0])
    labels = (generator.random(40_000) < 1 / (1 + np.exp(-odds))).astype(np.int64)
    assert fit_weights(one, other, labels) == pytest.approx((0.8, 0.4), abs=0.03)
    with pytest.raises(ValueError, match="do not match"):
        fit_weights(one, other, labels[:5])


def test_a_stage_of_no_use_is_left_out() -> None:
    """A coin is not accurate enough for any of its answers to be taken."""
    world = World(2_000, 1)
    coin = np.random.default_rng(0).normal(0, 3, (2_000, 2)).astype(np.float32)
    stages = [Stage("coin", Table(coin)), world.stages()[-1]]
    rule = CascadeRule("fast", accuracy_margin=0.001)
    cascade, record = fit_cascade(stages, Rows(world.rows, world.labels), rule)
    assert [stage.name for stage in cascade.stages] == ["stage 1"]
    assert record.rescored_share == 1 and record.promise == "every row is scored exactly"


def test_what_is_known_is_not_computed_again() -> None:
    world = World(100, 2)
    stages = world.stages()
    fit_cascade(stages, Rows(world.rows, answers={"stage 0": world.answers[0]}), CascadeRule())
    first, last = (stage.engine for stage in stages)
    assert isinstance(first, Table) and isinstance(last, Table)
    assert not first.asked and len(last.asked) == 100


def test_what_is_no_number_goes_on() -> None:
    world = World(10, 5)
    world.answers[0][3] = np.nan
    stages = [dataclasses.replace(stage, band=0.0) for stage in world.stages()]
    np.testing.assert_array_equal(Cascade(stages).logits([[3]])[0], world.answers[1][3])


@settings(max_examples=50)
@given(st.lists(st.integers(), max_size=60), st.integers(8, 50))
def test_a_cut_row_keeps_both_ends(row: list[int], tokens: int) -> None:
    found = list(cut(row, tokens))
    if len(row) <= tokens:
        assert found == row
    else:
        head = tokens // 4
        assert found == row[:head] + row[-(tokens - head) :]


def test_what_cannot_be_fitted_is_said_so() -> None:
    world = World(10, 0)
    with pytest.raises(ModelError, match="validation rows"):
        fit_cascade(world.stages(), Rows([]), CascadeRule())
    with pytest.raises(ModelError, match="needs a stage"):
        fit_cascade([], Rows(world.rows), CascadeRule())
    other = Stage("other", Table(world.answers[0], ["a", "b"]))
    with pytest.raises(ModelError, match=r"different labels \[other\]"):
        fit_cascade([other, world.stages()[-1]], Rows(world.rows), CascadeRule())
    with pytest.raises(ValueError, match="one stage before"):
        fit_deferral_thresholds([*world.answers, world.answers[-1]], None, CascadeRule())
    with pytest.raises(ValueError, match="labelled rows"):
        fit_cascade(world.stages(), Rows(world.rows), CascadeRule("fast"))
    assert fit_deferral_thresholds(world.answers, None, CascadeRule())[0] != [NOTHING]
