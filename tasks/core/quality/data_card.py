"""The data card: a description of a model's training and test data, in the format of Hugging Face dataset cards.

It contains no review text, so everyone who may see the metrics may see it. It is built from summaries only, so that a
page can rebuild it and need not trust a stored file, which others may have changed.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import yaml
from pydantic import Field

from tasks.core.markdown import Markdown, bullets, code, table
from tasks.core.quality.params import InspectionParams
from tasks.core.quality.records import QUANTILES, InspectionSummary
from tasks.core.records import Finding, Record, SourceFile, SplitSummary

_SIZES = [(10**3, "n<1K"), (10**4, "1K<n<10K"), (10**5, "10K<n<100K"), (10**6, "100K<n<1M")]


class Origin(Record):
    """Where the reviews came from, and how they were split."""

    source: str
    loaded_digest: str
    columns: list[str]
    split_params: dict[str, Any]
    digest: str  # of the split
    label_map: str = ""  # as the user typed it
    files: list[SourceFile] = Field(default=[], description="The first files of each split.")
    more_files: dict[str, int] = Field(
        default_factory=dict, description="Number of further files, by split."
    )


def data_card(
    origin: Origin,
    split: SplitSummary,
    findings: Sequence[Finding],
    inspection: InspectionSummary,
    params: InspectionParams,
) -> Markdown:
    """Return the body of the data card, as pages show it.

    Args:
        origin: where the reviews came from.
        split: counts and digests.
        findings: findings of validation.
        inspection: counts of the inspection.
        params: parameters of the inspection.
    """
    sections = {
        "Source": _source(origin, params) + files_list(origin.files, origin.more_files),
        "Splits": _classes(split) + _how_split(origin, split),
        "Lengths": _lengths(inspection),
        "Near-duplicates": _near_duplicates(inspection),
        "Likely label errors": _label_errors(inspection),
        "Validation": _findings([*findings, *split.findings]),
        "Known limits": _limits(inspection),
        "Personal data": _PERSONAL,
    }
    body = Markdown("\n").join(
        Markdown("## {}\n\n{}").format(title, text) for title, text in sections.items()
    )
    return Markdown("# Reviews of {}\n\n{}").format(origin.source, body)


_PERSONAL = Markdown(
    "Reviews may name people, places and occasions. Nightshift does not look for such names and removes none. Whoever "
    "may read the object store can read the reviews there. This card contains only counts.\n"
)


def front_matter(split: SplitSummary, params: InspectionParams) -> str:
    """Return the YAML that precedes the card in a file. It is not Markdown, so a page must leave it out."""
    total = sum(split.rows.values())
    size = next((name for limit, name in _SIZES if total < limit), "n>1M")
    names = {str(index): name for index, name in enumerate(split.label_names)}
    features = [
        {"name": "text", "dtype": "string"},
        {"name": "label", "dtype": {"class_label": {"names": names}}},
        {"name": "row", "dtype": "string"},
        {"name": "extras", "list": "string"},
    ]
    metadata: dict[str, Any] = {"language": params.language.split(",")} if params.language else {}
    metadata |= {
        "task_categories": ["text-classification"],
        "size_categories": [size],
        "dataset_info": {
            "features": features,
            "splits": [{"name": n, "num_examples": rows} for n, rows in split.rows.items()],
        },
    }
    return f"---\n{yaml.safe_dump(metadata, sort_keys=False, allow_unicode=True)}---\n\n"


def _source(origin: Origin, params: InspectionParams) -> Markdown:
    languages = params.language.replace(",", ", ") or "not specified"
    return Markdown(
        "- Source: {}\n"
        "- Digest of the reviews as read: {}; of these splits: {}\n"
        "- Columns of the source: {}; columns here: `text`, `label` (class id), `row` (position in the source) and "
        "`extras` (the other columns that were requested)\n"
        "- Labels: {}\n"
        "- Languages: {}\n"
    ).format(
        code(origin.source),
        code(origin.loaded_digest),
        code(origin.digest),
        Markdown(", ").join(map(code, origin.columns)),
        code(origin.label_map) if origin.label_map else "as the source has them",
        languages,
    )


def files_list(files: Sequence[SourceFile], more: Mapping[str, int]) -> Markdown:
    """Return a table of the files, the split of each, and the reason for it."""
    if not files:
        return Markdown("")
    rows = [[file.name, file.split, file.why] for file in files]
    rows += [[f"{count:,} more files", split, ""] for split, count in more.items()]
    return Markdown("\n") + _table(["file", "split", "because"], rows)


def _classes(split: SplitSummary) -> Markdown:
    rows = [[name, *counts.values(), split.rows[name]] for name, counts in split.class_rows.items()]
    return _table(["split", *split.label_names, "reviews"], rows)


def _how_split(origin: Origin, split: SplitSummary) -> Markdown:
    split_params = origin.split_params
    settings = ", ".join(
        f"{name} {value}" for name, value in split_params.items() if value is not None
    )
    return Markdown(
        "\nDrawn at random, stratified by class ({}). Validation reviews are taken from the source's train split and "
        "used to choose the epoch. The test set is the source's own. If the source has none, one was drawn once and is "
        "reused by all later retrainings.\n\n"
        "- Digest of train and validation: {}\n"
        "- Digest of the test set: {}. Evaluations with the same digest can be compared.\n"
    ).format(settings, code(split.train_digest), code(split.test_digest))


def _lengths(inspection: InspectionSummary) -> Markdown:
    rows = [[n, *words, f"{inspection.mean_words[n]:.1f}"] for n, words in inspection.words.items()]
    quantiles = ["min", *(f"{q:.0%}" for q in QUANTILES[1:-1]), "max"]
    return Markdown("Words per review: quantiles and mean.\n\n") + _table(
        ["split", *quantiles, "mean"], rows
    )


def _near_duplicates(inspection: InspectionSummary) -> Markdown:
    if not inspection.enabled:
        return Markdown("Not checked.\n")
    rows = [
        [f"within {o.split}" if o.split == o.other_split else f"{o.split} and {o.other_split}",
         o.pairs, o.identical, o.other_label]
        for o in inspection.near_duplicates
    ]  # fmt: skip
    return Markdown(
        "Two reviews are near-duplicates if they share at least {:.0%} of their word triples (Jaccard similarity). "
        "Texts that differ only in case, markup or white space were removed from train before.\n\n{}\n{:,} test "
        "reviews have a near-duplicate in train or validation. They are kept; `near-duplicates.csv` lists them.\n"
    ).format(
        inspection.similarity,
        _table(["where", "pairs", "with the same words", "with different labels"], rows),
        inspection.test_rows_near_train,
    )


def _label_errors(inspection: InspectionSummary) -> Markdown:
    if not inspection.rows_judged:
        return Markdown("Not checked.\n")
    rows = [
        [split, judged, inspection.likely_label_errors[split],
         f"{inspection.likely_label_errors[split] / judged:.1%}"]
        for split, judged in inspection.rows_judged.items()
    ]  # fmt: skip
    return Markdown(
        "Reviews whose label is likely wrong according to confident learning, with models (TF-IDF + logistic "
        "regression) that were not trained on them. Some are errors, others irony or rare opinions. All are kept; "
        "`label-errors.csv` lists them.\n\n"
    ) + _table(["split", "judged", "likely wrong", "share"], rows)


def _findings(findings: Sequence[Finding]) -> Markdown:
    if not findings:
        return Markdown("No findings.\n")
    rows = [[f.severity, f.split, f.rule, f.message] for f in findings]
    return _table(["severity", "split", "rule", "what"], rows)


def _limits(inspection: InspectionSummary) -> Markdown:
    limits = [
        *inspection.notes,
        "Short reviews that differ in one word share few word triples, so they do not count as near-duplicates.",
        "Paraphrases and translations are not found.",
        "Authors are not known: reviews of one author may be in both train and test.",
    ]
    return bullets(limits)


def _table(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> Markdown:
    return table(columns, [[f"{v:,}" if isinstance(v, int) else v for v in row] for row in rows])
