"""A call of a small network takes little more than torch's own functional_call."""

import time
from collections.abc import Callable

import torch
from torch import nn
from torch.func import functional_call

from liftscape.functional import call_model, trainable_parameters

# Of the shortest times of interleaved rounds; before it was 2.5.
_MOST = 1.3


def seconds(call: Callable[[], object], calls: int = 200) -> float:
    """Return the CPU time of some calls."""
    start = time.process_time()
    for _ in range(calls):
        call()
    return time.process_time() - start


def test_a_call_costs_little_more_than_torchs_own() -> None:
    model = nn.Sequential(nn.Linear(4, 16), nn.Tanh(), nn.Linear(16, 16), nn.Tanh(), nn.Linear(16, 1))
    x, params = torch.randn(32, 4), trainable_parameters(model)
    ours, theirs = lambda: call_model(model, params, x), lambda: functional_call(model, params, (x,))
    assert torch.equal(ours(), theirs())
    rounds = [(seconds(ours), seconds(theirs)) for _ in range(7)]
    assert min(own for own, _ in rounds) <= _MOST * min(other for _, other in rounds), rounds
