"""What adapters to other people's models raise when they cannot serve."""


class UnavailableError(Exception):
    """A package or weights are missing, damaged, or do not fit; the one-line message says what to do."""


class UnknownNameError(UnavailableError):
    """No weights have that name."""
