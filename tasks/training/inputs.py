"""Steps that prepare the inputs of a training: the base model's files, and tokens."""

import logging
import shutil
from pathlib import Path

import tokenizers
import torch
import transformers

from tasks.connectors.model_hub import MODEL_FILES, base_model_folder
from tasks.core.data import tables
from tasks.core.data.params import TokenizationParams
from tasks.core.data.tokens.token_tables import write_tokens
from tasks.core.data.tokens.tokenization import Encoder
from tasks.core.digests import folder_digest
from tasks.core.errors import ModelError
from tasks.core.models import folders
from tasks.core.models.base_model.trial import try_base_model
from tasks.core.records import Reference, SplitSummary
from tasks.core.training.methods import lora
from tasks.core.training.methods.layer_dropping import require_num_layers
from tasks.core.training.params import TrainingParams
from tasks.core.training.records import BaseModelSummary, BaseModelTrial, TokensSummary
from tasks.runtime.steps import fetched, reuse_or_make, step, work_folder

logger = logging.getLogger(__name__)

TOKENS_VERSION = 3
TRIAL_VERSION = 1


@step
def prepare_base_model(
    params: TrainingParams, tokenization: TokenizationParams
) -> Reference[BaseModelSummary]:
    """Find the base model, check that it can be fine-tuned, and keep its files where every worker can read them.

    Raises:
        ModelError: no such model, pickles only, or weights of another model.
        SettingsError: it does not support reviews of the requested length, or lacks the requested layers.
    """
    source, revision = base_model_folder(params.base_model, params.base_model_revision)
    folders.check_base_folder(source)
    folders.require_layers(source, params.frozen_layers)
    require_num_layers(source, params)
    lora.require_layers(params, params.num_layers or folders.depth(source))
    with work_folder("base-model") as folder:
        for pattern in MODEL_FILES:
            for path in source.glob(pattern):
                shutil.copy(path, folder)
        files = folder_digest(folder)
        _try(source, files, params.base_model, tokenization)
        inputs = {"name": params.base_model, "revision": revision, "files": files}

        def make(target: Path) -> BaseModelSummary:
            shutil.copytree(folder, target, dirs_exist_ok=True)
            return BaseModelSummary(
                name=params.base_model,
                revision=revision,
                architecture=folders.architecture(target),
                parameters=folders.parameters(target),
            )

        return reuse_or_make("base-model", inputs, BaseModelSummary, make)


def _try(folder: Path, files: str, name: str, tokenization: TokenizationParams) -> None:
    """Run a base model once per review length, and log its notes every time."""
    inputs = {
        "version": TRIAL_VERSION,
        "files": files,
        "tokenization": tokenization.identity(),
        "torch": torch.__version__.split("+")[0],
        "transformers": transformers.__version__,
    }

    def make(_: Path) -> BaseModelTrial:
        return BaseModelTrial(notes=try_base_model(folder, tokenization))

    for note in reuse_or_make("base-model-trial", inputs, BaseModelTrial, make).summary.notes:
        logger.info("%s: %s", name, note)


@step
def tokenize_reviews(
    split: Reference[SplitSummary], base: Reference[BaseModelSummary], params: TokenizationParams
) -> Reference[TokensSummary]:
    """Tokenize train and validation, unpadded, and count what had to be cut."""
    inputs = {
        "version": TOKENS_VERSION,
        "rows": split.summary.train_digest,
        "label_names": split.summary.label_names,
        "base_model": base.digest,
        "tokenization": params.identity(),
        "tokenizers": tokenizers.__version__,
    }

    def make(folder: Path) -> TokensSummary:
        tokens: dict[str, int] = {}
        truncated: dict[str, int] = {}
        names = ("train", "validation")
        with (
            fetched(base) as model,
            fetched(split, *(f"{n}.parquet" for n in names)) as rows,
        ):
            encoder = Encoder(folders.load_tokenizer(model), params)
            for name in names:
                reviews = tables.read_labelled(rows / f"{name}.parquet")
                encoded = encoder.encode([r.text for r in reviews])
                labels = [r.label for r in reviews]
                write_tokens(folder / f"{name}.parquet", encoded.input_ids, labels)
                _require_known(base.summary.name, name, encoded.unknown, len(reviews))
                tokens[name] = sum(map(len, encoded.input_ids))
                truncated[name] = encoded.truncated
        return TokensSummary(
            label_names=split.summary.label_names,
            rows={name: split.summary.rows[name] for name in names},
            tokens=tokens,
            truncated_rows=truncated,
            max_length_tokens=params.max_length_tokens,
        )

    reference = reuse_or_make("tokens", inputs, TokensSummary, make)
    for name, rows in reference.summary.rows.items():
        logger.info(
            "Tokens in %s: %s in %s reviews, of which %s were cut to %s tokens (%s)",
            name,
            f"{reference.summary.tokens[name]:,}",
            f"{rows:,}",
            f"{reference.summary.truncated_rows[name]:,}",
            params.max_length_tokens,
            params.truncation,
        )
    return reference


def _require_known(model: str, split: str, unknown: int, rows: int) -> None:
    """Raise ModelError if a tokenizer does not know most reviews; log the number if it is above zero."""
    if not unknown:
        return
    what = f"The tokenizer of {model} knows no token of {unknown:,} of {rows:,} {split} reviews"
    if 2 * unknown > rows:
        raise ModelError(
            what, "training.base_model", "choose a base model for the reviews' language and script"
        )
    logger.warning("%s; training treats them as empty", what)
