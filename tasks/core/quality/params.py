"""Parameters of the inspection of data, which people fill in as a form."""

from typing import Annotated

from pydantic import Field

from tasks.core.forms import Form
from tasks.core.parsing.patterns import LANGUAGES

MOST_SHOWN = 1_000


class InspectionParams(Form):
    """Search for near-duplicates and likely label errors. Findings are only reported; no review is removed."""

    enabled: bool = Field(
        default=True,
        description="Search for near-duplicates and likely label errors. Off: write only the data card.",
    )
    near_duplicate_similarity: float = Field(
        default=0.5,
        ge=0.3,
        le=1.0,
        description="Minimum Jaccard similarity (of word triples) at which two reviews count as near-duplicates.",
    )
    max_rows_near_duplicates: int = Field(
        default=100_000,
        ge=100,
        le=1_000_000,
        description="Maximum reviews per split to compare for near-duplicates (about 15 KB of memory each). Larger "
        "splits are sampled.",
    )
    max_rows_label_errors: int = Field(
        default=50_000,
        ge=100,
        le=10_000_000,
        description="Maximum reviews per split to check for label errors. Larger splits are sampled.",
    )
    folds: int = Field(
        default=5,
        ge=2,
        le=20,
        description="Number of cross-validation folds for finding label errors in the training reviews. More folds "
        "take longer.",
    )
    listed: int = Field(
        default=100,
        ge=1,
        le=MOST_SHOWN,
        description="Number of findings of each kind to show on the run's page. The files list more.",
    )
    language: Annotated[str, LANGUAGES] = Field(
        default="",
        description="Languages of the reviews for the data card, as comma-separated codes such as en,de. Empty: "
        "unknown.",
    )
    seed: int = Field(
        default=42,
        ge=0,
        le=2**31 - 1,
        description="Random seed of sampling, MinHash and cross-validation folds.",
    )
