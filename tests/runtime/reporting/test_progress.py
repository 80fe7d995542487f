"""What people are told of how far long work is."""

import logging
import time

import pytest

from tasks.runtime.reporting import progress as pace_module
from tasks.runtime.reporting.progress import (
    ProgressMeter,
    ReadAheadMeter,
    current_meter,
    duration,
    use_meter,
)


@pytest.fixture
def clock(monkeypatch):
    """Seconds that pass when a test says so."""
    now = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    return now


def test_the_estimate_goes_by_units_and_the_speed_by_what_is_counted(clock):
    meter = ProgressMeter("reviews", of=1000)
    clock[0] += 10
    meter.add(50, done=250)
    assert meter.text() == "50 reviews, 5.0 a second; 25% done, about 30 s left"


def test_what_was_done_before_does_not_shorten_the_estimate(clock):
    meter = ProgressMeter("reviews", of=1000)
    meter.skip(500)
    assert meter.text().startswith("0 reviews, 0.0 a second")
    assert "left" not in meter.text(), "nothing was measured yet"
    clock[0] += 10
    meter.add(10, done=100)
    assert meter.text().endswith("60% done, about 40 s left")


def test_work_that_is_over_has_no_estimate(clock):
    meter = ProgressMeter("reviews", of=10)
    clock[0] += 2
    meter.add(4, done=10)
    assert meter.text() == "4 reviews, 2.0 a second"


def test_the_log_hears_of_it_once_a_minute(clock, caplog):
    caplog.set_level(logging.INFO, pace_module.__name__)
    meter = ProgressMeter("reviews", of=600)
    for _ in range(300):
        clock[0] += 1
        meter.add(1, done=1)
    assert len(caplog.messages) == 5
    assert caplog.messages[0] == "60 reviews, 1.0 a second; 10% done, about 9 min left"


def test_steps_add_to_the_pace_under_way_and_else_to_their_own():
    with use_meter(ProgressMeter("reviews", of=10)) as whole:
        assert current_meter("rows", 3) is whole
    assert current_meter("rows", 3) is not whole


def test_the_pace_is_no_longer_under_way_after_an_error():
    with pytest.raises(RuntimeError), use_meter(ProgressMeter("reviews", of=10)):
        raise RuntimeError
    assert current_meter("rows", 3).text().startswith("0 rows")


class _Heard(ProgressMeter):
    """A pace that keeps what it was told."""

    def __init__(self) -> None:
        super().__init__("reviews", of=1000)
        self.units: list[int] = []

    def add(self, count: int, done: int) -> None:
        self.units.append(sum(self.units[-1:]) + done)


def _through(read_ahead: ReadAheadMeter, meter: _Heard, inputs: list[int], ahead: int) -> None:
    """Items of several inputs of 300 units each, read `ahead` of them before the first comes out."""
    waiting = 0
    for rows in inputs:
        for _ in read_ahead.reading(
            range(rows), units=300, fraction=lambda item, of=rows: (item + 1) / of
        ):
            waiting += 1
            if waiting > ahead:
                waiting -= 1
                read_ahead.passed()
    for _ in range(waiting):
        read_ahead.passed()
    read_ahead.over()


@pytest.mark.parametrize("ahead", [0, 10, 500, 10_000])
def test_the_bar_follows_what_came_out_and_not_what_was_read(ahead):
    meter = _Heard()
    _through(ReadAheadMeter(meter), meter, [1000, 0, 500], ahead)
    assert meter.units == sorted(meter.units), "a bar does not go back"
    assert len(set(meter.units)) > 15, "it moves within an input"
    assert meter.units[-1] == 900, "in the end all inputs are done, also the one without a row"
    half = meter.units[500]
    assert 100 <= half <= 200, "half of the first input came out, however far the reader is"


def test_an_input_that_cannot_be_read_counts_as_done():
    meter = _Heard()
    read_ahead = ReadAheadMeter(meter)
    read_ahead.unread(300)
    read_ahead.over()
    assert meter.units[-1] == 300


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (0, "0 s"),
        (89, "89 s"),
        (90, "2 min"),
        (3540, "59 min"),
        (12_000, "3 h 20 min"),
        (3600, "1 h 0 min"),
    ],
)
def test_a_duration_is_said_as_people_say_it(seconds, said):
    assert duration(seconds) == said
