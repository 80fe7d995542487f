"""Trainings to be compared: the textbook's `Trainer`, its usual improvements one by one, and Nightshift's."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import transformers
from datasets import Dataset
from transformers import (
    AutoModelForSequenceClassification,
    DataCollatorWithPadding,
    PrinterCallback,
    Trainer,
    TrainingArguments,
)

from benchmarks.speed import data, subject
from tasks.core.data.params import TokenizationParams
from tasks.core.data.tokens.tokenization import Encoder
from tasks.core.models import devices, folders
from tasks.core.models.classifier import Classifier
from tasks.core.training import fine_tuning
from tasks.core.training.job import TrainingJob
from tasks.core.training.params import TrainingParams
from tasks.core.training.protocols import SilentListener

DEFAULTS = "Nightshift, defaults"
TEXTBOOK = "textbook's Trainer: padded to 512, fp32"
_BOOK = TokenizationParams(max_length_tokens=512, truncation="head", strip_markup=False)


@dataclass(frozen=True)
class Recipe:
    """A way to train. `ours` is passed to `fine_tune`; without it, `book` is passed to a Trainer as in the textbook."""

    name: str
    tokenization: TokenizationParams = _BOOK
    ours: dict[str, Any] | None = None
    book: dict[str, Any] = field(default_factory=dict)
    padded: bool = False  # to the maximum length, whatever the review's length
    #: The training size as a multiple of the textbook's. Fixed costs per training, such as comparing bf16 with fp32,
    #: would distort a training of seconds, though they do not matter in one of hours.
    times: int = 1

    def settings(self) -> dict[str, Any]:
        """Return all settings, for a digest."""
        told = dataclasses.asdict(self) | {"tokenization": self.tokenization.model_dump()}
        del told["times"]  # concerns the timing, not the training
        return told


def recipes(longest: int = 512) -> list[Recipe]:
    """Return the ladder, the textbook first; each recipe adds to the one before. `defaults` is Nightshift's default.

    Args:
        longest: maximum input length of the base model, in tokens.
    """
    book = _BOOK.model_copy(update={"max_length_tokens": longest})
    short = TokenizationParams(max_length_tokens=min(256, longest))
    own = {"attention_dropout": 0.1, "precision": "fp32"}
    grouped = {"train_sampling_strategy": "group_by_length"}
    found = [
        Recipe(TEXTBOOK, book, padded=True),
        Recipe("+ padding to the batch", book),
        Recipe("+ lengths grouped", book, book=grouped),
        Recipe("Nightshift's loop, attention dropout 0.1, fp32", book, own),
        Recipe("+ attention dropout 0", book, own | {"attention_dropout": 0.0}, times=4),
        Recipe("+ bf16", book, {"attention_dropout": 0.0}, times=8),
        Recipe("+ all dropout 0", book, {"attention_dropout": 0.0, "hidden_dropout": 0.0}, times=8),
        Recipe(DEFAULTS, short, {}, times=8),
        Recipe("defaults, all dropout 0", short, {"hidden_dropout": 0.0}, times=8),
        Recipe("defaults, half of the layers frozen", short, {"frozen_layers": -1}, times=8),
    ]
    if devices.resolve_precision("auto", devices.resolve_device("auto")) != "bf16":
        found = [recipe for recipe in found if recipe.name != "+ bf16"]
    return found


@dataclass(frozen=True)
class Prepared:
    """Tokens of a recipe, made beforehand, so that they are not part of the time."""

    recipe: Recipe
    base: Path
    train: Dataset
    validation: Dataset


def prepared(recipe: Recipe, base: Path, train: data.Reviews, validation: data.Reviews) -> Prepared:
    """Tokenize for a recipe."""
    encoder = Encoder(folders.load_tokenizer(base), recipe.tokenization)
    rows = subject.tokenized(encoder, train)
    if recipe.padded:
        width, pad = recipe.tokenization.max_length_tokens, encoder.tokenizer.pad_token_id
        padded = [_padded(row["input_ids"], width, pad) for row in rows]
        rows = Dataset.from_list(padded).add_column("labels", train.labels)
        rows = rows.add_column("length", [sum(row["attention_mask"]) for row in padded])
    return Prepared(recipe, base, rows, subject.tokenized(encoder, validation))


def _padded(ids: Sequence[int], width: int, pad: Any) -> dict[str, Any]:
    spare = width - len(ids)
    return {"input_ids": [*ids, *[pad] * spare], "attention_mask": [1] * len(ids) + [0] * spare}


def run(given: Prepared, folder: Path, epochs: int = 1, seed: int = 42) -> Classifier:
    """Train from the pretrained weights."""
    if given.recipe.ours is None:
        return _by_the_book(given, folder, epochs, seed)
    settings = dict(given.recipe.ours)
    if settings.get("frozen_layers") == -1:
        depth = folders.read_config(given.base).get_text_config().num_hidden_layers
        settings["frozen_layers"] = depth // 2
    whole: dict[str, Any] = {"epochs": epochs, "seed": seed, "best_epoch_by": "last"}
    params = TrainingParams.model_validate(whole | settings)
    done = fine_tuning.fine_tune(
        TrainingJob(
            base_folder=given.base,
            label_names=data.LABELS,
            tokenization=given.recipe.tokenization,
            params=params,
        ),
        given.train,
        given.validation,
        folder,
        SilentListener(),
    )
    return done.classifier


def _by_the_book(given: Prepared, folder: Path, epochs: int, seed: int) -> Classifier:
    """Train with `Trainer`'s own defaults: AdamW at 5e-5, batches of 8 made 16, and no warm-up."""
    transformers.set_seed(seed)
    tokenizer = folders.load_tokenizer(given.base)
    model = AutoModelForSequenceClassification.from_pretrained(
        given.base, num_labels=len(data.LABELS), pad_token_id=tokenizer.pad_token_id
    )
    settings: dict[str, Any] = {
        "num_train_epochs": epochs, "per_device_train_batch_size": 16, "seed": seed,
        "report_to": "none", "disable_tqdm": True, "save_strategy": "no", "logging_strategy": "no",
        "use_cpu": devices.resolve_device("auto").type == "cpu", "dataloader_pin_memory": False,
    }  # fmt: skip
    trainer = Trainer(
        model=model,
        args=TrainingArguments(output_dir=str(folder), **settings | given.recipe.book),
        train_dataset=given.train,
        data_collator=DataCollatorWithPadding(tokenizer),
    )
    trainer.remove_callback(PrinterCallback)
    trainer.train()
    encoder = Encoder(tokenizer, given.recipe.tokenization)
    return Classifier(model.to("cpu").eval(), encoder, list(data.LABELS))
