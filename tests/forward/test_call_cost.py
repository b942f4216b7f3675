"""A call of a small network takes little more than torch's own functional_call."""

import subprocess
import sys

# Of the shortest CPU times of interleaved rounds; before it was 2.5.
_MOST = 1.3
# In a process of its own, since argument types are checked at each call in tests.
_PROGRAM = """
import time

import torch
from torch import nn
from torch.func import functional_call

from liftscape.functional import call_model, trainable_parameters

model = nn.Sequential(nn.Linear(4, 16), nn.Tanh(), nn.Linear(16, 16), nn.Tanh(), nn.Linear(16, 1))
x, params = torch.randn(32, 4), trainable_parameters(model)
calls = {"ours": lambda: call_model(model, params, x), "torch": lambda: functional_call(model, params, (x,))}
assert torch.equal(calls["ours"](), calls["torch"]())
shortest = dict.fromkeys(calls, float("inf"))
for _ in range(9):
    for name, call in calls.items():
        start = time.process_time()
        for _ in range(200):
            call()
        shortest[name] = min(shortest[name], time.process_time() - start)
print(shortest["ours"] / shortest["torch"])
"""


def test_a_call_costs_little_more_than_torchs_own() -> None:
    run = subprocess.run([sys.executable, "-c", _PROGRAM], capture_output=True, text=True, check=True)
    assert float(run.stdout) <= _MOST
