"""Settings of studies: typed dataclasses read from TOML, without importing torch."""

import dataclasses
import difflib
import json
import tomllib
from pathlib import Path
from types import GenericAlias
from typing import Any, NoReturn, TypeVar, get_args

__all__ = ["read_settings", "refuse", "typed", "write_settings"]

Settings = TypeVar("Settings")


def read_settings(kind: type[Settings], path: Path, size: str = "full") -> Settings:
    """Read settings from a TOML file; its table [toy] replaces some of them for a run at toy size.

    Args:
        kind: the dataclass.
        path: the file.
        size: "full" or "toy".

    Returns:
        The settings.

    Raises:
        LoadError: if the file cannot be read, or names a setting that does not exist, lacks one, or has another type.
    """
    try:
        given = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, tomllib.TOMLDecodeError) as error:
        refuse(f"the settings of the study cannot be read from {path}: {error}.")
    toy = given.pop("toy", {})
    strangers = toy.keys() - given.keys()
    if strangers:
        refuse(_unknown(f"{path.name}: [toy]", strangers, list(given)))
    return typed(kind, given | toy if size == "toy" else given, path.name)


def write_settings(settings: Any) -> str:
    """Return settings as TOML.

    Args:
        settings: a dataclass of scalars, tuples and such dataclasses.

    Returns:
        The text.
    """
    values = dataclasses.asdict(settings)
    plain = {name: value for name, value in values.items() if not isinstance(value, dict)}
    # JSON writes numbers, texts and lists of them as TOML does.
    lines = [f"{name} = {json.dumps(value)}" for name, value in plain.items()]
    for name, value in values.items():
        if isinstance(value, dict):
            lines += ["", f"[{name}]", *(f"{key} = {json.dumps(entry)}" for key, entry in value.items())]
    return "\n".join(lines) + "\n"


def typed(wanted: Any, given: Any, where: str) -> Any:
    """Return TOML values as the dataclass, tuple or scalar that is wanted.

    Args:
        wanted: the type.
        given: what the file holds.
        where: its place, for errors.

    Returns:
        The value.

    Raises:
        LoadError: if they do not fit.
    """
    if isinstance(wanted, type) and dataclasses.is_dataclass(wanted) and isinstance(given, dict):
        fields = {field.name: field.type for field in dataclasses.fields(wanted)}
        if given.keys() - fields.keys():
            refuse(_unknown(where, given.keys() - fields.keys(), list(fields)))
        if fields.keys() != given.keys():
            missing = ", ".join(sorted(fields.keys() - given.keys()))
            refuse(f"{where} must hold exactly the settings {', '.join(fields)}, but {missing} are missing.")
        return wanted(**{name: typed(kind, given[name], f"{where}: {name}") for name, kind in fields.items()})
    if isinstance(wanted, GenericAlias) and isinstance(given, list):
        return tuple(typed(get_args(wanted)[0], entry, where) for entry in given)
    if wanted is float and type(given) is int:
        return float(given)
    if type(given) is not wanted:
        refuse(f"{where} must be of type {wanted}, but {given!r} was given.")
    return given


def refuse(sentence: str) -> NoReturn:
    """Raise the error; its home imports torch, which reading settings must not need.

    Args:
        sentence: what is wrong.

    Raises:
        LoadError: always.
    """
    from liftscape.outcomes import LoadError

    raise LoadError(sentence)


def _unknown(where: str, names: Any, known: list[str]) -> str:
    """Say which settings do not exist, with the nearest that does."""
    name = min(names)
    nearest = difflib.get_close_matches(name, known, n=1, cutoff=0.4)
    hint = f"did you mean '{nearest[0]}'?" if nearest else f"the settings are {', '.join(known)}."
    return f"{where} has no setting '{name}'; {hint}"
