"""Loops over arrays, compiled on their first call and kept on disk beside the module (or in the user's cache folder)."""

import inspect
from collections.abc import Callable
from typing import TypeVar, cast

from numba import njit

Loop = TypeVar("Loop", bound=Callable[..., object])


def compiled(loop: Loop) -> Loop:
    """Without the interpreter's lock, dividing as NumPy does, and adding in the order that is written.

    Loops take contiguous arrays. They are unwrapped: what enforces annotations in tests can't be compiled.
    """
    try:
        return cast(Loop, njit(inspect.unwrap(loop), nogil=True, cache=True, error_model="numpy"))
    except RuntimeError:
        # Neither the module's folder nor the user's cache can be written to: each process compiles for itself.
        return cast(Loop, njit(inspect.unwrap(loop), nogil=True, error_model="numpy"))


def inlined(part: Loop) -> Loop:
    """A part of loops."""
    return cast(Loop, njit(inspect.unwrap(part), inline="always"))
