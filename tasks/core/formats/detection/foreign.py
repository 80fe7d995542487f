"""File kinds that are not supported: detection by content or name, and advice on what to do with such a file."""

import re
import shlex
from dataclasses import dataclass

from tasks.core.errors import UnreadableDataError

_SHEET = "open it, and save each sheet with reviews as CSV UTF-8"
_EXPORT = "export its reviews as JSON Lines, CSV (UTF-8) or Parquet"
_PARQUET = "convert it to Parquet"


@dataclass(slots=True, frozen=True)
class Foreign:
    """An unsupported kind of file."""

    what: str
    # {name} stands for the file's name as typed in a shell, {plain} for the name of the unpacked file.
    fix: str
    endings: tuple[str, ...] = ()  # of names
    magic: tuple[bytes, ...] = ()  # first bytes of the content

    def error(
        self, name: str, name_format: str | None = None, by_name: bool = False
    ) -> UnreadableDataError:
        """Return the error that says that a file is of this kind.

        Args:
            name: file name or key.
            name_format: the format that its name indicates, if any.
            by_name: True if the kind is known by the name only.
        """
        is_it = "By its name the file is" if by_name else "The file is"
        though = (
            f", though its name says {name_format.upper()}" if name_format and self.endings else ""
        )
        base = name.rsplit("/", 1)[-1]
        stem, _, ending = base.rpartition(".")
        plain = shlex.quote(f"unpacked-{stem if ending.lower() in self.endings else base}")
        return UnreadableDataError(
            f"{is_it} {self.what}, which is not supported{though}",
            name,
            self.fix.format(name=shlex.quote(base), plain=plain),
        )


_EXCEL = Foreign("an Excel workbook", _SHEET, ("xlsx", "xlsm", "xlsb"))
_LOCKED = Foreign(
    "a password-protected or old Excel workbook",
    "open it, and save each sheet with reviews as CSV UTF-8",
)
_ODS = Foreign("an OpenDocument spreadsheet", _SHEET, ("ods",))
_DOCUMENT = Foreign("a text document", _EXPORT, ("docx", "doc", "odt", "rtf"))
_ZIP = Foreign("a zip archive", "unpack it: unzip {name}", ("zip",), (b"PK\x03\x04", b"PK\x05\x06"))
_TAR_ENDINGS = ("tar", "tgz", "tbz2", "txz", "tar.gz", "tar.bz2", "tar.zst", "tar.xz")
_TAR = Foreign("a tar archive", "unpack it: tar -xf {name}", _TAR_ENDINGS)
_OLE = Foreign("an old Excel or Word file", _SHEET, ("xls",), (b"\xd0\xcf\x11\xe0",))
_ARROW = Foreign(
    "an Arrow or Feather file", _PARQUET, ("arrow", "feather", "ipc"), (b"ARROW1\x00\x00",)
)
_ZIPS = (_EXCEL, _ODS, _DOCUMENT)
_OTHERS = (
    Foreign("a PDF document", _EXPORT, ("pdf",), (b"%PDF-",)),
    _ZIP,
    _OLE,
    Foreign("a 7z archive", "unpack it: 7z x {name}", ("7z",), (b"7z\xbc\xaf\x27\x1c",)),
    Foreign("a RAR archive", "unpack it: unrar x {name}", ("rar",), (b"Rar!\x1a\x07",)),
    Foreign(
        "compressed with xz",
        "unpack it: xz -dc {name} > {plain}; or compress it with gzip, zstd or bzip2",
        ("xz", "lzma"),
        (b"\xfd7zXZ\x00", b"\x5d\x00\x00\x80\x00", b"LZIP"),
    ),
    Foreign(
        "compressed with lz4",
        "unpack it: lz4 -dc {name} > {plain}; or compress it with gzip, zstd or bzip2",
        ("lz4",),
        (b"\x04\x22\x4d\x18", b"\x02\x21\x4c\x18"),
    ),
    Foreign(
        "compressed with snappy or brotli",
        "unpack it; or compress it with gzip, zstd or bzip2",
        ("snappy", "sz", "br"),
        (b"\xff\x06\x00\x00sNaPpY",),
    ),
    Foreign(
        "compressed with compress",
        "unpack it: gzip -dc {name} > {plain}",
        ("z",),
        (b"\x1f\x9d", b"\x1f\xa0"),
    ),
    Foreign("an Avro file", _PARQUET, ("avro",), (b"Obj\x01",)),
    _ARROW,
    Foreign("an ORC file", _PARQUET, ("orc",)),
    Foreign("an HDF5 file", _PARQUET, ("h5", "hdf5"), (b"\x89HDF\r\n\x1a\n",)),
    Foreign("a NumPy array", _PARQUET, ("npy", "npz"), (b"\x93NUMPY",)),
    Foreign("a pickle", _PARQUET, ("pkl", "pickle")),
    Foreign(
        "an SQLite database",
        "export the table as CSV or JSON Lines",
        ("sqlite", "sqlite3", "db"),
        (b"SQLite format 3",),
    ),
    Foreign(
        "a Git LFS pointer",
        "fetch the file itself: git lfs pull",
        magic=(b"version https://git-lfs.github.com/",),
    ),
)
_BY_ENDING = {e: kind for kind in (*_OTHERS, *_ZIPS, _TAR) for e in kind.endings}
_ENTRY = re.compile(rb"PK\x03\x04.{22}(..)..", re.DOTALL)


def foreign_name(name: str) -> Foreign | None:
    """Return the unsupported kind of a file by the ending of its name, or None."""
    parts = name.lower().rsplit("/", 1)[-1].split(".")[1:]
    ends = (".".join(parts[-2:]), *parts[-1:])
    return next((_BY_ENDING[end] for end in ends if end in _BY_ENDING), None)


def foreign_content(name: str, content: bytes) -> Foreign | None:
    """Return the unsupported kind of a file by its first bytes, or None."""
    if content.startswith(b"FEA1") and content[4:5] < b" " and content[4:5] not in b"\t\r\n":
        return _ARROW  # and not a header such as FEA1,text
    if content[257:263] in (b"ustar\0", b"ustar "):
        return _TAR
    foreign = next((kind for kind in _OTHERS if content.startswith(kind.magic)), None)
    if foreign is _ZIP:
        return _in_zip(content) or (by_name if (by_name := foreign_name(name)) in _ZIPS else _ZIP)
    if foreign is _OLE and foreign_name(name) is _EXCEL:
        return _LOCKED
    return foreign


def _in_zip(content: bytes) -> Foreign | None:
    """Return the kind of document in a zip archive, by the names of its first entries; None if there is none."""
    if content[30:84].startswith(b"mimetypeapplication/vnd.oasis.opendocument."):
        return _ODS if content[73:].startswith(b"spreadsheet") else _DOCUMENT
    for entry in _ENTRY.finditer(content):
        path = content[entry.end() : entry.end() + int.from_bytes(entry[1], "little")]
        if path.startswith(b"xl/"):
            return _EXCEL
        if path.startswith(b"word/"):
            return _DOCUMENT
    return None
