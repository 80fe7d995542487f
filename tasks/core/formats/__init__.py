"""File formats of reviews, in and out. One file a format, one entry in `FORMATS`; all pass the same contract test.

Format and compression (gz, zst, bz2) are told by the content where it is certain, else by the name. Decoding never
holds more than a few rows. A large file is cut into spans, each decoded alone, and what is encoded for them is joined:

    decode(name, stream)                    the rows of a file
    cut(name, stream, part_bytes)           its spans
    decode(name, stream, span)              the rows of one
    decode(name, stream, columns=names)     the same, of which only some columns are wanted
    encode(name, rows, columns, stream)     a file; header=False for a part that comes behind another
    encode(..., types=types)                the same, with columns of these types where the format has any
    join(name, parts, stream)               the encoded parts as one file
"""

from tasks.core.formats.base import (
    LONGEST_RECORD,
    MOST_COLUMNS,
    OUR_FAULT,
    TOO_LONG,
    Format,
    Kind,
    Row,
    Span,
    UnfitError,
    require_plausible,
)
from tasks.core.formats.columns import lookup, require_columns, with_columns
from tasks.core.formats.delimited.formulas import guarded, unguarded
from tasks.core.formats.detection.compression import stored_bytes
from tasks.core.formats.detection.content import HEAD_BYTES, detect
from tasks.core.formats.detection.foreign import foreign_name
from tasks.core.formats.detection.names import format_of, is_hidden, output_name, said_by
from tasks.core.formats.detection.text_encodings import UTF8, advice_for, canonical_encoding
from tasks.core.formats.parquet.arrow_types import NUMBER, TEXT, WHOLE_NUMBER, type_at
from tasks.core.formats.reading import cut, decode
from tasks.core.formats.registry import FORMATS, SPREADSHEETS
from tasks.core.formats.values import as_text, held_bytes, json_text
from tasks.core.formats.writing import encode, join

__all__ = [
    "FORMATS",
    "HEAD_BYTES",
    "LONGEST_RECORD",
    "MOST_COLUMNS",
    "NUMBER",
    "OUR_FAULT",
    "SPREADSHEETS",
    "TEXT",
    "TOO_LONG",
    "UTF8",
    "WHOLE_NUMBER",
    "Format",
    "Kind",
    "Row",
    "Span",
    "UnfitError",
    "advice_for",
    "as_text",
    "canonical_encoding",
    "cut",
    "decode",
    "detect",
    "encode",
    "foreign_name",
    "format_of",
    "guarded",
    "held_bytes",
    "is_hidden",
    "join",
    "json_text",
    "lookup",
    "output_name",
    "require_columns",
    "require_plausible",
    "said_by",
    "stored_bytes",
    "type_at",
    "unguarded",
    "with_columns",
]
