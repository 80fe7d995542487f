"""The cases can be told apart and have what they need; all of them are tried by `make cases`."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.cases import processes
from tests.cases.case import Case, Found, both, done, fails, scored
from tests.cases.registry import CASES
from tests.paths import ROOT


def test_names_are_of_one_case_and_can_stand_in_a_key() -> None:
    names = [case.name for case in CASES]
    assert len(set(names)) == len(names)
    assert all(name.replace("-", "").isalnum() and name == name.lower() for name in names)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_case_says_what_is_right_and_notices_what_is_not(case: Case) -> None:
    assert case.seen and case.expected and case.command
    assert [part.format(input="x/", output="y", base="z", side="here") for part in case.command]
    assert case.wrong(Found(1, "")) and case.wrong(Found(-6, "Aborted"))


def test_what_is_found_is_judged() -> None:
    text = "12:00 | INFO\nerror: DataError: 1 of 3 objects were not scored: b.csv: 9 columns\n"
    found = Found(2, text, {"a.jsonl": 2, "c.jsonl": 2})
    assert fails("b.csv", "9 columns")(found) == "" and scored(a=2, c=2)(found) == ""
    assert "8 columns" in fails("8 columns")(found)
    assert scored(a=2)(found) and both(scored(a=2, c=2), done)(found) == "exit status 2"
    assert str(found).startswith("a.jsonl 2, c.jsonl 2 scored; error: DataError")


def test_the_most_memory_of_one_process_is_seen(tmp_path: Path) -> None:
    """Also where it has let go of it, and a child of it is small."""
    script = (
        "import subprocess, sys, time; b'x' * (300 << 20); "
        "subprocess.run([sys.executable, '-c', 'import time; b=bytes(9); time.sleep(0.4)'])"
    )
    ended = processes.run([sys.executable, "-c", script], {}, tmp_path, 60.0, 4.0)
    assert ended.status == 0 and not ended.timed_out, ended
    assert 300 <= ended.peak_mib < 450


@pytest.mark.slow
@pytest.mark.timeout(5400)  # half an hour on a quiet machine
def test_all_cases() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.cases"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout[-4000:]
    assert " as they should be" in done.stdout.splitlines()[-1]
