"""Registry of all file formats. To add one, write a module beside this file and add an entry here."""

from tasks.core.formats.base import Format, Kind, Span
from tasks.core.formats.delimited.delimited_format import Csv
from tasks.core.formats.jsonl import JsonLines
from tasks.core.formats.parquet.parquet_format import Parquet

FORMATS: dict[str, Format] = {
    "jsonl": JsonLines(),
    "csv": Csv(","),
    "tsv": Csv("\t"),
    "parquet": Parquet(),
}
SPREADSHEETS = ("csv", "tsv")  # formats that people open in a spreadsheet, which runs formulas
EXTENSIONS = {"json": "jsonl", "ndjson": "jsonl", "pq": "parquet"} | {
    name: name for name in FORMATS
}


def format_for(kind: Kind | Span) -> Format:
    """Return the format that reads a file of this kind."""
    return Csv(kind.delimiter) if kind.delimiter else FORMATS[kind.format]
