"""The scenes around the lifts: a path on a manifold, an approximate lift, a width split."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from liftscape.critical import certify
from liftscape.curvature import inertia
from liftscape.embedding import approximate_lift, largest_output_gap, lift, split
from liftscape.functional import trainable_parameters
from liftscape.outcomes import LiftscapeError
from liftscape.risk import EmpiricalRisk
from liftscape.studies.embedding_principle_config import PathConfig, SmoothConfig, SplitConfig
from liftscape.studies.embedding_principle_curve_records import PathStudy, SmoothStudy, SplitStudy
from liftscape.studies.embedding_principle_lifts import HIDDEN_MAP, OUTPUT_MAP, CriticalPoint, spectrum_of

__all__ = ["lift_approximately", "split_and_lift", "walk_along_and_across"]

_EXTRA_WIDTH = 2


def walk_along_and_across(
    point: CriticalPoint, inputs: Tensor, config: PathConfig, generator: torch.Generator
) -> PathStudy:
    """Follow the loss along a path between two points of one manifold, and along the steepest line across it.

    Args:
        point: a shallow minimum.
        inputs: S.
        config: activation, number of points, length of the line.
        generator: draws the two points.

    Returns:
        Losses and distances; the line runs along the eigenvector of the largest eigenvalue.
    """
    embedding = lift(
        point.risk.model, inputs, OUTPUT_MAP, width=_EXTRA_WIDTH, activation=config.activation, generator=generator
    )
    lifted = point.risk.with_model(embedding.model)
    path = embedding.manifold.path(embedding.manifold.sample(generator))
    along = torch.linspace(0, 1, config.points, dtype=torch.float64).tolist()
    networks = [path(t) for t in along]
    start = lifted.flatten()
    dense = lifted.hessian().to_dense()
    steepest = torch.linalg.eigh((dense + dense.T) / 2)[1][:, -1]
    across = [config.radius * (2 * index / (config.points - 1) - 1) for index in range(config.points)]
    return PathStudy(
        point.record.label,
        type(embedding.model.get_submodule(f"{OUTPUT_MAP}.activation")).__name__,
        OUTPUT_MAP,
        point.record.value,
        tuple(along),
        tuple(_loss(point.risk, network) for network in networks),
        tuple(float((lifted.with_model(network).flatten() - start).norm()) for network in networks),
        tuple(across),
        tuple(float(lifted.value(lifted.unflatten(start + step * steepest))) for step in across),
    )


def lift_approximately(point: CriticalPoint, inputs: Tensor, config: SmoothConfig) -> SmoothStudy:
    """Insert a tanh layer approximately, for smaller and smaller input weights.

    Args:
        point: a shallow minimum.
        inputs: S.
        config: the sizes ε.

    Returns:
        Errors, gradient norms and negative curvature, with the fitted slopes.
    """
    errors, gradients, smallest, negative = [], [], [], []
    for epsilon in config.epsilons:
        embedding = approximate_lift(point.risk.model, inputs, OUTPUT_MAP, epsilon=epsilon, activation=nn.Tanh())
        risk = point.risk.with_model(embedding.model)
        errors.append(largest_output_gap(point.risk, risk))
        gradients.append(float(risk.gradient().norm()))
        dense = risk.hessian().to_dense()
        smallest.append(float(torch.linalg.eigvalsh((dense + dense.T) / 2)[0]))
        # The point is not critical, so rounding alone decides which eigenvalues are zero.
        negative.append(inertia(dense).negative)
    return SmoothStudy(
        point.record.label,
        OUTPUT_MAP,
        "Tanh",
        config.epsilons,
        tuple(errors),
        tuple(gradients),
        tuple(smallest),
        tuple(negative),
        _fitted_slope(config.epsilons, errors),
        _fitted_slope(config.epsilons, gradients),
        point.record.spectrum.eigenvalues[0],
    )


def split_and_lift(
    points: Sequence[CriticalPoint], inputs: Tensor, config: SplitConfig, generator: torch.Generator
) -> SplitStudy:
    """Split one neuron of a minimum so that it becomes a strict saddle, and lift that.

    Args:
        points: shallow minima, tried in this order.
        inputs: S.
        config: shares α, tried in this order.
        generator: draws the lift.

    Returns:
        The first split that is certified a strict saddle, with the spectra before, after, and lifted.

    Raises:
        LiftscapeError: if no split of any minimum is a strict saddle.
    """
    for point in points:
        neurons = point.risk.model.get_submodule(HIDDEN_MAP).out_features
        for neuron, share in ((n, s) for n in range(int(str(neurons))) for s in config.shares):
            wider = split(point.risk.model, None, HIDDEN_MAP, neuron=neuron, share=share)
            risk = point.risk.with_model(wider.model)
            certificate = certify(risk)
            if certificate.kind != "strict saddle":
                continue
            deeper = lift(wider.model, inputs, OUTPUT_MAP, activation="elu", generator=generator)
            lifted = point.risk.with_model(deeper.model)
            spectra = (
                spectrum_of(point.record.label, point.risk, point.certificate),
                spectrum_of(f"neuron {neuron} split", risk, certificate),
                spectrum_of("split and lifted", lifted, certify(lifted, known_flat=deeper.manifold)),
            )
            gap = largest_output_gap(point.risk, risk)
            return SplitStudy(point.record.label, HIDDEN_MAP, neuron, share, gap, spectra)
    raise LiftscapeError(
        f"none of the splits of {[point.record.label for point in points]} with shares {config.shares} is a strict "
        "saddle; give other shares."
    )


def _loss(risk: EmpiricalRisk, network: nn.Module) -> float:
    """Return the risk of a network of any structure on the same data."""
    return float(risk.with_model(network).value(trainable_parameters(network)))


def _fitted_slope(epsilons: Sequence[float], values: Sequence[float]) -> float:
    """Return the least-squares slope of log value against log ε."""
    x = torch.tensor([math.log(epsilon) for epsilon in epsilons], dtype=torch.float64)
    y = torch.tensor([math.log(value) for value in values], dtype=torch.float64)
    x = x - x.mean()
    return float((x * y).sum() / (x * x).sum())
