"""An inserted layer on its way off the lifted manifold: some neurons leave their pieces, others make up for them."""

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, final

import torch
from jaxtyping import Float
from torch import Tensor, nn

from liftscape.activations import AffinePiece, as_module
from liftscape.embedding.parts import draw_frames, numerical_rank, place_on_pieces
from liftscape.escaping._affine_rows import extremes
from liftscape.outcomes import EmbeddingError
from liftscape.sites import Affine, Site, copy_with, pointwise_map, remade

__all__ = ["Insertion", "Stage", "plan_insertion", "width_needed"]


@final
@dataclass(frozen=True)
class Stage:
    """Where the leaving neurons stand: t = scale·(a·h) + bias, out-weights share·β.

    Attributes:
        scale: of their in-weights.
        biases: (p,).
        share: of their out-weights.
    """

    scale: float
    biases: Float[Tensor, " p"]
    share: float


@final
@dataclass(frozen=True)
class Insertion:
    """A layer u = σ(A h + c), z = B u + d with z = W h + b + Σ_j β_j φ_j(h), φ_j the deviations of p leaving neurons.

    The other alive neurons carry W − Σ_j λ_j β_j a_jᵀ, and d makes up for all constants, so that a neuron on its piece
    changes nothing.

    Attributes:
        map_: z = W h + b.
        sigma: the activation.
        pieces: of each neuron before any leaves.
        leaving: numbers of the p neurons that leave.
        carrying: numbers of the alive ones that stay.
        in_weights: a_j, (p, m).
        out_weights: β_j, (p, D).
        frame: (r, m), rows that span those of what is carried, or (r, D), likewise its columns.
        by_rows: which of both.
        scale: of each carrying neuron, (r,).
        bias: of each, (r,).
    """

    map_: Affine
    sigma: nn.Module
    pieces: tuple[AffinePiece, ...]
    leaving: tuple[int, ...]
    carrying: tuple[int, ...]
    in_weights: Float[Tensor, "p m"]
    out_weights: Float[Tensor, "p D"]
    frame: Float[Tensor, "r k"]
    by_rows: bool
    scale: Float[Tensor, " r"]
    bias: Float[Tensor, " r"]

    def parameters(self, stage: Stage) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return A (k, m), c (k,), B (D, k) and d (D,) at a stage, float64.

        Args:
            stage: of the leaving neurons.

        Returns:
            The parameters.
        """
        slope, intercept = (self._of_pieces(key) for key in ("slope", "intercept"))
        leaving, carrying = list(self.leaving), list(self.carrying)
        W, b = _weight(self.map_), _bias(self.map_)
        A = torch.zeros(len(self.pieces), W.shape[1], dtype=torch.float64)
        B = torch.zeros(len(W), len(self.pieces), dtype=torch.float64)
        c = torch.tensor([piece.center for piece in self.pieces], dtype=torch.float64)
        A[leaving], c[leaving] = stage.scale * self.in_weights, stage.biases
        B[:, leaving] = stage.share * self.out_weights.T
        carried = W - B[:, leaving] @ (slope[leaving, None] * A[leaving])
        inner, outer = _factors(carried, self.frame, self.by_rows)
        A[carrying] = (self.scale / slope[carrying])[:, None] * inner
        c[carrying], B[:, carrying] = self.bias, outer / self.scale
        return A, c, B, b - B @ (slope * c + intercept)

    def module(self, stage: Stage) -> nn.Sequential:
        """Return the layer as modules "A", "activation", "B".

        Args:
            stage: of the leaving neurons.

        Returns:
            What takes the place of the map.
        """
        A, c, B, d = self.parameters(stage)
        like = self.map_.weight
        first = remade(self.map_, A.reshape(len(A), *like.shape[1:]), c)
        activation = as_module(self.sigma).to(like.device, like.dtype)
        return nn.Sequential(OrderedDict(A=first, activation=activation, B=pointwise_map(self.map_, B, d)))

    def network(self, model: nn.Module, name: str, stage: Stage) -> nn.Module:
        """Return a copy of the model with the layer in front of the map.

        Args:
            model: the network that the map is of.
            name: of the map.
            stage: of the leaving neurons.

        Returns:
            The deeper network.
        """
        return copy_with(model, {name: self.module(stage)})

    def _of_pieces(self, key: str) -> Float[Tensor, " k"]:
        """Return λ or μ of all neurons."""
        return torch.tensor([getattr(piece, key) for piece in self.pieces], dtype=torch.float64)


def width_needed(site: Site, rank: int, leaving: int, alive: bool) -> int:
    """Return the neurons that an escape takes: those that leave, and as many as carry what is left of W.

    From an alive piece a neuron leaves with an affine part, which raises the rank of what the others carry by one.

    Source: derived (theory 7): one spare alive neuron, min(m_q, m_{q+1}) + 1, where W has full rank.

    Args:
        site: the map.
        rank: of W.
        leaving: how many leave.
        alive: whether their piece has a slope other than 0.

    Returns:
        The width.
    """
    return max(1, min(rank + leaving * alive, site.in_features, site.out_features)) + leaving


def plan_insertion(
    model: nn.Module,
    name: str,
    inputs: Any,
    sigma: nn.Module,
    pieces: Sequence[AffinePiece],
    leaving: Sequence[int],
    in_weights: Float[Tensor, "p m"],
    out_weights: Float[Tensor, "p D"],
    generator: torch.Generator,
    margin: float,
) -> Insertion:
    """Place the carrying neurons so that they stay on their pieces for all data, wherever the leaving ones are.

    Args:
        model: the network.
        name: of the map.
        inputs: the data.
        sigma: the activation.
        pieces: of each neuron.
        leaving: numbers of those that leave.
        in_weights: a_j.
        out_weights: β_j.
        generator: draws the frame.
        margin: distance to the ends as a share of the range of the pre-activations.

    Returns:
        The insertion.

    Raises:
        EmbeddingError: if too few neurons are left to carry the map.
    """
    map_: Any = model.get_submodule(name)
    W = _weight(map_)
    in_weights, out_weights = in_weights.cpu(), out_weights.cpu()
    carrying = tuple(j for j, piece in enumerate(pieces) if piece.alive and j not in leaving)
    slope = torch.tensor([pieces[j].slope for j in carrying], dtype=torch.float64)
    left = torch.tensor([pieces[j].slope for j in leaving], dtype=torch.float64)
    affine = (out_weights.T * left) @ in_weights
    bent = left != 0
    rows = torch.cat([_unit(W), _unit(in_weights[bent], dim=1)])
    columns = torch.cat([_unit(W).T, _unit(out_weights[bent], dim=1)])
    by_rows = numerical_rank(rows) <= len(carrying)
    spanned = rows if by_rows else columns
    if max(1, numerical_rank(spanned)) > len(carrying):
        raise EmbeddingError(
            f"an escape at '{name}' with {len(leaving)} neurons that leave needs {numerical_rank(spanned)} alive ones "
            f"beside them, one spare where W has full rank, but {len(carrying)} are there; widen the layer."
        )
    every = torch.ones(len(carrying), dtype=torch.bool)
    frame = draw_frames(spanned, [len(carrying)], [every], generator)[0][0].P
    # What is carried lies between W and W minus the whole affine part, and so do its values on each sample.
    ends = [_factors(carried, frame, by_rows)[0] / slope[:, None] for carried in (W, W - affine)]
    low, high = extremes(model, name, inputs, torch.cat(ends))
    low, high = low.view(2, -1).amin(dim=0), high.view(2, -1).amax(dim=0)
    scale, bias = place_on_pieces(low, high, [pieces[j] for j in carrying], margin)
    return Insertion(
        map_,
        sigma,
        tuple(pieces),
        tuple(leaving),
        carrying,
        in_weights,
        out_weights,
        frame,
        by_rows,
        scale,
        bias,
    )


def _factors(carried: Tensor, frame: Tensor, by_rows: bool) -> tuple[Tensor, Tensor]:
    """Factor a matrix through a frame that spans its rows, or its columns."""
    inverse = torch.linalg.pinv(frame)
    return (frame, carried @ inverse) if by_rows else (frame @ carried, inverse)


def _unit(matrix: Tensor, dim: int | None = None) -> Tensor:
    """Scale a matrix, or its rows, to length one, so that ranks are told whatever the scales."""
    length = matrix.norm() if dim is None else matrix.norm(dim=dim, keepdim=True)
    return matrix / length.clamp_min(torch.finfo(matrix.dtype).tiny)


def _weight(map_: Affine) -> Float[Tensor, "D m"]:
    """Return W as a matrix, on the CPU in float64."""
    return map_.weight.detach().to("cpu", torch.float64).flatten(1)


def _bias(map_: Affine) -> Float[Tensor, " D"]:
    """Return b, on the CPU in float64."""
    assert map_.bias is not None
    return map_.bias.detach().to("cpu", torch.float64)
