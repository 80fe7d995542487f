"""What people are told of how far long work is."""

import logging
import random
import time
from collections.abc import Callable, Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.core.readable import duration
from tasks.runtime.reporting import progress as pace_module
from tasks.runtime.reporting.progress import (
    ProgressMeter,
    ReadAheadMeter,
    current_meter,
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
    for _ in range(25):
        clock[0] += 0.5
        meter.add(2, done=10)
    assert meter.text() == "50 reviews, 4.0 a second; 25% done, about 38 s left"


def test_what_was_done_before_does_not_shorten_the_estimate(clock):
    meter = ProgressMeter("reviews", of=1000)
    meter.skip(500)
    assert meter.text().startswith("0 reviews, 0.0 a second")
    assert "left" not in meter.text(), "nothing was measured yet"
    for _ in range(20):
        clock[0] += 0.5
        meter.add(1, done=5)
    assert meter.text().endswith("60% done, about 40 s left")


def test_work_that_is_over_has_no_estimate(clock):
    meter = ProgressMeter("reviews", of=10)
    clock[0] += 2
    meter.add(4, done=10)
    assert meter.text() == "4 reviews, 2.0 a second"


def test_the_log_hears_of_it_before_a_silence_of_half_a_minute(clock, caplog):
    caplog.set_level(logging.INFO, pace_module.__name__)
    meter = ProgressMeter("reviews", of=600)
    for _ in range(300):
        clock[0] += 1
        meter.add(1, done=1)
    assert len(caplog.messages) == 12
    assert caplog.messages[0] == "25 reviews, 1.0 a second; 4% done, about 10 min left"


def test_slow_steps_have_a_speed_too(clock):
    meter = ProgressMeter("training steps", of=100)
    clock[0] += 30
    meter.add(1, done=1)
    assert meter.text() == "1 training steps, 0.033 a second; 1% done"


def _estimates(seconds: Iterator[float], of: int) -> list[tuple[float | None, float]]:
    """After each unit, the estimate beside the truth; units take so many seconds each."""
    now, each = [0.0], list(seconds)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(time, "monotonic", lambda: now[0])
        meter = ProgressMeter("reviews", of)
        found: list[tuple[float | None, float]] = []
        for second in each:
            now[0] += second
            meter.add(1, done=1)
            found.append((meter.seconds_left(), sum(each[len(found) + 1 :])))
    return found


@given(
    of=st.integers(1, 400),
    each=st.floats(0.01, 40),
    slow_first=st.floats(0, 120),
    drift=st.floats(0.7, 1.4),
    seed=st.integers(0, 99),
)
def test_the_first_estimate_is_within_a_third(of, each, slow_first, drift, seed):
    """With a slow beginning, noise, and units that take more or less time towards the end."""
    noise = random.Random(seed)
    times = (each * (1 + (drift - 1) * i / of) * noise.uniform(0.9, 1.1) for i in range(of))
    seconds = (second + slow_first * (i == 0) for i, second in enumerate(times))
    for estimate, truth in _estimates(seconds, of):
        if estimate is not None:
            assert 2 / 3 * truth <= estimate <= 4 / 3 * truth
            break


def test_work_that_stands_still_has_no_estimate(clock):
    meter = ProgressMeter("reviews", of=1000)
    for _ in range(100):
        clock[0] += 1
        meter.add(1, done=1)
    assert meter.seconds_left() == pytest.approx(900)
    clock[0] += 60
    meter.add(1, done=0)  # a review of an object whose share is not known yet
    assert meter.seconds_left() is None


@pytest.mark.parametrize(
    "each",
    [
        pytest.param(lambda i: 0.02, id="work of seconds"),
        pytest.param(lambda i: 60.0 if i < 6 else 0.1, id="a slow beginning that just ended"),
        pytest.param(lambda i: 0.1 if i < 150 else 1.0, id="slower of late"),
        pytest.param(lambda i: 20.0 if i % 50 == 49 else 0.01, id="in bursts"),
    ],
)
def test_there_is_no_estimate_while_it_could_be_far_off(each: Callable[[int], float]) -> None:
    assert _estimates(map(each, range(158)), of=1000)[-1][0] is None


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
        (179, "179 s"),
        (180, "3 min"),
        (3540, "59 min"),
        (12_000, "3 h 20 min"),
        (3600, "1 h 0 min"),
    ],
)
def test_a_duration_is_said_as_people_say_it(seconds, said):
    assert duration(seconds) == said
