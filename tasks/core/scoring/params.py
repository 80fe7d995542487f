"""Settings of scoring as a form."""

from typing import Literal, TypeAlias

from pydantic import Field

from tasks.core.engines.registry import WantedEngine
from tasks.core.formats.registry import FormatName
from tasks.core.forms import Form
from tasks.core.models.params import Device, Precision


class EngineParams(Form):
    """The inference engine and its settings."""

    engine: WantedEngine = Field(
        default="auto",
        description="What runs it; auto takes what was found best when the model was registered, where it is installed "
        "and the model runs on the CPU, else torch, in fp32 where no more was shown.",
    )
    device: Device = Field(
        default="auto", description="Where the model runs; auto takes a GPU where there is one."
    )
    precision: Precision = Field(
        default="auto",
        description="auto uses bf16 where the processor or GPU multiplies in it, else fp32; torch uses fp32 for a "
        "version that was trained in it.",
    )
    batch_tokens: int = Field(
        default=4096,
        ge=128,
        le=1_048_576,
        description="Tokens of a batch, padding included where there is any. More helps on a GPU.",
    )
    window_reviews: int = Field(
        default=1024,
        ge=1,
        le=1_000_000,
        description="Reviews among which batches of similar length are planned; the memory used grows with it.",
    )


OutputFormat: TypeAlias = Literal["same", FormatName]
