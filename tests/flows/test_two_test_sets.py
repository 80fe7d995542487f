"""Two first retrainings of a model draw its test set at once: both are judged on the same one."""

from pathlib import Path
from typing import Any

import pytest

from tasks.connectors.sources.params import SourceParams
from tasks.connectors.storage.object_store import ObjectStore
from tasks.core.data.params import SplitParams
from tasks.core.records import HeldOutSummary, Reference, ValidatedSummary
from tasks.data import holdout
from tasks.runtime.steps import reuse_or_make

VALIDATED = Reference[ValidatedSummary](
    kind="validated",
    uri="s3://nightshift/prepared/validated/none",
    digest="none",
    content="none",
    summary=ValidatedSummary(
        label_names=["A", "B"], rows={"train": 9}, class_rows={}, source_rows={}, findings=[]
    ),
    reused=False,
)


def test_the_second_takes_what_the_first_has_frozen(
    configured: ObjectStore, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, drawn = SourceParams(location=f"{prefix}/labelled"), list[Any]()

    def hold_out() -> Reference[HeldOutSummary]:
        return holdout.hold_out_test.fn(VALIDATED, source, SplitParams(), "two-test-sets")

    def made(*_: Any, **__: Any) -> Reference[HeldOutSummary]:
        """Of each another one; the second retraining goes through while the first one draws."""
        number = len(drawn)
        drawn.append(None)
        if number == 0:
            drawn[0] = hold_out()

        def make(folder: Path) -> HeldOutSummary:
            (folder / "test.parquet").write_bytes(str(number).encode())
            return HeldOutSummary(label_names=["A", "B"], rows=number + 1, drawn=True)

        inputs = {"of": prefix, "number": number}
        return reuse_or_make("test-set", inputs, HeldOutSummary, make)

    monkeypatch.setattr(holdout, "_hold_out", made)
    first = hold_out()
    assert len(drawn) == 2 and first.uri == drawn[0].uri and first.summary.rows == 2
    assert hold_out().uri == first.uri and len(drawn) == 2
