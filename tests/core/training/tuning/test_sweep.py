"""What is tried, how the next settings are chosen, and which trials count."""

import math
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.trial import FrozenTrial, TrialState, create_trial
from pydantic import ValidationError
from transformers import TrainerControl, TrainerState, TrainingArguments

from flows.forms.pipelines import TuneParams
from tasks.core.training.loop.epochs import Pruning
from tasks.core.training.params import TrainingParams
from tasks.core.training.protocols import TrainingPruned
from tasks.core.training.tuning import sweep
from tasks.core.training.tuning import trials as trial_facts
from tasks.core.training.tuning.params import SpaceParams, SweepParams
from tasks.core.training.tuning.plots import draw_sweep, importances

NARROW = {"batch_size": None, "warmup_ratio": None, "weight_decay": None}


@pytest.mark.parametrize(
    ("space", "message"),
    [
        ({"learning_rate": {"low": 1e-3, "high": 1e-4}}, "low is 0.001, which is more than high"),
        ({"learning_rate": {"low": 0, "high": 1e-4}}, "learning_rate of a training.*greater than"),
        ({"learning_rate": {"low": 1e-4, "high": 0.5}}, "learning_rate of a training.*less than"),
        ({"batch_size": [8, 4096]}, "batch_size of a training.*1024, not 4096"),
        ({"batch_size": []}, "at least 1 item"),
        ({"epochs": {"low": 1, "high": 51}}, "epochs of a training.*50, not 51"),
        (
            {"warmup_ratio": {"low": 0.1, "high": 0.9}},
            r"warmup_ratio of a training.*0\.5, not 0\.9",
        ),
        ({"learning_rate": None, **NARROW}, "nothing is left to try"),
        ({"learning_rate": {"low": 1e-4, "high": 1e-4}, **NARROW}, "nothing is left to try"),
        ({"dropout": {"low": 0, "high": 1}}, "Extra inputs"),
    ],
)
def test_a_space_that_cannot_be_searched_is_refused(space: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        SpaceParams.model_validate(space)


@pytest.mark.parametrize("name", list(SpaceParams.model_fields))
def test_every_setting_that_is_tried_is_one_of_a_training(name: str) -> None:
    assert name in TrainingParams.model_fields


def test_the_form_and_the_space_must_agree() -> None:
    with pytest.raises(
        ValidationError, match=r"training\.learning_rate is 0\.001.*2e-05 to 0\.0003"
    ):
        TuneParams.model_validate({"training": {"learning_rate": 1e-3}})
    with pytest.raises(ValidationError, match=r"training\.batch_size is 12.*tries 8, 16, 32"):
        TuneParams.model_validate({"training": {"batch_size": 12}})
    emptied = {"sweep": {"space": {"learning_rate": None}}, "training": {"learning_rate": 1e-3}}
    assert TuneParams.model_validate(emptied).training.learning_rate == 1e-3


def test_what_has_one_value_is_fixed_and_not_sampled() -> None:
    space = SpaceParams.model_validate(
        {
            "batch_size": [64],
            "warmup_ratio": {"low": 0.25, "high": 0.25},
            "epochs": {"low": 1, "high": 4},
        }
    )
    assert set(sweep.distributions(space)) == {"learning_rate", "weight_decay", "epochs"}
    made = sweep.training_of(
        TrainingParams(seed=7),
        space,
        {"learning_rate": 0.000123456, "weight_decay": 0.05, "epochs": 2},
    )
    assert (made.batch_size, made.warmup_ratio, made.epochs, made.seed) == (64, 0.25, 2, 7)
    assert made.learning_rate == 0.0001235, "short enough to be typed into a form"


def test_rounding_stays_within_the_range() -> None:
    space = SpaceParams.model_validate({"learning_rate": {"low": 1.23451e-5, "high": 2.34549e-5}})
    for value in (1.23451e-5, 2.34549e-5):
        made = sweep.training_of(TrainingParams(), space, {"learning_rate": value})
        assert 1.23451e-5 <= made.learning_rate <= 2.34549e-5


def test_the_first_trial_is_the_form_itself_or_what_comes_nearest() -> None:
    first = sweep.first_values(TrainingParams(), SpaceParams())
    assert sweep.training_of(TrainingParams(), SpaceParams(), first) == TrainingParams()
    higher = SpaceParams.model_validate(
        {"learning_rate": {"low": 2e-4, "high": 1e-3}, "batch_size": [4, 64]}
    )
    near = sweep.first_values(TrainingParams(), higher)
    assert near["learning_rate"] == 2e-4 and near["batch_size"] == 4


def test_what_asks_most_of_the_base_model() -> None:
    space = SpaceParams.model_validate({"frozen_layers": {"low": 0, "high": 4}})
    assert sweep.most_demanding(TrainingParams(), space).frozen_layers == 4
    assert sweep.most_demanding(TrainingParams(frozen_layers=2), SpaceParams()).frozen_layers == 2


def test_how_many_trials_and_when_does_not_make_another_sweep() -> None:
    few = SweepParams(trials=3, at_once=2, timeout_hours=1.0, stop_after_failures=9)
    assert few.identity() == SweepParams().identity()
    assert SweepParams(metric="loss").identity() != few.identity()
    assert SweepParams(seed=1).identity() != few.identity()


def _chosen(seed: int, order: list[int]) -> list[dict[str, Any]]:
    """Settings of the trials of those indices, each by a sampler of its own."""
    study = optuna.create_study(direction="maximize")
    found: list[dict[str, Any]] = []
    for index in order:
        study.sampler = sweep.sampler(seed, index)
        trial = study.ask(sweep.distributions(SpaceParams()))
        study.tell(trial, -abs(math.log(trial.params["learning_rate"] / 1e-4)))
        found.append(trial.params)
    return found


def test_the_choice_depends_on_the_seed_and_on_what_was_tried_and_on_no_process() -> None:
    ten = list(range(13))
    assert _chosen(1, ten) == _chosen(1, ten)
    assert _chosen(1, ten) != _chosen(2, ten)
    rates = [params["learning_rate"] for params in _chosen(1, ten)]
    assert len(set(rates)) == 13, "a sampler that begins anew would choose the first ones again"


def trial(number: int, state: str, value: float | None = None, **attributes: str) -> FrozenTrial:
    rate = 1e-4 * (number + 1)
    made = create_trial(
        state=TrialState[state],
        value=value,
        params={"learning_rate": min(rate, 3e-4), "weight_decay": 0.01 * (number % 4)},
        distributions={
            name: kind
            for name, kind in sweep.distributions(SpaceParams()).items()
            if name in ("learning_rate", "weight_decay")
        },
        user_attrs={getattr(trial_facts, name): text for name, text in attributes.items()},
        intermediate_values={1: 0.5} if state == "PRUNED" else {},
    )
    made.number = number
    return made


def test_the_best_of_those_that_ran_to_their_end() -> None:
    trials = [
        trial(0, "COMPLETE", 0.8),
        trial(1, "PRUNED", 0.95),
        trial(2, "COMPLETE", 0.9),
        trial(3, "COMPLETE", 0.9),
        trial(4, "FAIL", REASON="The loss is not a number"),
    ]
    best = trial_facts.best(trials, "accuracy")
    assert best and best.number == 2, "the earlier of two equals"
    least = trial_facts.best(trials, "loss")
    assert least and least.number == 0
    assert trial_facts.best(trials[4:], "accuracy") is None


def test_which_trials_count() -> None:
    died, failed = trial(1, "FAIL", DIED="killed"), trial(2, "FAIL", REASON="diverged")
    done, under_way = trial(0, "COMPLETE", 0.8), trial(3, "RUNNING")
    trials = [done, died, failed, under_way]
    assert [t.number for t in trial_facts.settled(trials)] == [0, 2]
    assert trial_facts.drawn(trials) == 3
    assert trial_facts.failures_to_forget(trials) == set()
    assert trial_facts.failures_to_forget([died, failed]) == {1, 2}


def test_what_kills_its_run_again_and_again_is_not_begun_for_ever() -> None:
    running = trial(2, "RUNNING")
    deaths = [trial(2, "FAIL", DIED=trial_facts.RUN_IS_OVER) for _ in range(3)]
    assert not trial_facts.is_hopeless(running, deaths[:2])
    assert trial_facts.is_hopeless(running, deaths)
    assert not trial_facts.is_hopeless(running, [trial(2, "FAIL", DIED="interrupted")] * 9)
    assert not trial_facts.is_hopeless(trial(1, "RUNNING"), deaths), "other settings"


def test_the_table_shows_the_best_first_and_every_reason() -> None:
    trials = [
        trial(0, "COMPLETE", 0.8),
        trial(1, "PRUNED", 0.5),
        trial(2, "COMPLETE", 0.9),
        trial(3, "FAIL", REASON="The loss is not a number"),
    ]
    rows = trial_facts.rows(trials, "accuracy", TrainingParams(), SpaceParams())
    assert [row["trial"] for row in rows] == [2, 0, 1, 3]
    assert rows[0]["accuracy"] == 0.9 and rows[0]["learning_rate"] == 3e-4
    assert rows[0]["batch_size"] == 16, "that of the form, where a trial has none"
    assert rows[2]["state"] == "pruned" and rows[2]["epochs"] == 1
    assert rows[3]["state"] == "failed" and rows[3]["reason"] == "The loss is not a number"


@pytest.mark.filterwarnings("ignore:.*Argument.*:optuna.exceptions.ExperimentalWarning")
def test_pictures_are_drawn_whatever_is_known(tmp_path: Path) -> None:
    few = [trial(0, "COMPLETE", 0.8), trial(1, "FAIL", REASON="x"), trial(2, "PRUNED", 0.5)]
    names = [p.name for p in draw_sweep(tmp_path, few, "accuracy", "few")]
    assert names == ["sweep-history.png", "sweep-settings.png"]
    more = few + [trial(n, "COMPLETE", 0.6 + n / 100) for n in range(3, 9)]
    drawn = draw_sweep(tmp_path, more, "loss", "more")
    assert [p.name for p in drawn][-1] == "sweep-importance.png"
    assert all(p.read_bytes()[:4] == b"\x89PNG" for p in drawn)


def test_the_setting_that_matters_is_told_from_the_one_that_does_not() -> None:
    study = optuna.create_study(direction="maximize")
    for index in range(30):
        study.sampler = sweep.sampler(3, index)
        asked = study.ask(sweep.distributions(SpaceParams()))
        study.tell(asked, -abs(math.log(asked.params["learning_rate"] / 1e-4)))
    shares = importances(study.trials, "accuracy")
    assert next(iter(shares)) == "learning_rate" and shares["learning_rate"] > 0.7
    assert sum(shares.values()) == pytest.approx(1)


def epoch(number: int, accuracy: float = 0.5, loss: float = 0.7) -> dict[str, float]:
    return {"eval_loss": loss, "eval_accuracy": accuracy, "step": 8 * number, "epoch": number}


class StopsBelow:
    """Stops a training whose last epoch is less accurate."""

    def __init__(self, accuracy: float) -> None:
        self.accuracy = accuracy
        self.heard: list[int] = []

    def stops(self, epochs: Any) -> bool:
        self.heard.append(len(epochs))
        return epochs[-1]["accuracy"] < self.accuracy


def evaluated(
    judge: StopsBelow, log: list[dict[str, float]], stopping: bool = False
) -> TrainerControl:
    state = TrainerState(log_history=log, global_step=8 * len(log), max_steps=24)
    control = TrainerControl(should_training_stop=stopping)
    Pruning(judge).on_evaluate(TrainingArguments(report_to="none", use_cpu=True), state, control)
    return control


def test_a_training_is_stopped_by_its_judge_but_not_after_its_last_epoch() -> None:
    judge = StopsBelow(0.6)
    with pytest.raises(TrainingPruned) as stopped:
        evaluated(judge, [epoch(1, 0.4), epoch(2, 0.5)])
    assert vars(stopped.value) == {
        "epochs": 2,
        "steps": 16,
        "validation": {"loss": 0.7, "accuracy": 0.5},
    }
    evaluated(judge, [epoch(1), epoch(2), epoch(3)])
    evaluated(judge, [epoch(1), epoch(2)], stopping=True)
    assert judge.heard == [2, 3, 2], "a training that ends is reported all the same"


def test_a_loss_that_is_no_number_ends_a_trial_at_once() -> None:
    judge = StopsBelow(1.0)
    assert evaluated(judge, [epoch(1, loss=math.nan)]).should_training_stop
    assert judge.heard == []
