"""Check that a scoring run did not lose, duplicate or mix up a row. It shares no code with the writer."""

import csv
import io
import json
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import pyarrow.parquet as pq

from benchmarks.faults.parts import logit

Rows = list[dict[str, Any]]


@dataclass
class Verdict:
    """Rows lost, duplicated or mixed up, and wrong predictions; all zero if the run is correct."""

    objects: int = 0
    rows: int = 0
    counts: Counter[str] = field(default_factory=Counter)
    first: str = ""

    def against(self, kind: str, where: str, count: int = 1) -> None:
        """Record a violation."""
        self.counts[kind] += count
        self.first = self.first or f"{kind}: {where}"


def check(
    client: Any,
    bucket: str,
    root: str,
    versions: dict[str, list[Rows]],
    done: bool,
    failed: bool = False,
) -> Verdict:
    """Compare outputs with inputs.

    Args:
        client: a boto3 client.
        bucket: the bucket of the outputs.
        root: prefix of the outputs of one model version.
        versions: the versions of each input, by its key below the input prefix; the newest last.
        done: True if every input must be there, in its newest version.
        failed: True if an object failed, so that nothing may report success.
    """
    verdict = Verdict()
    success, incomplete = (
        _document(client, bucket, f"{root}/{name}") for name in ("_SUCCESS", "_INCOMPLETE")
    )
    if done and (bool(incomplete), bool(success)) != (failed, not failed):
        verdict.against("success and failure not told apart", root)
    listed = client.list_objects_v2(Bucket=bucket, Prefix=f"{root}/_unfinished/")
    believed = success and not incomplete and not listed.get("Contents")
    owed = set(versions) if believed else set[str]()  # a premature _SUCCESS would be false
    if believed:
        place = success["place"].split("/", 3)[3]
        owed -= set(_document(client, bucket, f"{place}/overwritten.json") or [])
    for name, versions_of_it in versions.items():
        output = _read(client, bucket, f"{root}/{name}")
        if output is None:
            if done or name in owed:
                verdict.against("lost", name, len(versions_of_it[-1]))
            continue
        made_of = client.head_object(Bucket=bucket, Key=f"{root}/{name}")["Metadata"]["fingerprint"]
        rejected = _read(client, bucket, f"{root}/_rejected/{name}.{made_of[:12]}.jsonl") or []
        verdict.objects += 1
        wanted = versions_of_it[-1:] if done else versions_of_it
        problems = [_compare(name, rows, output, rejected) for rows in wanted]
        best = min(problems, key=lambda p: sum(p.counts.values()))
        if best.counts and not done and len(wanted) > 1:
            verdict.against("mixed", best.first)
        verdict.counts += best.counts
        verdict.first = verdict.first or best.first
        verdict.rows += best.rows
    return verdict


def _compare(name: str, rows: Rows, output: Rows, rejected: Rows) -> Verdict:
    verdict = Verdict(rows=len(rows))
    good = {n: row for n, row in enumerate(rows, 1) if row["text"].strip()}
    seen = Counter(int(row["row"]) for row in output)
    refused = Counter(int(row["row"]) for row in rejected)
    for number in range(1, len(rows) + 1):
        times = seen[number] + refused[number]
        if times == 0:
            verdict.against("lost", f"{name} row {number}")
        elif times > 1:
            verdict.against("doubled", f"{name} row {number}")
    if [int(row["row"]) for row in output] != sorted(seen):
        verdict.against("out of order", name)
    for row in output:
        source = good.get(int(row["row"]))
        if source is None or source["id"] != row["id"]:
            verdict.against("mixed", f"{name} row {row['row']}")
        elif (row["label"] == "POSITIVE") != (logit(source["text"]) > 0):
            verdict.against("wrong", f"{name} row {row['row']}")
    for row in rejected:
        if int(row["row"]) in good:
            verdict.against("refused", f"{name} row {row['row']}")
    return verdict


def _document(client: Any, bucket: str, key: str) -> Any:
    try:
        return json.loads(client.get_object(Bucket=bucket, Key=key)["Body"].read())
    except client.exceptions.NoSuchKey:
        return None


def _read(client: Any, bucket: str, key: str) -> Rows | None:
    try:
        content = client.get_object(Bucket=bucket, Key=key)["Body"].read()
    except client.exceptions.NoSuchKey:
        return None
    if key.endswith(".jsonl"):
        return [json.loads(line) for line in content.splitlines()]
    if key.endswith(".csv"):
        return list(csv.DictReader(io.StringIO(content.decode(), newline="")))
    return pq.read_table(io.BytesIO(content)).to_pylist()
