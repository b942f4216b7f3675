"""The command line: `liftscape demo | inspect | certify | lift | fold`."""

import signal
import sys

__all__ = ["main"]

_INTERRUPTED = 130


def main() -> None:
    """Run the command line with the process's arguments, and exit with its status."""
    for stream in (sys.stdout, sys.stderr):
        # A terminal that cannot show λ must not end the command.
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")  # pyright: ignore[reportAttributeAccessIssue]
    try:
        from liftscape.cli._app import run

        status = run(sys.argv[1:])
    except KeyboardInterrupt as interrupt:
        # A second Ctrl-C must not add a traceback to the one line.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        print(f"liftscape: interrupted; {str(interrupt) or 'nothing was written'}.", file=sys.stderr)
        status = _INTERRUPTED
    sys.exit(status)
