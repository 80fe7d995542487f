"""Which reviews are trained on when, and how much each counts."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tasks.core.data.tokens.tokenization import Encoder
from tasks.core.errors import SettingsError
from tasks.core.models import folders
from tasks.core.training.batches.schedule import PAD_TO, TrainingBatches
from tasks.core.training.params import TrainingParams
from tests.core.training.tiny_trainings import SHORT, dataset, trained

LENGTHS = np.random.default_rng(0).integers(4, 60, 203).tolist()


@given(
    lengths=st.lists(st.integers(1, 70), min_size=3, max_size=80),
    by=st.sampled_from(["reviews", "tokens"]),
    size=st.integers(1, 9),
    accumulated=st.integers(1, 3),
    processes=st.integers(1, 3),
)
def test_each_review_comes_once_an_epoch_and_every_process_has_as_many_batches(
    lengths: list[int], by: str, size: int, accumulated: int, processes: int
) -> None:
    params = TrainingParams.model_validate(
        {
            "batch_by": by,
            "batch_size": size,
            "batch_tokens": 40,
            "gradient_accumulation_steps": accumulated,
        }
    )
    each = [TrainingBatches(lengths, params, p, processes) for p in range(processes)]
    for epoch in range(3):
        shares: list[list[list[int]]] = []
        for batches in each:
            batches.set_epoch(epoch)
            shares.append(list(batches))
        assert {len(share) for share in shares} == {len(each[0])}
        assert all(batch for share in shares for batch in share)
        seen = [row for share in shares for batch in share for row in batch]
        assert sorted(seen) == list(range(len(lengths)))
        assert math.ceil(len(each[0]) / accumulated) == each[0].steps_an_epoch


def test_batches_of_tokens_stay_within_their_budget_and_pad_little() -> None:
    params = TrainingParams(batch_by="tokens", batch_tokens=256)
    (batches,) = zip(*TrainingBatches(LENGTHS, params).steps(1), strict=True)
    sizes = [len(b) * math.ceil(max(LENGTHS[i] for i in b) / PAD_TO) * PAD_TO for b in batches]
    assert max(sizes) <= 256
    assert sum(LENGTHS) / sum(sizes) > 0.7
    assert max(map(len, batches)) > 2 * min(map(len, batches))
    assert max(LENGTHS) in [LENGTHS[i] for i in batches[0]]


@pytest.mark.parametrize("by", ["reviews", "tokens"])
def test_an_epoch_is_decided_by_seed_and_number(by: str) -> None:
    def steps(seed: int, epoch: int) -> list[list[list[int]]]:
        params = TrainingParams.model_validate({"batch_by": by, "batch_tokens": 200, "seed": seed})
        return TrainingBatches(LENGTHS, params).steps(epoch)

    torch.manual_seed(1)
    first = steps(3, 1)
    torch.manual_seed(2)
    assert steps(3, 1) == first != steps(3, 2)
    assert steps(4, 1) != first


@pytest.mark.parametrize("by", ["reviews", "tokens"])
def test_a_step_holds_the_same_reviews_however_many_processes_share_it(by: str) -> None:
    def steps(processes: int, accumulated: int) -> list[set[int]]:
        params = TrainingParams.model_validate(
            {
                "batch_by": by,
                "batch_size": 8 * 4 // processes // accumulated,
                "batch_tokens": 256,
                "gradient_accumulation_steps": accumulated,
            }
        )
        made = TrainingBatches(LENGTHS, params, 0, processes).steps(0)
        return [{row for batch in step for row in batch} for step in made]

    if by == "reviews":
        assert steps(1, 1) == steps(2, 1) == steps(1, 2) == steps(2, 2)
    else:
        assert steps(1, 2) == steps(2, 1)


def test_fewer_reviews_than_processes() -> None:
    with pytest.raises(SettingsError, match="2 reviews cannot be shared by 3 processes"):
        TrainingBatches([5, 5], TrainingParams(), 0, 3)


@pytest.mark.parametrize("by", ["reviews", "tokens"])
def test_accumulated_batches_give_the_gradient_of_one(by: str, bert: Path, tmp_path: Path) -> None:
    """The weights after a training that sums up batches are those of one that does not."""
    given: dict[str, object] = {"batch_by": by, "hidden_dropout": 0.0, "precision": "fp32"}
    once = trained(bert, tmp_path / "a", **given, batch_size=32, batch_tokens=100_000)
    if by == "reviews":
        more = trained(bert, tmp_path / "b", **given, batch_size=8, gradient_accumulation_steps=4)
    else:  # one step an epoch, and batches of quite different numbers of reviews
        more = trained(
            bert, tmp_path / "b", **given, batch_tokens=200, gradient_accumulation_steps=256
        )
    assert once.facts["steps"] == more.facts["steps"] == (8 if by == "reviews" else 2)
    ours, theirs = (t.classifier.model.state_dict() for t in (once, more))
    assert all(torch.allclose(ours[n], theirs[n], atol=2e-4) for n in ours if "key.bias" not in n)
    assert once.facts["final_train_loss"] == pytest.approx(more.facts["final_train_loss"], abs=1e-4)


def test_batches_of_tokens_learn(bert: Path, tmp_path: Path) -> None:
    done = trained(bert, tmp_path, rows=256, epochs=4, batch_by="tokens", batch_tokens=400)
    assert done.validation["accuracy"] >= 0.9
    encoder = Encoder(folders.load_tokenizer(bert), SHORT)
    lengths = dataset(encoder, 256, 0)["length"]
    params = TrainingParams(epochs=4, batch_by="tokens", batch_tokens=400)
    assert done.facts["steps"] == 4 * TrainingBatches(lengths, params).steps_an_epoch
