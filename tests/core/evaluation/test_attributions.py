"""Integrated gradients: completeness, the words that were planted, and the text as it was, for both families."""

import copy
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from datasets import Dataset
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tasks.core.data.params import TokenizationParams
from tasks.core.data.texts import encodable, without_markup
from tasks.core.data.tokens.tokenization import Encoder
from tasks.core.engines.torch_engine import TorchEngine
from tasks.core.errors import ModelError
from tasks.core.evaluation.attributions import GAP, Attribution, attribute
from tasks.core.models import classifier as modeling
from tasks.core.models import folders
from tasks.core.training.fine_tuning import fine_tune
from tasks.core.training.job import TrainingJob
from tasks.core.training.params import TrainingParams
from tasks.core.training.protocols import SilentListener
from tests.reviews import GOOD, POOR, reviews

LABELS = ["NEGATIVE", "POSITIVE"]
SHORT = TokenizationParams(max_length_tokens=48)


@pytest.fixture(scope="module", params=["bert", "gpt2"])
def classifier(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> modeling.Classifier:
    """A tiny model that has learned which words praise and which blame."""
    base: Path = request.getfixturevalue(request.param)
    encoder = Encoder(folders.load_tokenizer(base), SHORT)

    def dataset(rows: int, seed: int) -> Dataset:
        texts, labels = zip(*reviews(rows, seed), strict=True)
        ids = encoder.encode(texts).input_ids
        return Dataset.from_dict(
            {
                "input_ids": ids,
                "length": [len(i) for i in ids],
                "labels": [LABELS.index(label) for label in labels],
            }
        )

    params = TrainingParams(learning_rate=5e-3, epochs=4, device="cpu")
    work = tmp_path_factory.mktemp("attributed")
    job = TrainingJob(base_folder=base, label_names=LABELS, tokenization=SHORT, params=params)
    data = dataset(256, 0), dataset(32, 1)
    done = fine_tune(job, *data, work, SilentListener())
    modeling.save(done.classifier, work / "model")
    return modeling.load(work / "model")


def moved(attribution: Attribution) -> float:
    return attribution.log_odds - attribution.baseline_log_odds


def strongest(attribution: Attribution) -> str:
    return attribution.tokens[int(np.argmax(attribution.scores))].strip()


def test_scores_add_up_to_what_the_words_moved(bert: Path, gpt2: Path) -> None:
    """On smooth models: with the random weights they are made with."""
    texts = [text for text, _ in reviews(6, seed=5)]
    for base in (bert, gpt2):
        torch.manual_seed(0)
        fresh = modeling.load_for_training(base, LABELS, SHORT, 0.0)
        for target in (0, 1):
            for found in attribute(fresh, texts, [target] * len(texts), steps=50):
                assert abs(found.convergence_delta) < 0.02 * abs(moved(found)) + 1e-4
                assert sum(found.scores) == pytest.approx(moved(found) + found.convergence_delta)
                assert found.target == LABELS[target]


def test_steps_are_doubled_until_the_sum_is_right(bert: Path, gpt2: Path) -> None:
    """With heads so steep that one point on the path is not enough."""
    texts = [text for text, _ in reviews(6, seed=5)]
    for base in (bert, gpt2):
        torch.manual_seed(0)
        steep = modeling.load_for_training(base, LABELS, SHORT, 0.0)
        with torch.no_grad():
            for parameter in next(reversed(list(steep.model.children()))).parameters():
                parameter.mul_(10_000)

        def close(most_steps: int, model: modeling.Classifier = steep) -> int:
            found = attribute(model, texts, [1] * len(texts), 1, most_steps)
            return sum(abs(f.convergence_delta) <= 0.05 * max(1.0, abs(moved(f))) for f in found)

        assert close(1) < close(64) == len(texts)


def test_log_odds_are_those_that_scoring_gives(classifier: modeling.Classifier) -> None:
    """Same pooling, positions and special tokens: padded in a batch there, alone and through a hook here."""
    texts = [text for text, _ in reviews(9, seed=6)]
    logits = TorchEngine(classifier, "cpu", "fp32").logits(
        classifier.encoder.encode(texts).input_ids
    )
    found = attribute(classifier, texts, [1] * len(texts), steps=2)
    assert [f.log_odds for f in found] == pytest.approx((logits[:, 1] - logits[:, 0]), abs=1e-4)


def test_the_two_labels_of_two_pull_in_opposite_ways(classifier: modeling.Classifier) -> None:
    text = "The plot was dull and the cast was superb."
    down, up = attribute(classifier, [text, text], [0, 1])
    assert down.tokens == up.tokens
    assert down.scores == pytest.approx([-score for score in up.scores], rel=1e-2, abs=1e-3)


def test_the_word_that_decides_is_found(classifier: modeling.Classifier) -> None:
    """Where the words change the answer: the empty text has one too, and there is nothing to explain where it stays."""
    words = POOR + GOOD
    texts = [f"Evening 5-7: the plot was {word}." for word in words]
    found = attribute(classifier, texts, [0] * len(POOR) + [1] * len(GOOD))
    changed = [(f, word) for f, word in zip(found, words, strict=True) if moved(f) > 2.0]
    assert len(changed) >= 6
    assert [strongest(f) for f, _ in changed] == [word for _, word in changed]


@pytest.mark.parametrize("truncation", ["head_tail", "head"])
def test_a_long_review_is_shown_as_it_was_cut(
    classifier: modeling.Classifier, truncation: str
) -> None:
    params = TokenizationParams.model_validate({"max_length_tokens": 32, "truncation": truncation})
    cut = modeling.Classifier(
        classifier.model, Encoder(classifier.encoder.tokenizer, params), LABELS
    )
    text = " ".join(text for text, _ in reviews(30, seed=2))
    (found,) = attribute(cut, [text], [1], steps=2)
    assert found.tokens.count(GAP) == 1
    shown = "".join(found.tokens)
    head, tail = shown.split(GAP)
    assert head and text.startswith(head) and text.endswith(tail)
    assert (tail == "") == (truncation == "head")
    assert len(found.tokens) < 40 and found.scores[found.tokens.index(GAP)] == 0.0


ODD = [
    "It's <br /><br />100% caf\u00e9 &amp; cr\u00e8me!",
    "Emoji \U0001f600\U0001f469\u200d\U0001f52c and half of one \ud83d.",
    "\u4e00\u90e8\u5f88\u597d\u7684\u7535\u5f71 - \u0444\u0438\u043b\u044c\u043c",
    "  spaces\t\tand\nlines  ",
    "e\u0301 combining, \ufb01 ligature, \u0130 dotted",
]


@settings(
    max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None
)
# A character has up to four bytes, each of which may be a token: eleven fit into 48 tokens, with two special ones.
@given(text=st.text(min_size=1, max_size=11) | st.sampled_from(ODD))
def test_words_joined_are_the_text(classifier: modeling.Classifier, text: str) -> None:
    prepared = without_markup(encodable(text))
    if not prepared.strip():
        return
    (found,) = attribute(classifier, [text], [0], steps=1)
    assert "".join(found.tokens) == prepared
    assert len(found.tokens) == len(found.scores) and all(found.tokens)


def test_pieces_of_a_word_are_put_together(classifier: modeling.Classifier) -> None:
    text = "Unbelievably tedious, isn't it? 9/10 \u5f88\u597d"
    (found,) = attribute(classifier, [text], [0], steps=1)
    assert [t.strip() for t in found.tokens if re.search(r"[a-z]", t)] == [
        "Unbelievably",
        "tedious",
        "isn't",
        "it",
    ]
    assert [t.strip() for t in found.tokens if not t.isascii()] == ["\u5f88", "\u597d"]


def test_the_model_is_left_as_it_was(classifier: modeling.Classifier) -> None:
    model = copy.deepcopy(classifier.model).to(torch.bfloat16)  # type: ignore[arg-type]
    half = modeling.Classifier(model.train(), classifier.encoder, LABELS)
    before = copy.deepcopy(model.state_dict())
    first = attribute(half, ["The cast was superb."], [1])
    assert first == attribute(half, ["The cast was superb."], [1])
    assert model.training and model.dtype == torch.bfloat16
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert not model.get_input_embeddings()._forward_hooks


def test_how_much_is_computed_at_once_changes_nothing(classifier: modeling.Classifier) -> None:
    text = ["The plot was dull and the cast was superb."]
    (one,) = attribute(classifier, text, [1], batch_steps=1)
    (all_,) = attribute(classifier, text, [1], batch_steps=64)
    assert one.scores == pytest.approx(all_.scores, abs=1e-4)


def test_several_classes_are_one_against_the_rest(bert: Path) -> None:
    torch.manual_seed(3)
    three = modeling.load_for_training(bert, ["BAD", "FAIR", "GOOD"], SHORT, 0.0)
    (found,) = attribute(three, ["The plot was dull."], [1], steps=40)
    (ids,) = three.encoder.encode(["The plot was dull."]).input_ids
    with torch.no_grad():
        p = torch.softmax(three.model.eval()(input_ids=torch.tensor([ids])).logits[0], dim=0)
    assert found.log_odds == pytest.approx(float(torch.log(p[1] / (1 - p[1]))), abs=1e-5)
    assert abs(found.convergence_delta) < 0.02


def test_a_model_that_embeds_twice_is_refused(bert: Path) -> None:
    double = modeling.load_for_training(bert, LABELS, SHORT, 0.0)
    embed = double.model.get_input_embeddings()
    forward = double.model.forward

    def twice(**given: torch.Tensor) -> object:
        embed(given["input_ids"])
        return forward(**given)

    double.model.forward = twice  # type: ignore[method-assign]
    with pytest.raises(ModelError, match="2 times"):
        attribute(double, ["The plot was dull."], [1])
