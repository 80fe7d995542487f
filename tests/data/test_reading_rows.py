"""Rows that nobody can train with are counted and not kept, and reading ends where most are such rows."""

from collections.abc import Iterator

import pytest

from tasks.connectors.sources.base import Unreadable
from tasks.core.data import early_end
from tasks.core.data.params import ValidationParams
from tasks.core.data.usable_rows import RawReview
from tasks.core.data.validation import Validated, validate
from tasks.core.errors import ValidationError
from tasks.data import reading_rows
from tests.reviews import reviews

_NAMES = ["NEGATIVE", "POSITIVE"]
_ODD = {
    "missing text": RawReview(" <br />", "POSITIVE", "f row 9"),
    "missing label": RawReview("A film.", None, "f row 9"),
    "unlabelled": RawReview(None, "-1", "f row 9"),
}


def good(count: int) -> Iterator[RawReview]:
    return (RawReview(text, label, f"f row {n}") for n, (text, label) in enumerate(reviews(count)))


def validated(read: reading_rows.ReadRows, names: list[str]) -> Validated:
    splits, unusable = {"train": read.rows}, {"train": read.further}
    params = ValidationParams(max_unusable_fraction=1.0)
    return validate(splits, names, {"train": read.unreadable}, params, unusable)


@pytest.mark.parametrize("rule", _ODD)
def test_what_is_not_kept_is_said_as_if_it_were(rule: str, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [*good(40), *[_ODD[rule]] * 30, Unreadable("f row 99", "not JSON")]
    both = (_NAMES, ["-1", *_NAMES])
    all_kept = reading_rows.read_rows(rows, 1.0, "f")
    assert len(all_kept.rows) == 70 and not all_kept.further
    expected = [validated(all_kept, names) for names in both]
    monkeypatch.setattr(reading_rows, "_MOST_UNUSABLE", 6)
    few_kept = reading_rows.read_rows(rows, 1.0, "f")
    assert len(few_kept.rows) == 46 and few_kept.further == {rule: 24}
    found = [validated(few_kept, names) for names in both]
    assert [one.findings for one in found] == [one.findings for one in expected]
    assert [one.splits for one in found] == [one.splits for one in expected]
    assert all("30 rows" in one.findings[0].message for one in found)


def test_reading_ends_where_most_rows_are_of_no_use(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(early_end, "_ROWS_TO_JUDGE", 100)
    odd = _ODD["missing text"]
    read = reading_rows.read_rows([*[odd] * 60, *good(60)], 0.5, "f")
    assert len(read.rows) == 120, "they may come first, where rows are sorted"
    assert len(reading_rows.read_rows([*good(40), *[odd] * 100], 1.0, "f").rows) == 140
    seen: list[int] = []

    def endless() -> Iterator[RawReview | Unreadable]:
        yield from good(40)
        for number in range(10**9):
            seen.append(number)
            yield Unreadable(f"f row {number}", "not JSON") if number % 2 else odd

    with pytest.raises(ValidationError, match=r"60 of its first 100 rows .*missing text|not JSON"):
        reading_rows.read_rows(endless(), 0.5, "f (train)")
    assert len(seen) == 60
