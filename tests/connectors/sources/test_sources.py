"""Sources of labelled reviews: one contract for all, then what is particular to each."""

import datetime
import gzip
import io
import re
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tasks.connectors.model_hub import base_model_folder
from tasks.connectors.sources.base import Source, Unreadable
from tasks.connectors.sources.params import SAMPLE, SourceParams
from tasks.connectors.sources.registry import open_source
from tasks.connectors.storage.object_store import ObjectStore
from tasks.core.errors import (
    MissingDataError,
    ModelError,
    NightshiftError,
    SettingsError,
    UnreadableDataError,
    ValidationError,
)
from tasks.core.formats import reading
from tests.reviews import as_csv, jsonl, reviews

TRAIN, TEST = reviews(20), reviews(8, seed=1)
MIB = 1 << 20


def parquet(rows: list[tuple[str, str]]) -> bytes:
    buffer = io.BytesIO()
    pq.write_table(
        pa.table({"text": [t for t, _ in rows], "label": [label for _, label in rows]}), buffer
    )
    return buffer.getvalue()


FILES = {
    "jsonl": {"train.jsonl": jsonl(TRAIN), "test.jsonl": jsonl(TEST)},
    "csv": {
        "train/part-0.csv": as_csv(TRAIN[:10]),
        "train/part-1.csv": as_csv(TRAIN[10:]),
        "test/a.csv": as_csv(TEST),
    },
    "parquet": {
        "train-00000.parquet": parquet(TRAIN),
        "test-00000.parquet": parquet(TEST),
        "README.md": b"# no",
    },
}


@pytest.fixture(params=[f"{place}-{kind}" for place in ("local", "s3") for kind in FILES])
def source(
    request: pytest.FixtureRequest, tmp_path: Path, store: ObjectStore, prefix: str
) -> Source:
    place, kind = request.param.split("-")
    for name, content in FILES[kind].items():
        if place == "s3":
            store.write_bytes(content, f"{prefix}/{name}")
        else:
            (tmp_path / name).parent.mkdir(exist_ok=True)
            (tmp_path / name).write_bytes(content)
    location = prefix if place == "s3" else str(tmp_path)
    return open_source(SourceParams(location=location), "location", lambda: store)


def test_every_source_gives_the_same_rows(source: Source) -> None:
    assert source.splits() == ["train", "test"]
    for split, rows in (("train", TRAIN), ("test", TEST)):
        read = [r for r in source.rows(split) if not isinstance(r, Unreadable)]
        assert [(r.text, r.label) for r in read] == rows
        assert "row 1" in read[0].where
    assert source.identity() == source.identity() and source.identity()


def test_the_sample_is_a_source(store: ObjectStore) -> None:
    sample = open_source(SourceParams(location=SAMPLE), "location", lambda: store)
    assert sample.splits() == ["train", "test"]


def test_identity_follows_content(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    seen = []
    for rows in (TRAIN, TRAIN[:-1]):
        path.write_bytes(as_csv(rows))
        seen.append(open_source(SourceParams(location=str(path)), "location", _no_store).identity())
    assert seen[0] != seen[1]


def _no_store() -> ObjectStore:
    raise AssertionError("a local source asks for no store")


def problem(location: str, **given: object) -> str:
    params = SourceParams.model_validate({"location": location} | given)
    with pytest.raises((MissingDataError, UnreadableDataError, ValidationError)) as caught:
        list(open_source(params, "location", _no_store).rows("train"))
    return str(caught.value)


def test_what_a_person_reads_when_a_file_is_wrong(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "bad.parquet").write_bytes(b"not parquet")
    (tmp_path / "stars.csv").write_bytes(as_csv(TRAIN, text="review", label="stars"))
    (tmp_path / "words.txt").write_text("words")
    assert "No such file or folder" in problem(str(tmp_path / "none.csv"))
    assert "No Parquet, CSV, TSV or JSONL file" in problem(str(tmp_path / "empty"))
    assert "Not readable as parquet" in problem(str(tmp_path / "bad.parquet"))
    assert "No column 'text'; the columns are: review, stars" in problem(
        str(tmp_path / "stars.csv")
    )
    assert "No column 'stars!'" in problem(
        str(tmp_path / "stars.csv"), text_column="review", label_column="stars!"
    )
    assert "Cannot tell the format" in problem(str(tmp_path / "words.txt"))


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("reviews.xlsx", r"an Excel workbook.* -> open it, and save each sheet"),
        ("reviews.csv.zip", r"a zip archive.* -> unpack it: unzip reviews\.csv\.zip"),
        ("my reviews.tar.gz", r"a tar archive.* -> unpack it: tar -xf 'my reviews\.tar\.gz'"),
        ("reviews.ods", "an OpenDocument spreadsheet"),
        ("reviews.jsonl.xz", "compressed with xz"),
        ("old.xls", "an old Excel or Word file"),
    ],
)
def test_what_is_not_read_is_called_by_its_name(name: str, said: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(b"whatever it holds")
    (tmp_path / "notes.txt").write_text("words")
    for location in (tmp_path, tmp_path / name):
        assert re.search(said, problem(str(location))), location


@pytest.mark.parametrize("kind", ["local", "s3"])
def test_each_file_has_a_split_that_is_said(
    kind: str, tmp_path: Path, store: ObjectStore, prefix: str
) -> None:
    files = {
        "train.csv": as_csv(TRAIN[:10]),
        "test (1).csv": as_csv(TEST),
        "val-00000-of-00001.csv": as_csv(TRAIN[10:]),
        "old/2023.csv": as_csv(TRAIN[10:]),
        "notes.xlsx": b"PK",
        "_SUCCESS": b"",
    }
    for name, content in files.items():
        if kind == "s3":
            store.write_bytes(content, f"{prefix}/{name}")
        else:
            (tmp_path / name).parent.mkdir(exist_ok=True)
            (tmp_path / name).write_bytes(content)
    location = prefix if kind == "s3" else str(tmp_path)

    def opened(splits: str) -> Source:
        params = SourceParams(location=location, splits=splits)
        return open_source(params, "location", lambda: store)

    with pytest.raises(
        ValidationError, match=r"indicate no split: old/2023.csv .*splits old/2023.csv="
    ):
        opened("")
    with pytest.raises(SettingsError, match=r"'tset' is neither a split, a folder nor a file name"):
        opened("tset=test")
    source = opened("old/*=-")
    assert {file.name: file.split for file in source.files()} == {
        "train.csv": "train",
        "test (1).csv": "test",
        "val-00000-of-00001.csv": "validation",
        "old/2023.csv": "-",
        "notes.xlsx": "-",
    }
    assert len(list(source.rows("train"))) == 10 and len(list(source.rows("test"))) == 8
    assert len(list(opened("old=train, validation=test, test=-").rows("train"))) == 20


def test_a_label_that_is_none_is_an_error_with_its_place(tmp_path: Path) -> None:
    for number, labels in enumerate(
        [[[0], [1]], [{"a": 1}], [b"pos"], [datetime.date(2026, 1, 1)]]
    ):
        pq.write_table(
            pa.table({"text": ["a film"] * len(labels), "stars": labels}),
            tmp_path / f"{number}.parquet",
        )
    (tmp_path / "4.csv").write_text('text,stars\nfine,1\na film,"[0, 1]"\n')
    (tmp_path / "5.jsonl").write_text('{"text": "a film", "stars": [1]}\n')
    said = [problem(str(path), label_column="stars") for path in sorted(tmp_path.iterdir())]
    for text, kind in zip(
        said,
        ["a list", "a structure", "bytes", "a value of type date", "a list, written as", "a list"],
        strict=True,
    ):
        assert (
            f"A label must be one text, number or boolean, but the column 'stars' holds {kind}"
            in text
        )
        assert "--data.source.label-column" in text
    assert "0.parquet row 1]" in said[0] and "4.csv row 2]" in said[4]


def test_the_same_labels_from_every_format(tmp_path: Path) -> None:
    """Numbers, texts, decimals and booleans that mean the same."""
    numbers: list[Any] = [pa.array([0, 1]), pa.array([0.0, 1.0]), pa.array(["0.0", " 1"])]
    numbers.append(pa.array([Decimal("0.00"), Decimal("1.00")]))
    for number, labels in enumerate(numbers):
        pq.write_table(
            pa.table({"text": ["a", "b"], "label": labels}), tmp_path / f"{number}.parquet"
        )
    (tmp_path / "a.csv").write_text("text,label\na,0.0\nb,+1\n")
    (tmp_path / "b.jsonl").write_text('{"text": "a", "label": 0}\n{"text": "b", "label": "1.0"}\n')
    source = open_source(SourceParams(location=str(tmp_path)), "location", _no_store)
    read = [row for row in source.rows("train") if not isinstance(row, Unreadable)]
    assert [row.label for row in read] == ["0", "1"] * 6


def test_a_file_that_raises_whatever_it_may_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "good.jsonl").write_bytes(jsonl(TRAIN))
    (tmp_path / "odd.jsonl").write_bytes(jsonl(TEST))
    decode = reading.decode

    def odd(name: str, *args: Any, **options: Any) -> Iterator[Any]:
        yield from decode(name, *args, **options)
        if "odd" in name:
            raise OverflowError(TRAIN[0][0])

    monkeypatch.setattr(reading, "decode", odd)
    source = open_source(SourceParams(location=str(tmp_path)), "location", lambda: None)  # type: ignore[arg-type,return-value]
    with pytest.raises(
        UnreadableDataError, match=r"Unexpected error: OverflowError.*odd\.jsonl"
    ) as raised:
        list(source.rows("train"))
    assert TRAIN[0][0] not in f"{raised.value}{raised.value.__cause__}{caplog.text}"
    assert "test_sources.py" in caplog.text


_TINY = {
    "b.jsonl.gz": lambda: gzip.compress(b'{"text": "a", "label": 1}\n' * 30_000),
    "c.jsonl.gz": lambda: gzip.compress(b'{"text": "a", "label": 1}\n' + b"{}\n" * 30_000),
    "b.csv.gz": lambda: gzip.compress(b"text,label\n" + b"a,1\n" * 30_000),
    "c.csv.gz": lambda: gzip.compress(b"text,label\n" + b",\n" * 30_000),
    "b.parquet": lambda: parquet([("a", "1")] * 30_000),
}


@pytest.mark.parametrize("name", _TINY)
def test_a_small_file_of_very_many_reviews_is_named(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each takes some 200 bytes of memory, and less than one in the file."""
    monkeypatch.setattr("tasks.core.formats.base.MOST_UNPACKED", MIB)
    (tmp_path / "a.jsonl").write_bytes(jsonl(TRAIN))
    (tmp_path / name).write_bytes(_TINY[name]())
    source = open_source(SourceParams(location=str(tmp_path)), "location", _no_store)
    found: list[object] = []
    with pytest.raises(UnreadableDataError, match=rf"more than 200 times.*{name}\]"):
        found.extend(source.rows("train"))
    assert 20 < len(found) < 12_000


def test_many_small_files_may_not_take_more_than_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tasks.core.formats.base.MOST_UNPACKED", MIB)
    for number in range(9):
        content = gzip.compress(b'{"text": "a", "label": 1}\n' * 2_000)
        (tmp_path / f"{number}.jsonl.gz").write_bytes(content)
    source = open_source(SourceParams(location=str(tmp_path)), "location", _no_store)
    with pytest.raises(
        UnreadableDataError, match=r"up to here .*bytes of their files.*[12]\.jsonl"
    ):
        list(source.rows("train"))


def test_a_hub_that_cannot_be_reached() -> None:
    assert "no local file or folder of that name, and the hub cannot be reached" in problem(
        "stanfordnlp/imdb"
    )
    with pytest.raises(
        ModelError, match=r"No base model 'google-bert/bert-base-uncase'.*the hub cannot be reached"
    ):
        base_model_folder("google-bert/bert-base-uncase", None)
    with pytest.raises(ModelError, match="No such folder"):
        base_model_folder("./none", None)


def test_the_packaged_model_is_the_published_one() -> None:
    folder, revision = base_model_folder("minilm", None)
    assert (folder / "model.safetensors").is_file() and revision == "53aa51172d14"


@pytest.mark.parametrize("changed", ["tokenizer.json", "vocab.txt", "config.json", "new.json"])
def test_a_packaged_model_with_another_tokenizer_is_refused(
    changed: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The weights are the published ones; a word of the tokenizer, a setting or a file more is not."""
    folder, _ = base_model_folder("minilm", None)
    copy = tmp_path / "gt_copy" / "model"
    copy.mkdir(parents=True)
    (copy.parent / "__init__.py").touch()
    for path in folder.iterdir():
        if path.is_file():
            (copy / path.name).symlink_to(path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr("tasks.connectors.model_hub._PACKAGE", "gt_copy")
    assert base_model_folder("minilm", None)[0] == copy
    content = (copy / changed).read_bytes() if (copy / changed).exists() else b"{}"
    (copy / changed).unlink(missing_ok=True)
    (copy / changed).write_bytes(content.replace(b"movie", b"mowie").replace(b"512", b"511"))
    with pytest.raises(
        ModelError, match=rf"differs from the published all-MiniLM-L6-v2: {changed}"
    ):
        base_model_folder("minilm", None)


@pytest.mark.parametrize(
    ("location", "message"),
    [
        ("reviews/", r"No such file or folder \[reviews/\] -> check data.source.location"),
        ("~nobody-of-that-name/reviews", "No such file or folder"),
        ("-/reviews", "No such file or folder"),
        ("a b/reviews", "No such file or folder"),
        ("imdb", "No such file or folder"),
        ("s3:/x", r"'s3:/x' is not of the form s3://bucket/prefix.*\[data.source.location\]"),
        ("S3://reviews/in", "is not of the form s3://bucket/prefix"),
        ("s3a://reviews/in", "is not of the form s3://bucket/prefix"),
        ("s3://Reviews/in", "is not of the form s3://bucket/prefix"),
        ("https://host/reviews.csv", "Cannot read reviews from"),
        ("file:///reviews.csv", "Cannot read reviews from"),
    ],
)
def test_a_location_that_is_none_is_one_sentence(location: str, message: str) -> None:
    """No hub is asked for what can be no data set of one."""
    params = SourceParams(location=location)
    with pytest.raises(NightshiftError, match=message):
        open_source(params, "location", _no_store)
