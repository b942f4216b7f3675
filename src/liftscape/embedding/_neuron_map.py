"""Index map and shares of a layer that becomes wider: which neuron each new one is a copy of, and how much of it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import torch
from jaxtyping import Float
from torch import Tensor

from liftscape.outcomes import EmbeddingError, Outcome

__all__ = ["NeuronMap", "check_factors"]

# Sums of a handful of factors that were meant to be 1 are so near it.
_ROUNDING = 1e-9


@final
@dataclass(frozen=True)
class NeuronMap(Outcome):
    """The index map I and the shares β of one layer: its neuron j is a copy of neuron I(j), which hands on β_j of it.

    Compatible where the shares of all copies of each neuron add up to 1: Σ_{j∈I⁻¹(s)} β_j = 1. A null neuron, I(j) =
    None, has share 0. The back-propagated error of neuron j is β_j times that of neuron I(j).

    Source: Zhang et al. 2022 (arXiv 2111.15527), general compatible embedding.

    Attributes:
        index: I(j) for each neuron of the wider layer; None for a null neuron.
        shares: β_j, any numbers.

    Example:
        >>> NeuronMap((0, 1, 1), (1.0, 0.7, 0.3)).null_like
        ()
    """

    index: tuple[int | None, ...]
    shares: tuple[float, ...]

    @classmethod
    def copies(cls, width: int, neuron: int, shares: Sequence[float]) -> "NeuronMap":
        """Return the map that shares one neuron out among copies of it, the further ones behind all others.

        Args:
            width: neurons of the layer.
            neuron: which is copied.
            shares: of the neuron in its place, and of each further copy.

        Returns:
            The map.
        """
        own = [1.0] * width
        own[neuron] = float(shares[0])
        further = list(map(float, shares[1:]))
        return cls((*range(width), *[neuron] * len(further)), (*own, *further))

    @property
    def null_like(self) -> tuple[int, ...]:
        """Neurons that hand on nothing: null neurons, and copies with share 0."""
        return tuple(j for j, share in enumerate(self.shares) if share == 0)

    def check(self, name: str, width: int) -> None:
        """Raise unless the map is compatible with a layer.

        Args:
            name: of the layer.
            width: its neurons.

        Raises:
            EmbeddingError: which equation fails, at which neuron, with which value.
        """
        if len(self.index) != len(self.shares):
            raise EmbeddingError(
                f"a map of '{name}' needs a share for each neuron, but {len(self.index)} indices and "
                f"{len(self.shares)} shares were given."
            )
        for j, (source, share) in enumerate(zip(self.index, self.shares, strict=True)):
            if source is not None and not 0 <= source < width:
                raise EmbeddingError(
                    f"neuron must be one of the {width} outputs of '{name}', 0 to {width - 1}, but {source} was given."
                )
            if not torch.isfinite(torch.tensor(share)):
                raise EmbeddingError(f"share must be a finite number, but {share} was given.")
            if source is None and share != 0:
                raise EmbeddingError(
                    f"β_j = 0 fails for neuron {j} of the wider '{name}', which is a null neuron: its share is {share}."
                )
        for source in range(width):
            own = [share for other, share in zip(self.index, self.shares, strict=True) if other == source]
            if abs(sum(own) - 1) > _ROUNDING * (1 + sum(map(abs, own))):
                raise EmbeddingError(
                    f"Σ_j β_j = 1 over the copies of a neuron fails for neuron {source} of '{name}': its {len(own)} "
                    f"copies have shares that add up to {sum(own):g}."
                )

    def rows(self, width: int) -> Float[Tensor, "width wider"]:
        """Return the matrix with β_j at (I(j), j), by which in-weights flow together: w_s = Σ_j β_j w_j.

        Args:
            width: neurons of the smaller layer.

        Returns:
            The matrix, float64.
        """
        return self._at_index(width, self.shares)

    def columns(self, width: int) -> Float[Tensor, "width wider"]:
        """Return the matrix with 1 at (I(j), j), by which out-weights flow together: a_s = Σ_j a_j.

        Args:
            width: neurons of the smaller layer.

        Returns:
            The matrix, float64.
        """
        return self._at_index(width, [1.0] * len(self.index))

    def _at_index(self, width: int, values: Sequence[float]) -> Tensor:
        """Return a matrix with values at (I(j), j)."""
        matrix = torch.zeros(width, len(self.index), dtype=torch.float64)
        for j, (source, value) in enumerate(zip(self.index, values, strict=True)):
            if source is not None:
                matrix[source, j] = value
        return matrix


def check_factors(
    factors: Float[Tensor, "rows wider"], at: str, own: NeuronMap, reader: str, reads: NeuronMap | None, rows: int
) -> None:
    """Raise unless factors α_ij, by which a reader's weights W_I(i)I(j) are multiplied, are compatible.

    Σ_{j∈I⁻¹(s)} α_ij = 1 for each neuron i of the reader that is a copy, and Σ_{i∈I⁻¹(k)} β_i α_ij = β_j for each
    neuron k of the smaller reader, β_i = 1 where the reader does not become wider.

    Source: Zhang et al. 2022 (arXiv 2111.15527), general compatible embedding.

    Args:
        factors: α.
        at: the layer that is read.
        own: its map.
        reader: name of the layer that reads it.
        reads: the reader's own map, None where it stays as wide as it is.
        rows: neurons of the reader before.

    Raises:
        EmbeddingError: which equation fails, for which neurons, with which value.
    """
    index = list(range(rows)) if reads is None else list(reads.index)
    betas = torch.ones(rows, dtype=torch.float64) if reads is None else torch.tensor(reads.shares, dtype=torch.float64)
    if factors.shape != (len(index), len(own.index)):
        raise EmbeddingError(
            f"factors of '{reader}' on '{at}' must have shape {(len(index), len(own.index))}, but "
            f"{tuple(factors.shape)} was given."
        )
    rounding = max(_ROUNDING, 10 * torch.finfo(factors.dtype).eps)
    alphas, width = factors.double().cpu(), max(source for source in own.index if source is not None) + 1
    sums = alphas @ own.columns(width).T
    size = 1 + alphas.abs().sum(dim=1)
    for i, source in enumerate(index):
        for s in range(width):
            if source is not None and abs(float(sums[i, s]) - 1) > rounding * float(size[i]):
                raise EmbeddingError(
                    f"Σ_j α_ij = 1 over the copies j of neuron {s} of '{at}' fails for neuron {i} of '{reader}': it is "
                    f"{float(sums[i, s]):g}."
                )
    for k in sorted({source for source in index if source is not None}):
        copies = torch.tensor([source == k for source in index])
        found = (betas[copies, None] * alphas[copies]).sum(dim=0)
        for j, share in enumerate(own.shares):
            if own.index[j] is not None and abs(float(found[j]) - share) > rounding * (1 + float(found.abs().sum())):
                raise EmbeddingError(
                    f"Σ_i β_i α_ij = β_j over the copies i of neuron {k} of '{reader}' fails for neuron {j} of '{at}': "
                    f"it is {float(found[j]):g}, and β_j = {share:g}."
                )
