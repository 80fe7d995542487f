"""Further pre-training on tiny models: what is learned, what is kept, what is masked, which reviews are left out."""

import json
import math
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file
from transformers import AutoModel, AutoModelForCausalLM, AutoModelForMaskedLM

from tasks.connectors.storage.artifacts import PreparedStore
from tasks.connectors.storage.checkpoints import CheckpointStore
from tasks.connectors.storage.object_store import ObjectStore
from tasks.core.data.params import TokenizationParams
from tasks.core.data.texts import matching_form
from tasks.core.data.tokens.tokenization import Encoder
from tasks.core.errors import MissingDataError, ModelError, NightshiftError
from tasks.core.models import classifier
from tasks.core.models import folders as model_folders
from tasks.core.training.pretraining.language_models import collator, objective_of
from tasks.core.training.pretraining.loop import PretrainingJob, pretrain
from tasks.core.training.pretraining.masked_lm_head import at_masked_positions
from tasks.core.training.pretraining.params import PretrainingParams
from tasks.core.training.pretraining.rows import (
    DOUBLE,
    OVER_LIMIT,
    TEST,
    UNUSABLE,
    VALIDATION,
    gather,
)
from tasks.core.training.protocols import SilentListener
from tests.conftest import BUCKET
from tests.core.models.tiny_classifiers import ENCODERS, saved, tiny_classifier
from tests.core.training.tiny_trainings import EveryStep, Killed, KilledAt
from tests.reviews import reviews

SHORT = TokenizationParams(max_length_tokens=32)
CPU = torch.device("cpu")


@pytest.fixture(scope="module", params=["bert", "gpt2"])
def base(request: pytest.FixtureRequest) -> Path:
    return request.getfixturevalue(request.param)


def tokens(base: Path, texts: Iterable[str]) -> Dataset:
    ids = Encoder(model_folders.load_tokenizer(base), SHORT).pieces(list(texts))
    return Dataset.from_dict({"input_ids": ids, "length": [len(i) for i in ids]})


def pretrained(
    base: Path,
    folder: Path,
    keeper: CheckpointStore | None = None,
    listener: SilentListener | None = None,
    **given: object,
) -> dict[str, Any]:
    """80 pieces, 5 steps an epoch, 3 epochs."""
    params = PretrainingParams.model_validate({"epochs": 3, "learning_rate": 5e-3} | given)
    texts = [text for text, _ in reviews(160)]
    sets = tokens(base, texts[::2]), tokens(base, texts[1::8])
    work = folder.with_name(f"{folder.name}-work")
    job = PretrainingJob(base, "tiny", params, CPU, "fp32")
    return pretrain(job, *sets, work, folder, listener or SilentListener(), keeper)


def test_it_learns_the_reviews_language_and_is_a_base_model_like_any_other(
    base: Path, tmp_path: Path
) -> None:
    facts = pretrained(base, tmp_path / "made")
    losses = facts["held_out_losses"]
    assert len(losses) == 4 and losses[-1] < losses[0] - 1 and losses[0] < math.log(700)
    assert facts["objective"] == ("masked" if base.name.startswith("bert") else "causal")
    model_folders.check_base_folder(tmp_path / "made")
    names = sorted(path.name for path in base.iterdir())
    assert set(names) <= {path.name for path in (tmp_path / "made").iterdir()}
    classifier.load_for_training(tmp_path / "made", ["no", "yes"], SHORT, 0.0)
    before, after = (AutoModel.from_pretrained(p).state_dict() for p in (base, tmp_path / "made"))
    assert before.keys() == after.keys()
    same = {name for name in before if torch.equal(before[name], after[name])}
    assert all("pooler" in name for name in same)  # which has no part in it
    kept = load_file(tmp_path / "made" / "model.safetensors")
    assert sum("pooler" in name for name in kept) == sum("pooler" in name for name in before)
    configs = [json.loads((p / "config.json").read_text()) for p in (base, tmp_path / "made")]
    assert all(one.pop("architectures") for one in configs) and configs[0] == configs[1]


def test_the_same_seed_gives_the_same_weights(base: Path, tmp_path: Path) -> None:
    for name, seed in (("one", 1), ("same", 1), ("other", 2)):
        pretrained(base, tmp_path / name, epochs=1, seed=seed)
    one, same, other = ((tmp_path / n / "model.safetensors") for n in ("one", "same", "other"))
    assert one.read_bytes() == same.read_bytes() != other.read_bytes()


# Within epochs, and at the last step.
@pytest.mark.parametrize(
    "kill_at",
    [pytest.param(3, marks=pytest.mark.slow), 7, pytest.param(15, marks=pytest.mark.slow)],
)
def test_one_that_was_killed_ends_with_the_same_weights(
    base: Path, kill_at: int, store: ObjectStore, tmp_path: Path
) -> None:
    prepared = PreparedStore(store, BUCKET)
    whole = pretrained(base, tmp_path / "whole")
    digest = f"pretraining-{base.name}-{kill_at}"
    with EveryStep(prepared, digest, tmp_path / "a", 0) as keeper, pytest.raises(Killed):
        pretrained(base, tmp_path / "killed", keeper, KilledAt(kill_at))
    with CheckpointStore(prepared, digest, tmp_path / "b", 0) as keeper:
        newest = keeper.newest()
        assert newest and 0 < newest.step < kill_at
        resumed = pretrained(base, tmp_path / "resumed", keeper)
    ours, theirs = (load_file(tmp_path / n / "model.safetensors") for n in ("resumed", "whole"))
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert resumed["steps"] == whole["steps"]
    assert resumed["held_out_losses"] == whole["held_out_losses"]
    if newest.step < 10:  # that of the last epoch
        assert resumed["final_train_loss"] == whole["final_train_loss"]


def test_a_batch_is_masked_alike_whatever_came_before_and_otherwise_in_the_next_epoch(
    bert: Path,
) -> None:
    tokenizer = model_folders.load_tokenizer(bert)
    rows = [{"input_ids": ids} for ids in tokens(bert, (t for t, _ in reviews(8)))["input_ids"]]
    epoch = 0
    masks = collator(tokenizer, "masked", PretrainingParams(), lambda: epoch)
    first, other, again = (masks(part)["labels"] for part in (rows[:4], rows[4:], rows[:4]))
    assert torch.equal(first, again) and not torch.equal(first != -100, other != -100)
    epoch = 1
    assert not torch.equal(first, masks(rows[:4])["labels"])


def test_a_new_head_is_tied_to_the_embeddings_and_that_is_said(
    bert: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", logger="tasks")
    pretrained(bert, tmp_path / "made", epochs=1)
    assert "tiny has no language head: a new one is tied to its embeddings" in caplog.text


def test_without_a_mask_token_it_is_refused(bert: Path, tmp_path: Path) -> None:
    shutil.copytree(bert, tmp_path, dirs_exist_ok=True)
    settings = json.loads((tmp_path / "tokenizer_config.json").read_text())
    del settings["mask_token"]
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings))
    with pytest.raises(ModelError, match=r"The tokenizer of tiny has no mask token"):
        objective_of(tmp_path, "tiny")


def test_what_can_guess_no_tokens_is_refused(bert: Path, tmp_path: Path) -> None:
    shutil.copytree(bert, tmp_path, dirs_exist_ok=True)
    (tmp_path / "config.json").write_text('{"model_type": "vit"}')
    with pytest.raises(ModelError, match=r"tiny \(vit\) is neither an encoder nor a decoder"):
        objective_of(tmp_path, "tiny")


def test_a_rate_at_which_it_diverges_is_said(gpt2: Path, tmp_path: Path) -> None:
    config = json.loads((gpt2 / "config.json").read_text())
    shutil.copytree(gpt2, tmp_path / "base")
    (tmp_path / "base" / "config.json").write_text(
        json.dumps(config | {"layer_norm_epsilon": float("nan")})
    )
    with pytest.raises(NightshiftError, match=r"diverged .*lower pretraining.learning_rate"):
        pretrained(tmp_path / "base", tmp_path / "made", epochs=1)


@pytest.mark.parametrize("share", [0.15, 0.4])
def test_only_the_share_that_is_asked_for_is_masked(bert: Path, share: float) -> None:
    tokenizer = model_folders.load_tokenizer(bert)
    params = PretrainingParams(mlm_probability=share)
    rows = [{"input_ids": ids} for ids in tokens(bert, (t for t, _ in reviews(400)))["input_ids"]]
    batch = collator(tokenizer, "masked", params)(rows)
    again = collator(tokenizer, "masked", params)(rows)
    assert torch.equal(batch["input_ids"], again["input_ids"])
    guessed, real = batch["labels"] != -100, batch["attention_mask"].bool()
    special = torch.isin(batch["labels"], torch.tensor(tokenizer.all_special_ids))
    assert not (guessed & ~real).any() and not (guessed & special).any()
    words = real.sum() - 2 * len(rows)  # [CLS] and [SEP]
    assert guessed.sum() / words == pytest.approx(share, abs=0.02)
    masked = batch["input_ids"][guessed] == tokenizer.mask_token_id
    kept = batch["input_ids"][guessed] == batch["labels"][guessed]
    assert masked.float().mean() == pytest.approx(0.8, abs=0.03)
    assert kept.float().mean() == pytest.approx(0.1, abs=0.03)


def test_of_single_tokens_nothing_is_to_be_guessed_and_nothing_breaks(
    base: Path, tmp_path: Path
) -> None:
    sets = tokens(base, ["plot", "cast", "plot"]), tokens(base, ["cast"])
    params = PretrainingParams(epochs=2, batch_size=1)
    folders = tmp_path / "work", tmp_path / "made"
    pretrain(PretrainingJob(base, "tiny", params, CPU, "fp32"), *sets, *folders, SilentListener())
    weights = load_file(tmp_path / "made" / "model.safetensors")
    assert all(torch.isfinite(tensor).all() for tensor in weights.values())


@pytest.mark.parametrize("architecture", [*ENCODERS, "deberta-v2"])
def test_a_head_at_masked_positions_gives_the_same_loss_and_gradient(
    bert: Path, tmp_path: Path, architecture: str
) -> None:
    folder = saved(tiny_classifier(architecture, bert), tmp_path)
    model: Any = AutoModelForMaskedLM.from_pretrained(folder).eval()
    tokenizer = model_folders.load_tokenizer(bert)
    rows = [{"input_ids": ids} for ids in tokens(bert, (t for t, _ in reviews(8)))["input_ids"]]
    batch = collator(tokenizer, "masked", PretrainingParams())(rows)
    found: list[list[torch.Tensor]] = []
    for is_wanted in (False, True):
        with at_masked_positions(model, [batch], is_wanted) as is_so:
            assert is_so == is_wanted
            model.zero_grad()
            output = model(**batch)
            output.loss.backward()
        gradients = [p.grad.clone() for p in model.parameters() if p.grad is not None]
        found.append([output.loss.detach(), *gradients])
    assert len(found[0]) == len(found[1])
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)
    assert output.logits.shape[1] == int((batch["labels"] != -100).sum())


def test_where_a_head_at_masked_positions_gives_another_loss_it_is_computed_everywhere(
    gpt2: Path,
) -> None:
    model: Any = AutoModelForCausalLM.from_pretrained(gpt2).eval()  # shifts its labels
    model.requires_grad_(False)
    rows = [{"input_ids": ids} for ids in tokens(gpt2, (t for t, _ in reviews(8)))["input_ids"]]
    batch = collator(model_folders.load_tokenizer(gpt2), "causal", PretrainingParams())(rows)
    whole = float(model(**batch).loss)
    with at_masked_positions(model, [batch], True) as is_so:
        assert not is_so and float(model(**batch).loss) == whole


def test_which_reviews_are_left_out_and_why() -> None:
    rows = gather(
        ["A.", "B.", "b. "],
        ["A.", "<br />T", "t", "V", None, " ", "C.", "D.", "E."],
        ["v"],
        ["T"],
        4,
        seed=0,
    )
    assert rows.left_out == {TEST: 2, VALIDATION: 1, DOUBLE: 2, UNUSABLE: 2, OVER_LIMIT: 1}
    assert len(rows.train) == 3 and len(rows.held_out) == 1
    assert {*rows.train, *rows.held_out} < {"A.", "B.", "C.", "D.", "E."}
    with pytest.raises(MissingDataError, match="1 reviews are left for pre-training"):
        gather(["A."], ["t"], [], ["T"], None, seed=0)


TEXTS = st.lists(st.sampled_from(["a", "A", "b", "<p>c", "c", "d", "e", "", "f"]), max_size=12)


@given(training=TEXTS, unlabelled=TEXTS, validation=TEXTS, test=TEXTS, limit=st.integers(2, 9))
def test_no_test_or_validation_review_is_ever_among_them(
    training: list[str], unlabelled: list[str], validation: list[str], test: list[str], limit: int
) -> None:
    try:
        rows = gather(training, unlabelled, validation, test, limit, seed=1)
    except MissingDataError:
        return
    chosen = [matching_form(text) for text in (*rows.train, *rows.held_out)]
    assert len(chosen) == len(set(chosen)) <= limit
    assert not set(chosen) & {matching_form(text) for text in (*validation, *test)}
    assert len(chosen) + sum(rows.left_out.values()) == len(training) + len(unlabelled)


def test_pieces_lose_nothing(base: Path) -> None:
    tokenizer = model_folders.load_tokenizer(base)
    text = " ".join(t for t, _ in reviews(20))
    pieces = Encoder(tokenizer, SHORT).pieces([text, "", "short"])
    lengths = [len(piece) for piece in pieces]
    assert max(lengths) <= 32 and max(lengths[:-1]) - min(lengths[:-2]) <= 1
    special = set(tokenizer("")["input_ids"])
    joined = [i for piece in pieces for i in piece if i not in special]
    plain = tokenizer([text, "short"], add_special_tokens=False, verbose=False)["input_ids"]
    assert joined == [i for ids in plain for i in ids]
