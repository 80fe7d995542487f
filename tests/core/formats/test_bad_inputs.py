"""Every odd file ends as the table says: as rows and problems, or as one sentence without review text."""

import io
import re

import pytest

from tasks.core.errors import UnreadableDataError
from tasks.core.formats import reading
from tasks.core.formats.base import Row
from tests.core.formats.bad_inputs import CASES, SECRET, Case, main, outcome


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.title)
def test_odd_files(case: Case) -> None:
    found = outcome(case)
    if case.error:
        assert re.search(case.error, found.error), found
        what, where, fix = re.fullmatch(r"(.+) \[(.+)\] -> (.+)", found.error, re.S).groups()  # type: ignore[union-attr]
        assert where == case.name and what and fix and "\n" not in found.error
    else:
        assert found.error == "" and found.rows == case.rows, found
        assert found.problems.keys() == case.problems.keys(), found
        assert all(re.search(p, found.problems[row]) for row, p in case.problems.items()), found
    assert SECRET not in found.error + "".join(found.problems.values())


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.title)
def test_odd_files_in_spans(case: Case) -> None:
    """Cutting sees what decoding sees, and says it in the same words."""
    content = case.bytes()
    try:
        whole = list(reading.decode(case.name, io.BytesIO(content)))
    except UnreadableDataError as error:
        with pytest.raises(UnreadableDataError, match=re.escape(str(error))):
            reading.cut(case.name, io.BytesIO(content), 1000)
        return
    rows: list[Row] = []
    for span in reading.cut(case.name, io.BytesIO(content), 1000):
        part = content[slice(*span.byte_range)] if span.byte_range else content
        rows += reading.decode(case.name, io.BytesIO(part), span)
    # NaN is not equal to itself
    assert [repr(r) for r in rows] == [repr(r) for r in whole]


def test_the_table_can_be_printed(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tests.core.formats.bad_inputs.CASES", CASES[:3])
    main()
    assert capsys.readouterr().out.count("\n") == 5


def test_there_are_many() -> None:
    assert len(CASES) > 40 and len({case.title for case in CASES}) == len(CASES)
