"""Running a study in a folder: task by task, so that a kill costs at most the tasks under way."""

import dataclasses
import json
import os
import tomllib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

from liftscape._files import write_atomically
from liftscape.outcomes import LoadError, to_plain
from liftscape.studies.catalogue import settings_file, study_module
from liftscape.studies.findings import Findings
from liftscape.studies.settings import read_settings, write_settings

__all__ = ["run_study"]

Progress = Callable[[int, int, str], None]
_SETTINGS, _METRICS = "config.toml", "metrics.jsonl"


def run_study(
    name: str,
    out: Path,
    *,
    size: str = "full",
    seeds: int | None = None,
    jobs: int = 1,
    settings: Path | None = None,
    device: str = "auto",
    progress: Progress | None = None,
) -> Findings:
    """Run a study, or what is left of it, in a folder; return what it found.

    The folder holds ``config.toml``, the settings used, and ``metrics.jsonl``, one line for each finished task; a task
    that is there is not done again.

    Args:
        name: of the study.
        out: the folder, made if it does not exist.
        size: "full" or "toy".
        seeds: replaces the settings' number of seeds.
        jobs: processes at a time.
        settings: a TOML file; the committed one when None.
        device: "auto", which is a GPU where there is one, or a device of torch's.
        progress: called with (tasks done, tasks in all, the next task).

    Returns:
        The findings.

    Raises:
        LoadError: if there is no such study or device, or the folder holds a run with other settings.
    """
    place = _device(device)
    study = study_module(name)
    config = read_settings(study.Settings, settings_file(name) if settings is None else settings, size)
    if seeds is not None:
        if seeds < 1 or not hasattr(config, "seeds"):
            raise LoadError(f"seeds must be at least 1 and the study must have some, but {seeds} was asked of {name}.")
        config = dataclasses.replace(config, seeds=seeds)
    _claim_folder(out, f"# {name}, {size} size, on {place.type}\n" + write_settings(config))
    tasks = list(study.tasks(config))
    rows = _finished(out / _METRICS, tasks)
    pending = [task for task in tasks if task not in rows]
    for done, (task, row) in enumerate(_rows(study.run_task, config, pending, jobs, place)):
        if progress is not None:
            progress(len(tasks) - len(pending) + done + 1, len(tasks), task)
        rows[task] = row
        _append(out / _METRICS, {"task": task, "row": row})
    return study.summarise(config, size, {task: rows[task] for task in tasks})


def _device(name: str) -> torch.device:
    """Return the device that is meant, or raise if it is not there."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise LoadError(
            f"device '{name}' was asked for, but torch {torch.__version__} cannot use it here "
            f"({str(error).splitlines()[0].rstrip('.')}); give 'cpu' or 'auto'."
        ) from error
    return device


def _rows(
    run: Callable[..., Any], config: Any, tasks: Sequence[str], jobs: int, device: torch.device
) -> Iterator[tuple[str, Any]]:
    """Yield each task with its row as it is finished."""
    if jobs == 1 or len(tasks) < 2:
        for task in tasks:
            yield task, _plain(run(config, task, device))
        return
    from joblib import Parallel, delayed

    rows = Parallel(n_jobs=jobs, return_as="generator")(delayed(run)(config, task, device) for task in tasks)
    for task, row in zip(tasks, rows, strict=True):
        yield task, _plain(row)


def _plain(row: Any) -> Any:
    """Return a row as it will be read again, so that a resumed run sees the same as one that was not cut off."""
    return json.loads(json.dumps(to_plain(row)))


def _claim_folder(out: Path, text: str) -> None:
    """Make the folder for these settings, or raise if it holds others."""
    if out.exists() and not out.is_dir():
        raise LoadError(f"{out} is a file; name a folder for the study.")
    out.mkdir(parents=True, exist_ok=True)
    path = out / _SETTINGS
    if not path.exists():
        write_atomically(path, text.encode("utf-8"))
        return
    kept = path.read_text(encoding="utf-8")
    if kept == text:
        return
    try:
        old, new = tomllib.loads(kept), tomllib.loads(text)
        differing = ", ".join(sorted(key for key in old.keys() | new.keys() if old.get(key) != new.get(key)))
    except tomllib.TOMLDecodeError:
        differing = "it is no settings file"
    raise LoadError(
        f"{out} holds a run with other settings ({differing or 'another size or device'}); name another folder."
    )


def _finished(path: Path, tasks: Sequence[str]) -> dict[str, Any]:
    """Read the finished tasks; a line that a kill or a full disk cut off ends the reading and is removed."""
    rows: dict[str, Any] = {}
    if not path.exists():
        return rows
    content, kept = path.read_bytes(), 0
    for line in content.splitlines(keepends=True):
        try:
            entry = json.loads(line)
        except (ValueError, RecursionError):
            break
        if not line.endswith(b"\n"):
            break
        kept += len(line)
        if entry["task"] in tasks:
            rows[entry["task"]] = entry["row"]
    if kept < len(content):
        with path.open("r+b") as file:
            file.truncate(kept)
    return rows


def _append(path: Path, entry: dict[str, Any]) -> None:
    """Append one line and hand it to the disk."""
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(entry, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n")
        file.flush()
        os.fsync(file.fileno())
