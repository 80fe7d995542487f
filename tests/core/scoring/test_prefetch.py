"""Work beside other work: the order stays, errors come where they belong, nothing runs on, memory is bounded."""

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from tasks.core.scoring.prefetch import map_ordered, prefetch


def test_the_order_stays() -> None:
    assert list(prefetch(range(100), 3)) == list(range(100))
    with ThreadPoolExecutor(8) as pool:
        slow_first = map_ordered(pool, lambda n: time.sleep(0.002 * (n % 3)) or n, range(50), 8)
        assert list(slow_first) == list(range(50))


def test_an_error_comes_in_its_place() -> None:
    def source() -> Iterator[int]:
        yield 1
        yield 2
        raise ValueError("three")

    taken: list[int] = []
    with pytest.raises(ValueError, match="three"):
        taken.extend(prefetch(source(), 5))
    assert taken == [1, 2]


def test_no_more_is_made_than_may_wait() -> None:
    made: list[int] = []

    def source() -> Iterator[int]:
        for number in range(1000):
            made.append(number)
            yield number

    items = prefetch(source(), 2)
    assert next(items) == 0
    time.sleep(0.3)
    assert len(made) <= 5
    items.close()  # pyright: ignore[reportAttributeAccessIssue] - it is a generator
    assert "ahead" not in {thread.name for thread in threading.enumerate()}


def test_it_really_is_beside() -> None:
    """The second item is made while the first is in use: its user waits for that."""
    second_is_made = threading.Event()

    def source() -> Iterator[int]:
        yield 1
        second_is_made.set()
        yield 2

    for item in prefetch(source(), 1):
        assert second_is_made.wait(10), item


def test_requests_in_flight_are_bounded() -> None:
    under_way = most = 0
    lock = threading.Lock()

    def work(_: int) -> None:
        nonlocal under_way, most
        with lock:
            under_way += 1
            most = max(most, under_way)
        time.sleep(0.005)
        with lock:
            under_way -= 1

    with ThreadPoolExecutor(32) as pool:
        assert sum(1 for _ in map_ordered(pool, work, range(100), 4)) == 100
    assert most <= 4
