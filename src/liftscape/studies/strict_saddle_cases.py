"""The ways in which a lifted minimum may open a descent: at a boundary, near an inflection, by a split, by tangency."""

from dataclasses import dataclass
from math import pi
from typing import Any, final

import torch
from torch import Tensor, nn

from liftscape import nets
from liftscape.critical import plant_critical_point
from liftscape.embedding import approximate_lift, lift, split
from liftscape.functional import trainable_parameters
from liftscape.outcomes import LiftscapeError
from liftscape.risk import EmpiricalRisk
from liftscape.studies.strict_saddle_settings import Settings

__all__ = ["Case", "build_case", "planted_minimum"]

HIDDEN, OUTPUT = "0", "2"
_ATTEMPTS = 100


@final
@dataclass(frozen=True)
class Case:
    """A shallow minimum and what was made of it.

    Attributes:
        shallow: the risk at the minimum.
        deeper: the risk at the larger network.
        known_flat: what is known to be flat there, for the certificate.
        predicted: the predicted inertia or kind, as text; "" where no law says.
        predicted_negative: the predicted n₋ where the second-order form gives it, else None.
        units: the length of each parameter's unit, in which all that depends on ε to first order is of one size.
    """

    shallow: EmpiricalRisk
    deeper: EmpiricalRisk
    known_flat: Any = None
    predicted: str = ""
    predicted_negative: int | None = None
    units: Tensor | None = None


def planted_minimum(config: Settings, seed: int) -> tuple[EmpiricalRisk, Tensor]:
    """Return the first tanh network of a seed at which an isolated minimum can be planted, with inputs.

    Args:
        config: the settings.
        seed: of the draws.

    Returns:
        The risk at the minimum, and the inputs.

    Raises:
        LiftscapeError: if none of a hundred draws is well conditioned.
    """
    reason = LiftscapeError("no draw was made")
    for attempt in range(_ATTEMPTS):
        generator = torch.Generator().manual_seed(_ATTEMPTS * seed + attempt)
        model = nets.mlp(config.widths, "tanh", generator=generator)
        with torch.no_grad():
            for parameter in model.parameters():
                scale = 1.0 if parameter.ndim == 1 else 2.0 / parameter.shape[1] ** 0.5
                parameter.copy_(scale * torch.randn(parameter.shape, generator=generator, dtype=torch.float64))
        size = sum(parameter.numel() for parameter in model.parameters())
        samples = -(-config.samples * size // config.widths[-1])
        inputs = torch.randn(samples, config.widths[0], generator=generator, dtype=torch.float64)
        try:
            targets = plant_critical_point(model, inputs, generator=generator)
        except LiftscapeError as error:
            reason = error
            continue
        return EmpiricalRisk(model, "mse", (inputs, targets)), inputs
    raise reason


def build_case(config: Settings, name: str, seed: int) -> Case:
    """Return one case.

    Args:
        config: the settings.
        name: "interior", "boundary down", "boundary up", "inflection ε", "split α" or "tangency".
        seed: of the minimum.

    Returns:
        The shallow and the larger risk.

    Raises:
        LiftscapeError: if no minimum can be planted.
    """
    kind, _, value = name.partition(" ")
    if kind == "tangency":
        return _tangency(seed)
    shallow, inputs = planted_minimum(config, seed)
    generator = torch.Generator().manual_seed(seed)
    if kind == "interior":
        embedding = lift(shallow.model, inputs, OUTPUT, width=4, activation="elu", generator=generator)
        return Case(shallow, shallow.with_model(embedding.model), embedding.manifold)
    if kind == "boundary":
        embedding = lift(shallow.model, inputs, OUTPUT, width=4, activation="leaky_relu", generator=generator)
        kind = _onto_the_kink(shallow, embedding.model, embedding.sites[0].pieces[0], inputs, value == "down")
        return Case(shallow, shallow.with_model(embedding.model), None, kind)
    if kind == "split":
        embedding = split(shallow.model, None, HIDDEN, neuron=0, share=float(value))
        law = embedding.predict_inertia((0, 0, shallow.size), shallow)
        return Case(
            shallow, shallow.with_model(embedding.model), None, str(law), law.negative[0] if law.exact else None
        )
    embedding = approximate_lift(shallow.model, inputs, OUTPUT, epsilon=float(value), activation=nn.Tanh())
    deeper = shallow.with_model(embedding.model)
    units = _units(deeper, float(value))
    J = embedding.chart.jacobian(trainable_parameters(embedding.model)) * units
    return Case(shallow, deeper, None, "", _negative_on_the_fibre(shallow, deeper, J, units, inputs), units)


def _units(deeper: EmpiricalRisk, epsilon: float) -> Tensor:
    """Return ε for A and c of the inserted layer, 1/ε for its B, and 1 for all else.

    A = εA₀ and B = B₀/ε differ by 1/ε² in size, and their eigenvalues by 1/ε⁴: beyond rounding for small ε. Inertia is
    that of any congruent matrix (Sylvester), so it is counted where both are of size 1.
    """
    first, last = _block(deeper.model)
    lengths = {id(first.weight): epsilon, id(first.bias): epsilon, id(last.weight): 1 / epsilon}
    own = dict(deeper.model.named_parameters())
    return torch.cat([
        torch.full((own[name].numel(),), lengths.get(id(own[name]), 1.0), dtype=torch.float64)
        for name in deeper.parameters
    ])


def _onto_the_kink(shallow: EmpiricalRisk, model: nn.Module, pieces: Any, inputs: Tensor, down: bool) -> str:
    """Move an inserted neuron's bias until its nearest sample lies on its kink, keep outputs, predict the kind."""
    # Beyond the kink u is larger than on the affine piece, by |λ − λ_other||δt| and for that sample alone, so that R
    # falls to first order iff (Bᵀe)_j < 0 there. A neuron is taken where it does, or does not, if there is one.
    first, last = _block(model)
    with torch.no_grad():
        features = _features(shallow, inputs)
        t = first(features)
        error = shallow.model(inputs) - next(iter(shallow.batches))[1]
        nearest = t.abs().argmin(dim=0)
        back = (error @ last.weight)[nearest, torch.arange(len(nearest))]
        wanted = torch.nonzero((back < 0) == down).flatten().tolist()
        j = wanted[0] if wanted else 0
        sample = int(nearest[j])
        first.bias[j] -= t[sample, j]
        # So that rounding leaves the sample exactly there: the same sum, in the order in which the layer takes it.
        for _ in range(20):
            first.bias[j] -= first(features)[sample, j]
        last.bias += last.weight[:, j] * pieces[j].slope * t[sample, j]
    return "one-sided saddle" if float(back[j]) < 0 else "non-smooth stationary"


def _negative_on_the_fibre(
    shallow: EmpiricalRisk, deeper: EmpiricalRisk, J: Tensor, units: Tensor, inputs: Tensor
) -> int:
    """Return the n₋ that the third derivative gives on the directions that keep π: theory T7.

    In units of ε the outputs are z = βu + d + ε²δ + O(ε⁴), u = αh + γ, δ = −βu³/3, for σ = tanh. R is critical where
    δ = 0, so that the fibre feels terms of ε² alone: on (α_j, γ_j) the form of theory T7, −2E[(βᵀe)_j u_j h̃h̃ᵀ], and
    between β_kj and (α_j, γ_j) also E[(δ_k − e_k u_j²)h̃], since directions of the fibre turn both at once.
    """
    first, last = _block(deeper.model)
    with torch.no_grad():
        features = _features(shallow, inputs)
        error = shallow.model(inputs) - next(iter(shallow.batches))[1]
        u = first(features)
        moved = deeper.model(inputs) - shallow.model(inputs)
    back, tilde = error @ last.weight.detach(), torch.cat([features, torch.ones_like(features[:, :1])], dim=1)
    own = dict(deeper.model.named_parameters())
    starts = torch.tensor([0, *[own[name].numel() for name in deeper.parameters]]).cumsum(0)
    place = {id(own[name]): int(start) for name, start in zip(deeper.parameters, starts[:-1], strict=True)}
    form = torch.zeros(deeper.size, deeper.size, dtype=torch.float64)
    (width, d), outputs = first.weight.shape, len(last.weight)
    for j in range(width):
        weights = [place[id(first.weight)] + j * d + i for i in range(d)]
        inner = torch.tensor([*weights, place[id(first.bias)] + j])
        outer = torch.tensor([place[id(last.weight)] + k * width + j for k in range(outputs)])
        form[inner[:, None], inner] = -2 * (tilde * (back[:, j] * u[:, j])[:, None]).T @ tilde / len(tilde)
        mixed = (moved - error * u[:, j : j + 1].square()).T @ tilde / len(tilde)
        form[outer[:, None], inner] = mixed
        form[inner[:, None], outer] = mixed.T
    _, strengths, right = torch.linalg.svd(J)
    kernel = right[int((strengths > 1e-10 * strengths[0]).sum()) :].T
    values = torch.linalg.eigvalsh(kernel.T @ (units[:, None] * form * units) @ kernel)
    return int((values < -1e-10 * values.abs().max()).sum())


def _block(model: nn.Module) -> tuple[nn.Linear, nn.Linear]:
    """Return the two maps of the inserted layer."""
    maps = [module for module in model.get_submodule(OUTPUT).modules() if isinstance(module, nn.Linear)]
    return maps[0], maps[1]


def _features(shallow: EmpiricalRisk, inputs: Tensor) -> Tensor:
    """Return what reaches the output map."""
    return shallow.model.get_submodule(HIDDEN)(inputs).tanh()


@final
class _Tangent(nn.Module):
    """t + sin t, whose slope is 1 wherever cos t = 0 with sin t = 1 or −1: tangent to its chords there."""

    def forward(self, t: Tensor) -> Tensor:
        return t + torch.sin(t)


def _tangency(seed: int) -> Case:
    """Lift a linear regression on binary inputs through t + sin t, tangent to an affine map at every sample."""
    # With A = 2πI and c = π/2, every pre-activation is π/2 or 5π/2, where σ(t) = t + 1 and σ′(t) = 1.
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.cartesian_prod(*[torch.tensor([0.0, 1.0], dtype=torch.float64)] * 4)
    targets = torch.randn(len(inputs), 1, generator=generator, dtype=torch.float64)
    design = torch.cat([inputs, torch.ones(len(inputs), 1, dtype=torch.float64)], dim=1)
    best = torch.linalg.lstsq(design, targets).solution
    shallow, first, last = (nn.Linear(*shape, dtype=torch.float64) for shape in ((4, 1), (4, 4), (4, 1)))
    with torch.no_grad():
        shallow.weight.copy_(best[:4].T)
        shallow.bias.copy_(best[4])
        first.weight.copy_(2 * pi * torch.eye(4, dtype=torch.float64))
        first.bias.fill_(pi / 2)
        last.weight.copy_(best[:4].T / (2 * pi))
        last.bias.copy_(best[4] - last.weight.sum() * (pi / 2 + 1))
    deeper = nn.Sequential(first, _Tangent(), last)
    data = (inputs, targets)
    return Case(EmpiricalRisk(shallow, "mse", data), EmpiricalRisk(deeper, "mse", data))
