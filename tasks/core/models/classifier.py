"""Load, change and save sequence classifiers as plain Hugging Face folders.

A folder that Nightshift saves holds the files that any transformers tool reads (config.json, model.safetensors,
tokenizer files) and `nightshift.json`, which records tokenization and temperature so that scoring uses the same ones.
Pickles are neither read nor written, and code from a model's folder is never run.
"""

import itertools
import json
import math
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
from tasks.core.models import folders, head
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
    """A model in memory with everything needed to compute logits from text."""

    model: PreTrainedModel
    encoder: Encoder
    label_names: list[str]
    temperature: float = 1.0  # the head's weights were divided by it: see `with_temperature`
    class_costs: tuple[float, ...] = ()  # cost of missing each class: see `with_class_costs`
    batch_rule: BatchRule = "padded"  # texts that may share a batch: see `neighbours`
    precision: Precision = "auto"  # the precision of its training; auto if unknown
    notes: tuple[str, ...] = ()  # remarks on a base model's weights, for people

    @property
    def pad_id(self) -> int:
        """The padding id of the tokenizer."""
        return int(self.encoder.tokenizer.pad_token_id)  # type: ignore[arg-type]

    @property
    def padding_side(self) -> Side:
        """The side on which shorter rows of a batch are padded."""
        return self.encoder.tokenizer.padding_side  # type: ignore[return-value]


def load_for_training(
    folder: Path,
    label_names: Sequence[str],
    tokenization: TokenizationParams,
    attention_dropout: float,
    hidden_dropout: float | None = None,
) -> Classifier:
    """Load a base model with a new classification head, initialised from torch's global seed.

    Args:
        folder: config, tokenizer and safetensors of the base model.
        label_names: in order of their ids.
        tokenization: the tokenization settings.
        attention_dropout: dropout of the attention probabilities.
        hidden_dropout: all other dropout; None keeps the configuration's.
    Raises:
        ModelError: the folder cannot be loaded as a sequence classifier, or weights of its encoder or decoder are
            missing.
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
    """Set the dropout of the attention probabilities in a configuration, in place, under any of its usual names."""
    _set_numbers(config, _ATTENTION_DROPOUTS, value)


def _set_numbers(config: Any, names: Sequence[str], value: float) -> None:
    for name in names:
        if isinstance(getattr(config, name, None), float | int):
            setattr(config, name, value)


def layers_of(model: torch.nn.Module) -> torch.nn.ModuleList | None:
    """Return a model's stack of layers, lowest first, or None if its layers are not separate."""
    described: Any = model
    depth = int(described.config.get_text_config().num_hidden_layers)
    stacks = (m for m in model.modules() if isinstance(m, torch.nn.ModuleList) and len(m) == depth)
    return next(stacks, None)


def freeze(model: PreTrainedModel, layers: int) -> None:
    """Freeze the lowest `layers` layers and the embeddings below them; 0 freezes nothing.

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
    # Both loops run in forward order: embeddings, layers, what comes after.
    for module in itertools.takewhile(lambda part: id(part) not in trained, body.modules()):
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0  # frozen layers need no regularisation, and dropout costs a CPU a tenth of the time
    for parameter in itertools.takewhile(lambda part: id(part) not in trained, body.parameters()):
        parameter.requires_grad_(False)


def with_temperature(classifier: Classifier, temperature: float) -> Classifier:
    """Divide a classifier's logits by a temperature, by scaling the weights of the head.

    Every tool and engine that runs the model then gives calibrated probabilities without knowing the temperature. The
    model is changed in place.

    Raises:
        ModelError: its head is not a linear layer.
    """
    with torch.no_grad():
        for parameter in head.head_of(classifier.model, len(classifier.label_names)).parameters():
            parameter.div_(temperature)
    return replace(classifier, temperature=classifier.temperature * temperature)


def with_class_costs(classifier: Classifier, class_costs: Sequence[float]) -> Classifier:
    """Add the logarithms of class costs to the bias of the head, so that the largest logit has the least cost.

    A head without a bias, as decoders have, gets one that is not saved; `load` adds it again. The model is changed in
    place.

    Args:
        classifier: without class costs.
        class_costs: the cost of missing each class, in the order of the labels.
    Raises:
        ModelError: its head is not a linear layer.
        ValueError: it has class costs.
    """
    if classifier.class_costs:
        raise ValueError(f"it has the class costs {classifier.class_costs}")
    logs = torch.tensor(class_costs, dtype=torch.float64).log()
    # Centred, so that bf16 loses few digits of the logits.
    head.add_to_bias(classifier.model, len(class_costs), logs - logs.mean())
    return replace(classifier, class_costs=tuple(class_costs))


def save(classifier: Classifier, folder: Path) -> None:
    """Save the classifier, as safetensors only, so that `load` and any transformers tool can read it."""
    classifier.model.save_pretrained(folder)
    classifier.encoder.tokenizer.save_pretrained(folder)
    card: dict[str, Any] = {
        "tokenization": classifier.encoder.params.model_dump(),
        "label_names": classifier.label_names,
        "temperature": classifier.temperature,
        "batch_rule": classifier.batch_rule,
        "precision": classifier.precision,
    }
    if classifier.class_costs:
        card["class_costs"] = classifier.class_costs
    (folder / CARD).write_text(json.dumps(card, indent=2) + "\n", encoding="utf-8")


def load(folder: Path) -> Classifier:
    """Load a classifier that `save` wrote, in evaluation mode, in fp32 on the CPU.

    Raises:
        ModelError: the folder is not such a classifier, is damaged, or would fetch code; or it was saved before batch
            rules were recorded, and no rule makes its answers independent of other texts.
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
        class_costs = tuple(float(cost) for cost in card.get("class_costs", ()))
        are_costs = all(0 < cost < math.inf for cost in class_costs)
        if class_costs and not (are_costs and len(class_costs) == len(label_names)):
            raise ValueError(f"class_costs {class_costs} for {len(label_names)} labels")
    except (OSError, ValueError, TypeError, KeyError, PydanticError) as error:
        raise ModelError(
            f"Not a classifier that Nightshift saved: {error}",
            str(folder),
            "register it through the retrain flow",
        ) from error
    model = weights.load_whole(AutoModelForSequenceClassification, folder)
    encoder = Encoder(folders.load_tokenizer(folder), params)
    classifier = Classifier(model.eval(), encoder, label_names, temperature, precision=precision)
    if class_costs and head.lacks_bias(model, len(label_names)):  # else the saved bias has them
        classifier = with_class_costs(classifier, class_costs)
    classifier = replace(classifier, class_costs=class_costs)
    if rule:
        return replace(classifier, batch_rule=rule)
    try:
        return neighbours.with_batch_rule(classifier)
    except ModelError as error:
        raise ModelError(
            error.what, str(folder), "register a version of another base model"
        ) from error


def trained_precision(folder: Path) -> Precision:
    """Return the precision that a classifier was trained in, or auto if unknown.

    Raises:
        ModelError: its record cannot be read.
    """
    path = folder / CARD
    if not path.is_file():
        return "auto"
    try:
        return _precision_of(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, AttributeError) as error:
        raise ModelError(
            f"The precision of the model's training cannot be read: {error}",
            str(path),
            "register the model again, or choose engine.precision",
        ) from error


def _precision_of(card: dict[str, Any]) -> Precision:
    precision = card.get("precision", "auto")
    if precision not in get_args(Precision):
        raise ValueError(f"no precision {precision!r}")
    return precision
