"""Steps that pre-train a base model further on the user's reviews: which reviews, and the pre-training itself."""

import logging
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import tokenizers
import torch
import transformers
from datasets import Dataset

from tasks.connect import model_registry, object_store, prepared_store
from tasks.connectors.sources import Source, open_unlabelled
from tasks.connectors.sources.base import Unreadable
from tasks.connectors.tracked_runs import Run
from tasks.core import modeling, tables
from tasks.core.digests import digest_of
from tasks.core.errors import MissingDataError
from tasks.core.pretraining import objective_of, pretrain
from tasks.core.pretraining_params import PretrainingParams
from tasks.core.pretraining_rows import PretrainingRows, gather
from tasks.core.records import (
    BaseModelSummary,
    HeldOutSummary,
    PretrainingSummary,
    PretrainingTokensSummary,
    Reference,
    SplitSummary,
)
from tasks.core.tokenization import Encoder, TokenizationParams
from tasks.core.training import TrainingParams
from tasks.gpu_turns import turn_on
from tasks.provenance import flow_run_id
from tasks.steps import fetched, reuse_or_make, step
from tasks.tidying import FLOW_RUN_TAG
from tasks.training import Listener, require_space

logger = logging.getLogger(__name__)

# Raised when the code of a step changes what it makes, so that nothing made by the old code is reused.
PRETRAINING_TOKENS_VERSION = 1
PRETRAINING_VERSION = 1
_BYTES_A_PARAMETER = 12  # on disk: the base model's copy, the result, and the result's upload
_UNREADABLE = "could not be decoded"
_OF_ROWS = {"limit_rows", "seed"}


@step
def gather_pretraining_reviews(
    split: Reference[SplitSummary],
    held_out: Reference[HeldOutSummary],
    base: Reference[BaseModelSummary],
    tokenization: TokenizationParams,
    params: PretrainingParams,
) -> Reference[PretrainingTokensSummary]:
    """Tokens of the reviews to pre-train on, whole; copies of test and validation reviews are left out and counted.

    Args:
        split: whose training reviews are among them, and whose validation reviews are not.
        held_out: the test set, whichever part of it the split uses.
        base: whose tokenizer it is.
        tokenization: how long a piece of a review may be.
        params: where unlabelled reviews are.
    Raises:
        MissingDataError: nothing is there.
        ModelError: the base model cannot be pre-trained.
    """
    source = _source(params)
    inputs = {
        "version": PRETRAINING_TOKENS_VERSION,
        "rows": split.summary.train_digest,
        "held_out": held_out.digest,
        "base_model": base.digest,
        "source": source and {"identity": source.identity(), "column": params.text_column},
        "choice": params.model_dump(include=_OF_ROWS),
        "tokenization": tokenization.model_dump(exclude={"truncation"}),
        "tokenizers": tokenizers.__version__,
    }

    def make(folder: Path) -> PretrainingTokensSummary:
        with fetched(base.uri) as model:
            objective = objective_of(model, base.summary.name)
            encoder = Encoder(modeling.load_tokenizer(model), tokenization)
        unlabelled, unreadable = _unlabelled(source)
        rows = _chosen(split, held_out, unlabelled, params)
        tokens: dict[str, int] = {}
        pieces: dict[str, int] = {}
        parts = {"train": rows.train, "held_out": rows.held_out}
        for name, texts in parts.items():
            ids = encoder.pieces(texts)
            _write(folder / f"{name}.parquet", ids)
            tokens[name], pieces[name] = sum(map(len, ids)), len(ids)
        if not all(pieces.values()):
            raise MissingDataError("The reviews have no tokens", "", "check pretraining.location")
        return PretrainingTokensSummary(
            source=params.location,
            objective=objective,
            rows={name: len(texts) for name, texts in parts.items()},
            pieces=pieces,
            tokens=tokens,
            left_out=rows.left_out | {_UNREADABLE: unreadable},
        )

    made = reuse_or_make("pretraining-tokens", inputs, PretrainingTokensSummary, make)
    found = made.summary
    logger.info(
        "Pre-training: %s tokens in %s reviews, %s of them held out; left out: %s",
        f"{sum(found.tokens.values()):,}",
        f"{sum(found.rows.values()):,}",
        f"{found.rows['held_out']:,}",
        ", ".join(f"{count:,} {why}" for why, count in found.left_out.items() if count) or "none",
    )
    return made


def _source(params: PretrainingParams) -> Source | None:
    if not params.location:
        return None
    return open_unlabelled(params.location, params.text_column, object_store)


def _unlabelled(source: Source | None) -> tuple[list[str | None], int]:
    """Texts of the unlabelled reviews, and how many rows could not be decoded.

    Raises:
        MissingDataError: there is not one readable row.
    """
    if source is None:
        return [], 0
    splits = [split for split in source.splits() if split != "test"]
    rows = [row for split in splits for row in source.rows(split)]
    texts = [row.text for row in rows if not isinstance(row, Unreadable)]
    if not any(texts):
        raise MissingDataError(
            "There is not one readable review", source.name, "check pretraining.location"
        )
    logger.info("Read %s unlabelled reviews from %s", f"{len(texts):,}", source.name)
    return texts, len(rows) - len(texts)


def _chosen(
    split: Reference[SplitSummary],
    held_out: Reference[HeldOutSummary],
    unlabelled: list[str | None],
    params: PretrainingParams,
) -> PretrainingRows:
    with (
        fetched(split.uri, "train.parquet", "validation.parquet") as labelled,
        fetched(held_out.uri, "test.parquet") as apart,
    ):
        folders = {"train": labelled, "validation": labelled, "test": apart}
        texts = {
            name: [row.text or "" for row in tables.read_labelled(folder / f"{name}.parquet")]
            for name, folder in folders.items()
        }
    return gather(
        texts["train"],
        unlabelled,
        texts["validation"],
        texts["test"],
        params.limit_rows,
        params.seed,
    )


def _write(path: Path, ids: list[list[int]]) -> None:
    table = pa.table(
        {
            "input_ids": pa.array(ids, pa.list_(pa.int32())),
            "length": pa.array([len(piece) for piece in ids], pa.int32()),
        }
    )
    pq.write_table(table, path, compression="zstd")


@step
def find_pretraining(
    tokens: str, base_model: str
) -> tuple[Reference[PretrainingTokensSummary], Reference[BaseModelSummary]]:
    """What a pre-training needs, by where it lies. Raises MissingDataError where it is gone."""
    prepared = prepared_store()
    return (
        prepared.reference(tokens, PretrainingTokensSummary),
        prepared.reference(base_model, BaseModelSummary),
    )


@step
def pretrain_base_model(
    tokens: Reference[PretrainingTokensSummary],
    base: Reference[BaseModelSummary],
    training: TrainingParams,
    params: PretrainingParams,
) -> Reference[BaseModelSummary]:
    """Pre-train a base model further, unless exactly this has been done before. One that dies begins again.

    Args:
        tokens: what it is pre-trained on.
        base: what it starts from.
        training: on which device, and in which precision.
        params: the settings.
    Raises:
        DiskFullError: less room than it needs, found before it begins.
        ModelError, SettingsError: the model or the device will not do.
    """
    device = modeling.resolve_device(training.device)
    precision = modeling.resolve_precision(training.precision, device)
    inputs = {
        "version": PRETRAINING_VERSION,
        "base_model": base.digest,
        "pretraining_tokens": tokens.digest,
        "pretraining": params.model_dump(exclude={"location", "text_column", "limit_rows"}),
        "device": device.type,
        "precision": precision,
        "torch": torch.__version__.split("+")[0],
        "transformers": transformers.__version__,
    }
    name = f"{base.summary.name}+pretraining"

    def make(folder: Path) -> BaseModelSummary:
        require_space(folder, base.summary.parameters * _BYTES_A_PARAMETER)
        facts = {
            "data": tokens.digest,
            "base": base.summary.name,
            "revision": base.summary.revision,
        }
        tags = {"nightshift.step": "pretrain", FLOW_RUN_TAG: flow_run_id()}
        settings = params.model_dump() | facts
        with (
            model_registry().run(name.rsplit("/", 1)[-1], settings, tags) as run,
            turn_on(device),
        ):
            done = _pretrain(folder, tokens, base, params, device, precision, run)
        return BaseModelSummary(
            name=name,
            revision=f"{base.summary.revision}+{digest_of(inputs)[:12]}",
            architecture=base.summary.architecture,
            parameters=modeling.parameters(folder),
            pretraining=done,
        )

    made = reuse_or_make("pretrained-base", inputs, BaseModelSummary, make)
    say_pretrained(made.summary)
    return made


def say_pretrained(summary: BaseModelSummary) -> None:
    """One line on how a pre-training went; for the page of the run that asked for it, too."""
    if done := summary.pretraining:
        logger.info(
            "Pre-trained %s on %s reviews in %.0f s (%s on %s): held-out loss %.4f, before %.4f",
            summary.name,
            f"{done.reviews:,}",
            done.seconds,
            done.precision,
            done.device,
            done.held_out_losses[-1],
            done.held_out_losses[0],
        )


def _pretrain(
    folder: Path,
    tokens: Reference[PretrainingTokensSummary],
    base: Reference[BaseModelSummary],
    params: PretrainingParams,
    device: torch.device,
    precision: modeling.Precision,
    run: Run,
) -> PretrainingSummary:
    listener = Listener(run, "Pre-training", "pretraining-progress")
    with fetched(base.uri) as model, fetched(tokens.uri) as data:
        train, held_out = (
            Dataset.from_parquet(
                str(data / f"{part}.parquet"), cache_dir=str(data / "cache"), keep_in_memory=True
            )
            for part in ("train", "held_out")
        )
        facts = pretrain(
            model,
            base.summary.name,
            train,
            held_out,
            params,
            device,
            precision,
            data / "work",
            folder,
            listener,
            show_progress=sys.stderr.isatty(),
        )
    return PretrainingSummary(
        base_revision=base.summary.revision,
        reviews=tokens.summary.rows["train"],
        epochs=params.epochs,
        mlflow_run_id=run.id,
        **facts,
    )
