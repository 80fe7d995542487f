"""Base models that a person has at hand, whose weights, lengths or tokens are not what they seem."""

from collections.abc import Callable
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from transformers import BigBirdModel, CamembertModel, XLNetModel

from tests.cases.case import Case, Found, both, done, fails
from tests.cases.labelled_files import labelled, retraining, says
from tests.models import add_token, tiny_bert, tiny_gpt2, tiny_of

_SECONDS = 150.0
Tensors = dict[str, torch.Tensor]


def _changed(change: Callable[[Tensors], Tensors]) -> Callable[[Path], Path]:
    """A tiny BERT with other weights."""

    def make(folder: Path) -> Path:
        path = tiny_bert(folder) / "model.safetensors"
        weights = {name: tensor.contiguous() for name, tensor in change(load_file(path)).items()}
        save_file(weights, path, metadata={"format": "pt"})
        return folder

    return make


def _compiled(weights: Tensors) -> Tensors:
    return {f"_orig_mod.{name}": tensor for name, tensor in weights.items()}


def _without_a_layer(weights: Tensors) -> Tensors:
    return {name: tensor for name, tensor in weights.items() if "layer.1." not in name}


def _with_fewer_rows(weights: Tensors) -> Tensors:
    return {n: t[:-9] if "word_embeddings" in n else t for n, t in weights.items()}


def _with_other_heads(weights: Tensors) -> Tensors:
    heads = {"cls.predictions.bias": torch.zeros(9), "qa_outputs.weight": torch.zeros(2, 32)}
    return {n: t for n, t in weights.items() if "pooler" not in n} | heads


def _case(
    name: str,
    seen: str,
    expected: str,
    base: Callable[[Path], Path],
    wrong: Callable[[Found], str],
    *options: str,
) -> Case:
    files = lambda: {"reviews.csv": labelled(["neg", "pos"])}  # noqa: E731
    return Case(name, seen, expected, files, wrong, retraining(name, *options), _SECONDS, base=base)


CASES = [
    _case(
        "compiled-weights",
        "trained from random weights, exit status 0",
        "an error that names the tensors, and what to take off their names",
        _changed(_compiled),
        fails(
            "The weights lack",
            "bert.embeddings.LayerNorm.bias",
            "remove the prefix '_orig_mod.' from the names",
        ),
    ),
    _case(
        "missing-layer",
        "trained with one layer of random weights, exit status 0",
        "an error that names the tensors",
        _changed(_without_a_layer),
        fails("The weights lack 16 of the tensors", "bert.encoder.layer.1.attention"),
    ),
    _case(
        "other-sizes",
        "trained with random embeddings, exit status 0",
        "an error that names the tensor and both sizes",
        _changed(_with_fewer_rows),
        fails("other sizes", "word_embeddings.weight has"),
    ),
    _case(
        "other-heads",
        "trained, and not a word",
        "trained; a line for the new pooler and one for the heads that are ignored",
        _changed(_with_other_heads),
        both(
            done,
            says(
                r"The weights have no pooler, so a new one is trained: bert\.pooler",
                r"Heads of other tasks in the weights are ignored: cls\.predictions\.bias, qa_outputs",
            ),
        ),
    ),
    _case(
        "no-limit",
        "takes at most -1 tokens ... set it to -1 or less",
        "an XLNet is trained",
        lambda folder: tiny_of(XLNetModel, folder, d_model=32, n_layer=2, n_head=2, d_inner=64),
        done,
    ),
    _case(
        "positions-from-two",
        "IndexError in training, at the limit that the message advised",
        "the right number: 46 of 48 positions",
        lambda folder: tiny_of(CamembertModel, folder, max_position_embeddings=48),
        fails("takes at most 46 tokens, but 48 are requested", "max-length-tokens=46"),
    ),
    _case(
        "at-the-limit",
        "IndexError in training",
        "trained: 48 of 50 positions",
        lambda folder: tiny_of(CamembertModel, folder, max_position_embeddings=50),
        done,
    ),
    _case(
        "no-bf16",
        "a raw error while bf16 was only being tried",
        "trained in fp32 where bf16 raises",
        lambda folder: tiny_of(
            BigBirdModel, folder, max_position_embeddings=128, attention_type="original_full"
        ),
        done,
        "--training.precision=bf16",
    ),
    _case(
        "added-padding",
        "IndexError in training",
        "trained; a line says that a row was added to the embeddings",
        lambda folder: add_token(tiny_gpt2(folder)),
        both(done, says(r"so 1 is trained from random values: \[PAD\]")),
    ),
]
