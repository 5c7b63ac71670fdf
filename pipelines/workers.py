"""Work on many items in several threads: for calls that release the interpreter's lock, as OpenCV's and torch's do."""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    import torch

MOST_WORKERS = 8
"""Every worker holds its own images."""

Item = TypeVar("Item")
Result = TypeVar("Result")


def n_cores() -> int:
    """Cores to use: those that this process may run on, fewer where OMP_NUM_THREADS says so."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    wanted = os.environ.get("OMP_NUM_THREADS", "")
    return min(allowed, MOST_WORKERS, int(wanted) if wanted.isdigit() and int(wanted) else MOST_WORKERS)


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


def tensors_in_threads(work: Callable[[Item], Result], items: Iterable[Item], device: "torch.device") -> Iterator[Result]:
    """As `in_threads`, without gradients, on as many cores as there are; one after the other where a GPU computes."""
    import torch

    with torch.no_grad():
        if device.type != "cpu":
            yield from map(work, items)
            return
        with one_torch_thread():
            yield from in_threads(torch.no_grad()(work), items, n_cores())


@contextmanager
def one_torch_thread() -> Iterator[None]:
    """torch by itself splits single operations over the cores, which gains nothing where these are small, and on two cores can
    make them ten times slower. Threads that start in here use one, too."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


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
