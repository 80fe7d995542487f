"""Sequence classifiers as plain Hugging Face folders: loaded, changed, saved.

A folder that Nightshift saves holds what any transformers tool reads (config.json, model.safetensors, tokenizer files)
and `nightshift.json`, which keeps how texts were tokenized and the temperature, so that scoring cannot do it
differently. Pickles are neither read nor written, and code from a model's folder is never run.
"""

import itertools
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, get_args

import torch
from pydantic import ValidationError as PydanticError
from transformers import (
    AutoModelForSequenceClassification,
    PreTrainedModel,
)

from tasks.core.data.params import TokenizationParams
from tasks.core.data.tokens.tokenization import Encoder
from tasks.core.errors import ModelError, SettingsError
from tasks.core.models import folders
from tasks.core.models.base_model import vocabulary, weights
from tasks.core.models.batching import neighbours
from tasks.core.models.batching.plan import BatchRule, Side
from tasks.core.models.files import refuse_foreign_code
from tasks.core.models.params import Precision

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


@dataclass(frozen=True)
class Classifier:
    """A model in memory with everything needed to go from text to logits."""

    model: PreTrainedModel
    encoder: Encoder
    label_names: list[str]
    temperature: float = 1.0  # by which the head's weights were divided: see `with_temperature`
    batch_rule: BatchRule = "padded"  # which texts it may answer together: see `neighbours`
    precision: Precision = "auto"  # in which it was trained; auto where that is not known
    notes: tuple[str, ...] = ()  # what a person should know of a base model's weights

    @property
    def pad_id(self) -> int:
        """The id that fills up a batch."""
        return int(self.encoder.tokenizer.pad_token_id)  # type: ignore[arg-type]

    @property
    def padding_side(self) -> Side:
        """Where it stands in a row that is shorter than others of its batch."""
        return self.encoder.tokenizer.padding_side  # type: ignore[return-value]


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
        ModelError: the folder cannot be loaded as a sequence classifier, or the weights of its encoder or decoder are
            not all there.
    """
    folders.check_base_folder(folder)
    config = folders.read_config(folder)
    tokenizer = folders.load_tokenizer(folder)
    config.num_labels = len(label_names)
    config.id2label = dict(enumerate(label_names))
    config.label2id = {name: index for index, name in enumerate(label_names)}
    config.problem_type = "single_label_classification"
    config.pad_token_id = vocabulary.padding_to_build_with(config, tokenizer)
    set_attention_dropout(config, attention_dropout)
    if hidden_dropout is not None:
        _set_numbers(config, _HIDDEN_DROPOUTS, hidden_dropout)
    loaded = weights.load_body(AutoModelForSequenceClassification, folder, config)
    notes = (*loaded.notes(), *vocabulary.grow(loaded.model, tokenizer, str(folder)))
    return Classifier(
        loaded.model, Encoder(tokenizer, tokenization), list(label_names), notes=notes
    )


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
        "batch_rule": classifier.batch_rule,
        "precision": classifier.precision,
    }
    (folder / CARD).write_text(json.dumps(card, indent=2) + "\n", encoding="utf-8")


def load(folder: Path) -> Classifier:
    """A classifier that `save` wrote, in evaluation mode, in fp32 on the CPU.

    Raises:
        ModelError: not such a folder, damaged, or one that would fetch code; or saved before it was asked whether its
            answers depend on one another, and they do in a way that cannot be helped.
    """
    refuse_foreign_code(folder)
    try:
        card = json.loads((folder / CARD).read_text(encoding="utf-8"))
        params = TokenizationParams.model_validate(card["tokenization"])
        label_names = [str(name) for name in card["label_names"]]
        temperature = float(card.get("temperature", 1.0))
        rule = card.get("batch_rule")
        if rule not in (None, *get_args(BatchRule)):
            raise ValueError(f"no batch_rule {rule!r}")
        precision = _precision_of(card)
    except (OSError, ValueError, KeyError, PydanticError) as error:
        raise ModelError(
            f"Not a classifier that Nightshift saved: {error}",
            str(folder),
            "register it through the retrain flow",
        ) from error
    model = weights.load_whole(AutoModelForSequenceClassification, folder)
    encoder = Encoder(folders.load_tokenizer(folder), params)
    made = Classifier(model.eval(), encoder, label_names, temperature, precision=precision)
    if rule:
        return replace(made, batch_rule=rule)
    try:
        return neighbours.with_batch_rule(made)
    except ModelError as error:
        raise ModelError(
            error.what, str(folder), "register a version of another base model"
        ) from error


def trained_precision(folder: Path) -> Precision:
    """What a classifier was trained in; auto where that is not known. Raises ModelError where it cannot be read."""
    path = folder / CARD
    if not path.is_file():
        return "auto"
    try:
        return _precision_of(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, AttributeError) as error:
        raise ModelError(
            f"It cannot be read what the model was trained in: {error}",
            str(path),
            "register the model again, or choose engine.precision",
        ) from error


def _precision_of(card: dict[str, Any]) -> Precision:
    precision = card.get("precision", "auto")
    if precision not in get_args(Precision):
        raise ValueError(f"no precision {precision!r}")
    return precision
