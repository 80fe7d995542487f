"""Run a base model once before preparing data, so that its problems show before a training.

The length limit is found by running the model. Configurations name and count their limits in different ways: XLNet's
answers -1, and positions of the RoBERTa family begin after the padding id.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tasks.core.data.params import TokenizationParams
from tasks.core.errors import RAISED_BY_MODELS, ModelError, SettingsError, first_line
from tasks.core.models import classifier as modeling
from tasks.core.models import folders
from tasks.core.models.batching import plan
from tasks.core.models.classifier import Classifier

_FIELD = "tokenization.max_length_tokens"
_SHORTEST = 8  # tokens; the form allows no smaller maximum length


def try_base_model(folder: Path, tokenization: TokenizationParams) -> list[str]:
    """Check that a base model can be trained on reviews of the requested length.

    Args:
        folder: config, tokenizer and safetensors.
        tokenization: the tokenization settings.
    Returns:
        Remarks for people, one sentence each.
    Raises:
        ModelError: it cannot be loaded or run, or the weights do not belong to it.
        SettingsError: it does not take reviews of the requested length.
    """
    classifier = modeling.load_for_training(folder, ["no", "yes"], tokenization, 0.0)
    length = tokenization.max_length_tokens
    limit = _longest(classifier, length)
    if limit < length:
        raise SettingsError(
            f"The model takes at most {limit} tokens, but {length} are requested",
            _FIELD,
            f"set --tokenization.max-length-tokens={limit} or lower",
        )
    for tried_length in (_SHORTEST, max(_SHORTEST, length * 5 // 64 * 8)):
        if problem := _problem(classifier, tried_length, training=True):
            raise _useless(classifier, f"trained on reviews of {tried_length} tokens: {problem}")
    return [*classifier.notes, *_beyond_its_statement(folder, length)]


def longest_input(folder: Path, most: int) -> int:
    """Return the number of tokens that a folder's model takes, up to `most`.

    Raises:
        ModelError: as for `try_base_model`.
    """
    params = TokenizationParams(max_length_tokens=most)
    return _longest(modeling.load_for_training(folder, ["no", "yes"], params, 0.0), most)


def _longest(classifier: Classifier, most: int) -> int:
    if not _problem(classifier, most):
        return most
    good, bad = _SHORTEST, most
    if problem := _problem(classifier, good):
        raise _useless(classifier, f"run on reviews of {good} tokens: {problem}")
    while bad - good > 1:
        middle = (good + bad) // 2
        good, bad = (good, middle) if _problem(classifier, middle) else (middle, bad)
    return good


def _problem(classifier: Classifier, length: int, training: bool = False) -> str:
    """Return the problem of running the model on one review of `length` tokens, or an empty string."""
    model: Any = classifier.model
    ids, mask = map(torch.from_numpy, plan.pad([_review(classifier, length)], 0))
    try:
        with torch.no_grad(), torch.random.fork_rng([]):
            logits = model.train(training)(input_ids=ids, attention_mask=mask).logits
    except RAISED_BY_MODELS as error:
        if "memory" in str(error):  # the machine's memory, not a problem of the model
            raise
        return first_line(error)
    shape = (1, len(classifier.label_names))
    if tuple(logits.shape) != shape:
        return f"its logits have the shape {tuple(logits.shape)} instead of {shape}"
    return "" if torch.isfinite(logits).all() else "its logits are NaN or infinite"


def _review(classifier: Classifier, length: int) -> list[int]:
    """Return a row of random tokens between the special tokens. It includes the vocabulary's last token."""
    encoder = classifier.encoder
    before, after = encoder.frame
    special = {*encoder.tokenizer.all_special_ids, classifier.pad_id}
    words = sorted(set(encoder.tokenizer.get_vocab().values()) - special) or [0]
    room = max(length - len(before) - len(after), 1)
    chosen = np.random.default_rng(0).choice(words, room)
    chosen[0] = words[-1]
    return [*before, *chosen.tolist(), *after]


def _useless(classifier: Classifier, problem: str) -> ModelError:
    name = type(classifier.model).__name__
    return ModelError(
        f"A {name} of this configuration cannot be {problem}", "training.base_model", "choose another base model"
    )  # fmt: skip


def _beyond_its_statement(folder: Path, requested: int) -> Iterator[str]:
    """Yield a warning if the requested length exceeds the one in config.json.

    Rotary and relative positions take any length, but a model may be less accurate on lengths it was not trained on.
    """
    stated = getattr(folders.read_config(folder).get_text_config(), "max_position_embeddings", 0)  # fmt: skip
    if isinstance(stated, int) and 0 < stated < requested:
        yield (
            f"config.json says that the model was trained for {stated:,} tokens, but {requested:,} are requested "
            f"({_FIELD}): its answers to longer reviews may be less accurate"
        )
