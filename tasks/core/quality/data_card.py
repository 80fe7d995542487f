"""The data card: a description of a model's training and test data, in the format of Hugging Face dataset cards.

It contains no review text, so it may be shown wherever the figures may. It is made from summaries only, so that a page
can make it again instead of using a file that others may have written.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import yaml
from pydantic import Field

from tasks.core.markdown import Markdown, bullets, code, table
from tasks.core.quality.inspection import QUANTILES, InspectionSummary
from tasks.core.quality.params import InspectionParams
from tasks.core.records import Finding, Record, SourceFile, SplitSummary

_SIZES = [(10**3, "n<1K"), (10**4, "1K<n<10K"), (10**5, "10K<n<100K"), (10**6, "100K<n<1M")]


class Origin(Record):
    """Origin of the reviews, and the parameters of their split."""

    source: str
    loaded_digest: str
    columns: list[str]
    split_params: dict[str, Any]
    digest: str  # of the split
    label_map: str = ""  # as it was typed
    files: list[SourceFile] = Field(default=[], description="The first of each split.")
    more_files: dict[str, int] = Field(default_factory=dict, description="Beyond those, a split.")


def data_card(
    origin: Origin,
    split: SplitSummary,
    findings: Sequence[Finding],
    inspection: InspectionSummary,
    params: InspectionParams,
) -> Markdown:
    """Return the data card as a page shows it.

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
    "Reviews are written by people and may name people, places and occasions; nothing was looked for or removed. "
    "Whoever has rights to the object store can read them there. This card holds counts only.\n"
)


def front_matter(split: SplitSummary, params: InspectionParams) -> str:
    """Return the YAML that precedes the card in a file. It is not Markdown, and a page must not show it as such."""
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
    languages = params.language.replace(",", ", ") or "unknown; nobody has said"
    return Markdown(
        "- Source: {}\n"
        "- Digest of what was read: {}; of these splits: {}\n"
        "- Columns of the source: {}; here `text`, `label` (class id), `row` (where in the source) and `extras` (the "
        "other columns that were asked for)\n"
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
    """Return a table of the files, their splits, and the reasons for these."""
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
        "\nDrawn at random, stratified by class ({}). Validation chooses the epoch and is taken from the "
        "source's train. The test set is the source's own; where it has none, one was held out once and stays the "
        "test set of later retrainings.\n\n"
        "- Digest of train and validation: {}\n"
        "- Digest of the test set, by which evaluations are comparable: {}\n"
    ).format(settings, code(split.train_digest), code(split.test_digest))


def _lengths(inspection: InspectionSummary) -> Markdown:
    rows = [[n, *words, f"{inspection.mean_words[n]:.1f}"] for n, words in inspection.words.items()]
    marks = ["least", *(f"{q:.0%}" for q in QUANTILES[1:-1]), "most"]
    return Markdown("Words a review, quantiles.\n\n") + _table(["split", *marks, "mean"], rows)


def _near_duplicates(inspection: InspectionSummary) -> Markdown:
    if not inspection.enabled:
        return Markdown("Not looked for.\n")
    rows = [
        [f"within {o.split}" if o.split == o.other_split else f"{o.split} and {o.other_split}",
         o.pairs, o.identical, o.other_label]
        for o in inspection.near_duplicates
    ]  # fmt: skip
    return Markdown(
        "Two reviews are near-duplicates when they share at least {:.0%} of their word triples (Jaccard). The same "
        "text, but for case, markup and white space, was dropped from train by validation.\n\n{}\n{:,} test reviews "
        "have a near-duplicate in train or validation. They are kept; `near-duplicates.csv` lists them.\n"
    ).format(
        inspection.similarity,
        _table(["where", "pairs", "of the same words", "with different labels"], rows),
        inspection.test_rows_near_train,
    )


def _label_errors(inspection: InspectionSummary) -> Markdown:
    if not inspection.rows_judged:
        return Markdown("Not looked for.\n")
    rows = [
        [split, judged, inspection.likely_label_errors[split],
         f"{inspection.likely_label_errors[split] / judged:.1%}"]
        for split, judged in inspection.rows_judged.items()
    ]  # fmt: skip
    return Markdown(
        "Reviews whose label confident learning doubts, by models (TF-IDF + logistic regression) that never saw them. "
        "Some are errors, some are irony or rare opinions; all are kept, and `label-errors.csv` lists them.\n\n"
    ) + _table(["split", "judged", "likely wrong", "share"], rows)


def _findings(findings: Sequence[Finding]) -> Markdown:
    if not findings:
        return Markdown("Nothing was found.\n")
    rows = [[f.severity, f.split, f.rule, f.message] for f in findings]
    return _table(["severity", "split", "rule", "what"], rows)


def _limits(inspection: InspectionSummary) -> Markdown:
    limits = [
        *inspection.notes,
        "A short review that differs in one word from another shares few word triples with it, and is not a "
        "near-duplicate here.",
        "The same opinion in other words, or a translation, is not found.",
        "Who wrote a review is not known: one author's reviews may be in both train and test.",
    ]
    return bullets(limits)


def _table(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> Markdown:
    return table(columns, [[f"{v:,}" if isinstance(v, int) else v for v in row] for row in rows])
