"""Time of a forward pass, on the CPU or on a GPU."""

from collections.abc import Callable
from statistics import median
from time import perf_counter, process_time

import torch
from torch import Tensor, nn

__all__ = ["clock_of", "latency"]


def clock_of(device: torch.device) -> Callable[[], float]:
    """Return what tells the seconds of a device: those of the CPU alone, or on a GPU the time once its queue is empty.

    Args:
        device: any.

    Returns:
        A function without arguments.
    """
    if device.type != "cuda":
        return process_time

    def clock() -> float:
        torch.cuda.synchronize(device)
        return perf_counter()

    return clock


def latency(model: nn.Module, x: Tensor, timed: int) -> float:
    """Return the median time of a forward pass on one thread, that of the CPU alone or of a GPU.

    Args:
        model: the network.
        x: its inputs.
        timed: passes.

    Returns:
        Milliseconds.
    """
    threads, times, clock = torch.get_num_threads(), [], clock_of(x.device)
    torch.set_num_threads(1)
    try:
        with torch.no_grad():
            model(x)
            for _ in range(timed):
                before = clock()
                model(x)
                times.append(clock() - before)
    finally:
        torch.set_num_threads(threads)
    return 1e3 * median(times)
