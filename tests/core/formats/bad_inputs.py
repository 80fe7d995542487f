"""Odd files and what becomes of each: the table that test_bad_inputs.py checks and that the documentation shows.

`python -m tests.core.formats.bad_inputs` prints it as Markdown.
"""

import bz2
import gzip
import io
import json
import lzma
import pickle
from collections.abc import Callable
from dataclasses import dataclass, field
from decimal import Decimal

import pyarrow as pa
import pyarrow.parquet as pq

from tasks.core.errors import DataError
from tasks.core.formats import reading
from tasks.core.formats.columns import with_columns
from tasks.core.scoring.plan import Columns
from tasks.core.scoring.predict import to_review
from tests.core.formats.packings import halves, pzstd, skippable, spreadsheet, tar, zipped, zstd

SECRET = "lovely"  # is in every review, and may be in no message
MIB = 1024 * 1024
BOM = b"\xef\xbb\xbf"


@dataclass(frozen=True)
class Case:
    """An odd file: either so many good rows and these problems, or an error."""

    title: str
    name: str
    content: bytes | Callable[[], bytes]
    rows: int = 0
    problems: dict[int, str] = field(default_factory=dict[int, str])  # pattern by row number
    error: str = ""  # pattern
    column: str = "text"

    def bytes(self) -> bytes:
        """The file."""
        return self.content() if callable(self.content) else self.content


@dataclass(frozen=True)
class Outcome:
    """What became of it."""

    rows: int
    problems: dict[int, str]
    error: str = ""

    def __str__(self) -> str:
        if self.error:
            return "not scored"
        rejected = f", {len(self.problems)} rejected" if self.problems else ""
        return f"{self.rows} scored{rejected}"


def outcome(case: Case) -> Outcome:
    """What scoring makes of a case before any model sees it."""
    rows, problems = 0, dict[int, str]()
    try:
        decoded = reading.decode(case.name, io.BytesIO(case.bytes()))
        for row in with_columns(decoded, [case.column], case.name):
            review = to_review(row, Columns(text=case.column))
            if review.problem:
                problems[row.number] = review.problem
            else:
                rows += 1
    except DataError as error:
        return Outcome(0, {}, str(error))
    return Outcome(rows, problems)


def lines(*texts: object) -> bytes:
    """JSON Lines of reviews with these texts."""
    return b"".join(json.dumps({"id": i, "text": t}).encode() + b"\n" for i, t in enumerate(texts))


def table(**columns: object) -> bytes:
    """A Parquet file."""
    buffer = io.BytesIO()
    pq.write_table(pa.table(columns), buffer)
    return buffer.getvalue()


def not_utf8_parquet() -> bytes:
    """A string column with bytes that are no text."""
    buffers = pa.array([b"lovely 1", b"\xff"]).buffers()
    return table(text=pa.Array.from_buffers(pa.string(), 2, buffers))


def bomb() -> bytes:
    """300 MiB of blanks in 300 KiB."""
    return gzip.compress(b" " * MIB) * 300


def with_keys(size: int) -> bytes:
    """Rows of which one is as long as `size` says."""
    long = b'{"text": "' + b"lovely " * (size // 7) + b'"}\n'
    return lines("lovely before") + long + lines("lovely after")


GOOD = lines("a lovely film", "a lovely cast")
CSV = b"id,text\n1,a lovely film\n2,a lovely cast\n"
MANY = lines(*(f"lovely {i * 7919 % 1000}" for i in range(3000)))
CUT = "Not readable as .*complete"
BEHIND = "other bytes come between or after"

COMPRESSED = [
    Case("gz, cut off", "r.jsonl.gz", gzip.compress(MANY)[:-2000], error=CUT),
    Case("zst, cut off", "r.jsonl.zst", zstd(MANY)[:-2000], error=CUT),
    Case("bz2, cut off", "r.jsonl.bz2", bz2.compress(MANY)[:-2000], error=CUT),
    Case("gz, cut off in its header", "r.csv.gz", gzip.compress(CSV)[:5], error=CUT),
    Case("gz with a wrong checksum", "r.csv.gz", gzip.compress(CSV)[:-8] + b"12345678", error=CUT),
    Case("several gz members", "r.jsonl.gz", gzip.compress(GOOD) * 3, rows=6),
    Case("second gz member cut off", "r.jsonl.gz",
         gzip.compress(GOOD) + gzip.compress(GOOD)[:-3], error=CUT),
    Case("garbage behind gz", "r.jsonl.gz", gzip.compress(GOOD) + b"garbage", error=BEHIND),
    Case("zeros behind gz", "r.jsonl.gz", gzip.compress(GOOD) + bytes(512), error=BEHIND),
    Case("garbage behind zst", "r.jsonl.zst", zstd(GOOD) + b"garbage", error=BEHIND),
    Case("garbage behind bz2", "r.jsonl.bz2", bz2.compress(GOOD) + b"garbage", error=BEHIND),
    Case("several gz members, some of nothing", "r.csv.gz",
         gzip.compress(b"") + gzip.compress(CSV) + gzip.compress(b"") + gzip.compress(b"3,lovely\n"), rows=3),
    Case("several zst frames", "r.jsonl.zst", zstd(GOOD) + zstd(b"") + zstd(GOOD), rows=4),
    Case("several bz2 members", "r.jsonl.bz2", bz2.compress(GOOD) * 3, rows=6),
    Case("several bz2 members, some of nothing", "r.csv.bz2",
         bz2.compress(b"") + bz2.compress(CSV) + bz2.compress(b"") + bz2.compress(b"3,lovely\n"), rows=3),
    Case("zst as pzstd writes it", "r.jsonl.zst", pzstd(GOOD, MANY, GOOD), rows=3004),
    Case("the same, without a name that says it", "reviews", pzstd(GOOD, GOOD), rows=4),
    Case("the same, a table", "r.csv.zst", pzstd(CSV, b"3,a lovely end\n"), rows=3),
    Case("the same, Parquet", "r.parquet.zst", lambda: pzstd(*halves(table(text=["lovely", "film"]))), rows=2),
    Case("the same, last frame cut off", "r.jsonl.zst", pzstd(GOOD, MANY)[:-100], error=CUT),
    Case("zst with a table of contents at its end", "r.jsonl.zst", zstd(GOOD) + zstd(GOOD) + skippable(b"x" * 99),
         rows=4),
    Case("gz of nothing, JSON Lines", "r.jsonl.gz", gzip.compress(b""), rows=0),
    Case("gz of nothing, CSV", "r.csv.gz", gzip.compress(b""), error="a header row is expected"),
    Case("gz of gz", "r.csv.gz", gzip.compress(gzip.compress(CSV)), error="compressed twice"),
    Case("gz that is not named so", "r.csv", gzip.compress(CSV), rows=2),
    Case("not compressed, though named so", "r.csv.gz", CSV, rows=2),
    Case("zip bomb in gz", "r.jsonl.gz", bomb, error="unpacks to more than 200 times"),
    Case("zip archive", "r.csv.zip", zipped(CSV), error="is a zip archive.*unpack it: unzip r.csv.zip"),
    Case("zip archive, though named CSV", "r.csv", zipped(CSV),
         error="a zip archive, which is not supported, though its name says CSV.*unpack it"),
    Case("Excel workbook", "reviews.xlsx", zipped(CSV, "[Content_Types].xml", "xl/workbook.xml"),
         error="an Excel workbook, .*save each sheet with reviews as CSV"),
    Case("Excel workbook, though named CSV", "reviews.csv", zipped(CSV, "[Content_Types].xml", "xl/workbook.xml"),
         error="an Excel workbook, which is not supported, though its name says CSV"),
    Case("Excel workbook, told by its name alone", "reviews.xlsx", zipped(CSV, "data"), error="an Excel workbook"),
    Case("Excel workbook with a password", "my reviews.xlsx", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(500),
         error="a password-protected or old Excel workbook"),
    Case("old Excel workbook", "reviews.xls", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(500),
         error="an old Excel or Word file.*save each sheet"),
    Case("a table that is named as a workbook", "reviews.xls", CSV.replace(b",", b"\t"), rows=2),
    Case("OpenDocument spreadsheet", "reviews.ods", lambda: spreadsheet(CSV), error="an OpenDocument spreadsheet"),
    Case("Word document", "reviews.docx", zipped(CSV, "[Content_Types].xml", "word/document.xml"),
         error="a text document"),
    Case("7z archive", "r.7z", b"7z\xbc\xaf\x27\x1c\x00\x04" + bytes(99), error="a 7z archive.*7z x r.7z"),
    Case("RAR archive", "r.csv.rar", b"Rar!\x1a\x07\x01\x00" + bytes(99), error="a RAR archive.*unrar x r.csv.rar"),
    Case("xz", "r.csv.xz", lzma.compress(CSV), error="compressed with xz.*xz -dc r.csv.xz > unpacked-r.csv;"),
    Case("several xz streams", "r.csv", lzma.compress(CSV) * 2, error="compressed with xz"),
    Case("lz4", "r.csv.lz4", lambda: zstd(CSV, "lz4") * 2, error="compressed with lz4"),
    Case("tar", "r.tar", lambda: tar(CSV), error="a tar archive.*tar -xf r.tar"),
    Case("tar in gz", "r.csv.tar.gz", lambda: gzip.compress(tar(CSV)), error="a tar archive.*tar -xf"),
    Case("tar in zst", "r.tgz", lambda: zstd(tar(CSV)), error="a tar archive"),
    Case("a pickle", "r.pkl", pickle.dumps(list(range(999))), error="By its name the file is a pickle"),
    Case("a pointer of Git LFS", "r.csv", b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n",
         error="git lfs pull"),
]  # fmt: skip

ENCODINGS = [
    Case("byte order mark, CSV", "r.csv", BOM + CSV, rows=2),
    Case("byte order mark, JSON Lines", "r.jsonl", BOM + GOOD, rows=2),
    Case("two files with byte order marks, one behind the other", "r.jsonl", BOM + GOOD + BOM + GOOD, rows=4),
    Case("nothing but a byte order mark, JSON Lines", "r.jsonl", BOM, rows=0),
    Case("nothing but a byte order mark, CSV", "r.csv", BOM, error="a header row is expected"),
    Case("UTF-16", "r.csv", CSV.decode().encode("utf-16"), rows=2),
    Case("UTF-16 without a mark", "r.csv", CSV.decode().encode("utf-16-le"),
         error="likely utf-16-le.*--data.source.encoding utf-16-le"),
    Case("UTF-32", "r.jsonl", GOOD.decode().encode("utf-32"), rows=2),
    Case("Latin-1 in one row, CSV", "r.csv", CSV + b"3,lovely caf\xe9\n", rows=2,
         problems={3: "not UTF-8, likely cp1252"}),
    Case("Cyrillic in one row, CSV", "r.csv", CSV + "3,Превосходный фильм\n".encode("cp1251"), rows=2,
         problems={3: "not UTF-8; name its encoding, cp1251 or koi8-r"}),
    Case("Japanese in one row, CSV", "r.csv", CSV + "3,とても良い映画です\n".encode("shift_jis"), rows=2,
         problems={3: "not UTF-8, likely shift_jis"}),
    Case("Latin-1 in one row, JSON Lines", "r.jsonl", GOOD + b'{"text": "lovely caf\xe9"}\n', rows=2,
         problems={3: "not UTF-8"}),
    Case("Latin-1 in the header", "r.csv", b"id,text,caf\xe9\n1,lovely,x\n",
         error="header in line 1.*not UTF-8, likely cp1252.*--data.source.encoding cp1252"),
    Case("NUL bytes in a field", "r.csv", CSV + b"3,love\x00ly\n", rows=3),
    Case("NUL bytes in a JSON text", "r.jsonl", GOOD + b'{"text": "lovely\x00"}\n', rows=2, problems={3: "not JSON"}),
    Case("control characters", "r.csv", CSV + b"3,lovely\x07\x1b[0m film\n", rows=3),
    Case("nothing but control characters", "r.jsonl", lines("\x07\x01", "lovely"), rows=1, problems={1: "empty text"}),
    Case("emoji and right-to-left text", "r.csv", CSV + "3,lovely \U0001f469‍\U0001f680 סרט נפלא\n".encode(), rows=3),
    Case("half an emoji", "r.jsonl", b'{"text": "lovely \\ud83d"}\n', rows=1),
    Case("random bytes", "r.jsonl", bytes(i * 7919 % 256 for i in range(4000)), error="neither text"),
    Case("NULs only", "r.csv", b"\0" * 4000, error="neither text"),
]  # fmt: skip

LINE_ENDS = [
    Case("CR LF, CSV", "r.csv", CSV.replace(b"\n", b"\r\n"), rows=2),
    Case("CR LF, JSON Lines", "r.jsonl", GOOD.replace(b"\n", b"\r\n"), rows=2),
    Case("CR alone (old Mac), CSV", "r.csv", CSV.replace(b"\n", b"\r"), rows=2),
    Case("CR alone (old Mac), JSON Lines", "r.jsonl", GOOD.replace(b"\n", b"\r"), error="end in CR alone"),
    Case("no end of the last line", "r.jsonl", GOOD.rstrip(), rows=2),
    Case("blank lines between rows", "r.csv", CSV.replace(b"\n", b"\n\n\n"), rows=2),
    Case("blank lines only, JSON Lines", "r.jsonl", b"\n\n \r\n", rows=0),
    Case("blank lines only, CSV", "r.csv", b"\n\r\n\n", error="a header row is expected"),
    Case("nothing at all, CSV", "r.csv", b"", error="a header row is expected"),
    Case("nothing at all, Parquet", "r.parquet", b"", error="Not readable as parquet"),
    Case("nothing at all, no extension", "reviews", b"", error="Cannot tell the format"),
]  # fmt: skip

TABLES = [
    Case("header only", "r.csv", b"id,text\n", rows=0),
    Case("too few and too many fields", "r.csv", CSV + b"3\n4,lovely,x\n", rows=2,
         problems={3: "1 fields where the header has 2", 4: "3 fields"}),
    Case("line breaks inside quotes", "r.csv", CSV + b'3,"lovely\r\nfilm\n\nindeed"\n', rows=3),
    Case("a quote that is never closed", "r.csv", CSV + b'3,"a lovely\n4,film\n',
         error="quote of line 4 is never closed"),
    Case("a quote inside an unquoted field", "r.csv", CSV + b'3,a 6" lovely film\n', rows=3),
    Case("text behind a closing quote", "r.csv", CSV + b'3,"a"lovely\n4,lovely\n', rows=3,
         problems={3: "malformed quotes"}),
    Case("TSV without quoting", "r.tsv",
         b'id\ttext\n1\t"lovely\n2\tso lovely\n3\tnot lovely"\n4\t"Lovely" it is\n', rows=4),
    Case("CSV without quoting", "r.csv", b'id,text\n1,"lovely\n2,so lovely\n3,not lovely"\n4,lovely\n',
         error="opens in line 2 closes in line 4"),
    Case("CSV without quoting, but with names in quotes", "r.csv",
         b'"id","text"\n1,"lovely\n2,so lovely\n3,not lovely"\n4,lovely\n', rows=2),
    Case("two columns of one name", "r.csv", b"id,text,text\n1,lovely,lovely\n",
         error="columns 2 and 3 of the header have the same name"),
    Case("columns without a name", "r.csv", b",text,\n1,lovely,\n", rows=1),
    Case("missing column", "r.csv", b"id,review\n1,lovely\n", error="No column 'text'.*id, review"),
    Case("a review in the place of the header", "r.csv",
         b"1,I told everybody I know that this is a lovely film\n2,lovely\n", error=r"No column 'text'.*a header\?"),
    Case("the same id twice", "r.csv", CSV + b"2,lovely\n", rows=3),
    Case("semicolons", "r.csv", CSV.replace(b",", b";"), rows=2),
    Case("semicolons, and commas in texts", "r.csv",
         b"id;text, all of it;text\n1;lovely, so lovely;lovely\n2;so;so\n", rows=2),
    Case("bars", "r.csv", CSV.replace(b",", b"|"), rows=2),
    Case("one column with semicolons in it", "r.csv", b"text\nlovely; so lovely\nso; so\n", rows=2),
    Case("Excel's sep= line", "r.csv", b"sep=;\n" + CSV.replace(b",", b";"), error="Excel's sep=.*remove that line"),
    Case("tabs, named .csv", "r.csv", CSV.replace(b",", b"\t"), rows=2),
    Case("commas, named .tsv", "r.tsv", CSV, rows=2),
    Case("one column and no separator", "r.csv", b"text\nlovely\na lovely film\n", rows=2),
    Case("empty text and words like null", "r.csv", b'id,text\n1,""\n2,null\n3,NA\n', rows=2,
         problems={1: "empty text"}),
]  # fmt: skip

JSON = [
    Case("one JSON array", "r.json", b'[{"text": "lovely"}]', error="one JSON array; it must have one object per line"),
    Case("JSON over several lines", "r.json", b'{\n  "text": "lovely"\n}\n', error="JSON spread over several lines"),
    Case("a line that is not JSON", "r.jsonl", GOOD + b"lovely\n[1]\n", rows=2,
         problems={3: "not JSON", 4: "not a JSON object"}),
    Case("a line that is cut off", "r.jsonl", GOOD + b'{"text": "love', rows=2, problems={3: "not JSON"}),
    Case("empty object", "r.jsonl", GOOD + b"{}\n", rows=2, problems={3: "no 'text'"}),
    Case("the same key twice: the last counts", "r.jsonl", b'{"text": "", "text": "lovely"}\n', rows=1),
    Case("NaN and Infinity", "r.jsonl", b'{"text": "lovely", "a": NaN, "b": -Infinity}\n', rows=1),
    Case("nested too deeply", "r.jsonl", GOOD + b'{"a":' + b"[" * 100_000 + b"\n", rows=2,
         problems={3: "nested too deeply"}),
    Case("a number of 5,000 digits", "r.jsonl", GOOD + b'{"id": ' + b"9" * 5000 + b"}\n", rows=2,
         problems={3: "not JSON"}),
    Case("a number beyond all measure", "r.jsonl", b'{"text": "lovely", "a": 1e999}\n', rows=1),
    Case("nested text", "r.jsonl", b'{"review": {"text": "lovely"}}\n' * 2, rows=2, column="review.text"),
    Case("nested text, wrong path", "r.jsonl", b'{"review": {"text": "lovely"}}\n', column="review.body",
         error="No column 'review.body'; the columns are: review, review.text"),
    Case("text that is a number, a list, null", "r.jsonl", lines("lovely", 5, ["lovely"], None), rows=1,
         problems={2: "not a string but int", 3: "not a string but list", 4: "no 'text'"}),
    Case("no row has the column", "r.jsonl", b'{"review": "lovely"}\n', error="No column 'text'.*review"),
]  # fmt: skip

PARQUET = [
    Case("Parquet, cut off", "r.parquet", table(text=["lovely"] * 1000)[:-30], error="Not readable as parquet"),
    Case("Parquet, only the begin", "r.parquet", b"PAR1 and nothing", error="Not readable as parquet"),
    Case("encrypted Parquet", "r.parquet", b"PARE\x15\x04\x00\x00PARE", error="an encrypted Parquet file"),
    Case("Parquet without rows", "r.parquet", table(text=pa.array([], pa.string())), rows=0),
    Case("Parquet without columns", "r.parquet", table(), error="it has no columns"),
    Case("Parquet with bytes for texts", "r.parquet", table(text=[b"lovely", b"\xff"]),
         problems={1: "not a string but bytes", 2: "not a string but bytes"}),
    Case("Parquet with a text that is not UTF-8", "r.parquet", not_utf8_parquet, rows=1, problems={2: "not UTF-8"}),
    Case("Parquet with a dictionary and long strings", "r.parquet",
         table(text=pa.array(["lovely", "lovely"]).dictionary_encode(), id=pa.array(["a", "b"], pa.large_string())),
         rows=2),
    Case("Parquet with a struct", "r.parquet", table(review=[{"text": "lovely"}, {"text": None}]), rows=1,
         problems={2: "no 'review.text'"}, column="review.text"),
    Case("Parquet with decimals and nanoseconds", "r.parquet",
         table(text=["lovely"], price=[Decimal("1.10")], at=pa.array([1], pa.timestamp("ns"))), rows=1),
    Case("Parquet in gz", "r.parquet.gz", gzip.compress(table(text=["lovely"])), rows=1),
]  # fmt: skip

KINDS = [
    Case("Parquet, named .csv", "r.csv", table(text=["lovely"]), rows=1),
    Case("JSON Lines, named .csv", "r.csv", GOOD, rows=2),
    Case("JSON Lines, named .parquet", "r.parquet", GOOD, rows=2),
    Case("CSV, named .parquet", "r.parquet", CSV, error="Not readable as parquet"),
    Case("CSV, named .jsonl", "r.jsonl", CSV, error="no line begins a JSON object and commas separate"),
    Case("JSON Lines without an extension", "reviews", GOOD, rows=2),
    Case("CSV without a known extension", "reviews.txt", CSV, rows=2),
    Case("TSV in gz without an extension", "reviews", gzip.compress(CSV.replace(b",", b"\t")), rows=2),
    Case("prose", "README", b"A lovely readme\n", error="Cannot tell the format"),
    Case("PDF", "r.csv", b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n1 0 obj\n", error="a PDF document"),
    Case("HTML error page, named .csv", "r.csv", b"<!DOCTYPE html>\n<html><body>403, lovely</body></html>",
         error="HTML or XML page"),
    Case("XML error of an object store", "r.jsonl", b'<?xml version="1.0"?><Error><Code>AccessDenied</Code></Error>',
         error="HTML or XML page"),
    Case("Avro", "r.avro", b"Obj\x01\x04\x14avro.codec", error="an Avro file"),
]  # fmt: skip

LONG = [
    Case("a row of 10 MB", "r.jsonl", lambda: with_keys(10_000_000), rows=3),
    Case("a row of 10 MB, CSV", "r.csv", lambda: CSV + b'3,"' + b"lovely\n" * 1_400_000 + b'"\n', rows=3),
    Case("a row over 16 MiB", "r.jsonl", lambda: with_keys(20 * MIB), rows=2, problems={2: "longer than 16 MiB"}),
    Case("a row over 16 MiB, CSV", "r.csv", lambda: CSV + b"3," + b"lovely, " * (3 * MIB) + b"\n4,lovely\n", rows=3,
         problems={3: "longer than 16 MiB"}),
    Case("a row over 16 MiB of many lines, CSV", "r.csv",
         lambda: CSV + b'3,"' + b'lovely, ""so"" to say\n' * MIB + b'"\n4,lovely\n', rows=3,
         problems={3: "longer than 16 MiB"}),
    Case("a quote never closed in 20 MB", "r.csv", lambda: CSV + b'3,"' + b"4,lovely\n" * 2_200_000,
         error="never closed"),
    Case("a text over 16 MiB, Parquet", "r.parquet", lambda: table(text=["lovely", "lovely" * 3 * MIB]), rows=1,
         problems={2: "longer than 16 MiB"}),
]  # fmt: skip

CASES = [*COMPRESSED, *ENCODINGS, *LINE_ENDS, *TABLES, *JSON, *PARQUET, *KINDS, *LONG]


def main() -> None:
    """Print the table as Markdown."""
    print("| File | Name | Outcome | Message |\n|---|---|---|---|")
    for case in CASES:
        found = outcome(case)
        rejected = "; ".join(f"row {number}: {why}" for number, why in found.problems.items())
        message = (found.error or rejected).replace("|", "\\|")
        print(f"| {case.title} | `{case.name}` | {found} | {message} |")


if __name__ == "__main__":
    main()
