"""All measurements, each in a process of its own: python -m benchmarks.run [--quick | --long] [--only TEXT]."""

import argparse
import datetime
import json
import os
import platform
import re
import subprocess
import sys
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from benchmarks.peers import PEERS
from benchmarks.table import ENOUGH, bars, render, render_bars

__all__ = ["environment", "main", "plan"]

_ROOT = Path(__file__).parent.parent
_MLP = ("hvp", "top10", "bottom1", "trace100", "density100", "surface21")
# A product takes 5 to 9 CPU seconds on ResNet-18, so that all of it takes hours: the usual run takes fewer.
_PLANS = {
    "quick": {"digits-mlp": _MLP},
    "full": {"digits-mlp": _MLP, "resnet18": ("hvp", "trace2", "density4", "surface3")},
    "long": {"digits-mlp": _MLP, "resnet18": _MLP},
}
# Rounds of the ratios taken in one process.
_MICRO = {
    "quick": {"digits-mlp": 30, "ensemble": 3, "monitor": 9},
    "full": {"digits-mlp": 60, "resnet18": 3, "reorthogonalise": 5, "ensemble": 5, "monitor": 9},
    "long": {"digits-mlp": 60, "resnet18": 7, "reorthogonalise": 9, "ensemble": 9, "monitor": 15},
}
_REPEATS = {"digits-mlp": 5, "resnet18": 1}
_QUICK_REPEATS = 1
_ONE_THREAD = {
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "OMP_WAIT_POLICY": "PASSIVE",
}
# glibc then gives each large block back as soon as it is freed, so that a peak is the memory in use: what it keeps for
# later moved the peak of one and the same product by 8 % from run to run. Page faults make it slower, so times are
# taken without.
_EXACT_MEMORY = {"MALLOC_MMAP_THRESHOLD_": str(1 << 20)}
_BY_HAND_OR_OURS = ("liftscape", "handwritten")
_LIMIT_SECONDS = {"quick": 120, "full": 600, "long": 1800}


def environment() -> dict[str, Any]:
    """Return what the figures depend on."""
    names = ["liftscape", "torch", "numpy", "scipy", "PyHessian", "curvlinops-for-pytorch", "hessian-eigenthings"]
    versions = {}
    for name in names:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            versions[name] = "not installed"
    return {
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "cpu": _cpu(),
        "cores": os.cpu_count(),
        "threads": 1,
        "dtype": "float32",
        "versions": versions,
    }


def _cpu() -> str:
    """Return the processor's name."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor()


def plan(size: str, only: str) -> list[tuple[str, str, str]]:
    """Return the (work, task, peer) to measure.

    Args:
        size: "quick", "full" or "long".
        only: kept are those in whose "work/task/peer" this regular expression is found.

    Returns:
        In the order of the table.
    """
    made = []
    for work, tasks in _PLANS[size].items():
        for task in tasks:
            made += [(work, task, peer) for peer, (_, kinds) in PEERS.items() if not kinds or task.startswith(kinds)]
    return [item for item in made if re.search(only, "/".join(item))]


def call(module: str, *arguments: str, limit: float, settings: dict[str, str] | None = None) -> tuple[str, str]:
    """Run a module in a fresh process; return its last line, or the reason why there is none."""
    variables = os.environ | _ONE_THREAD | (settings or {})
    command = [sys.executable, "-m", module, *arguments]
    try:
        done = subprocess.run(
            command, cwd=_ROOT, env=variables, capture_output=True, text=True, timeout=limit, check=False
        )
    except subprocess.TimeoutExpired:
        return "", f"took more than {limit:g} seconds"
    lines = done.stdout.strip().splitlines()
    if done.returncode == 0 and lines:
        return lines[-1], ""
    return "", (done.stderr.strip().splitlines() or [f"ended with status {done.returncode}"])[-1]


def measure(work: str, task: str, peer: str, size: str) -> list[dict[str, Any]]:
    """Return the rows of one peer on one task: settings from cheap to dear until the error is small enough."""
    kind = task.rstrip("0123456789")
    efforts = _efforts(peer).get(kind, (0.0,))
    rows: list[dict[str, Any]] = []
    for effort in efforts:
        rows.append(_once(work, task, peer, effort, size))
        error = rows[-1].get("error")
        if rows[-1]["status"] != "measured" or error is None or error <= ENOUGH:
            break
    again = _QUICK_REPEATS if size == "quick" else _REPEATS[work]
    if rows[-1]["status"] == "measured":
        rows += [_once(work, task, peer, rows[-1]["effort"], size) for _ in range(again - 1)]
    return rows


def _once(work: str, task: str, peer: str, effort: float, size: str) -> dict[str, Any]:
    """Return one row, also where the process died; on the large network with the peak of a further process."""
    arguments = ("benchmarks.measure", peer, work, task, str(effort))
    line, reason = call(*arguments, limit=_LIMIT_SECONDS[size])
    if line:
        row = json.loads(line)
        if work == "resnet18" and row["status"] == "measured" and _memory_counts(task, peer):
            again, reason = call(*arguments, limit=2 * _LIMIT_SECONDS[size], settings=_EXACT_MEMORY)
            row["peak"] = json.loads(again)["peak"] if again else row["peak"]
        return row
    return {"peer": peer, "work": work, "task": task, "effort": effort, "status": "failed", "reason": reason}


def _memory_counts(task: str, peer: str) -> bool:
    """Tell whether a peak is compared; eigenvalues take peers so long that only what a bar needs is run again."""
    return task == "hvp" or (task.startswith("top") and peer.startswith(_BY_HAND_OR_OURS))


def _efforts(peer: str) -> dict[str, Any]:
    """Return the settings of an adapter, read from its source so that a peer that cannot be imported has some."""
    from benchmarks.peers import load

    try:
        return dict(load(peer).efforts)
    except Exception:  # the failure itself is reported by the measurement
        return {}


def main(arguments: list[str] | None = None) -> None:
    """Measure, print, and write the JSON after every measurement."""
    given = _parser().parse_args(arguments)
    size = "quick" if given.quick else "long" if given.long else "full"
    started = time.time()
    items = plan(size, given.only)
    if not items:
        sys.exit(f"nothing is called '{given.only}' in the {size} run; name a part of work/task/peer")
    rows: list[dict[str, Any]] = []
    micro: dict[str, Any] = {}
    path = given.out / f"{datetime.date.today().isoformat()}-{os.cpu_count()}cores{_suffix(size, given.only)}.json"

    def save() -> None:
        made = [{"what": b.what, "value": b.value, "limit": b.limit, "verdict": b.verdict} for b in bars(rows, micro)]
        record = {
            "date": datetime.date.today().isoformat(),
            "size": size,
            "only": given.only,
            "seconds": round(time.time() - started),
            "environment": environment(),
            "bars": made,
            "ratios": micro,
            "rows": rows,
        }
        path.parent.mkdir(parents=True, exist_ok=True)
        half = path.with_suffix(".half")
        half.write_text(json.dumps(record, indent=1, allow_nan=True) + "\n", encoding="utf-8")
        half.replace(path)

    _references(items)
    for index, item in enumerate(items):
        print(f"{index + 1}/{len(items)} {' '.join(item)}", file=sys.stderr, flush=True)
        rows += measure(*item, size)
        save()
    for name, rounds in ({} if given.only else _MICRO[size]).items():
        print(f"ratios: {name}", file=sys.stderr, flush=True)
        line, reason = call("benchmarks.micro", name, str(rounds), limit=_LIMIT_SECONDS["long"])
        micro |= json.loads(line) if line else {f"{name} failed": reason}
        save()
    print(render(rows))
    print(render_bars(bar for bar in bars(rows, micro) if bar.value is not None or not given.only))
    print(f"\n{time.time() - started:.0f} s, one thread, float32, {_cpu()}")
    print(path.relative_to(_ROOT) if path.is_relative_to(_ROOT) else path)


def _parser() -> argparse.ArgumentParser:
    """Return the options."""
    parser = argparse.ArgumentParser(description=__doc__)
    group = parser.add_mutually_exclusive_group()
    group.add_argument("--quick", action="store_true", help="the small network only, once")
    group.add_argument("--long", action="store_true", help="everything on ResNet-18 as well: hours")
    parser.add_argument("--only", default="", help="measure where work/task/peer matches this; no ratios")
    parser.add_argument("--out", type=Path, default=_ROOT / "benchmarks" / "results", help="folder of the JSON")
    return parser


def _suffix(size: str, only: str) -> str:
    """Return what tells a part of the run from the whole in a file's name."""
    part = "-" + re.sub(r"[^A-Za-z0-9]+", "-", only).strip("-") if only else ""
    return ("" if size == "full" else f"-{size}") + part


def _references(items: list[tuple[str, str, str]]) -> None:
    """Compute the references that these measurements need."""
    for work in dict.fromkeys(work for work, _, _ in items):
        tasks = list(dict.fromkeys(task for w, task, _ in items if w == work))
        print(f"references of {work}", file=sys.stderr, flush=True)
        _, reason = call("benchmarks.reference", work, *tasks, limit=4 * _LIMIT_SECONDS["long"])
        if reason:
            sys.exit(f"the references of {work} could not be computed: {reason}")


if __name__ == "__main__":
    main()
