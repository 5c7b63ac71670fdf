"""Every error that a user can cause. The CLI turns one into a line on stderr and a fixed exit code.

A message says the value, what was expected, and what to do next, in one line.
"""


class OsnError(Exception):
    """Root of all expected failures. `exit_code` is documented in docs/user-guide.md and never reused."""

    exit_code = 1


class UsageError(OsnError):
    """An option, argument or configuration key that cannot be honoured."""

    exit_code = 2


class InputError(OsnError):
    """The video, masks, or another given file is missing, unreadable or unsuitable."""

    exit_code = 3


class WorkspaceError(OsnError):
    """The workspace is missing, locked, unwritable, full, or lacks an earlier stage."""

    exit_code = 4


class MissingDependencyError(OsnError):
    """An optional package or model weights are needed; the message names the extra or the command that gets them."""

    exit_code = 5


class ReconstructionError(OsnError):
    """The footage does not allow what was asked: nothing could be reconstructed, or no scale combination is valid."""

    exit_code = 6
