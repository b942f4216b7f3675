"""Ratios taken in one process, turn by turn, so that a change of the machine's speed meets all alike.

Run as python -m benchmarks.micro NAME ROUNDS.
"""

import gc
import json
import statistics
import sys
import time
from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import torch
from liftscape.studies.watching import train
from torch import Tensor, nn

import liftscape as ls
from benchmarks.peers import load
from benchmarks.work import build, vector
from liftscape.curvature import Basis
from liftscape.outcomes import LiftscapeError
from liftscape.studies.pictures import pictures, plain_cnn, plain_mlp
from liftscape.training import initial_model

__all__ = ["ensembles", "lifting", "monitor", "orthogonalising", "products", "reorthogonalisation"]

# The parameters of ResNet-18, and how many vectors of that length are orthogonalised.
_SIZE, _COUNT = 11_173_962, 30


def turns(functions: dict[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    """Return the CPU seconds of each function in each round."""
    times: dict[str, list[float]] = {name: [] for name in functions}
    for _ in range(rounds):
        for name, function in functions.items():
            before = time.process_time()
            function()
            times[name].append(time.process_time() - before)
    return times


def ratio(times: dict[str, list[float]], above: str, below: str) -> float:
    """Return the median over rounds of the ratio."""
    return statistics.median(a / b for a, b in zip(times[above], times[below], strict=True))


def products(name: str, rounds: int) -> dict[str, float]:
    """Return what a product costs in gradients and in handwritten double backwards, in both modes."""
    work = build(name)
    v = vector(work, 1)
    names = {
        "kept": "liftscape",
        "rebuilt": "liftscape, rebuilt",
        "hand kept": "handwritten, cached",
        "hand": "handwritten",
    }
    peers = {key: load(peer)(work) for key, peer in names.items()}
    for peer in peers.values():
        peer.product(v)
    peers["kept"].product(v)
    functions: dict[str, Callable[[], object]] = {"gradient": work.gradient}
    for key in ("kept", "hand kept", "hand"):
        functions[key] = lambda peer=peers[key]: peer.product(v)
    times: dict[str, list[float]] = {key: [] for key in [*functions, "rebuilt"]}
    for _ in range(rounds):
        peers["rebuilt"].renew()
        once = turns({**functions, "rebuilt": lambda: peers["rebuilt"].product(v)}, 1)
        for key, value in once.items():
            times[key] += value
    return {
        f"{name} kept/gradient": ratio(times, "kept", "gradient"),
        f"{name} rebuilt/gradient": ratio(times, "rebuilt", "gradient"),
        f"{name} kept/handwritten": ratio(times, "kept", "hand kept"),
        f"{name} rebuilt/handwritten": ratio(times, "rebuilt", "hand"),
    }


def orthogonalising(device: torch.device) -> dict[str, Callable[[], object]]:
    """Return what takes 30 vectors of 11.2 M entries out of a further one, and a loop over them that does the same.

    Both make one pass where one is enough; ours also measures whether it was.
    """
    generator = torch.Generator().manual_seed(0)
    basis = Basis(_COUNT + 1, _SIZE, torch.float32, device)
    for _ in range(_COUNT):
        basis.append(torch.randn(1, _SIZE, generator=generator).to(device))
    w = torch.randn(1, _SIZE, generator=generator).to(device)
    vectors = [row.clone() for row in basis.rows]

    def ours() -> None:
        basis.append(w)
        basis.count = _COUNT

    def loop() -> Tensor:
        rest = w[0].clone()
        for q in vectors:
            # A scalar stays on the device: reading it would make the loop wait there.
            rest.sub_(q * torch.dot(q, rest)) if device.type == "cuda" else rest.add_(q, alpha=-float(q @ rest))
        return rest / rest.norm()

    return {"ours": ours, "loop": loop}


def reorthogonalisation(_: str, rounds: int) -> dict[str, float]:
    """Return the cost of reorthogonalising to that of a loop of one dot and one axpy for each vector.

    30 vectors of 11.2 M entries are taken out of a further one, and out of each other.
    """
    functions = orthogonalising(torch.device("cpu"))
    turns(functions, 1)
    times = turns(functions, rounds)
    block = torch.randn(_COUNT, _SIZE, generator=torch.Generator().manual_seed(0))
    basis = Basis(_COUNT, _SIZE, torch.float32, block.device)

    def ours() -> None:
        basis.count = 0
        basis.append(block)

    def loop() -> None:
        rows = block.clone()
        for index, row in enumerate(rows):
            for q in rows[:index]:
                row.add_(q, alpha=-float(q @ row))
            row /= row.norm()

    together = turns({"ours": ours, "loop": loop}, rounds)
    return {
        "reorthogonalise/loop": ratio(times, "ours", "loop"),
        "reorthogonalise each other/loop": ratio(together, "ours", "loop"),
    }


def ensembles(device: torch.device, steps: int, looped: int) -> dict[str, Callable[[], object]]:
    """Return what trains 256 networks 1-50-50-1 at once, and a loop that trains some of them one by one.

    Adam on 32 samples in float32.
    """
    x = torch.linspace(-1, 1, 32, device=device)[:, None]
    y = torch.sin(3 * x)
    make = lambda: ls.nets.mlp((1, 50, 50, 1), "tanh", dtype=torch.float32).to(device)
    settings = {"steps": steps, "learning_rate": 0.01, "optimizer": "adam", "record": [0]}

    def loop() -> None:
        for _ in range(looped):
            model = make()
            rule = torch.optim.Adam(model.parameters(), lr=0.01)
            for _ in range(steps):
                rule.zero_grad()
                nn.functional.mse_loss(model(x), y).backward()
                rule.step()

    return {"ours": lambda: ls.train_ensemble(make, "mse", (x, y), starts=256, **settings), "loop": loop}


def ensemble(_: str, rounds: int) -> dict[str, float]:
    """Return the cost of training 256 networks 1-50-50-1 at once, to that of an ordinary loop over them."""
    functions = ensembles(torch.device("cpu"), steps=100, looped=8)
    functions["ours"]()
    return {"ensemble/loop": ratio(turns(functions, rounds), "ours", "loop") * 8 / 256}


def monitor(_: str, rounds: int) -> dict[str, float]:
    """Return the cost of a record to that of the 100 training steps before it, for the batch-norm study's networks."""
    found = {}
    for name, side, make in (
        ("mlp", 8, lambda: plain_mlp(8, [100] * 5)),
        ("mlp with BatchNorm", 8, lambda: plain_mlp(8, [100] * 5, norm=True)),
        ("mlp", 28, lambda: plain_mlp(28, [100] * 5)),
        ("mlp with BatchNorm", 28, lambda: plain_mlp(28, [100] * 5, norm=True)),
        ("cnn", 28, lambda: plain_cnn(28, [8, 16, 16, 16])),
    ):
        try:
            x, y = pictures("digits" if side == 8 else "fashion-mnist", 10_000, torch.device("cpu"))
        except LiftscapeError:
            continue
        model = initial_model(make, 0)
        watching = ls.Monitor(ls.EmpiricalRisk(model, "cross_entropy", (x, y)))
        steps = partial(train, model, x, y, steps=100, learning_rate=0.05, batch_size=128, seed=0)
        functions: dict[str, Callable[[], object]] = {
            "steps": steps,
            "record": lambda watching=watching: watching.record(0),
        }
        turns(functions, 1)
        times = turns(functions, rounds)
        found[f"record/100 steps, {name} on {side} × {side}"] = ratio(times, "record", "steps")
    return found


def peak_memory(function: Callable[[], object]) -> int:
    """Return by how many bytes the process grew at its largest while a function ran; Linux only."""
    gc.collect()
    status = Path("/proc/self/status")
    read = lambda key: 1024 * int(next(line.split()[1] for line in status.open() if line.startswith(key)))
    before = read("VmRSS")
    # Writing 5 puts the high-water mark back to what is used now.
    Path("/proc/self/clear_refs").write_text("5")
    function()
    return read("VmHWM") - before


def lifting(_: str, rounds: int) -> dict[str, float]:
    """Return the cost of a lift at one of 100 M parameters' sites to that of a pass over the data, and its memory.

    24 Linears of 2048 × 2048 with ReLU on 8,192 samples, and a BERT of base size with random weights on 96 sequences of
    128 tokens, both float32. Memory is what a lift takes beyond the model, to the size of the two new maps.
    """
    found: dict[str, float] = {}
    torch.manual_seed(0)
    layers = [module for _ in range(24) for module in (nn.Linear(2048, 2048), nn.ReLU())]
    cases: dict[str, tuple[nn.Module, str, list[object]]] = {
        "mlp": (nn.Sequential(*layers, nn.Linear(2048, 10)), "24", [torch.randn(2048, 2048) for _ in range(4)])
    }
    if find_spec("transformers") is not None:
        from transformers import BertConfig, BertModel

        tokens: list[object] = [{"input_ids": torch.randint(0, 30_000, (16, 128))} for _ in range(6)]
        cases["bert"] = (BertModel(BertConfig()), "encoder.layer.6.intermediate.dense", tokens)
    for name, (model, at, data) in cases.items():
        model.eval()

        def forward(model: nn.Module = model, data: list[object] = data) -> None:
            with torch.no_grad():
                for batch in data:
                    model(**batch) if isinstance(batch, dict) else model(batch)

        lift = partial(ls.lift, model, at, data)
        forward()
        times = turns({"forward": forward, "lift": lift}, rounds)
        found[f"{name}: forward pass, s"] = statistics.median(times["forward"])
        found[f"{name}: lift/forward"] = ratio(times, "lift", "forward")
        new = lift(share=True).model.get_submodule(at)
        size = sum(tensor.numel() * tensor.element_size() for tensor in new.parameters())
        found[f"{name}: new maps, MB"] = size / 1e6
        for share in (True, False):
            used = peak_memory(partial(lift, share=share))
            found[f"{name}: memory/new maps{', shared weights' if share else ''}"] = used / size
    return found


NAMES = {
    "digits-mlp": products,
    "resnet18": products,
    "reorthogonalise": reorthogonalisation,
    "ensemble": ensemble,
    "monitor": monitor,
    "lift": lifting,
}

if __name__ == "__main__":
    torch.set_num_threads(1)
    print(json.dumps(NAMES[sys.argv[1]](sys.argv[1], int(sys.argv[2]))))
