"""What a base model takes is asked of it: lengths, tokens and precision; and what it cannot do is said beforehand."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from tokenizers import Tokenizer
from tokenizers.models import BPE
from tokenizers.processors import TemplateProcessing
from transformers import (
    AutoModel,
    CamembertModel,
    LlamaModel,
    ReformerModel,
    XLNetModel,
)
from transformers import PreTrainedTokenizerFast as FastTokenizer

from tasks.core.data.params import TokenizationParams
from tasks.core.data.tokens.tokenization import Encoder
from tasks.core.engines.torch_engine import TorchEngine
from tasks.core.errors import ModelError, SettingsError
from tasks.core.models import classifier as modeling
from tasks.core.models import folders
from tasks.core.models.base_model.trial import longest_input, try_base_model
from tasks.core.models.devices import precision_of_version
from tasks.core.training.batches.execution import fastest_plan, padding
from tasks.core.training.batches.numerics import bf16_problem
from tasks.core.training.distributed import DistributedContext
from tasks.core.training.fine_tuning import fine_tune
from tasks.core.training.params import TrainingParams
from tasks.core.training.pretraining.loop import PretrainingJob, pretrain
from tasks.core.training.pretraining.params import PretrainingParams
from tasks.core.training.protocols import SilentListener
from tests.core.models.tiny_classifiers import tiny_classifier
from tests.core.training.pretraining.test_pretraining import pretrained
from tests.core.training.tiny_trainings import SHORT, job, trained
from tests.models import add_token, tiny_of

CPU = torch.device("cpu")


def of(length: int) -> TokenizationParams:
    return TokenizationParams(max_length_tokens=length)


def camembert(folder: Path) -> Path:
    """Whose 64 positions begin at 2."""
    return tiny_of(CamembertModel, folder, max_position_embeddings=64)


def test_a_model_whose_positions_begin_at_two_takes_as_many_fewer(tmp_path: Path) -> None:
    base = camembert(tmp_path / "base")
    with pytest.raises(SettingsError, match=r"at most 62 tokens, but 64 .*max-length-tokens=62"):
        try_base_model(base, of(64))
    (note,) = try_base_model(base, of(62))
    assert "ignored: pooler.dense" in note and longest_input(base, 512) == 62


@pytest.mark.parametrize("bert_like", [True, False])
def test_it_trains_at_the_limit_that_the_message_names(
    bert_like: bool, bert: Path, tmp_path: Path
) -> None:
    """Batches are not padded beyond it, though 62 and 127 are no multiples of 8."""
    base, limit = (bert, 127) if bert_like else (camembert(tmp_path / "base"), 62)
    params = TrainingParams(epochs=1, device="cpu", learning_rate=1e-3)
    encoder = Encoder(folders.load_tokenizer(base), of(limit))
    ids = encoder.encode(["dull film " * 99, "great fun"] * 16).input_ids
    rows = {"input_ids": ids, "length": [len(i) for i in ids], "labels": [0, 1] * 16}
    data = Dataset.from_dict(rows)
    wanted = job(base, params).model_copy(update={"tokenization": of(limit)})
    done = fine_tune(wanted, data, data, tmp_path / "work", SilentListener())
    assert done.facts["steps"] == 2
    collated = padding(done.classifier)([{"input_ids": i} for i in ids[:2]])
    assert collated["input_ids"].shape == (2, limit)
    lm = PretrainingJob(base, "tiny", PretrainingParams(epochs=1), CPU, "fp32")
    pieces = data.remove_columns("labels")
    assert pretrain(lm, pieces, pieces, tmp_path / "lm", tmp_path / "made", SilentListener())[
        "steps"
    ]


def test_a_model_without_a_limit_is_trained(tmp_path: Path) -> None:
    base = tiny_of(XLNetModel, tmp_path / "base", d_model=32, n_layer=2, n_head=2, d_inner=64)
    assert folders.read_config(base).max_position_embeddings == -1
    assert try_base_model(base, of(300)) == []
    assert trained(base, tmp_path / "work", rows=128, epochs=1).facts["steps"] == 8


def test_more_than_a_model_was_made_for_is_said(tmp_path: Path) -> None:
    base = tiny_of(LlamaModel, tmp_path / "base", max_position_embeddings=64)
    assert try_base_model(base, of(64)) == []
    (note,) = try_base_model(base, of(96))
    assert "trained for 64 tokens, but 96 are requested" in note


def test_a_model_that_only_trains_on_some_lengths_is_refused(tmp_path: Path) -> None:
    given: dict[str, Any] = {
        "feed_forward_size": 64,
        "attn_layers": ["local", "lsh"],
        "attention_head_size": 16,
        "axial_pos_embds": False,
        "max_position_embeddings": 128,
        "is_decoder": False,
    }
    base = tiny_of(ReformerModel, tmp_path / "base", **given)
    with pytest.raises(ModelError, match="trained on reviews of 80 tokens: If training"):
        try_base_model(base, of(128))


def test_a_token_of_padding_that_was_added_is_given_a_row(gpt2: Path, tmp_path: Path) -> None:
    base = tmp_path / "base"
    shutil.copytree(gpt2, base)
    add_token(base)
    (note,) = try_base_model(base, SHORT)
    assert note.endswith("so 1 is trained from random values: [PAD]")
    rows = folders.read_config(gpt2).vocab_size
    done = trained(base, tmp_path / "work", epochs=1)
    modeling.save(done.classifier, tmp_path / "model")
    loaded = modeling.load(tmp_path / "model")
    assert loaded.pad_id == rows and len(loaded.model.get_input_embeddings().weight) == rows + 1
    pretrained(base, tmp_path / "made", epochs=1)
    assert folders.read_config(tmp_path / "made").vocab_size == rows + 1
    assert "no row" not in " ".join(try_base_model(tmp_path / "made", SHORT))


def test_the_padding_of_positions_cannot_be_added(tmp_path: Path) -> None:
    base = add_token(camembert(tmp_path / "base"), "[NEW]")
    with pytest.raises(ModelError, match=r"padding token \(\d+\) has no row .* cannot be built"):
        try_base_model(base, SHORT)


def test_another_models_tokenizer_is_refused(bert: Path, gpt2: Path, tmp_path: Path) -> None:
    shutil.copytree(bert, tmp_path / "base")
    for path in gpt2.glob("tokenizer*"):
        shutil.copy(path, tmp_path / "base")
    with pytest.raises(
        ModelError, match=r"tokenizer does not belong to the model: the embeddings have \d+ rows"
    ):
        try_base_model(tmp_path / "base", SHORT)


def cyrillic(words: list[str]) -> FastTokenizer:
    """A byte-pair tokenizer that knows no Latin letters, and nothing for the unknown."""
    special = ["<s>", "<pad>", "</s>"]
    vocabulary = {piece: i for i, piece in enumerate([*special, *words])}
    raw = Tokenizer(BPE(vocabulary, []))
    raw.post_processor = TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    return FastTokenizer(tokenizer_object=raw, pad_token="<pad>", bos_token="<s>", eos_token="</s>")


def test_a_tokenizer_without_latin_letters_is_asked_for_its_own() -> None:
    encoder = Encoder(cyrillic(list("хорошийфльм")), SHORT)
    assert encoder.frame == ([0], [2])
    found = encoder.encode(["хороший", "fine film", ""])
    assert found.input_ids[0][0] == 0 and found.input_ids[0][-1] == 2
    assert len(found.input_ids[0]) == 9 and found.input_ids[1] == [0, 2]
    assert found.unknown == 2


def test_a_tokenizer_that_knows_nothing_is_refused() -> None:
    with pytest.raises(ModelError, match="returns no token for any text"):
        Encoder(cyrillic([]), SHORT)


def without_bf16(model: Any) -> Any:
    """Its first layer raises as an operation does that has no kernel for bf16."""

    def refuse(_: Any, given: tuple[Any, ...], output: Any) -> None:
        if torch.is_autocast_enabled("cpu") or output.dtype == torch.bfloat16:
            raise RuntimeError("Unsupported dtype BFloat16\nand more")

    model.base_model.embeddings.register_forward_hook(refuse)
    return model


def test_a_trial_in_bf16_that_raises_is_a_verdict(
    bert: Path, caplog: pytest.LogCaptureFixture
) -> None:
    classifier = tiny_classifier("bert", bert)
    without_bf16(classifier.model)
    rows = [[{"input_ids": [5, 6, 7], "labels": 0}, {"input_ids": [5, 8], "labels": 1}]]
    for tolerance in (0.1, 0.0):
        params = TrainingParams(bf16_tolerance=tolerance)
        way = fastest_plan(classifier, rows, params, CPU, "bf16", DistributedContext())
        assert not way.bf16 and way.bf16_difference is None
    assert (
        caplog.text.count("Training continues in fp32 instead of bf16: Unsupported dtype BFloat16")
        == 2
    )
    assert (
        bf16_problem(tiny_classifier("bert", bert).model, [padding(classifier)(rows[0])], CPU) == ""
    )


def test_an_engine_in_bf16_that_raises_scores_in_fp32(
    bert: Path, caplog: pytest.LogCaptureFixture
) -> None:
    classifier = tiny_classifier("bert", bert)
    expected = TorchEngine(classifier, "cpu", "fp32").logits([[5, 6, 7]])
    without_bf16(classifier.model)
    assert (TorchEngine(classifier, "cpu", "bf16").logits([[5, 6, 7]]) == expected).all()
    assert "is scored in fp32, because it fails in bf16: Unsupported dtype BFloat16" in caplog.text


def test_a_version_is_evaluated_in_the_precision_of_its_training(
    bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": True})
    found = {}
    for precision in ("fp32", "bf16"):
        done = trained(bert, tmp_path / precision, epochs=1, precision=precision)
        modeling.save(done.classifier, tmp_path / f"{precision}-model")
        loaded = modeling.load(tmp_path / f"{precision}-model")
        TorchEngine(loaded, "cpu")
        found[precision] = loaded.model.dtype
    assert found == {"fp32": torch.float32, "bf16": torch.bfloat16}
    assert precision_of_version("bf16", "fp32", CPU) == "bf16"
    assert precision_of_version("auto", "auto", CPU) == "bf16"


def test_what_is_tried_is_the_model(bert: Path, tmp_path: Path) -> None:
    """Weights that give no numbers are found before data are prepared."""
    assert try_base_model(bert, of(128)) == []
    with pytest.raises(SettingsError, match="at most 128 tokens, but 256 are requested"):
        try_base_model(bert, of(256))
    base = tmp_path / "base"
    shutil.copytree(bert, base)
    model: Any = AutoModel.from_pretrained(base)
    with torch.no_grad():
        model.embeddings.LayerNorm.weight.fill_(torch.inf)
    model.save_pretrained(base)
    with pytest.raises(
        ModelError, match="run on reviews of 8 tokens: its logits are NaN or infinite"
    ):
        try_base_model(base, of(128))
