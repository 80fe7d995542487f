"""The step that collects and tokenizes the reviews for further pre-training of a base model."""

import logging
from pathlib import Path

import tokenizers

from tasks.connectors.sources.base import Source, Unreadable
from tasks.connectors.sources.registry import open_unlabelled
from tasks.core.data import tables
from tasks.core.data.early_end import refuse_useless
from tasks.core.data.params import TokenizationParams
from tasks.core.data.tokens.token_tables import write_tokens
from tasks.core.data.tokens.tokenization import Encoder
from tasks.core.errors import MissingDataError
from tasks.core.models import folders as model_folders
from tasks.core.records import HeldOutSummary, Reference, SplitSummary
from tasks.core.training.pretraining.language_models import objective_of
from tasks.core.training.pretraining.params import PretrainingParams
from tasks.core.training.pretraining.rows import PretrainingRows, gather
from tasks.core.training.records import BaseModelSummary, PretrainingTokensSummary
from tasks.runtime.clients import object_store
from tasks.runtime.steps import fetched, reuse_or_make, step

logger = logging.getLogger(__name__)

# Increment when the step's code changes its output, so that no output of the old code is reused.
PRETRAINING_TOKENS_VERSION = 1
_UNREADABLE = "could not be decoded"
_ROW_FIELDS = {"limit_rows", "seed"}


@step
def gather_pretraining_reviews(
    split: Reference[SplitSummary],
    held_out: Reference[HeldOutSummary],
    base: Reference[BaseModelSummary],
    tokenization: TokenizationParams,
    params: PretrainingParams,
) -> Reference[PretrainingTokensSummary]:
    """Tokenize the whole reviews to pre-train on. Copies of test and validation reviews are excluded and counted.

    Args:
        split: the split; its training reviews are included, its validation reviews are not.
        held_out: the test set, whichever part of it the split uses.
        base: the base model whose tokenizer is used.
        tokenization: the maximum length of a piece of a review.
        params: where unlabelled reviews are.
    Raises:
        MissingDataError: the location is empty.
        ModelError: the base model cannot be pre-trained.
    """
    source = _source(params)
    inputs = {
        "version": PRETRAINING_TOKENS_VERSION,
        "rows": split.summary.train_digest,
        "held_out": held_out.digest,
        "base_model": base.digest,
        "source": source and {"identity": source.identity(), "column": params.text_column},
        "choice": params.identity(include=_ROW_FIELDS),
        "tokenization": tokenization.identity(exclude={"truncation"}),
        "tokenizers": tokenizers.__version__,
    }

    def make(folder: Path) -> PretrainingTokensSummary:
        with fetched(base) as model:
            objective = objective_of(model, base.summary.name)
            encoder = Encoder(model_folders.load_tokenizer(model), tokenization)
        unlabelled, unreadable = _unlabelled(source)
        rows = _chosen(split, held_out, unlabelled, params)
        return PretrainingTokensSummary(
            source=params.location,
            objective=objective,
            left_out=rows.left_out | {_UNREADABLE: unreadable},
            **_tokens(folder, encoder, rows),
        )

    reference = reuse_or_make("pretraining-tokens", inputs, PretrainingTokensSummary, make)
    summary = reference.summary
    logger.info(
        "Pre-training: %s tokens in %s reviews, %s of them held out; left out: %s",
        f"{sum(summary.tokens.values()):,}",
        f"{sum(summary.rows.values()):,}",
        f"{summary.rows['held_out']:,}",
        ", ".join(f"{count:,} {why}" for why, count in summary.left_out.items() if count) or "none",
    )
    return reference


def _tokens(folder: Path, encoder: Encoder, rows: PretrainingRows) -> dict[str, dict[str, int]]:
    """Write the pieces of the reviews; return rows, pieces and tokens of each part."""
    parts = {"train": rows.train, "held_out": rows.held_out}
    counts: dict[str, dict[str, int]] = {"rows": {}, "pieces": {}, "tokens": {}}
    for name, texts in parts.items():
        ids = encoder.pieces(texts)
        write_tokens(folder / f"{name}.parquet", ids)
        counts["rows"][name], counts["pieces"][name] = len(texts), len(ids)
        counts["tokens"][name] = sum(map(len, ids))
    if not all(counts["pieces"].values()):
        raise MissingDataError("The reviews have no tokens", "", "check pretraining.location")
    return counts


def _source(params: PretrainingParams) -> Source | None:
    if not params.location:
        return None
    return open_unlabelled(params.location, params.text_column, object_store)


def _unlabelled(source: Source | None) -> tuple[list[str | None], int]:
    """Return the texts of the unlabelled reviews, and the number of rows that could not be decoded.

    Raises:
        MissingDataError: there is no readable row.
        ValidationError: most of the first million rows or more are unreadable.
    """
    if source is None:
        return [], 0
    splits = [split for split in source.splits() if split != "test"]
    texts, unreadable = list[str | None](), 0
    all_rows = (row for split in splits for row in source.rows(split))
    for number, row in enumerate(all_rows, start=1):
        if isinstance(row, Unreadable):
            unreadable += 1
            refuse_useless(unreadable, number, row.problem, source.name)
        else:
            texts.append(row.text)
    if not any(texts):
        raise MissingDataError("No review can be read", source.name, "check pretraining.location")
    logger.info("Read %s unlabelled reviews from %s", f"{len(texts):,}", source.name)
    return texts, unreadable


def _chosen(
    split: Reference[SplitSummary],
    held_out: Reference[HeldOutSummary],
    unlabelled: list[str | None],
    params: PretrainingParams,
) -> PretrainingRows:
    with (
        fetched(split, "train.parquet", "validation.parquet") as labelled,
        fetched(held_out, "test.parquet") as apart,
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
