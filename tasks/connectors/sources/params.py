"""Settings of a source of labelled reviews, as people fill them in."""

from pydantic import Field, field_validator

from tasks.core.data.label_map import LabelMap
from tasks.core.data.labels import NotALabelError, canonical_label, meaning
from tasks.core.formats.detection.text_encodings import UTF8, canonical_encoding
from tasks.core.forms import Form
from tasks.core.parsing.pairs import PairsText

SAMPLE = "sample"


class SourceParams(Form):
    """Location, splits and columns of the labelled reviews."""

    location: str = Field(
        default=SAMPLE,
        min_length=1,
        description="'sample' (bundled reviews), s3://bucket/prefix, a local file or folder (Parquet, CSV, TSV, "
        "JSONL; gz, zst or bz2), or a Hugging Face data set such as stanfordnlp/imdb.",
    )
    test_location: str | None = Field(
        default=None,
        description="Location of separate test reviews. Empty: use the test split of the source, or draw one "
        "(data.split.test_fraction).",
    )
    splits: PairsText = Field(
        default="",
        max_length=4_000,
        description="Split to assign to a file, folder or hub split whose name does not tell: 2025.csv=test, old/*=- "
        "(train, test, validation, or - to skip).",
    )
    text_column: str = Field(
        default="text", min_length=1, description="Column with the review text."
    )
    label_column: str = Field(default="label", min_length=1, description="Column with the label.")
    label_names: list[str] = Field(
        default=[],
        description="Class names in the order of their ids, such as NEGATIVE, POSITIVE. Empty: names from the "
        "source, else the sorted labels.",
    )
    label_map: PairsText = Field(
        default="",
        max_length=20_000,
        description="Class for each label: 1=NEGATIVE, 2=NEGATIVE, 4=POSITIVE, 5=POSITIVE, 3=- (- drops the rows). "
        "Empty: use the labels as they are.",
    )
    slice_columns: list[str] = Field(
        default=[],
        max_length=20,
        description="Columns, such as language or product, whose values divide the test set into slices. The gate "
        "compares models on each.",
    )
    encoding: str = Field(
        default=UTF8,
        max_length=40,
        description="Encoding of CSV, TSV and JSONL files, such as cp1252. Files in UTF-8 or with a byte order mark "
        "are always detected.",
    )
    hub_configuration: str | None = Field(
        default=None,
        description="Configuration (subset) of a Hugging Face data set. Required only if it has several.",
    )
    hub_revision: str | None = Field(
        default=None,
        description="Branch, tag or commit of a Hugging Face data set. Empty: the newest commit, which is recorded.",
    )

    @field_validator("encoding")
    @classmethod
    def _encoding_is_known(cls, name: str) -> str:
        return canonical_encoding(name)

    @field_validator("label_map")
    @classmethod
    def _map_is_of_labels(cls, text: str) -> str:
        LabelMap(text)
        return text

    @field_validator("label_names")
    @classmethod
    def _names_are_of_labels(cls, names: list[str]) -> list[str]:
        try:
            spelled = [canonical_label(name) for name in names]
        except NotALabelError as error:
            raise ValueError(f"a name is {error}; write such as NEGATIVE,POSITIVE") from None
        known = [name for name in spelled if name is not None]
        if len(known) < len(names):
            raise ValueError("a name is empty")
        if len(set(map(meaning, known))) < len(known):
            raise ValueError("two names mean the same label")
        return known
