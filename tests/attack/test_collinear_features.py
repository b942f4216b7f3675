"""The best affine map of collinear, shifted and badly scaled features, against an orthogonal projection in mpmath."""

import mpmath
import pytest
import torch
from torch import Tensor, nn

import liftscape as ls
from liftscape.linearity import find_runs, fit_runs

F64 = torch.float64


def draw(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=F64)


def exact_r2(h: Tensor, z: Tensor) -> float:
    """1 − ‖z − projection‖² / ‖z − mean‖² by Gram-Schmidt with 60 digits on the very numbers."""
    with mpmath.workdps(60):
        columns = [[mpmath.mpf(1)] * len(h), *([mpmath.mpf(v) for v in column] for column in h.T.tolist())]
        basis: list[list[mpmath.mpf]] = []
        for column in columns:
            left = column
            for _ in range(2):
                for unit in basis:
                    share = mpmath.fdot(unit, left)
                    left = [a - share * b for a, b in zip(left, unit, strict=True)]
            size = mpmath.sqrt(mpmath.fdot(left, left))
            if size > mpmath.mpf(10) ** -40 * mpmath.sqrt(mpmath.fdot(column, column)):
                basis.append([a / size for a in left])
        total = residual = mpmath.mpf(0)
        for target in ([mpmath.mpf(v) for v in column] for column in z.T.tolist()):
            mean = mpmath.fsum(target) / len(target)
            total += mpmath.fsum((v - mean) ** 2 for v in target)
            left = target
            for unit in basis:
                share = mpmath.fdot(unit, left)
                left = [a - share * b for a, b in zip(left, unit, strict=True)]
            residual += mpmath.fdot(left, left)
        return float(1 - residual / total)


def network(activation: nn.Module, width: int = 3) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(width, 5), activation, nn.Linear(5, 2)).double()


def fitted(model: nn.Module, x: Tensor, batch: int | None = None) -> tuple[float, Tensor, Tensor]:
    """R², weight and bias of the map that stands in for the first two."""
    inputs = x if batch is None else list(x.split(batch))
    fit = fit_runs(model, find_runs(model, inputs), inputs)["1"]
    return fit.r2, fit.weight, fit.bias


def collinear(angle: float, scale: float, shift: float, samples: int = 60) -> Tensor:
    """Two features that are one but for a share, and a third."""
    u, w, v = (draw(samples, 1, seed=seed) for seed in (1, 2, 3))
    return torch.cat([u, u + angle * w, v], dim=1) * scale + shift


@pytest.mark.parametrize("scale", [pytest.param(1e-6, marks=pytest.mark.long), 1.0, 1e6])
@pytest.mark.parametrize("angle", [1e-2, 1e-4, 1e-6, 1e-8, pytest.param(1e-10, marks=pytest.mark.long)])
def test_r2_of_collinear_features_is_that_of_the_projection(angle: float, scale: float) -> None:
    x, model = collinear(angle, scale, 0.0), network(nn.Tanh())
    with torch.no_grad():
        # The layer reads the direction that is nearly lost.
        model[0].weight[:, 0] = -1 / (angle * scale)
        model[0].weight[:, 1] = 1 / (angle * scale)
    r2, _, _ = fitted(model, x, batch=7)
    assert r2 == pytest.approx(exact_r2(x, model(x).detach()), abs=1e-12 / angle + 1e-10)


@pytest.mark.parametrize("shift", [1.0, 1e3, pytest.param(1e6, marks=pytest.mark.long)])
def test_a_mean_far_from_zero_costs_no_digits(shift: float) -> None:
    x, model = collinear(1e-4, 1.0, shift), network(nn.Tanh())
    with torch.no_grad():
        model[0].bias -= model[0].weight.sum(dim=1) * shift
    r2, _, _ = fitted(model, x, batch=11)
    assert r2 == pytest.approx(exact_r2(x, model(x).detach()), abs=1e-8)


@pytest.mark.parametrize("batch", [1, 2, 13, 60])
def test_the_split_into_batches_changes_nothing_but_rounding(batch: int) -> None:
    x, model = collinear(1e-3, 1.0, 0.5), network(nn.GELU())
    whole, parts = fitted(model, x), fitted(model, x, batch)
    assert parts[0] == pytest.approx(whole[0], abs=1e-10)
    torch.testing.assert_close(x @ parts[1].T + parts[2], x @ whole[1].T + whole[2], atol=1e-9, rtol=0)


def test_more_rows_than_are_kept_at_a_time() -> None:
    x, model = collinear(1e-5, 1.0, 0.0, samples=5000), network(nn.Tanh())
    r2, weight, bias = fitted(model, x, batch=333)
    z, centred = model(x).detach(), x - x.mean(dim=0)
    Q, _ = torch.linalg.qr(centred)
    left = (z - z.mean(dim=0)) - Q @ (Q.T @ (z - z.mean(dim=0)))
    assert r2 == pytest.approx(1 - float(left.square().sum() / (z - z.mean(dim=0)).square().sum()), abs=1e-9)
    assert float((z - x @ weight.T - bias).square().sum()) == pytest.approx(float(left.square().sum()), rel=1e-8)


def test_dependent_features_have_the_fit_of_smallest_norm_and_their_rank() -> None:
    base = draw(50, 2, seed=4)
    x, model = torch.cat([base, base @ draw(2, 1, seed=5)], dim=1), network(nn.Tanh())
    run = find_runs(model, x)
    fit = fit_runs(model, run, x)["1"]
    assert float(fit.weight.abs().max()) < 10
    assert 1 - fit.adjusted_r2 == pytest.approx((1 - fit.r2) * 49 / 47, rel=1e-6)


def test_the_table_and_the_least_squares_fold_see_the_same() -> None:
    x, model = collinear(1e-6, 1.0, 0.0, samples=400), network(nn.Tanh())
    with torch.no_grad():
        model[0].weight[:, 0], model[0].weight[:, 1] = -1e6, 1e6
    expected = exact_r2(x[:, :], model(x).detach())
    (row,) = ls.layer_linearity(model, x).rows
    assert row.r2 == pytest.approx(expected, abs=1e-6)
    folded = ls.fold(model, x, at="1", method="least-squares").model
    z = model(x).detach()
    reached = 1 - float((folded(x).detach() - z).square().sum() / (z - z.mean(dim=0)).square().sum())
    assert reached == pytest.approx(expected, abs=1e-6)
