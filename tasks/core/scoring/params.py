"""Settings of scoring as a form."""

from typing import Any, Literal, TypeAlias

from pydantic import Field, field_validator

from tasks.core.engines.registry import WantedEngine, warn_if_removed
from tasks.core.formats.registry import FormatName
from tasks.core.forms import Form
from tasks.core.models.params import Device, Precision


class EngineParams(Form):
    """The inference engine and its settings."""

    engine: WantedEngine = Field(
        default="auto",
        description="auto: the engine chosen at registration; torch on a GPU, or if it is not installed. Others: see "
        "docs/engines.md.",
    )
    device: Device = Field(default="auto", description="auto: a GPU if there is one, else the CPU.")
    precision: Precision = Field(
        default="auto",
        description="auto: bf16 if the hardware multiplies in bf16, else fp32; with torch, fp32 for a version "
        "trained in fp32.",
    )
    batch_tokens: int = Field(
        default=4096,
        ge=128,
        le=1_048_576,
        description="Maximum number of tokens per batch, including padding. Larger batches help on a GPU.",
    )
    window_reviews: int = Field(
        default=1024,
        ge=1,
        le=1_000_000,
        description="Number of reviews read at a time to form batches of similar length. Memory grows with it.",
    )

    @field_validator("engine", mode="before")
    @classmethod
    def _replace_removed(cls, name: Any) -> Any:
        """Leave the choice to the version if stored parameters name an engine that Nightshift no longer has."""
        return "auto" if warn_if_removed(name) else name


OutputFormat: TypeAlias = Literal["same", FormatName]
