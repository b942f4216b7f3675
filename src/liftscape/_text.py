"""Texts of the user's on pages, in pictures and on terminals."""

import re

__all__ = ["as_bytes", "printable"]

# Controls but the line break, marks that turn the direction of writing, halves of pairs, and what is no character.
_UNPRINTABLE = re.compile(
    r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff\ufdd0-\ufdef\ufffe\uffff]"
)


def printable(text: str) -> str:
    r"""Return a text with its escape in the place of each character that no page, picture or terminal can show.

    Args:
        text: such as the name of a module, which may be any.

    Returns:
        The text.

    Example:
        >>> print(printable("a" + chr(27) + "[31m"), printable(chr(0xD800)))
        a\x1b[31m \ud800
    """
    return _UNPRINTABLE.sub(lambda found: found[0].encode("unicode_escape").decode("ascii"), text)


def as_bytes(text: str) -> bytes:
    r"""Return a text as UTF-8 with halves of surrogate pairs as JSON writes them.

    Args:
        text: any.

    Returns:
        The bytes.

    Example:
        >>> as_bytes(chr(0xD800))
        b'\\ud800'
    """
    return text.encode("utf-8", "backslashreplace")
