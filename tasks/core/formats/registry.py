"""Every file format there is. A new one is a file beside this and an entry here."""

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
SPREADSHEETS = ("csv", "tsv")  # that people open in one, which runs formulas
EXTENSIONS = {"json": "jsonl", "ndjson": "jsonl", "pq": "parquet"} | {
    name: name for name in FORMATS
}


def format_for(kind: Kind | Span) -> Format:
    """What reads a file of this kind."""
    return Csv(kind.delimiter) if kind.delimiter else FORMATS[kind.format]
