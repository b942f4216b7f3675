"""A study runs task by task, resumes where it was cut off, and refuses another's folder."""

import json
import os
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch

import liftscape as ls
from liftscape.studies import degeneracy
from liftscape.studies.catalogue import STUDIES, settings_file, study_module
from liftscape.studies.runner import run_study
from liftscape.studies.settings import read_settings, write_settings

TRUE_TASK = degeneracy.run_task
# What the runner keeps does not depend on how often a task is computed.
once = cache(TRUE_TASK)


@pytest.mark.parametrize("name", STUDIES)
@pytest.mark.parametrize("size", ["toy", "full"])
def test_committed_settings_are_read_and_written_alike(name: str, size: str, tmp_path: Path) -> None:
    kind = study_module(name).Settings
    settings = read_settings(kind, settings_file(name), size)
    (tmp_path / "again.toml").write_text(write_settings(settings), encoding="utf-8")
    assert read_settings(kind, tmp_path / "again.toml") == settings


class KillError(BaseException):
    """Stands for a kill."""


def test_a_run_that_was_cut_off_goes_on_and_a_finished_one_does_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []

    def counted(config: Any, task: str, device: torch.device) -> Any:
        if len(done) == 5:
            raise KillError
        done.append(task)
        return once(config, task, device)

    monkeypatch.setattr(degeneracy, "run_task", once)
    whole = run_study("degeneracy", tmp_path / "whole", size="toy")
    monkeypatch.setattr(degeneracy, "run_task", counted)
    with pytest.raises(KillError):
        run_study("degeneracy", tmp_path / "cut", size="toy")
    metrics = tmp_path / "cut" / "metrics.jsonl"
    lines = metrics.read_bytes().splitlines(keepends=True)
    assert len(lines) == 5
    # The last line is half there, as after a kill while it was written or on a full disk.
    metrics.write_bytes(b"".join(lines[:4]) + lines[4][: len(lines[4]) // 2])
    monkeypatch.setattr(
        degeneracy, "run_task", lambda config, task, device: done.append(task) or TRUE_TASK(config, task, device)
    )
    again = run_study("degeneracy", tmp_path / "cut", size="toy")
    assert again == whole
    tasks = degeneracy.tasks(read_settings(degeneracy.Settings, settings_file("degeneracy"), "toy"))
    assert done == [*tasks[:5], *tasks[4:]]
    monkeypatch.setattr(degeneracy, "run_task", lambda config, task, device: pytest.fail("done already"))
    assert run_study("degeneracy", tmp_path / "cut", size="toy") == whole


def test_another_number_of_seeds_needs_another_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(degeneracy, "run_task", once)
    run_study("degeneracy", tmp_path / "run", size="toy")
    with pytest.raises(ls.LiftscapeError, match=r"run holds a run with other settings \(seeds\)"):
        run_study("degeneracy", tmp_path / "run", size="toy", seeds=2)


def test_unknown_studies_and_settings_are_offered_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(ls.LiftscapeError, match="no study 'degenracy'; did you mean 'degeneracy'"):
        run_study("degenracy", tmp_path / "run")
    text = settings_file("degeneracy").read_text(encoding="utf-8")
    for wrong, sentence in (
        (text.replace("extra_widths", "extra_width"), "has no setting 'extra_width'; did you mean 'extra_widths'"),
        (text.replace("seeds = 4", ""), r"\[toy\] has no setting 'seeds'"),
        (text.replace("seeds = 4", "seeds = 4.5"), "seeds must be of type"),
        ("seeds = [", "cannot be read"),
    ):
        path = tmp_path / "mine.toml"
        path.write_text(wrong, encoding="utf-8")
        with pytest.raises(ls.LiftscapeError, match=sentence):
            run_study("degeneracy", tmp_path / "run", settings=path)
    assert not (tmp_path / "run").exists()


def test_a_disk_that_is_full_leaves_what_is_done(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(degeneracy, "run_task", once)
    true_sync, count = os.fsync, 0

    def full(handle: int) -> None:
        nonlocal count
        count += 1
        if count > 3:
            raise OSError(28, "No space left on device", str(tmp_path))
        true_sync(handle)

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        run_study("degeneracy", tmp_path / "run", size="toy")
    monkeypatch.setattr(os, "fsync", true_sync)
    for line in (tmp_path / "run" / "metrics.jsonl").read_text(encoding="utf-8").splitlines():
        json.loads(line)
    run_study("degeneracy", tmp_path / "run", size="toy")
