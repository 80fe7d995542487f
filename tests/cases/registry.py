"""All cases, in the order in which they are tried. A new module of cases is an import and an entry here."""

from tests.cases import (
    base_models,
    delimited_files,
    hostile_files,
    hostile_texts,
    labelled_files,
    neighbours,
    surroundings,
    verdicts,
)
from tests.cases.case import Case

CASES: list[Case] = [
    *hostile_files.CASES,
    *hostile_texts.CASES,
    *labelled_files.CASES,
    *delimited_files.CASES,
    *neighbours.CASES,
    *surroundings.CASES,
    *verdicts.CASES,
    *base_models.CASES,
]
