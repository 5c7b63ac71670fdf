"""Other people's models, called from the stages: their failures become this program's errors."""

from collections.abc import Iterator
from contextlib import contextmanager

from pipelines.errors import MissingDependencyError, UsageError
from third_party.errors import UnavailableError, UnknownNameError


@contextmanager
def third_party() -> Iterator[None]:
    """Raises MissingDependencyError where an adapter says that its package or weights are missing or don't fit, UsageError
    where there are none of that name.
    """
    try:
        yield
    except UnknownNameError as error:
        raise UsageError(str(error)) from error
    except UnavailableError as error:
        raise MissingDependencyError(str(error)) from error
