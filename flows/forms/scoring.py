"""The forms of scoring, and of the flows that verify and trace it. Does not import Prefect, to keep `--help` quick."""

from typing import Annotated, ClassVar, Literal

from pydantic import AliasChoices, Field, field_validator

from flows.forms.registry import RegisteredName
from tasks.core.formats.detection.text_encodings import UTF8, canonical_encoding
from tasks.core.forms import Form
from tasks.core.parsing.patterns import RUN_RECORDS, S3_PREFIX, SOURCE_ROW
from tasks.core.scoring.params import EngineParams, OutputFormat


class ScoreParams(Form):
    """Score every review below an S3 prefix with one version of a registered model."""

    former_names: ClassVar = {"max_rejected_fraction": "max_rejected_share"}

    input: Annotated[str, S3_PREFIX] = Field(
        default="s3://nightshift/incoming/",
        description="S3 prefix or object with the reviews: JSONL, CSV, TSV or Parquet, also compressed (gz, zst, bz2).",
    )
    output: Annotated[str, S3_PREFIX] = Field(
        default="s3://nightshift/predictions/",
        description="S3 prefix for the predictions. Each model version has its own folder, with one object per input "
        "object.",
    )
    model_name: RegisteredName = "reviews"
    model_version: str = Field(
        default="champion",
        min_length=1,
        description="Version number or alias. An alias is resolved once, when the run starts.",
    )
    text_column: str = Field(
        default="text",
        min_length=1,
        description="Column with the review text, or the path to a nested field, such as review.text.",
    )
    id_column: str = Field(
        default="id",
        min_length=1,
        description="Column with the review id. If it is missing, the row number is used.",
    )
    keep_columns: list[str] = Field(
        default=[],
        max_length=50,
        description="Columns to copy unchanged into the predictions.",
    )
    encoding: str = Field(
        default=UTF8,
        max_length=40,
        description="Encoding of CSV, TSV and JSONL files, such as cp1252. Files in UTF-8 or with a byte order mark "
        "are always detected.",
    )
    output_format: OutputFormat = Field(
        default="same",
        description="Format of the predictions. same: the format of each input object.",
    )
    csv_formula_guard: bool = Field(
        default=True,
        description="In CSV and TSV, put an apostrophe before texts that a spreadsheet could run as a formula (=, +, "
        "-, @, tab, line end).",
    )
    scope: Literal["only_new", "rescore"] = Field(
        default="only_new",
        description="only_new: skip unchanged objects that this version has already scored. rescore: score all "
        "objects again.",
    )
    allow_empty: bool = Field(
        default=False,
        description="Succeed when the prefix is empty. Off by default: an empty prefix is usually a typo.",
    )
    max_rejected_fraction: float = Field(
        default=0.5,
        ge=0,
        le=1,
        description="Fail an object if a larger fraction of its rows is rejected (usually the wrong file).",
    )
    workers: int = Field(
        default=1,
        ge=1,
        le=256,
        description="Number of parallel runs, on the pool of NIGHTSHIFT_SCORING_DEPLOYMENT, on Ray or on Dask. 1: "
        "score in this run.",
    )
    engine: EngineParams = Field(
        default=EngineParams(), description="The inference engine and its settings."
    )

    @field_validator("encoding")
    @classmethod
    def _encoding_is_known(cls, name: str) -> str:
        return canonical_encoding(name)


class ScoreShardsParams(Form):
    """Score some shards of a scoring run. `score` starts this flow itself if `workers` is above 1."""

    former_names: ClassVar = {"run": "place"}

    run: Annotated[str, RUN_RECORDS] = Field(
        description="URI of the run's records, from its log: s3://bucket/prefix/_runs/name.",
    )
    shards: list[int] = Field(min_length=1, description="Shard numbers, from 0.")
    size: int = Field(
        default=0,
        ge=0,
        description="Approximate size of the shards in bytes, for the progress bar. 0: no progress bar.",
    )
    engine: EngineParams = Field(
        default=EngineParams(), description="The inference engine and its settings."
    )


class VerifyParams(Form):
    """Verify from the object store alone that a scoring run is complete."""

    run: Annotated[str, RUN_RECORDS] = Field(
        description="URI of the run's records, from its log: s3://bucket/prefix/_runs/name.",
    )


class TraceParams(Form):
    """Trace predictions, models or data back to the labelled reviews, and on to the predictions made from them."""

    start: str = Field(
        min_length=1,
        max_length=1_200,
        validation_alias=AliasChoices("start", "prediction"),
        description="Predictions, scoring run or prepared data (s3://...), version (reviews/3, reviews/champion), "
        "digest, run id, or source of labelled reviews.",
    )
    row: int = Field(
        default=0,
        ge=0,
        le=10**12,
        description="Row number in the input, if `start` is an object with predictions. 0: the whole object.",
    )
    source_row: Annotated[str, SOURCE_ROW] = Field(
        default="",
        max_length=500,
        description="Look up one labelled review in the training data, such as: train.jsonl row 17. Empty: none.",
    )
