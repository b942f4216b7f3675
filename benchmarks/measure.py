"""One measurement, in this process alone: python -m benchmarks.measure PEER WORK TASK [EFFORT]."""

import json
import statistics
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from benchmarks import reference
from benchmarks.peers import NotOfferedError, Peer, load
from benchmarks.work import Work, build, directions, vector

__all__ = ["measure"]

_REPEATS = {"digits-mlp": 20, "resnet18": 3}


def cpu(function: Callable[[], object]) -> float:
    """Return the CPU seconds of a call."""
    before = time.process_time()
    function()
    return time.process_time() - before


def memory(field: str) -> int:
    """Return VmRSS or VmHWM, bytes now or at most since the last reset."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith(field))) * 1024


def reset_peak() -> int:
    """Forget the peak so far and return the bytes now."""
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    return memory("VmRSS")


def measure(name: str, work_name: str, task: str, effort: float) -> dict[str, object]:
    """Return the row of one measurement."""
    kind, count = task.rstrip("0123456789"), int(task[len(task.rstrip("0123456789")) :] or 0)
    work = build(work_name)
    place = reference.place(work_name)
    row: dict[str, object] = {"peer": name, "work": work_name, "task": task, "effort": effort}
    try:
        adapter = load(name)
        baseline = reset_peak()
        row |= _run(adapter, work, kind, count, effort)
    except NotOfferedError as none:
        return row | {"status": "not offered", "reason": str(none)}
    except Exception as error:  # whatever a peer raises is its result
        lines = str(error).strip().splitlines() or [""]
        return row | {"status": "failed", "reason": f"{type(error).__name__}: {lines[0][:200]}"}
    answer = row.pop("answer")
    row["peak"] = memory("VmHWM") - baseline
    row["gradient"] = statistics.median(cpu(work.gradient) for _ in range(_REPEATS[work_name]))
    row["error"] = _error(kind, task, answer, reference.load(place), work)
    return row | {"status": "measured"}


def _run(adapter: type[Peer], work: Work, kind: str, count: int, effort: float) -> dict[str, object]:
    """Set up the peer and do the task, timed apart; the first product counts as setting up."""
    before = time.process_time()
    peer = adapter(work)
    if kind == "hvp":
        v = vector(work, 1)
        answer: object = peer.product(v)
        setup = time.process_time() - before
        times = []
        for _ in range(_REPEATS[work.name]):
            peer.renew()
            times.append(cpu(lambda: peer.product(v)))
        return {"setup": setup, "cpu": statistics.median(times), "answer": answer}
    setup = time.process_time() - before
    before = time.process_time()
    if kind in {"top", "bottom"}:
        answer = getattr(peer, kind)(count, effort)
    elif kind == "surface":
        answer = peer.surface(*directions(work), count)
    else:
        answer = getattr(peer, kind)(count)
    return {"setup": setup, "cpu": time.process_time() - before, "answer": answer, "stored": peer.stored}


def _error(kind: str, task: str, answer: object, known: dict[str, Tensor], work: Work) -> float | None:
    """Return the error relative to the reference, None where there is none."""
    key = "trace" if kind in {"trace", "density"} else task
    if key not in known:
        return None
    right = known[key].double()
    if kind == "density":
        right = right / work.size
    found = torch.as_tensor(answer).detach().double()
    if found.shape != right.shape or not bool(torch.isfinite(found).all()):
        return float("inf")
    if kind == "hvp":
        return float((found - right).norm() / right.norm())
    return float(((found - right).abs() / right.abs()).max())


if __name__ == "__main__":
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    print(json.dumps(measure(*sys.argv[1:4], float(sys.argv[4]))))
