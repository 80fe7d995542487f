"""Parameters of the inspection of data, which people fill in as a form."""

from typing import Annotated

from pydantic import Field

from tasks.core.forms import Form
from tasks.core.parsing.patterns import LANGUAGES

MOST_SHOWN = 1_000


class InspectionParams(Form):
    """Inspection of the reviews before they are used. Findings are listed for people; no review is left out."""

    enabled: bool = Field(
        default=True,
        description="Look for near-duplicates and likely label errors. Off: only the data card is made.",
    )
    near_duplicate_similarity: float = Field(
        default=0.5,
        ge=0.3,
        le=1.0,
        description="Share of their word triples that two reviews must have in common (Jaccard) to be near-duplicates.",
    )
    max_rows_near_duplicates: int = Field(
        default=100_000,
        ge=100,
        le=1_000_000,
        description="Of a larger split a stratified sample of so many reviews is compared; each takes about 15 KB "
        "of memory.",
    )
    max_rows_label_errors: int = Field(
        default=50_000,
        ge=100,
        le=10_000_000,
        description="Of a larger split the labels of a stratified sample of so many reviews are judged.",
    )
    folds: int = Field(
        default=5,
        ge=2,
        le=20,
        description="Of the cross-validation by which the labels of train are judged; the time grows with it.",
    )
    listed: int = Field(
        default=100,
        ge=1,
        le=MOST_SHOWN,
        description="How many of each are shown on the run's page; the files list more.",
    )
    language: Annotated[str, LANGUAGES] = Field(
        default="",
        description="Languages of the reviews for the data card, as codes with commas between: en,de. Empty: unknown.",
    )
    seed: int = Field(
        default=42, ge=0, le=2**31 - 1, description="Of permutations, samples and folds."
    )
