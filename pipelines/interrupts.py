"""Ctrl-C, and the SIGTERM of schedulers and services, in long work that has something to save first."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

ASKING_TO_END = (signal.SIGINT, signal.SIGTERM)
EXIT_INTERRUPTED = 130
"""The exit code of a program that Ctrl-C ended, and what Typer makes of it."""


def end_as_by_ctrl_c() -> None:
    """From now on SIGTERM raises KeyboardInterrupt, too: unfinished results are cleaned up and locks released."""
    signal.signal(signal.SIGTERM, _interrupt)


@contextmanager
def interrupts_deferred() -> Iterator[Callable[[], bool]]:
    """`with interrupts_deferred() as asked: ... if asked(): save, raise KeyboardInterrupt`. A second signal stops at once.

    Outside the main thread, where Python delivers no signals, `asked` is always False.
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

    before = {each: signal.signal(each, ask) for each in ASKING_TO_END}
    try:
        yield lambda: was_asked
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)


def _interrupt(signum: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt
