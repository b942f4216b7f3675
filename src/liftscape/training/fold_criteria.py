"""Criteria by which layers are ranked for folding: ours, and those of related work."""

from copy import deepcopy

import torch
from torch import Tensor, nn
from torch.nn import functional

from liftscape.folding import fold_within
from liftscape.forward import copy_with
from liftscape.linearity import Run, block_influence, find_runs, state_entropy
from liftscape.risk import EmpiricalRisk
from liftscape.training._stack import minibatches

__all__ = ["CRITERIA", "candidates", "orders", "prelu_slopes"]

# As they are called in tables; the first is ours.
CRITERIA = ("loss per operation", "entropy of states", "PReLU slopes", "block influence", "random")
_EVERYTHING = 1e12


def candidates(model: nn.Module, x: Tensor) -> dict[str, Run]:
    """Return the layers that may leave: those between two convolutions of one shape without stride.

    So each saves one of these convolutions, and equal numbers of layers are equal budgets for every criterion. One map
    in place of a convolution with stride would skip pictures' places, which is another loss than that of the layer.

    Args:
        model: the network, in eval mode.
        x: pictures.

    Returns:
        Runs by their activation's name, in the order of the layers.
    """

    def alike(run: Run) -> bool:
        maps = [model.get_submodule(name) for name in (run.first, run.last)]
        convolutions = [each for each in maps if isinstance(each, nn.Conv2d) and set(each.stride) == {1}]
        return len(convolutions) == 2 and convolutions[0].weight.shape == convolutions[1].weight.shape

    return {run.activation: run for run in find_runs(model, x) if run.refusal is None and alike(run)}


def orders(
    model: nn.Module, x: Tensor, y: Tensor, slopes: dict[str, float], draws: int, seed: int
) -> dict[str, list[list[str]]]:
    """Return for each criterion the orders in which activations leave, most dispensable first; several for random.

    Ours folds the one with the least change of the loss for each operation saved and looks again; the published ones
    rank once, as the network was trained.

    Args:
        model: the network, in eval mode.
        x: calibration pictures.
        y: their classes.
        slopes: learnt by PReLUs.
        draws: random orders.
        seed: of these.

    Returns:
        Names of activations by criterion.
    """
    runs = candidates(model, x)
    found = fold_within(EmpiricalRisk(model, "cross_entropy", (x, y)), budget=_EVERYTHING, at=list(runs))
    # What it could no longer tell apart goes last, in the order of the layers.
    ours = [step.activation for step in found.steps[1:]]
    ours += [name for name in runs if name not in ours]
    entropy = state_entropy(model, x, list(runs))
    blocks = {name: _block_of(name, run.first) for name, run in runs.items()}
    influence = block_influence(model, list(dict.fromkeys(blocks.values())), x)
    generator = torch.Generator().manual_seed(seed)
    names = list(runs)
    shuffled = [[names[place] for place in torch.randperm(len(names), generator=generator)] for _ in range(draws)]
    return {
        CRITERIA[0]: [ours],
        CRITERIA[1]: [sorted(names, key=entropy.__getitem__)],
        CRITERIA[2]: [sorted(names, key=lambda name: abs(1 - slopes[name]))],
        CRITERIA[3]: [sorted(names, key=lambda name: influence[blocks[name]])],
        CRITERIA[4]: shuffled,
    }


def prelu_slopes(
    model: nn.Module,
    names: list[str],
    x: Tensor,
    y: Tensor,
    *,
    steps: int,
    learning_rate: float,
    penalty: float,
    batch_size: int,
    seed: int,
) -> dict[str, float]:
    """Learn a slope α for the negative side of each activation, from 0 on, under a penalty on (1 − α)².

    Source: Ben Dror et al. 2021 (arXiv 2106.09309), Layer Folding: a layer whose α is near 1 is near linear.

    Args:
        model: the trained network; it is left as it was.
        names: of its ReLUs.
        x: training pictures.
        y: their classes.
        steps: of SGD with momentum 0.9, on all parameters.
        learning_rate: of the steps.
        penalty: weight of the mean of (1 − α)².
        batch_size: samples of a step.
        seed: of the order of the data.

    Returns:
        α by name.
    """
    trained = copy_with(deepcopy(model), {name: nn.PReLU(init=0.0).to(x.device) for name in names}).train()
    slopes = {name: trained.get_parameter(f"{name}.weight") for name in names}
    rule = torch.optim.SGD(trained.parameters(), lr=learning_rate, momentum=0.9)
    order = minibatches(len(x), batch_size, seed)
    for _ in range(steps):
        index = next(order).to(x.device)
        rule.zero_grad(set_to_none=True)
        away = torch.stack([(1 - slope).square().mean() for slope in slopes.values()]).mean()
        (functional.cross_entropy(trained(x[index]), y[index]) + penalty * away).backward()
        rule.step()
    return {name: float(slope.detach()) for name, slope in slopes.items()}


def _block_of(activation: str, first: str) -> tuple[str, str]:
    """Return what a layer's influence is that of: the block it is in, else the layer from its map to its activation."""
    parent = activation.rpartition(".")[0]
    return (parent, parent) if parent else (first, activation)
