"""Folders of the project, for tests and benchmarks wherever they lie."""

from pathlib import Path

ROOT = Path(__file__).parents[1]
