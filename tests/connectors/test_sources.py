"""Sources of labelled reviews: one contract for all, then what is particular to each."""

import gzip
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tasks.connectors.hub import base_model_folder
from tasks.connectors.object_store import ObjectStore
from tasks.connectors.sources import SAMPLE, Source, SourceParams, open_source
from tasks.connectors.sources.base import Unreadable
from tasks.connectors.sources.files import split_of
from tasks.core import formats
from tasks.core.errors import MissingDataError, ModelError, UnreadableDataError
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


@pytest.mark.parametrize(
    ("name", "split"),
    [
        ("train-00000-of-00001.parquet", "train"),
        ("test/a.csv", "test"),
        ("sub/Test_2.jsonl", "test"),
        ("unsupervised-0.parquet", "unsupervised"),
        ("reviews.csv", "train"),
        ("testimony.csv", "train"),
        ("latest.csv", "train"),
    ],
)
def test_splits_by_name(name: str, split: str) -> None:
    assert split_of(name) == split


def problem(location: str, **given: object) -> str:
    params = SourceParams.model_validate({"location": location} | given)
    with pytest.raises((MissingDataError, UnreadableDataError)) as caught:
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


def test_a_file_that_raises_whatever_it_may_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "good.jsonl").write_bytes(jsonl(TRAIN))
    (tmp_path / "odd.jsonl").write_bytes(jsonl(TEST))
    decode = formats.decode

    def odd(name: str, *args: Any, **options: Any) -> Iterator[Any]:
        yield from decode(name, *args, **options)
        if "odd" in name:
            raise OverflowError(TRAIN[0][0])

    monkeypatch.setattr(formats, "decode", odd)
    source = open_source(SourceParams(location=str(tmp_path)), "location", lambda: None)  # type: ignore[arg-type,return-value]
    with pytest.raises(UnreadableDataError, match=r"raises OverflowError.*odd\.jsonl") as raised:
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
    assert "no local file or folder of that name, and no hub can be reached" in problem(
        "stanfordnlp/imdb"
    )
    with pytest.raises(
        ModelError, match=r"No base model 'google-bert/bert-base-uncase'.*no hub can be reached"
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
    monkeypatch.setattr("tasks.connectors.hub._PACKAGE", "gt_copy")
    assert base_model_folder("minilm", None)[0] == copy
    content = (copy / changed).read_bytes() if (copy / changed).exists() else b"{}"
    (copy / changed).unlink(missing_ok=True)
    (copy / changed).write_bytes(content.replace(b"movie", b"mowie").replace(b"512", b"511"))
    with pytest.raises(ModelError, match=rf"not all-MiniLM-L6-v2 as it was published: {changed}"):
        base_model_folder("minilm", None)
