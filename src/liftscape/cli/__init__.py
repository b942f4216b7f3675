"""The command line: `liftscape demo | study | inspect | certify | lift | fold | escape`."""

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
    interrupts: list[int] = []

    def interrupt(number: int, _frame: object) -> None:
        interrupts.append(number)
        raise KeyboardInterrupt

    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, interrupt)
    try:
        from liftscape.cli._app import run

        status = run(sys.argv[1:])
    except (KeyboardInterrupt, Exception) as error:
        # A library that is interrupted while it is imported may turn the interrupt into an error of its own.
        if not isinstance(error, KeyboardInterrupt) and not interrupts:
            raise
        # A second Ctrl-C must not add a traceback to the one line.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        done = str(error) if isinstance(error, KeyboardInterrupt) and str(error) else "nothing was written"
        print(f"liftscape: interrupted; {done}.", file=sys.stderr)
        status = _INTERRUPTED
    sys.exit(status)
