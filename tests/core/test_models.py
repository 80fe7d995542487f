"""Tokenization, engines, scoring and training on tiny real models of both families."""

import copy
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from datasets import Dataset
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from transformers import (
    EvalPrediction,
    TrainerControl,
    TrainerState,
    TrainingArguments,
    pipeline,
)

from tasks.core import baseline, modeling, plots
from tasks.core.distillation import DistillationParams
from tasks.core.engine import softmax
from tasks.core.engines.torch_engine import TorchEngine
from tasks.core.errors import ModelError, NightshiftError, SettingsError
from tasks.core.formats import Row
from tasks.core.scoring import End, Prediction, Review, score, to_review
from tasks.core.scoring_plan import Columns
from tasks.core.tokenization import Encoder, TokenizationParams
from tasks.core.training import Trained, TrainingParams, fine_tune
from tasks.core.training_hooks import EarlyStopping, Merit, SilentListener
from tasks.core.training_job import TrainingJob
from tests.reviews import reviews

LABELS = ["NEGATIVE", "POSITIVE"]
SHORT = TokenizationParams(max_length_tokens=32)


def dataset(encoder: Encoder, rows: int, seed: int) -> Dataset:
    texts, labels = zip(*reviews(rows, seed), strict=True)
    ids = encoder.encode(texts).input_ids
    return Dataset.from_dict(
        {
            "input_ids": ids,
            "length": [len(i) for i in ids],
            "labels": [LABELS.index(label) for label in labels],
        }
    )


def job(
    base: Path, params: TrainingParams, distillation: DistillationParams | None = None
) -> TrainingJob:
    """A training of the sentences that `dataset` makes."""
    return TrainingJob(
        base_folder=base,
        label_names=LABELS,
        tokenization=SHORT,
        params=params,
        distillation=distillation,
    )


class Losses(SilentListener):
    """Keeps the training losses, one every ten steps."""

    def __init__(self) -> None:
        self.train: list[float] = []

    def on_metrics(self, step: int, metrics: dict[str, float]) -> None:
        if "train_loss" in metrics:
            self.train.append(metrics["train_loss"])


def trained(
    base: Path,
    work: Path,
    rows: int = 128,
    listener: SilentListener | None = None,
    **given: object,
) -> Trained:
    params = TrainingParams.model_validate(
        {"learning_rate": 5e-3, "epochs": 2, "device": "cpu"} | given
    )
    encoder = Encoder(modeling.load_tokenizer(base), SHORT)
    sets = dataset(encoder, rows, 0), dataset(encoder, 32, 1)
    return fine_tune(job(base, params), *sets, work, listener or SilentListener())


@pytest.fixture(scope="module", params=["bert", "gpt2"])
def base(request: pytest.FixtureRequest) -> Path:
    return request.getfixturevalue(request.param)


@pytest.fixture(scope="module")
def classifier(base: Path, tmp_path_factory: pytest.TempPathFactory) -> modeling.Classifier:
    folder = tmp_path_factory.mktemp("trained")
    modeling.save(trained(base, folder / "work").classifier, folder / "model")
    return modeling.load(folder / "model")


def test_encoding_is_the_tokenizers_own_where_nothing_is_cut(base: Path) -> None:
    tokenizer = modeling.load_tokenizer(base)
    text = "The plot was dull."
    assert Encoder(tokenizer, SHORT).encode([text]).input_ids == [tokenizer(text)["input_ids"]]
    assert tokenizer.pad_token is not None
    assert Encoder(tokenizer, SHORT).encode([]).input_ids == []


@pytest.mark.parametrize("truncation", ["head", "head_tail"])
def test_truncation(base: Path, truncation: str) -> None:
    tokenizer = modeling.load_tokenizer(base)
    text = " ".join(t for t, _ in reviews(40))
    whole = tokenizer(text, verbose=False)["input_ids"]
    params = TokenizationParams.model_validate({"max_length_tokens": 32, "truncation": truncation})
    encoded = Encoder(tokenizer, params).encode([text, "short"])
    cut = encoded.input_ids[0]
    assert encoded.truncated == 1 and len(cut) == 32
    special = len(tokenizer("")["input_ids"])
    room = 32 - special
    start = special // 2
    assert cut[: start + room // 4] == whole[: start + room // 4]
    tail = whole[-24:] if truncation == "head_tail" else whole[: len(cut) - special // 2][-1:]
    assert (
        cut[-(room - room // 4) :][-3:] == tail[-3:]
        if truncation == "head_tail"
        else cut[-1 - start] == tail[0]
    )


@settings(
    max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None
)
@given(lengths=st.lists(st.integers(1, 60), max_size=24))
def test_an_engine_keeps_order_and_does_not_mind_its_batches(
    classifier: modeling.Classifier, lengths: list[int]
) -> None:
    generator = np.random.default_rng(0)
    rows = [generator.integers(5, 90, n).tolist() for n in lengths]
    together = TorchEngine(classifier, "cpu", "fp32", batch_tokens=128).logits(rows)
    alone = TorchEngine(classifier, "cpu", "fp32", batch_tokens=1)
    assert together.shape == (len(rows), 2)
    for row, logits in zip(rows, together, strict=True):
        assert alone.logits([row])[0] == pytest.approx(logits, abs=1e-4)


def test_half_an_emoji_is_scored_like_a_question_mark(classifier: modeling.Classifier) -> None:
    halves = classifier.encoder.encode(["cut \ud83d off", "cut ? off"]).input_ids
    assert halves[0] == halves[1]


def test_softmax_sums_to_one() -> None:
    p = softmax(np.array([[1000.0, -1000.0], [0.0, 0.0]], dtype=np.float32))
    assert p.tolist() == [[1.0, 0.0], [0.5, 0.5]]


def test_scoring_keeps_order_and_passes_problems_through(classifier: modeling.Classifier) -> None:
    texts = [t for t, _ in reviews(20, seed=2)]
    given_reviews = [
        Review(i, str(i), t, "empty text" if i % 7 == 3 else "") for i, t in enumerate(texts)
    ]
    engine = TorchEngine(classifier, "cpu", "fp32")
    results = list(score([given_reviews], classifier.encoder, engine, window_reviews=6))
    assert [r.review.row if isinstance(r, Prediction) else r.row for r in results] == list(
        range(20)
    )
    assert [isinstance(r, Review) for r in results] == [i % 7 == 3 for i in range(20)]
    for result in results:
        if isinstance(result, Prediction):
            assert result.score == max(result.probabilities) and sum(
                result.probabilities
            ) == pytest.approx(1)
            assert result.label == LABELS[int(np.argmax(result.probabilities))]


class CountingEngine:
    """Keeps the rows it was given; the longer a row, the more positive."""

    label_names = LABELS

    def __init__(self) -> None:
        self.seen: list[list[int]] = []

    def logits(self, input_ids: Sequence[Sequence[int]]) -> NDArray[np.float32]:
        self.seen += [list(row) for row in input_ids]
        return np.array([[0.0, len(row) / 10] for row in input_ids], dtype=np.float32)


def test_texts_that_come_again_are_scored_once(base: Path) -> None:
    """Within a window, and each is told what it would be told alone."""
    encoder = Encoder(modeling.load_tokenizer(base), SHORT)
    texts = ["Dull.", "The cast was superb.", "Dull.", "Dull.", "", "The cast was superb.", "Fine."]
    items = [Review(n, str(n), t, "" if t else "empty text") for n, t in enumerate(texts)]
    engine = CountingEngine()
    found = list(score([[*items, End()]], encoder, engine, window_reviews=100))
    assert engine.seen == encoder.encode([texts[0], texts[1], texts[6]]).input_ids
    assert found[4] is items[4] and isinstance(found[-1], End)
    told = {i: p for i, p in enumerate(found) if isinstance(p, Prediction)}
    assert [p.review.row for p in told.values()] == [0, 1, 2, 3, 5, 6]
    for p in told.values():
        (alone,) = score([[p.review]], encoder, CountingEngine(), window_reviews=1)
        assert alone == p


def test_scoring_takes_reviews_lazily(classifier: modeling.Classifier) -> None:
    taken = 0

    def endless():
        nonlocal taken
        while True:
            taken += 1
            yield Review(taken, str(taken), "The cast was superb.")

    results = score(
        [endless()], classifier.encoder, TorchEngine(classifier, "cpu", "fp32"), window_reviews=8
    )
    next(results)
    results.close()
    assert (
        taken <= 8 * 5
    )  # the one in use, two that wait, one that is being put there, one that is made


@pytest.mark.parametrize(
    ("values", "problem"),
    [
        ({"text": " "}, "empty text"),
        ({}, "no 'text'"),
        ({"text": 5}, "'text' is not a text but int"),
        ({"text": "A"}, ""),
    ],
)
def test_rows_become_reviews_or_rejects(values: dict[str, object], problem: str) -> None:
    review = to_review(Row(7, values), Columns())
    assert (review.problem, review.id) == (problem, "7")


def test_the_saved_folder_is_a_plain_one(classifier: modeling.Classifier, tmp_path: Path) -> None:
    """Any transformers tool loads it, prints our labels, and agrees; there is not one pickle in it."""
    modeling.save(classifier, tmp_path)
    assert not [p for p in tmp_path.rglob("*") if p.suffix in (".bin", ".pt", ".pkl")]
    text = "The ending was brilliant and the pace was charming."
    (theirs,) = pipeline("text-classification", model=str(tmp_path), device="cpu")(text)
    (ours,) = score(
        [[Review(1, "1", text)]], classifier.encoder, TorchEngine(classifier, "cpu", "fp32"), 8
    )
    assert isinstance(ours, Prediction)
    assert (theirs["label"], theirs["score"]) == (ours.label, pytest.approx(ours.score, abs=1e-5))


def test_it_learns(base: Path, tmp_path: Path) -> None:
    done = trained(base, tmp_path, rows=256, epochs=4)
    assert done.validation["accuracy"] >= 0.9
    assert done.classifier.model.config.id2label == {0: "NEGATIVE", 1: "POSITIVE"}


def test_the_same_seed_gives_the_same_weights(bert: Path, tmp_path: Path) -> None:
    first, second, other = (
        trained(bert, tmp_path / str(i), seed=s) for i, s in enumerate([1, 1, 2])
    )
    weights = [t.classifier.model.state_dict() for t in (first, second, other)]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    assert not all(torch.equal(weights[0][name], weights[2][name]) for name in weights[0])


def test_the_loss_curve_is_the_one_it_was(bert: Path, tmp_path: Path) -> None:
    """Guards the training loop: a changed sampler, schedule or loss shows here. Regenerate it knowingly."""
    heard = Losses()
    done = trained(bert, tmp_path, rows=256, listener=heard, epochs=4, seed=7)
    assert done.facts["steps"] == 64
    assert np.mean(heard.train) == pytest.approx(PINNED_TRAIN_LOSS, abs=0.02)
    assert done.facts["final_train_loss"] == pytest.approx(heard.train[-1], abs=1e-4)
    assert done.validation["loss"] == pytest.approx(PINNED_VALIDATION_LOSS, abs=0.005)


def test_the_final_loss_is_that_of_the_last_steps_however_few(bert: Path, tmp_path: Path) -> None:
    heard = Losses()
    done = trained(bert, tmp_path, rows=48, listener=heard, epochs=2)
    assert done.facts["steps"] == 6 and len(heard.train) == 2  # an epoch each
    assert done.facts["final_train_loss"] == pytest.approx(heard.train[-1]) != heard.train[0]


PINNED_TRAIN_LOSS = 0.324
PINNED_VALIDATION_LOSS = 0.0133


def test_frozen_layers_stay_as_they_were(base: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    before = modeling.load_for_training(base, LABELS, SHORT, 0.0).model
    after = trained(base, tmp_path, frozen_layers=1).classifier.model
    kept, moved = set[str](), set[str]()
    for (name, old), new in zip(before.named_parameters(), after.parameters(), strict=True):
        (kept if torch.equal(old, new) else moved).add(name)
    assert any("layer.0." in n or "h.0." in n for n in kept)
    assert not any("layer.1." in n or "h.1." in n for n in kept if "key.bias" not in n)
    with pytest.raises(SettingsError, match="2 layers"):
        modeling.freeze(copy.deepcopy(before), 3)


@pytest.mark.parametrize("losses", [(0.5, 0.3, 0.4, 0.31), (0.5, 0.3, 0.3, 0.3)])
def test_early_stopping_ends_a_plateau_and_a_decline(losses: tuple[float, ...]) -> None:
    callback = EarlyStopping(patience=2)
    arguments, state = TrainingArguments(output_dir="unused"), TrainerState()
    stops: list[bool] = []
    for loss in losses:
        control = TrainerControl()
        state.log_history.append({"eval_loss": loss, "eval_accuracy": 1.0})
        callback.on_evaluate(arguments, state, control)
        stops.append(control.should_training_stop)
    assert stops == [False, False, False, True]


def test_early_stopping_keeps_the_best_epoch(bert: Path, tmp_path: Path) -> None:
    """What is learned here is the opposite of what is validated, so that each epoch is worse than the one before."""
    encoder = Encoder(modeling.load_tokenizer(bert), SHORT)
    train = dataset(encoder, 128, 0)
    opposite = train.map(lambda row: {"labels": 1 - row["labels"]})
    params = TrainingParams(
        learning_rate=5e-3,
        epochs=30,
        device="cpu",
        early_stopping_patience=1,
        best_epoch_by="loss",
    )
    done = fine_tune(job(bert, params), train, opposite, tmp_path, SilentListener())
    assert done.facts["best_epoch"] == done.facts["epochs_run"] - 1 < 29


def test_the_last_epoch_is_kept_where_asked_for(bert: Path, tmp_path: Path) -> None:
    done = trained(
        bert,
        tmp_path,
        epochs=5,
        early_stopping_patience=1,
        learning_rate=1e-2,
        best_epoch_by="last",
    )
    assert done.facts["best_epoch"] == done.facts["epochs_run"] == 5.0
    assert not list(tmp_path.rglob("checkpoint-*"))


def _epoch(right: int, margin: float = 3.0) -> EvalPrediction:
    """100 validation reviews of class 0, so many of them answered rightly."""
    logits = np.array([[margin, 0.0]] * right + [[0.0, margin]] * (100 - right))
    return EvalPrediction(logits, np.zeros(100, dtype=np.int64))


@pytest.mark.parametrize(
    ("epochs", "kept"),
    [
        ((70, 80, 90), 2),
        ((80, 90, 88), 2),  # within a standard error, which is 3
        ((80, 90, 86), 1),
        ((90, 86, 88), 2),
        ((90, 80, 86), 0),
    ],
)
def test_the_latest_epoch_that_is_not_clearly_worse_is_kept(
    epochs: tuple[int, ...], kept: int
) -> None:
    merit = Merit("accuracy")
    merits = [merit(_epoch(right))["merit"] for right in epochs]
    assert int(np.argmax(merits)) == kept


def test_the_epoch_of_least_loss_is_kept_where_asked_for() -> None:
    merit = Merit("loss")
    sure, hesitant = merit(_epoch(90, margin=9.0)), merit(_epoch(88, margin=1.0))
    assert sure["accuracy"] == 0.9 and hesitant["merit"] > sure["merit"]


def test_training_that_diverges_says_so(bert: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(bert, broken)
    weights = load_file(broken / "model.safetensors")
    name = next(n for n in weights if "LayerNorm.weight" in n)
    weights[name] = torch.full_like(weights[name], torch.inf)
    save_file(weights, broken / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(NightshiftError, match="not a number"):
        trained(broken, tmp_path / "work", epochs=1)


def test_attention_dropout_is_off(bert: Path) -> None:
    assert (
        modeling.load_for_training(
            bert, LABELS, SHORT, 0.0
        ).model.config.attention_probs_dropout_prob
        == 0.0
    )


def test_a_folder_of_pickles_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "pytorch_model.bin").write_bytes(b"")
    with pytest.raises(ModelError, match=r"pickles \(pytorch_model.bin\).*save_pretrained"):
        modeling.check_base_folder(tmp_path)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (
            "model.safetensors",
            b"version https://git-lfs.github.com/spec/v1",
            "weights cannot be read",
        ),
        ("config.json", b"{", r"config\.json is of no use"),
        ("config.json", b'{"model_type": "of-next-year"}', r"config\.json is of no use"),
    ],
)
def test_a_damaged_model_is_a_sentence(
    bert: Path, tmp_path: Path, name: str, content: bytes, message: str
) -> None:
    folder = tmp_path / "damaged"
    shutil.copytree(bert, folder)
    (folder / name).write_bytes(content)

    def check() -> None:
        modeling.check_base_folder(folder)
        modeling.check_length(folder, SHORT)

    with pytest.raises(ModelError, match=message):
        check()


def test_a_length_the_model_does_not_take(bert: Path) -> None:
    with pytest.raises(SettingsError, match="at most 128 tokens, and 256 are asked for"):
        modeling.check_length(bert, TokenizationParams(max_length_tokens=256))


def test_not_one_of_our_folders(bert: Path) -> None:
    with pytest.raises(ModelError, match="Not a classifier that Nightshift saved"):
        modeling.load(bert)


def test_precision_follows_the_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    cpu = torch.device("cpu")
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": True})
    assert modeling.resolve_precision("auto", cpu) == "bf16"
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx2": True})
    assert modeling.resolve_precision("auto", cpu) == "fp32"


def test_the_baseline_learns_and_is_deterministic() -> None:
    texts, labels = zip(*reviews(200), strict=True)
    ids = np.array([LABELS.index(label) for label in labels])
    unseen, truth = zip(*reviews(50, seed=3), strict=True)
    first, second = (baseline.predict(texts, ids, unseen, classes=3) for _ in range(2))
    assert (first == second).all() and (first[:, 2] == 0).all()
    assert np.mean([LABELS[i] == t for i, t in zip(first.argmax(axis=1), truth, strict=True)]) > 0.9


def test_pictures_are_drawn_and_do_not_change(tmp_path: Path) -> None:
    labels = np.array([0, 1, 1, 0])
    p = np.array([[0.9, 0.1], [0.2, 0.8], [0.6, 0.4], [0.7, 0.3]])
    drawn = plots.draw_all(tmp_path, labels, p, LABELS, "model", 15)
    assert [d.stem for d in drawn] == [
        "confusion",
        "roc",
        "precision_recall",
        "reliability",
        "scores",
    ]
    contents = [d.read_bytes() for d in drawn]
    assert contents == [
        d.read_bytes() for d in plots.draw_all(tmp_path, labels, p, LABELS, "model", 15)
    ]
