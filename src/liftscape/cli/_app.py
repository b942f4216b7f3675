"""The application: commands are registered, run, and end with one sentence where they fail."""

import sys
from collections.abc import Sequence

from cyclopts import App, CycloptsError

from liftscape import __version__
from liftscape.cli._descriptions import DESCRIPTIONS

__all__ = ["app", "run"]

MISUSE = 2

app = App(
    name="liftscape",
    help="Shows where a network's training stands in its loss landscape, and moves it.",
    version=__version__,
    help_format="plaintext",
)
# A command's module, and torch with it, is imported when the command is asked for.
for _name, _description in DESCRIPTIONS.items():
    app.command(f"liftscape.cli._{_name}:{_name}", name=_name, help=_description)


def run(arguments: Sequence[str]) -> int:
    """Run one command.

    Args:
        arguments: of the command line, without the program's name.

    Returns:
        The exit status: 0, or 2 after misuse; other exceptions keep their traceback.
    """
    try:
        command, bound, _ = app.parse_args(list(arguments), exit_on_error=False, print_error=False)
        command(*bound.args, **bound.kwargs)
    except CycloptsError as error:
        return _refuse(str(error))
    except Exception as error:
        sentence = _sentence(error)
        if sentence is None:
            raise
        return _refuse(sentence)
    return 0


def _refuse(sentence: str) -> int:
    """Print one line to stderr."""
    print(f"liftscape: {' '.join(sentence.split())}", file=sys.stderr)
    return MISUSE


def _sentence(error: Exception) -> str | None:
    """Return what to tell about a refusal of liftscape's own or of the disk, None for what is neither."""
    if isinstance(error, OSError) and error.filename is not None:
        return f"{error.filename} could not be used: {error.strerror}; name another place or make room."
    # Looked up, not imported: torch comes with it, and may not be needed to say this.
    outcomes = sys.modules.get("liftscape.outcomes")
    return str(error) if outcomes is not None and isinstance(error, outcomes.LiftscapeError) else None
