"""Tokenization, engines and scoring on tiny real models of both families."""

import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from transformers import (
    pipeline,
)

from tasks.core.data.params import TokenizationParams
from tasks.core.data.tokens.tokenization import Encoder
from tasks.core.engines.protocol import softmax
from tasks.core.engines.torch_engine import TorchEngine
from tasks.core.errors import ModelError
from tasks.core.evaluation.plots import figures
from tasks.core.formats.base import Row
from tasks.core.models import classifier as modeling
from tasks.core.models import devices, folders
from tasks.core.models.linear import tfidf
from tasks.core.scoring.plan import Columns
from tasks.core.scoring.predict import Broken, End, Prediction, Review, score, to_review
from tests.core.training.tiny_trainings import LABELS, SHORT, trained
from tests.reviews import reviews


@pytest.fixture(scope="module", params=["bert", "gpt2"])
def base(request: pytest.FixtureRequest) -> Path:
    return request.getfixturevalue(request.param)


@pytest.fixture(scope="module")
def classifier(base: Path, tmp_path_factory: pytest.TempPathFactory) -> modeling.Classifier:
    folder = tmp_path_factory.mktemp("trained")
    modeling.save(trained(base, folder / "work").classifier, folder / "model")
    return modeling.load(folder / "model")


def test_encoding_is_the_tokenizers_own_where_nothing_is_cut(base: Path) -> None:
    tokenizer = folders.load_tokenizer(base)
    text = "The plot was dull."
    assert Encoder(tokenizer, SHORT).encode([text]).input_ids == [tokenizer(text)["input_ids"]]
    assert tokenizer.pad_token is not None
    assert Encoder(tokenizer, SHORT).encode([]).input_ids == []


@pytest.mark.parametrize("truncation", ["head", "head_tail"])
def test_truncation(base: Path, truncation: str) -> None:
    tokenizer = folders.load_tokenizer(base)
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
    encoder = Encoder(folders.load_tokenizer(base), SHORT)
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


def test_an_answer_that_is_no_number_is_no_prediction(base: Path) -> None:
    """The largest of such probabilities would be the first label."""

    class Overflowing(CountingEngine):
        def logits(self, input_ids: Sequence[Sequence[int]]) -> NDArray[np.float32]:
            found = super().logits(input_ids)
            found[found > 2] = np.nan
            return found

    encoder = Encoder(folders.load_tokenizer(base), SHORT)
    items = [Review(1, "1", "Dull."), Review(2, "2", "The cast was superb, and it was long." * 3)]
    fine, broken = score([items], encoder, Overflowing(), window_reviews=8)
    assert isinstance(fine, Prediction) and isinstance(broken, Broken)
    assert "NaN or infinite" in str(broken.error)


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
        ({"text": 5}, "'text' is not a string but int"),
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
        folders.check_base_folder(tmp_path)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (
            "model.safetensors",
            b"version https://git-lfs.github.com/spec/v1",
            "weights cannot be read",
        ),
        ("config.json", b"{", r"cannot read config\.json"),
        ("config.json", b'{"model_type": "of-next-year"}', r"cannot read config\.json"),
    ],
)
def test_a_damaged_model_is_a_sentence(
    bert: Path, tmp_path: Path, name: str, content: bytes, message: str
) -> None:
    folder = tmp_path / "damaged"
    shutil.copytree(bert, folder)
    (folder / name).write_bytes(content)

    def check() -> None:
        folders.check_base_folder(folder)
        modeling.load_for_training(folder, LABELS, SHORT, 0.0)

    with pytest.raises(ModelError, match=message):
        check()


def test_not_one_of_our_folders(bert: Path) -> None:
    with pytest.raises(ModelError, match="Not a classifier that Nightshift saved"):
        modeling.load(bert)


def test_precision_follows_the_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    cpu = torch.device("cpu")
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": True})
    assert devices.resolve_precision("auto", cpu) == "bf16"
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx2": True})
    assert devices.resolve_precision("auto", cpu) == "fp32"


def test_the_baseline_learns_and_is_deterministic() -> None:
    texts, labels = zip(*reviews(200), strict=True)
    ids = np.array([LABELS.index(label) for label in labels])
    unseen, truth = zip(*reviews(50, seed=3), strict=True)
    first, second = (tfidf.predict(texts, ids, unseen, classes=3) for _ in range(2))
    assert (first == second).all() and (first[:, 2] == 0).all()
    assert np.mean([LABELS[i] == t for i, t in zip(first.argmax(axis=1), truth, strict=True)]) > 0.9


def test_pictures_are_drawn_and_do_not_change(tmp_path: Path) -> None:
    labels = np.array([0, 1, 1, 0])
    p = np.array([[0.9, 0.1], [0.2, 0.8], [0.6, 0.4], [0.7, 0.3]])
    drawn = figures.draw_all(tmp_path, labels, p, LABELS, "model", 15)
    assert [d.stem for d in drawn] == [
        "confusion",
        "roc",
        "precision_recall",
        "reliability",
        "scores",
    ]
    contents = [d.read_bytes() for d in drawn]
    assert contents == [
        d.read_bytes() for d in figures.draw_all(tmp_path, labels, p, LABELS, "model", 15)
    ]
