"""Plans of scoring runs: every entry in exactly one shard, the same plan for the same entries, and back from JSON."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.core.formats.base import Span
from tasks.core.scoring import plan
from tasks.core.scoring.plan import Columns, Names, ScoringRun
from tasks.core.scoring.results import Counts
from tasks.core.scoring.sharding import BUNDLE_BYTES, SHARD_BYTES, Entry, Shard, bundles, shards
from tests.core.scoring.scoring_runs import scoring_run

sizes = st.lists(st.integers(0, 3 * BUNDLE_BYTES), max_size=200)


@given(sizes)
def test_every_entry_is_in_one_shard_in_its_order(found: list[int]) -> None:
    entries = [Entry(f"{n:05}", size, "e") for n, size in enumerate(found)]
    planned = list(shards(entries))
    assert [e for shard in planned for bundle in shard.bundles for e in bundle] == entries
    assert [shard.number for shard in planned] == list(range(len(planned)))
    assert planned == list(shards(entries))
    for shard in planned:
        assert Shard.from_json(shard.to_json()) == shard
        total = sum(e.size for bundle in shard.bundles for e in bundle)
        assert total <= SHARD_BYTES or len(shard.bundles) == 1
    for bundle in bundles(entries):
        assert len(bundle) == 1 or sum(e.size for e in bundle) <= BUNDLE_BYTES


def test_a_part_comes_back_from_json() -> None:
    part = Entry("x.csv", 10**9, "e", 3, 20, Span("csv", offset=5, end=9, columns=("a", "b")))
    shard = Shard(7, [[part]])
    assert Shard.from_json(shard.to_json()) == shard


@given(st.sets(st.text(max_size=20), max_size=100), st.text(max_size=20))
def test_names(names: set[str], other: str) -> None:
    kept = Names(names)
    assert len(kept) == len(names) and all(name in kept for name in names)
    assert (other in kept) == (other in names)


@pytest.mark.parametrize(
    ("key", "wanted", "output"),
    [
        ("a.jsonl", "same", "a.jsonl"),
        ("d/a.csv.gz", "same", "d/a.csv.gz"),
        ("a.csv", "parquet", "a.csv.parquet"),
        ("part-0001", "same", "part-0001.jsonl"),
        ("ä/ö 1.parquet", "same", "ä/ö 1.parquet"),
    ],
)
def test_where_outputs_go(key: str, wanted: str, output: str) -> None:
    planned = scoring_run(output_format=wanted)
    assert planned.output_uri(key) == f"s3://b/out/model=m/version=3/{output}"
    rejected = planned.rejected_uri(key, "0123456789abcdef")
    assert rejected == f"s3://b/out/model=m/version=3/_rejected/{key}.0123456789ab.jsonl"
    assert planned.input_uri(key) == f"s3://b/in/{key}"


def test_an_input_that_is_one_object() -> None:
    planned = scoring_run(input="s3://b/in/monday.csv")
    assert planned.input_uri("") == "s3://b/in/monday.csv"
    assert planned.output_uri("") == "s3://b/out/model=m/version=3/monday.csv"


def test_the_fingerprint_is_of_all_that_the_content_depends_on() -> None:
    entry = Entry("a.jsonl", 5, "e")
    same = scoring_run().fingerprint(entry)
    assert scoring_run(run="other", output="s3://c/x", rescore=True).fingerprint(entry) == same
    model = scoring_run().model.model_copy(update={"version": "4"})
    others = [
        scoring_run().fingerprint(Entry("a.jsonl", 5, "f")),
        scoring_run().fingerprint(Entry("b.jsonl", 5, "e")),
        scoring_run(model=model).fingerprint(entry),
        scoring_run(columns=Columns(text="body")).fingerprint(entry),
        scoring_run(columns=Columns(keep=["x"])).fingerprint(entry),
        scoring_run(output_format="csv").fingerprint(entry),
        scoring_run(precision="fp32").fingerprint(entry),
        scoring_run(engine="openvino").fingerprint(entry),
    ]
    assert len({same, *others}) == len(others) + 1


def test_a_run_of_before_there_were_engines_had_torch() -> None:
    """Its record is still read, and what it scored is not scored again."""
    old = scoring_run().model_dump()
    del old["engine"]
    read = ScoringRun.model_validate(old)
    assert read.engine == "torch"
    entry = Entry("a.jsonl", 5, "e")
    assert read.fingerprint(entry) == scoring_run(engine="torch").fingerprint(entry)


@given(st.dictionaries(st.text(max_size=5), st.integers(1, 9), max_size=50))
def test_counts_in_metadata(labels: dict[str, int]) -> None:
    counts = Counts(rows_in=9, rows_out=5, rows_rejected=4, labels=labels, reasons={"empty": 4})
    kept = counts.to_metadata()
    assert all(value.isascii() and len(value) <= 256 for value in kept.values())
    back = Counts.from_metadata(kept)
    assert back.model_copy(update={"labels": labels}) == counts
    assert back.labels in (labels, {})


def test_the_version_of_the_layout_is_part_of_the_fingerprint(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    before = scoring_run().fingerprint(Entry("a", 1, "e"))
    monkeypatch.setattr(plan, "SCORING_VERSION", 99)
    assert scoring_run().fingerprint(Entry("a", 1, "e")) != before


def test_what_release_0_1_scored_stays_scored() -> None:
    """A configuration that changes its digest scores everybody's objects again."""
    run = scoring_run()
    assert run.configuration("a.jsonl") == "0f2ccd7f0e23aa79451e5b438672b520"
    assert run.configuration("b.tsv") == "778de7d80928d6bbebd89bb7e40f3387"
    assert run.assignment == "b24215d98e1f6c0dae1dbfbd10b04a36"
    openvino = scoring_run(engine="openvino")
    assert openvino.configuration("a.jsonl") == "0c49a77a5877b5853df5fb91ad3995ed"
