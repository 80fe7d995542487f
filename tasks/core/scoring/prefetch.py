"""Concurrent work in order and with bounded memory: reading ahead, and several requests at once."""

import queue
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future
from typing import Any, TypeVar

A = TypeVar("A")
T = TypeVar("T")
_END: Any = object()


def prefetch(source: Iterable[T], size: int) -> Iterator[T]:
    """Yield the same items in the same order, produced ahead in a thread of their own.

    Args:
        source: is iterated in that thread; its errors are raised here, at the same position.
        size: maximum number of waiting items, which bounds memory.
    """
    waiting: queue.Queue[tuple[T, BaseException | None]] = queue.Queue(max(1, size))
    stopped = threading.Event()

    def put(item: T, error: BaseException | None = None) -> bool:
        while not stopped.is_set():
            try:
                waiting.put((item, error), timeout=0.1)
                return True
            except queue.Full:
                continue
        return False

    def work() -> None:
        try:
            for item in source:
                if not put(item):
                    return
        except BaseException as error:
            put(_END, error)
        else:
            put(_END)

    thread = threading.Thread(target=work, name="ahead", daemon=True)
    thread.start()
    try:
        while True:
            item, error = waiting.get()
            if error is not None:
                raise error
            if item is _END:
                return
            yield item
    finally:
        stopped.set()
        thread.join()


def map_ordered(
    pool: Executor, work: Callable[[A], T], items: Iterable[A], depth: int
) -> Iterator[T]:
    """Yield results of `work` in the order of the items; at most `depth` of them run or wait at a time."""
    under_way: deque[Future[T]] = deque()
    try:
        for item in items:
            under_way.append(pool.submit(work, item))
            if len(under_way) >= max(1, depth):
                yield under_way.popleft().result()
        while under_way:
            yield under_way.popleft().result()
    finally:
        for future in under_way:
            future.cancel()
