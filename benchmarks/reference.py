"""The references in float64, computed once and kept under build/benchmarks."""

import hashlib
import sys
from pathlib import Path

import torch
from torch import Tensor
from torch.func import functional_call, vjp, vmap

from benchmarks.peers.handwritten import Adapter, lanczos_coefficients
from benchmarks.work import Work, build, directions, to_double, vector

__all__ = ["exact_trace", "load", "place"]

# A hundredth of the error at which times are compared.
_TOLERANCE = 1e-6
_KRYLOV = 64
_FOLDER = Path(__file__).parent.parent / "build" / "benchmarks"


def place(name: str) -> Path:
    """Return where the references of a work are kept, a name that tells the weights and torch's version."""
    digest = hashlib.sha256(torch.__version__.encode())
    for parameter in build(name).model.parameters():
        digest.update(parameter.detach().numpy().tobytes())
    return _FOLDER / f"{name}-{digest.hexdigest()[:12]}.pt"


def load(path: Path) -> dict[str, Tensor]:
    """Return what is kept."""
    return torch.load(path, weights_only=True) if path.exists() else {}


def exact_trace(work: Work) -> float:
    """Return tr H of a ReLU network on its samples, exactly.

    Between kinks each output is affine in any one layer's parameters, so the diagonal of ∇²f vanishes and tr H is that
    of the Gauss-Newton matrix: the mean over samples of Σ_kl C_kl ∇f_k·∇f_l, C = diag(p) − ppᵀ.
    """
    parameters = {name: tensor.detach() for name, tensor in work.model.named_parameters()}
    buffers = dict(work.model.named_buffers())

    def one(x: Tensor) -> Tensor:
        output, pull = vjp(lambda theta: functional_call(work.model, (theta, buffers), x.unsqueeze(0))[0], parameters)
        rows = vmap(lambda e: torch.cat([g.reshape(-1) for g in pull(e)[0].values()]))(
            torch.eye(len(output)).to(output)
        )
        p = torch.softmax(output, 0)
        return ((torch.diag(p) - torch.outer(p, p)) * (rows @ rows.T)).sum()

    return float(torch.stack([one(x).detach() for x in work.inputs]).mean())


def krylov_top(oracle: Adapter, count: int) -> Tensor:
    """Return the largest eigenvalues from one Krylov space, in float64, or raise if they have not converged there.

    ARPACK's restarts would take several times the products, each of which takes many seconds here.

    Args:
        oracle: double backward by hand, in float64.
        count: how many.

    Returns:
        The values, descending.

    Raises:
        RuntimeError: if they have not converged.
    """
    generator = torch.Generator().manual_seed(1)
    start = torch.randn(oracle.work.size, generator=generator, dtype=torch.float64)
    alphas, betas, _ = lanczos_coefficients(oracle.product, start, _KRYLOV)
    matrix = torch.diag(alphas) + torch.diag(betas[:-1], 1) + torch.diag(betas[:-1], -1)
    values, vectors = torch.linalg.eigh(matrix)
    residuals = (betas[-1] * vectors[-1]).abs().flip(0)[:count]
    found = values.flip(0)[:count]
    gaps = (found - values.flip(0)[1 : count + 1]).abs().minimum((found - values.flip(0)[:count].roll(1)).abs())
    # An isolated Ritz value errs by its squared residual over the gap.
    bounds = torch.minimum(residuals, residuals.square() / gaps)
    print(f"relative error bounds of the largest: {(bounds / found).tolist()}")
    if not bool((bounds <= 1e-5 * found).all()):
        raise RuntimeError(f"{_KRYLOV} Lanczos steps are too few for the {count} largest; take more")
    return found


def compute(name: str, tasks: set[str]) -> None:
    """Compute what is missing for these tasks, and keep it."""
    path = place(name)
    known = load(path)
    work = build(name)
    double = to_double(work)
    oracle = Adapter(double)
    makers = {
        "hvp": lambda _: oracle.product(vector(work, 1).double()),
        "top": lambda count: oracle.top(count, _TOLERANCE) if name == "digits-mlp" else krylov_top(oracle, count),
        "bottom": lambda count: oracle.bottom(count, _TOLERANCE),
        "surface": lambda count: oracle.surface(*(u.double() for u in directions(work)), count),
        "trace": lambda _: torch.tensor(exact_trace(double), dtype=torch.float64),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    for task in sorted(tasks):
        kind = task.rstrip("0123456789")
        key = "trace" if kind in {"trace", "density"} else task
        # Sixty-four Jacobians of ten rows and 11.2 million columns would take longer than all measurements.
        if key not in known and (key != "trace" or name == "digits-mlp"):
            known[key] = makers[key.rstrip("0123456789")](int(task[len(kind) :] or 0))
    torch.save(known, path)
    print(path)


if __name__ == "__main__":
    torch.set_num_threads(1)
    compute(sys.argv[1], set(sys.argv[2:]))
