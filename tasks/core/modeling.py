"""Sequence classifiers as plain Hugging Face folders: checked, loaded, saved.

A folder that Nightshift saves holds what any transformers tool reads (config.json, model.safetensors, tokenizer files)
and `nightshift.json`, which keeps how texts were tokenized and the temperature, so that scoring cannot do it
differently. Pickles are neither read nor written, and code from a model's folder is never run.
"""

import itertools
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import ValidationError as PydanticError
from safetensors import SafetensorError, safe_open
from transformers import (
    AutoConfig,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from tasks.core.errors import ModelError, SettingsError
from tasks.core.tokenization import Encoder, TokenizationParams
from tasks.core.training_params import Device, Precision

CARD = "nightshift.json"
_ATTENTION_DROPOUTS = (
    "attention_probs_dropout_prob",
    "attention_dropout",
    "attn_pdrop",
    "attn_dropout",
)
_HIDDEN_DROPOUTS = (
    "hidden_dropout_prob",
    "hidden_dropout",
    "dropout",
    "resid_pdrop",
    "embd_pdrop",
    "embedding_dropout",
    "activation_dropout",
    "mlp_dropout",
    "pooler_dropout",
    "classifier_dropout",
    "seq_classif_dropout",
    "summary_first_dropout",
    "cls_dropout",
)
_PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.h5", "*.msgpack")


@dataclass(frozen=True)
class Classifier:
    """A model in memory with everything needed to go from text to logits."""

    model: PreTrainedModel
    encoder: Encoder
    label_names: list[str]
    temperature: float = 1.0  # by which the head's weights were divided: see `with_temperature`

    @property
    def pad_id(self) -> int:
        """The id that fills up a batch."""
        return int(self.encoder.tokenizer.pad_token_id)  # type: ignore[arg-type]


def check_base_folder(folder: Path) -> None:
    """Check that a folder can be fine-tuned from, before anything is spent on it.

    Raises:
        ModelError: no config, no tokenizer, no safetensors (pickles only), damaged weights, each with what to do.
    """
    if not (folder / "config.json").is_file():
        raise ModelError("No config.json: not a Hugging Face model folder", str(folder))
    if not any(folder.glob("*.safetensors")):
        pickles = [p.name for pattern in _PICKLES for p in folder.glob(pattern)]
        if pickles:
            raise ModelError(
                f"The weights are pickles ({', '.join(sorted(pickles))}), which can run code when loaded",
                str(folder),
                "load them once where you trust them, and save again with save_pretrained (safetensors)",
            )
        raise ModelError(
            "No *.safetensors weights", str(folder), "download or save the model whole"
        )
    parameters(folder)
    if not any((folder / name).is_file() for name in ("tokenizer.json", "vocab.txt", "vocab.json")):
        raise ModelError("No tokenizer files", str(folder), "save the tokenizer beside the model")


def parameters(folder: Path) -> int:
    """How many parameters the weights of a folder hold. Raises ModelError where a file is damaged."""
    total = 0
    for path in folder.glob("*.safetensors"):
        try:
            with safe_open(path, "numpy") as weights:
                for name in weights.keys():  # noqa: SIM118 - not a dict
                    total += math.prod(weights.get_slice(name).get_shape())
        except (SafetensorError, OSError) as error:
            raise ModelError(
                f"The weights cannot be read: {error}",
                str(path),
                "download or save the model again",
            ) from error
    return total


def require_layers(folder: Path, frozen: int) -> None:
    """Raises SettingsError when more layers are to be frozen than the model has."""
    if frozen > depth(folder):
        raise SettingsError(
            f"The model has {depth(folder)} layers", "training.frozen_layers", "freeze fewer"
        )


def depth(folder: Path) -> int:
    """How many layers the model of a folder has."""
    return int(read_config(folder).get_text_config().num_hidden_layers)


def resolve_device(device: Device) -> torch.device:
    """The device to use. Raises SettingsError when CUDA is asked for and absent."""
    if device == "cuda" and not torch.cuda.is_available():
        raise SettingsError(
            "No CUDA device on this machine", "device", "choose cpu or auto, or run on the GPU pool"
        )
    use_cuda = torch.cuda.is_available() if device == "auto" else device == "cuda"
    return torch.device("cuda" if use_cuda else "cpu")


def resolve_precision(precision: Precision, device: torch.device) -> Literal["fp32", "bf16"]:
    """bf16 where the processor multiplies in it (without, it is emulated and a hundred times slower), else fp32."""
    if precision != "auto":
        return precision
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp32"
    capabilities = torch.cpu.get_capabilities()
    return "bf16" if capabilities.get("avx512_bf16") or capabilities.get("amx_bf16") else "fp32"


def load_tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    """The tokenizer of a model folder, with a pad token (GPT-style ones have none: end-of-text serves)."""
    try:
        tokenizer = AutoTokenizer.from_pretrained(
            folder, trust_remote_code=False, local_files_only=True
        )
    except (OSError, ValueError, KeyError) as error:
        raise ModelError(f"The tokenizer cannot be loaded: {error}", str(folder)) from error
    if tokenizer.pad_token is None:
        spare = tokenizer.eos_token or tokenizer.unk_token
        if spare is None:
            raise ModelError(
                "The tokenizer has neither a pad, an end-of-text nor an unknown token", str(folder)
            )
        tokenizer.pad_token = spare
    tokenizer.padding_side = "right"
    return tokenizer


def read_config(folder: Path) -> Any:
    """A model folder's configuration. Raises ModelError where transformers cannot make anything of it."""
    try:
        return AutoConfig.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
    except (OSError, ValueError, KeyError) as error:
        what = str(error).strip().splitlines()[0]
        raise ModelError(
            f"config.json is of no use: {what}",
            str(folder),
            "choose a model that transformers knows; code that comes with a model is never run",
        ) from error


def longest_input(folder: Path) -> int | None:
    """The most tokens the model takes, or None where it sets no limit."""
    config = read_config(folder)
    limit = getattr(config, "max_position_embeddings", None) or getattr(config, "n_positions", None)
    offset = (
        2 if "roberta" in str(config.model_type) else 0
    )  # RoBERTa's positions begin behind the pad id
    return int(limit) - offset if limit else None


def check_length(folder: Path, params: TokenizationParams) -> None:
    """Raises SettingsError when reviews may become longer than the model takes."""
    limit = longest_input(folder)
    if limit and params.max_length_tokens > limit:
        raise SettingsError(
            f"The model takes at most {limit} tokens, and {params.max_length_tokens} are asked for",
            "tokenization.max_length_tokens",
            f"set it to {limit} or less",
        )


def load_for_training(
    folder: Path,
    label_names: Sequence[str],
    tokenization: TokenizationParams,
    attention_dropout: float,
    hidden_dropout: float | None = None,
) -> Classifier:
    """A base model with a new classification head; its initial weights come from torch's global seed.

    Args:
        folder: config, tokenizer and safetensors of the base model.
        label_names: in order of their ids.
        tokenization: how texts become tokens.
        attention_dropout: of the attention's probabilities.
        hidden_dropout: all other dropout; None leaves what the model was made with.
    Raises:
        ModelError: the folder cannot be loaded as a sequence classifier.
    """
    check_base_folder(folder)
    check_length(folder, tokenization)
    tokenizer = load_tokenizer(folder)
    try:
        config = read_config(folder)
        config.num_labels = len(label_names)
        config.id2label = dict(enumerate(label_names))
        config.label2id = {name: index for index, name in enumerate(label_names)}
        config.problem_type = "single_label_classification"
        config.pad_token_id = tokenizer.pad_token_id
        set_attention_dropout(config, attention_dropout)
        if hidden_dropout is not None:
            _set_numbers(config, _HIDDEN_DROPOUTS, hidden_dropout)
        model = AutoModelForSequenceClassification.from_pretrained(
            folder,
            config=config,
            use_safetensors=True,
            trust_remote_code=False,
            local_files_only=True,
            ignore_mismatched_sizes=True,
            dtype=torch.float32,
        )
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        raise ModelError(f"Not loadable as a sequence classifier: {error}", str(folder)) from error
    return Classifier(model, Encoder(tokenizer, tokenization), list(label_names))


def set_attention_dropout(config: Any, value: float) -> None:
    """Dropout of the attention's probabilities, under whichever name a model's configuration has it; in place."""
    _set_numbers(config, _ATTENTION_DROPOUTS, value)


def _set_numbers(config: Any, names: Sequence[str], value: float) -> None:
    for name in names:
        if isinstance(getattr(config, name, None), float | int):
            setattr(config, name, value)


def layers_of(model: torch.nn.Module) -> torch.nn.ModuleList | None:
    """A model's stack of layers, lowest first; None where it has none that can be told apart."""
    described: Any = model
    depth = int(described.config.get_text_config().num_hidden_layers)
    stacks = (m for m in model.modules() if isinstance(m, torch.nn.ModuleList) and len(m) == depth)
    return next(stacks, None)


def freeze(model: PreTrainedModel, layers: int) -> None:
    """Keep the lowest `layers` layers, and the embeddings below them, as they are in training; 0 freezes nothing.

    Raises:
        SettingsError: the model has fewer layers.
    """
    if not layers:
        return
    depth = int(model.config.get_text_config().num_hidden_layers)
    body: Any = model.base_model
    stack = layers_of(body)
    if stack is None or layers > depth:
        raise SettingsError(
            f"The model has {depth} layers", "training.frozen_layers", "freeze fewer"
        )
    trained = {
        id(part) for layer in stack[layers:] for part in (*layer.modules(), *layer.parameters())
    }
    # Both in the order of the forward pass: embeddings, layers, what comes after.
    for module in itertools.takewhile(lambda part: id(part) not in trained, body.modules()):
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0  # what is not trained needs no regularisation, which costs a CPU a tenth of the time
    for parameter in itertools.takewhile(lambda part: id(part) not in trained, body.parameters()):
        parameter.requires_grad_(False)


def with_temperature(classifier: Classifier, temperature: float) -> Classifier:
    """The same classifier, whose logits are divided by a temperature: it is put into the weights of the head.

    So every tool and every engine that runs the model gives calibrated probabilities and knows nothing of it.
    The model is changed in place.

    Raises:
        ModelError: its head is not a linear layer.
    """
    model: Any = classifier.model
    body = {id(module) for module in model.base_model.modules()}
    classes = len(classifier.label_names)
    heads = [
        module
        for module in model.modules()
        if isinstance(module, torch.nn.Linear)
        and module.out_features == classes
        and id(module) not in body
    ]
    if not heads:
        raise ModelError("The classification head is not a linear layer", type(model).__name__)
    with torch.no_grad():
        for parameter in heads[-1].parameters():
            parameter.div_(temperature)
    return replace(classifier, temperature=classifier.temperature * temperature)


def save(classifier: Classifier, folder: Path) -> None:
    """Write the classifier so that `load` and any transformers tool can read it: safetensors only."""
    classifier.model.save_pretrained(folder)
    classifier.encoder.tokenizer.save_pretrained(folder)
    card = {
        "tokenization": classifier.encoder.params.model_dump(),
        "label_names": classifier.label_names,
        "temperature": classifier.temperature,
    }
    (folder / CARD).write_text(json.dumps(card, indent=2) + "\n", encoding="utf-8")


def load(folder: Path) -> Classifier:
    """A classifier that `save` wrote, in evaluation mode, in fp32 on the CPU.

    Raises:
        ModelError: not such a folder, or damaged.
    """
    try:
        card = json.loads((folder / CARD).read_text(encoding="utf-8"))
        params = TokenizationParams.model_validate(card["tokenization"])
        label_names = [str(name) for name in card["label_names"]]
        temperature = float(card.get("temperature", 1.0))
        model = AutoModelForSequenceClassification.from_pretrained(
            folder,
            use_safetensors=True,
            trust_remote_code=False,
            local_files_only=True,
            dtype=torch.float32,
        )
    except (OSError, ValueError, KeyError, PydanticError, SafetensorError) as error:
        raise ModelError(
            f"Not a classifier that Nightshift saved: {error}",
            str(folder),
            "register it through the retrain flow",
        ) from error
    encoder = Encoder(load_tokenizer(folder), params)
    return Classifier(model.eval(), encoder, label_names, temperature)


def architecture(folder: Path) -> str:
    """The model type a folder's config names, such as bert or gpt2."""
    return str(read_config(folder).model_type)
