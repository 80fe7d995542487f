"""Format and compression by a file's name, and names of outputs."""

from tasks.core.errors import SettingsError, UnreadableDataError
from tasks.core.formats.base import Kind
from tasks.core.formats.detection.compression import COMPRESSIONS
from tasks.core.formats.detection.foreign import foreign_name
from tasks.core.formats.registry import COMPRESSED, EXTENSIONS, FORMATS

SAME = "same"


def said_by(name: str) -> tuple[str | None, str | None]:
    """Return the format and compression that a file's name indicates; None for what it does not."""
    parts = name.lower().rsplit("/", 1)[-1].split(".")[1:]
    compression = COMPRESSIONS.get(parts[-1]) if parts else None
    parts = parts[:-1] if compression else parts
    return EXTENSIONS.get(parts[-1]) if parts else None, compression


def format_of(name: str) -> tuple[str, str | None]:
    """Return the format and compression that a file's name indicates: `reviews.csv.gz` -> ("csv", "gzip").

    Raises:
        UnreadableDataError: the name has an unknown ending, or that of an unsupported kind.
    """
    name_format, compression = said_by(name)
    if name_format is None and (foreign := foreign_name(name)):
        raise foreign.error(name, by_name=True)
    if name_format is None:
        raise UnreadableDataError(
            "Cannot tell the format of this file from its name",
            name,
            f"rename it to end in one of .{', .'.join(EXTENSIONS)}, followed by .gz, .zst or .bz2 if compressed",
        )
    return name_format, compression


def output_name(name: str, kind: Kind, output_format: str = SAME) -> str:
    """Return the name of an input's output: the same name if the format stays, else with an extension appended.

    The old extension is kept (`a.csv` -> `a.csv.parquet`), so that `a.csv` and `a.jsonl` do not get the same output.
    A text keeps its compression (`a.csv.gz` -> `a.csv.jsonl.gz`); Parquet compresses by itself.

    Args:
        name: name or key of the input.
        kind: kind of the input, as `detect` returns it.
        output_format: format of the output, or "same".
    Raises:
        SettingsError: no such format.
    """
    output_format = kind.format if output_format == SAME else output_format
    if output_format not in FORMATS:
        raise SettingsError(
            f"{output_format!r} is not an output format", "", f"choose {SAME}, {', '.join(FORMATS)}"
        )
    input_format, compression = said_by(name)
    if input_format == output_format:
        return name
    if compression is None or output_format in COMPRESSED:
        return f"{name}.{output_format}"
    stem, _, ending = name.rpartition(".")
    return f"{stem}.{output_format}.{ending}"


def is_hidden(name: str) -> bool:
    """True if a part of a relative name begins with _ or ., as for _SUCCESS and .crc files."""
    return any(part.startswith(("_", ".")) for part in name.split("/"))
