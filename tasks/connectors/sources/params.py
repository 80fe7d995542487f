"""Settings of a source of labelled reviews, as people fill them in."""

from pydantic import Field, field_validator

from tasks.core.data.label_map import LabelMap
from tasks.core.data.labels import NotALabelError, canonical_label, meaning
from tasks.core.formats.detection.text_encodings import UTF8, canonical_encoding
from tasks.core.forms import Form
from tasks.core.parsing.pairs import PairsText

SAMPLE = "sample"


class SourceParams(Form):
    """The location of labelled reviews, and the columns to read."""

    location: str = Field(
        default=SAMPLE,
        min_length=1,
        description="'sample' (the reviews that come with Nightshift), s3://bucket/prefix, a local file or folder "
        "(Parquet, CSV, TSV, JSONL; gz, zst or bz2), or a hub data set such as stanfordnlp/imdb. Files and folders "
        "named train, test, validation and the like are those splits; where none is named train, the others are.",
    )
    test_location: str | None = Field(
        default=None,
        description="Where the test reviews are, if apart. Empty: the source's own test split, or a share of it.",
    )
    splits: PairsText = Field(
        default="",
        max_length=4_000,
        description="Which split a file, a folder or a split of a hub data set is, where its name does not say: "
        "2025.csv=test, old/*=-, validation=test (train, test, validation, or - to leave it out).",
    )
    text_column: str = Field(
        default="text", min_length=1, description="Column that holds the review."
    )
    label_column: str = Field(
        default="label", min_length=1, description="Column that holds the class."
    )
    label_names: list[str] = Field(
        default=[],
        description="The classes in order of their ids, as in [NEGATIVE, POSITIVE]. Empty: as the source says, "
        "else the distinct labels in sorted order.",
    )
    label_map: PairsText = Field(
        default="",
        max_length=20_000,
        description="What labels mean: 1=NEGATIVE, 2=NEGATIVE, 4=POSITIVE, 5=POSITIVE, 3=- (- leaves such rows out). "
        "Empty: labels are what the source has.",
    )
    slice_columns: list[str] = Field(
        default=[],
        max_length=20,
        description="Further columns (language, product, shop) by which the test set is cut into slices: a model that "
        "is worse on one of them is found out.",
    )
    encoding: str = Field(
        default=UTF8,
        max_length=40,
        description="Of CSV, TSV and JSONL, such as cp1252. Files that are UTF-8, or whose byte order mark says what "
        "they are (UTF-16), are found out.",
    )
    hub_configuration: str | None = Field(
        default=None, description="Configuration of a hub data set, where it has several."
    )
    hub_revision: str | None = Field(
        default=None,
        description="Branch, tag or commit of a hub data set. Empty takes the newest and records which it was.",
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
