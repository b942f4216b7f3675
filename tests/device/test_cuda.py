"""On a GPU everything gives what it gives on the CPU, and large tensors stay there; skipped where there is none."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

import liftscape as ls
from liftscape.folding import linear_bounds
from liftscape.studies.catalogue import STUDIES
from liftscape.studies.runner import run_study

F64 = torch.float64

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")


class Transfers(TorchDispatchMode):
    """The sizes of tensors that leave the GPU."""

    def __init__(self) -> None:
        super().__init__()
        self.sizes: list[int] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        given = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        made = [leaf for leaf in tree_leaves(result) if isinstance(leaf, Tensor)]
        if any(leaf.is_cuda for leaf in given):
            self.sizes += [leaf.numel() for leaf in made if not leaf.is_cuda]
        return result


def risks() -> list[ls.EmpiricalRisk]:
    """The same risk on the CPU and on the GPU."""
    found = []
    for device in ("cpu", "cuda"):
        model = ls.nets.mlp((6, 40, 40, 3), "tanh").to(device)
        generator = torch.Generator().manual_seed(0)
        x = torch.randn(80, 6, generator=generator, dtype=F64).to(device)
        y = torch.randint(3, (80,), generator=generator).to(device)
        found.append(ls.EmpiricalRisk(model, "cross_entropy", (x, y)))
    return found


OPERATORS: dict[str, Callable[[ls.EmpiricalRisk], Any]] = {
    "Hessian": lambda risk: risk.hessian(),
    "Gauss-Newton": lambda risk: ls.curvature.gauss_newton(risk),
    "empirical Fisher": lambda risk: ls.curvature.fisher(risk, method="empirical"),
}


@pytest.mark.parametrize("name", OPERATORS)
def test_products_and_their_functions_are_those_of_the_cpu(name: str) -> None:
    cpu, cuda = (OPERATORS[name](risk) for risk in risks())
    block = torch.randn(cpu.size, 3, generator=torch.Generator().manual_seed(1), dtype=F64)
    for v in (block[:, 0], block):
        product = cuda @ v.cuda()
        assert product.is_cuda
        torch.testing.assert_close(product.cpu(), cpu @ v, rtol=1e-10, atol=1e-12)
    pairs = [ls.curvature.eigenpairs(H, 4, which="both", tolerance=1e-8) for H in (cpu, cuda)]
    assert pairs[1].vectors.is_cuda
    torch.testing.assert_close(pairs[1].values, pairs[0].values, rtol=1e-8, atol=1e-10)
    traces = [ls.curvature.trace(H, generator=torch.Generator().manual_seed(2)).value for H in (cpu, cuda)]
    assert traces[1] == pytest.approx(traces[0], rel=1e-9)


@pytest.mark.parametrize("work", ["eigenpairs", "density"])
def test_no_vector_leaves_the_device(work: str) -> None:
    H = risks()[1].hessian()
    with Transfers() as transfers:
        if work == "eigenpairs":
            ls.curvature.eigenpairs(H, 3, which="largest", tolerance=1e-4)
        else:
            ls.curvature.spectral_density(H, steps=20, probes=2)
    assert max(transfers.sizes) < H.size


def test_slices_and_readings_are_those_of_the_cpu() -> None:
    values = []
    for risk in risks():
        d = torch.randn(risk.size, generator=torch.Generator().manual_seed(1), dtype=F64).to(risk.gradient())
        values.append(torch.as_tensor(ls.curvature.slice_1d(risk, d, radius=0.5, points=7).values))
    torch.testing.assert_close(values[1], values[0], rtol=1e-10, atol=1e-12)


def test_a_lifted_minimum_is_certified_on_the_device() -> None:
    certificates = []
    for device in ("cpu", "cuda"):
        model = ls.nets.mlp((3, 3, 2), "tanh").to(device)
        x = torch.randn(60, 3, generator=torch.Generator().manual_seed(0), dtype=F64).to(device)
        y = ls.plant_critical_point(model, x, kind="minimum", generator=torch.Generator().manual_seed(0))
        embedding = ls.lift(model, x, "2", width=4, activation="elu")
        certificate = ls.certify(ls.EmpiricalRisk(embedding.model, "mse", (x, y)), known_flat=embedding.manifold)
        assert all(parameter.device.type == device for parameter in embedding.model.parameters())
        certificates.append((certificate.kind, certificate.inertia and certificate.inertia.triple))
    assert certificates[0] == certificates[1]
    assert certificates[0][0] == "degenerate local minimum"


def test_ensembles_take_the_course_they_take_on_the_cpu() -> None:
    x = torch.linspace(-1, 1, 24, dtype=F64)[:, None]
    losses = []
    for device in ("cpu", "cuda"):
        make = lambda device=device: ls.nets.mlp((1, 8, 1), "tanh").to(device)
        made = ls.train_ensemble(make, "mse", (x.to(device), (3 * x).sin().to(device)), starts=5, steps=300)
        losses.append(made.losses.cpu())
    torch.testing.assert_close(losses[1], losses[0], rtol=1e-6, atol=1e-12)


def test_linearity_folds_and_monitors_are_those_of_the_cpu() -> None:
    rows = []
    for risk in risks():
        lifted = risk.with_model(ls.lift(risk.model, next(iter(risk.batches))[0], "2", width=50).model)
        table = ls.layer_linearity(lifted)
        folded = ls.fold(lifted)
        assert folded.removed
        reading = ls.Monitor(lifted).record(0)
        rows.append(
            [row.r2 for row in table.rows] + [float(risk.with_model(folded.model).value()), reading.gradient_norm]
        )
    assert rows[1] == pytest.approx(rows[0], rel=1e-7)


def test_convolutions_fold_on_the_device() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 3, 3), nn.ReLU(), nn.Conv2d(3, 2, 3)).to("cuda", F64)
    with torch.no_grad():
        model[0].bias.fill_(50.0)
    x = torch.randn(10, 1, 8, 8, dtype=F64, device="cuda")
    for how in ("exact", "least-squares"):
        folded = ls.fold(model, x, at="1", method=how).model
        with torch.no_grad():
            torch.testing.assert_close(folded(x), model(x), rtol=1e-9, atol=1e-9)


class Residual(nn.Module):
    """x ↦ x + branch(x)."""

    def __init__(self) -> None:
        super().__init__()
        self.branch = nn.Conv2d(4, 4, 3, padding=1, groups=2)

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(x + self.branch(x))


def test_groups_paths_bounds_and_collapses_are_those_of_the_cpu() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(4, 4, 3, groups=4), nn.LeakyReLU(0.1), nn.Conv2d(4, 3, 1)).to("cuda", F64)
    x = torch.randn(10, 4, 8, 8, dtype=F64, device="cuda")
    lifted = ls.lift(model, x, "0", width=12, activation="elu")
    other = lifted.manifold.sample(torch.Generator().manual_seed(1))
    for network in (lifted.model, lifted.manifold.path(other)(0.5), ls.fold(lifted, x).model):
        with torch.no_grad():
            torch.testing.assert_close(network(x), model(x), rtol=1e-9, atol=1e-9)
    dense = nn.Sequential(nn.Linear(4, 9), nn.LeakyReLU(0.1), nn.Linear(9, 3)).to("cuda", F64)
    with torch.no_grad():
        dense[0].bias[:8] += 90.0
    trimmed = ls.trim(dense, x[:, :, 0, 0], affine_path=True)
    assert trimmed.rows[0].beside >= 8
    network = nn.Sequential(Residual(), nn.Conv2d(4, 2, 3)).to("cuda", F64)
    collapsed = ls.collapse_residuals(network, x)
    assert collapsed.collapsed == ("0",)
    with torch.no_grad():
        torch.testing.assert_close(trimmed.model(x[:, :, 0, 0]), dense(x[:, :, 0, 0]), rtol=1e-9, atol=1e-9)
        torch.testing.assert_close(collapsed.model(x), network(x), rtol=1e-9, atol=1e-9)
    low, high = torch.zeros(4, dtype=F64), torch.ones(4, dtype=F64)
    bounds = linear_bounds(dense, low.cuda(), high.cuda())["1"]
    expected = linear_bounds(copy.deepcopy(dense).cpu(), low, high)["1"]
    for own, cpu in zip(bounds, expected, strict=True):
        torch.testing.assert_close(own.cpu(), cpu, rtol=1e-12, atol=1e-12)
    with torch.no_grad():
        dense[0].bias += 90.0
    assert ls.fold(dense, method=ls.Proved((low, high))).removed == ("1",)


@pytest.mark.parametrize("name", STUDIES)
def test_studies_run_on_the_device(name: str, tmp_path: Path) -> None:
    found = run_study(name, tmp_path / name, size="toy", device="cuda")
    assert found.claims
    assert "on cuda" in (tmp_path / name / "config.toml").read_text(encoding="utf-8")


def test_an_escape_on_the_device_is_predicted_and_measured_as_on_the_cpu() -> None:
    found = []
    for device in ("cpu", "cuda"):
        x = torch.linspace(-1, 1, 60, dtype=F64)[:, None].to(device)
        model = nn.Sequential(nn.Linear(1, 2, dtype=F64), nn.Tanh(), nn.Linear(2, 1, dtype=F64)).to(device)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.zero_()
            model[2].bias.fill_(float(x.abs().mean()))
            model[0].weight.fill_(1.0)
        risk = ls.EmpiricalRisk(model, "mse", (x, x.abs()))
        for activation in ("relu", "elu"):
            escape = ls.escape(risk, at="2", activation=activation, neurons=2, tolerance=10.0)
            assert escape.decrease == pytest.approx(escape.predicted_decrease, rel=1e-9)
            assert all(parameter.device.type == device for parameter in escape.model.parameters())
            found.append(escape.predicted_decrease)
    assert found[:2] == pytest.approx(found[2:], rel=1e-3)
