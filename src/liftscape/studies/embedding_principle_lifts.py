"""The certificates of lifted critical points: one record for every point of every manifold."""

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from liftscape.activations import as_module
from liftscape.critical import Certificate, certify
from liftscape.embedding import Embedding, lift, measure_gaps
from liftscape.risk import EmpiricalRisk
from liftscape.studies.embedding_principle_config import LiftsConfig
from liftscape.studies.embedding_principle_records import LiftedPoint, ShallowPoint, Spectrum

__all__ = ["HIDDEN_MAP", "OUTPUT_MAP", "CriticalPoint", "certify_lifts", "spectrum_of"]

HIDDEN_MAP, OUTPUT_MAP = "0", "2"


@dataclass(frozen=True)
class CriticalPoint:
    """A shallow critical point: its record, and the risk at it.

    Attributes:
        record: what the report shows.
        risk: the empirical risk whose model is the network at the point.
        certificate: what the point is.
    """

    record: ShallowPoint
    risk: EmpiricalRisk
    certificate: Certificate


def certify_lifts(
    points: Sequence[CriticalPoint],
    inputs: Tensor,
    config: LiftsConfig,
    generator: torch.Generator,
    progress: Callable[[str], None],
) -> Iterator[tuple[LiftedPoint, Spectrum]]:
    """Lift every point at both maps in every configured way, and certify several samples of each manifold.

    Args:
        points: the shallow critical points, of tanh networks with one hidden layer.
        inputs: S.
        config: activations, numbers of layers, widths, samples.
        generator: draws the lifts.
        progress: told what is done before each manifold.

    Yields:
        The record and the spectrum of each lifted point.
    """
    ways = [(name, layers) for name in config.activations for layers in config.inserted_layers]
    ways.append((config.tail_activation, 1))
    for point in points:
        for activation, layers in ways:
            for at in (HIDDEN_MAP, OUTPUT_MAP):
                progress(f"{point.record.label}: {layers} × {activation} at {at}")
                width = _rank(point, at) + config.extra_width
                embedding = lift(
                    point.risk.model, inputs, at, width=[width] * layers, activation=activation, generator=generator
                )
                for sample in range(config.samples):
                    drawn = embedding if sample == 0 else _another(embedding, generator)
                    yield _certified(point, drawn, activation, sample)


def spectrum_of(label: str, risk: EmpiricalRisk, certificate: Certificate) -> Spectrum:
    """Return the spectrum behind a certificate.

    Args:
        label: what the point is.
        risk: the risk at the point.
        certificate: what the point is certified to be.

    Returns:
        All eigenvalues with what they certify.
    """
    assert certificate.inertia is not None
    dense = risk.hessian().to_dense()
    eigenvalues = torch.linalg.eigvalsh((dense + dense.T) / 2)
    return Spectrum(
        label,
        certificate.kind,
        tuple(eigenvalues.tolist()),
        certificate.inertia.tolerance,
        certificate.inertia.triple,
        certificate.gradient_norm,
    )


def _rank(point: CriticalPoint, at: str) -> int:
    """Return the rank of an affine map's weight, which is full at these points."""
    weight = point.risk.model.get_submodule(at).weight
    assert isinstance(weight, Tensor)
    return int(torch.linalg.matrix_rank(weight.detach(), rtol=1e-12))


def _another(embedding: Embedding, generator: torch.Generator) -> Embedding:
    """Return the embedding at another point of its manifold."""
    model = embedding.manifold.sample(generator)
    return dataclasses.replace(embedding, model=model, lifted=dataclasses.replace(embedding.manifold, model=model))


def _certified(
    point: CriticalPoint, embedding: Embedding, activation: str, sample: int
) -> tuple[LiftedPoint, Spectrum]:
    """Certify one lifted point."""
    site = embedding.sites[0]
    risk = point.risk.with_model(embedding.model)
    gaps = measure_gaps(embedding, point.risk)
    certificate = certify(risk, known_flat=embedding.manifold)
    assert certificate.inertia is not None
    prediction = embedding.predict_inertia(point.record.spectrum.inertia)
    measured = certificate.inertia
    record = LiftedPoint(
        point=point.record.label,
        network=point.record.network,
        at=site.name,
        activation=type(as_module(activation)).__name__,
        layers=len(site.widths),
        widths=site.widths,
        sample=sample,
        slopes=tuple(tuple(piece.slope for piece in layer) for layer in site.pieces),
        output_gap=gaps.output,
        gradient_norm=certificate.gradient_norm,
        hessian_gap=gaps.hessian,
        predicted=str(prediction),
        measured=measured.triple,
        margin=measured.margin,
        decided=measured.decided,
        as_predicted=prediction.holds(measured.triple),
        dimension=embedding.manifold.dimension,
        added_nullity=measured.zero - point.record.spectrum.inertia[1],
        corank=embedding.corank,
        piece_margin=embedding.manifold.margin(),
        kink_margin=certificate.kink_margin,
        kind=certificate.kind,
        tail=site.bound > 0,
    )
    return record, spectrum_of(f"+{record.layers} {record.activation}", risk, certificate)
