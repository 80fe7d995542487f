"""The attack leaves nothing out unsaid."""

from pathlib import Path

from tests.attack.__main__ import outcome
from tests.attack.machine_attempts import files
from tests.attack.subjects import Subject


def test_the_home_itself_is_tried_and_of_tmpdir_what_is_in_it() -> None:
    subject = Subject("its servers", "", "ha", root=Path())
    subject.home.mkdir(parents=True)
    (subject.temporary / "left").touch()
    home, temporary = (a.action["paths"] for a in files(subject) if a.target == "files")
    subject.__exit__()
    assert home == [str(subject.top), str(subject.home)]
    assert temporary == [str(subject.temporary / "left")]


def test_the_last_line_says_what_was_not_tried() -> None:
    assert outcome(False, ["make up: 0 of 9 had"], "") == "nobody came in: make up: 0 of 9 had"
    assert outcome(False, ["x"], "as asked") == "nobody came in: x (no web page tried: as asked)"
    assert outcome(True, ["x"], "").startswith("MISS: x")
