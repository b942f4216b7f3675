"""The command line: `liftscape demo | certify | lift | fold`."""

import sys

__all__ = ["main"]


def main() -> None:
    """Run the command line with the process's arguments, and exit with its status."""
    from liftscape.cli._app import run

    for stream in (sys.stdout, sys.stderr):
        # A terminal that cannot show λ must not end the command.
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")  # pyright: ignore[reportAttributeAccessIssue]
    sys.exit(run(sys.argv[1:]))
