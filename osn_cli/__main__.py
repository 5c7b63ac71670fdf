"""`osn`, and `python -m osn_cli`."""

import sys

from pipelines.interrupts import EXIT_INTERRUPTED


def main() -> None:
    """Entry point: the commands are imported inside, so that Ctrl-C meanwhile shows no traceback either."""
    try:
        from osn_cli import app
    except KeyboardInterrupt:
        sys.exit(EXIT_INTERRUPTED)
    app.main()


if __name__ == "__main__":
    main()
