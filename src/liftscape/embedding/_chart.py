"""Charts: the maps π from the parameters of an embedded network to those of the network it embeds.

Lifting, splitting and null neurons are one idea: near the embedded point the larger network's risk, to the order that
criticality needs, is R∘π; a fold walks the same chart backwards.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import final

import torch
from jaxtyping import Float
from torch import Tensor
from torch.func import jacrev

from liftscape.derivatives import flatten, unflatten

__all__ = ["Chart", "ComposedChart", "rank_of"]

Parameters = Mapping[str, Tensor]
# A rank too low widens the bounds on the inertia, a rank too high makes them false.
_RANK = 1e-10


class Chart(ABC):
    """π: parameters by name of the larger network → parameters by name of the smaller."""

    @abstractmethod
    def project(self, params: Parameters) -> dict[str, Tensor]:
        """Return π(θ′), differentiably.

        Args:
            params: θ′ by name.

        Returns:
            θ by name, in the order of the smaller network.
        """

    @abstractmethod
    def magnitude(self, params: Parameters) -> dict[str, Tensor]:
        """Return the sum of the moduli of the products that make each entry of π(θ′), by which it may err.

        Args:
            params: θ′ by name.

        Returns:
            Numbers of at least |π(θ′)|, by name of θ.
        """

    @final
    def jacobian(self, params: Parameters) -> Float[Tensor, "M M_embedded"]:
        """Return J = Dπ(θ′), dense.

        Args:
            params: θ′ by name.

        Returns:
            (M, M′), rows and columns in the order of the two networks' trainable parameters.
        """
        fixed = {name: tensor.detach() for name, tensor in params.items()}
        return jacrev(lambda vector: flatten(self.project(unflatten(vector, fixed))))(flatten(fixed))

    @final
    def corank(self, params: Parameters) -> int:
        """Return M − rank J, the number of directions of θ that no small move of θ′ reaches.

        Args:
            params: θ′ by name.

        Returns:
            The corank.
        """
        return self.closed_form_corank(params) if self.has_closed_form else self.numerical_corank(params)

    @final
    def numerical_corank(self, params: Parameters) -> int:
        """Return M − rank J by a dense singular value decomposition.

        Args:
            params: θ′ by name.

        Returns:
            The corank.
        """
        return len(J := self.jacobian(params)) - rank_of(J)

    @final
    def added_parameters(self, params: Parameters) -> int:
        """Return ΔM = M′ − M, which is negative where narrow layers factor a wide map.

        Args:
            params: θ′ by name.

        Returns:
            ΔM.
        """
        count = lambda tensors: sum(tensor.numel() for tensor in tensors.values())
        return count(params) - count(self.project(params))

    @property
    def sites(self) -> frozenset[str]:
        """Names of the maps of the smaller network that were replaced; none where that is not all that changed."""
        return frozenset()

    @property
    def maps(self) -> frozenset[str]:
        """Names of the maps that an embedding made."""
        return frozenset()

    @property
    def has_closed_form(self) -> bool:
        """Whether the corank is known without J."""
        return False

    def closed_form_corank(self, params: Parameters) -> int:
        """Return the corank from the factors alone.

        Args:
            params: θ′ by name.

        Returns:
            The corank.
        """
        return self.numerical_corank(params)


@final
@dataclass(frozen=True)
class ComposedChart(Chart):
    """π = inner ∘ outer, for an embedding of an embedding.

    Attributes:
        outer: the chart of the last embedding, applied first.
        inner: the chart of the one before.
    """

    outer: Chart
    inner: Chart

    def project(self, params: Parameters) -> dict[str, Tensor]:
        """Return inner(outer(θ′)).

        Args:
            params: θ′ by name.

        Returns:
            θ by name.
        """
        return self.inner.project(self.outer.project(params))

    def magnitude(self, params: Parameters) -> dict[str, Tensor]:
        """Return the moduli's sums of one chart after the other.

        Args:
            params: θ′ by name.

        Returns:
            Numbers by name of θ.
        """
        return self.inner.magnitude(self.outer.magnitude(params))

    @property
    def maps(self) -> frozenset[str]:
        """Names of the maps that either chart made."""
        return self.outer.maps | self.inner.maps

    @property
    def has_closed_form(self) -> bool:
        """Whether the outer chart is at a map that the inner one did not make, so that they act side by side."""
        apart = bool(self.outer.sites) and not self.outer.sites & self.inner.maps
        return apart and self.outer.has_closed_form and self.inner.has_closed_form

    def closed_form_corank(self, params: Parameters) -> int:
        """Return the sum of both coranks.

        Args:
            params: θ′ by name.

        Returns:
            The corank.
        """
        return self.outer.closed_form_corank(params) + self.inner.closed_form_corank(self.outer.project(params))


def rank_of(matrix: Tensor) -> int:
    """Return the rank, counting singular values that rounding may have made as zeros.

    Args:
        matrix: any.

    Returns:
        The rank.
    """
    return int(torch.linalg.matrix_rank(matrix, rtol=_RANK))
