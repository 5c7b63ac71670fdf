"""How stages report progress, without knowing the terminal (the CLI draws the bars; the default is silence)."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol, runtime_checkable

Advance = Callable[[int], None]


@runtime_checkable
class Progress(Protocol):
    def task(self, description: str, total: int) -> AbstractContextManager[Advance]:
        """A unit of long work: `with progress.task("flow", n_pairs) as advance: ... advance(1)`."""
        ...

    def note(self, message: str) -> None:
        """One line that the user should read (a fallback taken, an object lost)."""
        ...


class Silent:
    """Progress that nobody watches."""

    @contextmanager
    def task(self, description: str, total: int) -> Iterator[Advance]:
        yield lambda steps: None

    def note(self, message: str) -> None:
        pass
