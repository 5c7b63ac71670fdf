"""Ctrl-C in long work that has something to save first."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def interrupts_deferred() -> Iterator[Callable[[], bool]]:
    """`with interrupts_deferred() as asked: ... if asked(): save, raise KeyboardInterrupt`. A second Ctrl-C stops at once.

    Outside the main thread, where Python delivers no signals, nothing is ever asked.
    """
    if threading.current_thread() is not threading.main_thread():
        yield lambda: False
        return
    was_asked = False

    def ask(signum: int, frame: FrameType | None) -> None:
        nonlocal was_asked
        if was_asked:
            raise KeyboardInterrupt
        was_asked = True

    before = signal.signal(signal.SIGINT, ask)
    try:
        yield lambda: was_asked
    finally:
        signal.signal(signal.SIGINT, before)
