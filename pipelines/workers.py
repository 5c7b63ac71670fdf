"""Work on many items in several threads: for calls that release the interpreter's lock, as OpenCV's do."""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

MOST_WORKERS = 8
"""Every worker holds its own images."""

Item = TypeVar("Item")
Result = TypeVar("Result")


def n_cores() -> int:
    return min(os.cpu_count() or 1, MOST_WORKERS)


def in_threads(work: Callable[[Item], Result], items: Iterable[Item], n_workers: int) -> Iterator[Result]:
    """Results in the order of the items, few of them ahead of whoever takes them; stops at the first error."""
    pool = ThreadPoolExecutor(n_workers)
    waiting: deque[Future[Result]] = deque()
    try:
        for item in items:
            waiting.append(pool.submit(work, item))
            if len(waiting) > 2 * n_workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


@contextmanager
def one_opencv_thread() -> Iterator[None]:
    """OpenCV by itself cuts images into one stripe per thread, which changes some results from machine to machine."""
    import cv2

    before = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        yield
    finally:
        cv2.setNumThreads(before)
