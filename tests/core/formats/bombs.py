"""Small files that would take gigabytes or minutes: the table that test_bombs.py checks and the documentation shows.

`python -m tests.core.formats.bombs` prints it as Markdown. Each file is read as scoring or training does it, by one
process after the other. After each, the peak memory so far is printed, of that process and of those that decode
Parquet. Another process makes the files before, so that the memory for that is not counted.
"""

import bz2
import gzip
import importlib
import io
import json
import resource
import struct
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from tasks.core.errors import DataError
from tasks.core.formats import reading
from tasks.core.formats.columns import with_columns
from tasks.core.formats.parquet import process

MIB = 1 << 20
_PATIENCE_SECONDS = 120.0  # for a file that is being made


@dataclass(frozen=True)
class Bomb:
    """A file: the pattern of the error that it ends with, or the rows that are scored and the problem of the others."""

    title: str
    name: str
    content: Callable[[], bytes]
    error: str = ""
    problem: str = ""
    rows: int = 0
    keep: tuple[str, ...] = ()
    trained: bool = False  # read as training does it


def table(columns: dict[str, Any], **options: Any) -> bytes:
    """Parquet that does not say what it was in Arrow."""
    buffer = io.BytesIO()
    pq.write_table(pa.table(columns), buffer, compression="zstd", **options)
    return buffer.getvalue()


def as_views(rows: int) -> Any:
    """One text of 4 MB many times: views of the same bytes."""
    text = b"a" * 4_000_000
    view = struct.pack("<i4sii", len(text), text[:4], 0, 0)
    buffers = [None, pa.py_buffer(view * rows), pa.py_buffer(text)]
    return pa.Array.from_buffers(pa.string_view(), rows, buffers)


def packed_twice() -> bytes:
    """Parquet of three megabytes, zeros most of them, that holds a hundred; gzip makes it small."""
    texts = pa.array(["a" * 100_000] * 1_000).dictionary_encode()
    zeros = pa.array([bytes(3_000)] * 1_000)
    buffer = io.BytesIO()
    pq.write_table(pa.table({"text": texts, "x": zeros}), buffer, use_dictionary=["text"],
                   compression="none")  # fmt: skip
    return gzip.compress(buffer.getvalue())


def letters(rows: int) -> Any:
    """One letter many times: a dictionary of one value."""
    return pa.DictionaryArray.from_arrays(np.zeros(rows, np.int8), pa.array(["a"]))


def repeated(rows: int = 2048) -> Any:
    """One text of 4 MB many times: a dictionary of one value."""
    return pa.DictionaryArray.from_arrays(
        pa.array([0] * rows, pa.int32()), pa.array(["a" * 4_000_000])
    )


def one_list(items: Any) -> Any:
    """A column of one row: a list of all items."""
    return pa.ListArray.from_arrays(pa.array([0, len(items)], pa.int32()), items)


def many_columns() -> bytes:
    """Twenty thousand columns."""
    return table({"text": ["x"], **{f"c{i}": ["x"] for i in range(20_000)}})


def row_of_lists() -> bytes:
    """One row of 16 MiB of empty lists, and a good one."""
    lists = "[]," * (16 * MIB // 3 - 100) + "[]"
    return f'{{"text": "odd", "x": [{lists}]}}\n{{"text": "good", "x": []}}\n'.encode()


def wide_rows() -> bytes:
    """Many rows with a kept column of a megabyte, repeated."""
    return gzip.compress(b'{"text": "good", "x": "' + b"x" * MIB + b'"}\n') * 60


BOMBS = [
    Bomb("a dictionary of one long text", "b.parquet", lambda: table({"text": repeated()}, store_schema=False),
         error="unpacks to more than 200 times"),
    Bomb("the same, a dictionary in Arrow, too", "b.parquet", lambda: table({"text": repeated()}),
         error="unpacks to more than 200 times"),
    Bomb("the same in a column nobody asked for", "b.parquet",
         lambda: table({"text": ["good"] * 2048, "x": repeated()}, store_schema=False), rows=2048),
    Bomb("a list of one long text in one row, kept", "b.parquet",
         lambda: table({"text": ["good"], "x": one_list(repeated())}, store_schema=False), keep=("x",),
         error="a row takes more than 1 GiB of memory"),
    Bomb("a list of 20 million nulls in one row, kept", "b.parquet",
         lambda: table({"text": ["good"], "x": one_list(pa.nulls(20_000_000, pa.int8()))}), keep=("x",),
         error="unpacks to more than 200 times"),
    Bomb("a list of 70 million nulls in one row, kept", "b.parquet",
         lambda: table({"text": ["good"], "x": one_list(pa.nulls(70_000_000, pa.int8()))}), keep=("x",),
         error="a row takes more than 1 GiB of memory"),
    Bomb("texts that each repeat most of the one before", "b.parquet",
         lambda: table({"text": ["a" * 4_000_000] * 50}, use_dictionary=False,
                       column_encoding={"text": "DELTA_BYTE_ARRAY"}), error="unpacks to more than 200 times"),
    Bomb("a page of 400 MB", "b.parquet",
         lambda: table({"text": ["a" * 100_000] * 4_000}, use_dictionary=False, data_page_size=1 << 30,
                       write_batch_size=1 << 20, max_rows_per_page=1 << 20), error="unpacks to more"),
    Bomb("a dictionary of one long text, views in Arrow", "b.parquet",
         lambda: table({"text": as_views(300)}),
         error="unpacks to more than 200 times"),
    Bomb("a text of 40 MB, a view in Arrow", "b.parquet",
         lambda: table({"text": pa.array(["a" * 40_000_000, "good"], pa.string_view())}),
         problem="longer than 16 MiB", rows=1),
    Bomb("a list of one long text in one row, views in Arrow, kept", "b.parquet",
         lambda: table({"text": ["good"], "x": one_list(as_views(300))}),
         keep=("x",), error="a row takes more than 1 GiB of memory"),
    Bomb("five million nulls", "b.parquet", lambda: table({"text": pa.nulls(5_000_000)}),
         error="100,000 of its first 100,000 rows cannot be scored"),
    Bomb("lists of ten nulls, kept", "b.parquet",
         lambda: table({"text": letters(500_000), "x": pa.array([[None] * 10] * 500_000)}), keep=("x",),
         error="unpacks to more than 200 times"),
    Bomb("Parquet that gz makes small once more", "b.parquet.gz", packed_twice,
         error="unpacks to more than 200 times"),
    Bomb("five million nulls, trained with", "b.parquet.gz", trained=True,
         content=lambda: gzip.compress(table({"text": pa.nulls(5_000_000), "label": pa.nulls(5_000_000)})),
         error="Its reviews take more than 200 times"),
    Bomb("four million reviews of one letter, trained with", "b.parquet", trained=True,
         content=lambda: table({"text": letters(4_000_000), "label": letters(4_000_000)}),
         error="Its reviews take more than 200 times"),
    Bomb("20,000 columns, Parquet", "b.parquet", many_columns, error="has 20,001 columns; the limit is 4,096"),
    Bomb("a header of 80,000 commas", "b.csv", lambda: b"," * 80_000 + b"\n", error="has 80,001 columns"),
    Bomb("rows of a million commas", "b.csv", lambda: b"text\n" + (b"," * MIB + b"\n") * 8,
         problem="1048577 fields where the header has 1"),
    Bomb("20,000 keys in a row", "b.jsonl",
         lambda: b'{"text": "good"}\n' + json.dumps({f"k{i}": i for i in range(20_000)}).encode() + b"\n",
         problem="more than 4,096 columns", rows=1),
    Bomb("100,000 keys inside of a column, kept", "b.jsonl", keep=("x",), rows=1,
         content=lambda: json.dumps({"text": "good", "x": {f"k{i}": i for i in range(100_000)}}).encode()),
    Bomb("five million lines that are no JSON", "b.jsonl.gz", lambda: gzip.compress(b"x\n" * 5_000_000),
         error="None of its first 10,000 rows can be read; the first: not JSON"),
    Bomb("the same behind a good one", "b.jsonl.gz",
         lambda: gzip.compress(b'{"text": "good"}\n' + b"x\n" * 5_000_000),
         error="99,999 of its first 100,000 rows cannot be scored"),
    Bomb("the same behind one without the column", "b.jsonl.gz",
         lambda: gzip.compress(b'{"x": 1}\n' + b"x\n" * 5_000_000), error="No column 'text'; the columns are: x"),
    Bomb("16 MiB of blank lines", "b.jsonl.gz", lambda: gzip.compress(b"\n" * (16 * MIB))),
    Bomb("a line that never ends, CSV", "b.csv.gz", lambda: gzip.compress(b"text\n" + b"x" * (60 * MIB)),
         problem="longer than 16 MiB"),
    Bomb("a line that never ends, JSON Lines in bz2", "b.jsonl.bz2",
         lambda: bz2.compress(b'{"text": "' + b"x" * (60 * MIB)), problem="longer than 16 MiB"),
    Bomb("a quote never closed", "b.csv.gz",
         lambda: gzip.compress(b'text\n"' + b"x" * 99 + (b"x" * 99 + b"\n") * 200_000),
         error="never closed"),
    Bomb("a row of 16 MiB of empty lists, kept", "b.jsonl", row_of_lists, keep=("x",), rows=1,
         problem="kept columns of more than 64 MiB"),
    Bomb("kept columns of a megabyte", "b.jsonl.gz", wide_rows, keep=("x",), rows=60),
    Bomb("lists a hundred thousand deep", "b.jsonl", lambda: b'{"text": "a"}\n{"x": ' + b"[" * 100_000 + b"\n",
         problem="nested too deeply", rows=1),
    Bomb("16 MiB of numbers of 4,300 digits", "b.jsonl",
         lambda: b'{"text": "a", "x": [' + (b"9" * 4_300 + b",") * 3_800 + b"1]}\n", keep=("x",), rows=1),
    Bomb("the same key two million times", "b.jsonl", lambda: b'{"text": "a"' + b',"x":1' * 2_000_000 + b"}\n", rows=1),
]  # fmt: skip


def scored(bomb: Bomb, content: bytes) -> Iterator[str]:
    """The problem of each row as scoring sees it before any model does, one review after the other; '' of good ones."""
    from tasks.core.scoring.plan import Columns
    from tasks.core.scoring.predict import to_review, within_fraction

    columns = Columns(keep=list(bomb.keep))
    asked_for = [columns.id, columns.text, *columns.keep]
    decoded = reading.decode(bomb.name, io.BytesIO(content), columns=asked_for)
    checked = with_columns(decoded, [columns.text, *columns.keep], bomb.name)
    for review in within_fraction((to_review(row, columns) for row in checked), 0.5, bomb.name):
        yield review.problem


def trained_with(bomb: Bomb, content: bytes) -> Iterator[str]:
    """Nothing for each row that training keeps."""
    # takes seconds, for the libraries of all kinds of sources
    from tasks.connectors.sources.base import SourceColumns
    from tasks.connectors.sources.files import LocalFiles
    from tasks.data.reading_rows import read_rows

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, bomb.name)
        path.write_bytes(content)
        source = LocalFiles(path, SourceColumns("text", "label"), bomb.name)
        yield from ("" for _ in read_rows(source.rows("train"), 0.01, bomb.name).rows)


def tried(bomb: Bomb, content: bytes) -> dict[str, Any]:
    """What becomes of it."""
    problems, error, started = Counter[str](), "", time.perf_counter()
    try:
        problems.update(trained_with(bomb, content) if bomb.trained else scored(bomb, content))
    except DataError as found:
        error = str(found)
    return {
        "title": bomb.title,
        "bytes": len(content),
        "rows": problems.total(),
        "problems": dict(problems),
        "error": error,
        "seconds": round(time.perf_counter() - started, 2),
    }


def memory() -> dict[str, int]:
    """The most that this process and those that decode Parquet have taken, in MiB.

    The kernel counts what a process had before it began another program; VmHWM begins with the program.
    """
    process.end_idle()
    status = Path("/proc/self/status").read_text(encoding="ascii")
    own = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM"))
    decoder = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    return {"own": own // 1024, "decoder": decoder // 1024}


def make(folder: Path) -> None:
    """Write all files, each whole under its name."""
    for number, bomb in enumerate(BOMBS):
        begun = folder / f"{number}.begun"
        begun.write_bytes(bomb.content())
        begun.rename(folder / str(number))


def try_all(folder: Path) -> None:
    """Print a line for each, as soon as it is there."""
    importlib.import_module("tasks.core.scoring.predict")
    importlib.import_module("tasks.connectors.sources.files")
    print(json.dumps({"title": "nothing yet", **memory()}), flush=True)
    for number, bomb in enumerate(BOMBS):
        file, end = folder / str(number), time.monotonic() + _PATIENCE_SECONDS
        while not file.exists() and time.monotonic() < end:
            time.sleep(0.02)
        found = tried(bomb, file.read_bytes())
        print(json.dumps({**found, **memory()}), flush=True)


def all_tried() -> dict[str, Any]:
    """What became of each, by its title, and "nothing yet"; making and trying have processes of their own, at once."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "tests.core.formats.bombs"]
        with subprocess.Popen([*command, "make", folder]) as making:
            tried = subprocess.run(
                [*command, "try", folder], check=True, stdout=subprocess.PIPE, text=True
            )
        if making.returncode:
            raise RuntimeError("not all files could be made")
    return {found["title"]: found for found in map(json.loads, tried.stdout.splitlines())}


def main() -> None:
    """Print the table as Markdown."""
    print("| File | Bytes | Outcome | Message |\n|---|---|---|---|")
    found = all_tried()
    for bomb in BOMBS:
        one = found[bomb.title]
        rejected = {why: count for why, count in one["problems"].items() if why}
        scored = f"{one['problems'].get('', 0):,} scored"
        scored += f", {sum(rejected.values()):,} rejected" if rejected else ""
        outcome = "not scored" if one["error"] else scored
        message = one["error"] or "; ".join(rejected)
        print(f"| {bomb.title} | {one['bytes']:,} | {outcome} | {message} |")


if __name__ == "__main__":
    if sys.argv[1:]:
        {"make": make, "try": try_all}[sys.argv[1]](Path(sys.argv[2]))
    else:
        main()
