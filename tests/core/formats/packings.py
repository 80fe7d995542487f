"""Content packed as people's programs pack it."""

import io
import struct
import tarfile
import zipfile

from tasks.core.formats.detection.compression import packed


def zstd(content: bytes, kind: str = "zstd") -> bytes:
    """Packed with zstd."""
    buffer = io.BytesIO()
    with packed(buffer, kind) as sink:
        sink.write(content)
    return buffer.getvalue()


def halves(content: bytes) -> tuple[bytes, bytes]:
    """Two pieces."""
    return content[: len(content) // 2], content[len(content) // 2 :]


def zipped(content: bytes, *names: str) -> bytes:
    """A zip archive of files with this content."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in names or ("reviews.csv",):
            archive.writestr(name, content)
    return buffer.getvalue()


def spreadsheet(content: bytes) -> bytes:
    """An OpenDocument spreadsheet, as far as anybody looks who does not read it."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("mimetype", "application/vnd.oasis.opendocument.spreadsheet")
        archive.writestr("content.xml", content)
    return buffer.getvalue()


def skippable(content: bytes) -> bytes:
    """A frame of zstd that readers pass over: pzstd and the seekable format put them between the others."""
    return struct.pack("<II", 0x184D2A50, len(content)) + content


def pzstd(*pieces: bytes) -> bytes:
    """As the parallel zstd packs: before each frame a skippable one, which says its size."""
    frames = (zstd(piece) for piece in pieces)
    return b"".join(skippable(struct.pack("<I", len(frame))) + frame for frame in frames)


def tar(content: bytes) -> bytes:
    """A tar archive of one file."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        member = tarfile.TarInfo("r.csv")
        member.size = len(content)
        archive.addfile(member, io.BytesIO(content))
    return buffer.getvalue()
