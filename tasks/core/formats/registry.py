"""Registry of all file formats. To add one, write a module beside this file and add an entry here.

Modules are imported when a format is used, so that forms can import this one.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Literal, TypeAlias

from tasks.core.formats.base import Format, Kind, Span

FormatName: TypeAlias = Literal["jsonl", "csv", "tsv", "parquet"]


@dataclass(frozen=True)
class FormatEntry:
    """A file format.

    Args:
        module: the module and the name of the format in it, as "module:NAME".
        extensions: endings of file names, beside the format's own name.
        magic: the first bytes of a file, by which a binary format is recognized; empty for text.
        compresses: True if the format compresses by itself, so that files are not compressed again.
        in_spreadsheets: True if people open such files in a spreadsheet, which runs formulas.
    """

    module: str
    extensions: tuple[str, ...] = ()
    magic: bytes = b""
    compresses: bool = False
    in_spreadsheets: bool = False


_ENTRIES: dict[str, FormatEntry] = {
    "jsonl": FormatEntry("tasks.core.formats.jsonl:JSON_LINES", ("json", "ndjson")),
    "csv": FormatEntry("tasks.core.formats.delimited.delimited_format:CSV", in_spreadsheets=True),
    "tsv": FormatEntry("tasks.core.formats.delimited.delimited_format:TSV", in_spreadsheets=True),
    "parquet": FormatEntry(
        "tasks.core.formats.parquet.parquet_format:PARQUET", ("pq",), b"PAR1", compresses=True
    ),
}


class _Formats(Mapping[str, Format]):
    """A mapping from names to formats. A module is imported when its format is requested."""

    def __getitem__(self, name: str) -> Format:
        module, _, attribute = _ENTRIES[name].module.partition(":")
        return getattr(import_module(module), attribute)

    def __iter__(self) -> Iterator[str]:
        return iter(_ENTRIES)

    def __len__(self) -> int:
        return len(_ENTRIES)


FORMATS = _Formats()
SPREADSHEETS = tuple(name for name, entry in _ENTRIES.items() if entry.in_spreadsheets)
COMPRESSED = tuple(name for name, entry in _ENTRIES.items() if entry.compresses)
EXTENSIONS = {
    ending: name for name, entry in _ENTRIES.items() for ending in (*entry.extensions, name)
}
#: The first bytes of files, by format.
MAGIC = {name: entry.magic for name, entry in _ENTRIES.items() if entry.magic}


def format_for(kind: Kind | Span) -> Format:
    """Return the format that reads a file of this kind."""
    if kind.delimiter:
        from tasks.core.formats.delimited.delimited_format import Csv

        return Csv(kind.delimiter)
    return FORMATS[kind.format]
