"""The model that scores: MiniLM fine-tuned on IMDb once, and kept by the digest of its settings."""

import argparse
import dataclasses
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from datasets import Dataset

from benchmarks.speed import data
from tasks.connectors.model_hub import base_model_folder
from tasks.core.data.params import TokenizationParams
from tasks.core.data.tokens.tokenization import Encoder
from tasks.core.digests import digest_of
from tasks.core.models import classifier, folders
from tasks.core.models.base_model import trial
from tasks.core.training import fine_tuning
from tasks.core.training.job import TrainingJob
from tasks.core.training.params import TrainingParams
from tasks.core.training.protocols import SilentListener

HOME = Path(".nightshift/bench")


@dataclass(frozen=True)
class Subject:
    """The model's settings; the defaults are the model of the tables.

    Its tokens are those of `transformers.pipeline(truncation=True)`: the beginning, up to 512, including markup, so
    that all sides score the same.
    """

    base: str = "minilm"
    rows: int = 4000
    validation_rows: int = 500
    epochs: int = 2
    learning_rate: float = 1e-4
    max_length_tokens: int = 512
    truncation: str = "head"
    strip_markup: bool = False
    seed: int = 42

    def tokenization(self) -> TokenizationParams:
        return TokenizationParams.model_validate(
            {
                "max_length_tokens": self.max_length_tokens,
                "truncation": self.truncation,
                "strip_markup": self.strip_markup,
            }
        )


def of(given: argparse.Namespace) -> Path:
    """Return the model that a command asks for."""
    tokens = 512
    if given.base != "minilm":
        tokens = min(tokens, trial.longest_input(base_model_folder(given.base, None)[0], tokens))
    made = Subject(base=given.base, rows=given.train_rows, max_length_tokens=tokens)
    return trained(made, given.imdb, given.home)


def trained(subject: Subject, imdb: Path | None, home: Path = HOME) -> Path:
    """Return the folder of the model; train it if it does not exist (some fifteen minutes on two cores)."""
    reviews = data.read("train", imdb, subject.rows + subject.validation_rows)
    base, revision = base_model_folder(subject.base, None)
    facts = dataclasses.asdict(subject) | {"base": revision, "source": reviews.source}
    if revision == "local":
        facts["base"] = str(base.resolve())
    folder = home / "models" / digest_of(facts)[:16]
    if folder.exists():
        return folder
    encoder = Encoder(folders.load_tokenizer(base), subject.tokenization())
    everything = tokenized(encoder, reviews)
    kept_back = min(subject.validation_rows, len(everything) // 5)
    train = everything.select(range(len(everything) - kept_back))
    validation = everything.select(range(len(train), len(everything)))
    params = TrainingParams(
        epochs=subject.epochs, learning_rate=subject.learning_rate, seed=subject.seed
    )
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as name:
        work = Path(name)
        done = fine_tuning.fine_tune(
            TrainingJob(
                base_folder=base,
                label_names=data.LABELS,
                tokenization=subject.tokenization(),
                params=params,
            ),
            train,
            validation,
            work / "checkpoints",
            SilentListener(),
        )
        classifier.save(done.classifier, work / "model")
        shutil.move(work / "model", folder)
    return folder


def cut_as_the_pipeline_does(model: Path, home: Path) -> Path:
    """Return a model with the tokens of `transformers.pipeline`: itself, or a copy if its settings differ."""
    whole = classifier.load(model)
    own = whole.encoder.params
    longest = min(Subject.max_length_tokens, trial.longest_input(model, own.max_length_tokens))
    wanted = dataclasses.replace(Subject(), max_length_tokens=longest).tokenization()
    if own == wanted:
        return model
    told = {"model": str(model.resolve()), "tokenization": wanted.model_dump()}
    folder = home / "piped" / digest_of(told)[:16]
    if not folder.exists():
        encoder = Encoder(whole.encoder.tokenizer, wanted)
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent) as name:
            classifier.save(dataclasses.replace(whole, encoder=encoder), Path(name) / "model")
            shutil.move(Path(name) / "model", folder)
    return folder


def tokenized(encoder: Encoder, reviews: data.Reviews) -> Dataset:
    """Tokenize as training expects it: input_ids, length, labels."""
    rows: list[list[int]] = encoder.encode(reviews.texts).input_ids
    columns: dict[str, Any] = {
        "input_ids": rows,
        "length": [len(row) for row in rows],
        "labels": reviews.labels,
    }
    return Dataset.from_dict(columns)
