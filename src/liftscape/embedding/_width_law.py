"""How width embeddings, and embeddings of embeddings, move the inertia."""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product
from typing import Any

from torch import nn

from liftscape.curvature import inertia as inertia_of
from liftscape.embedding._fibre import copies_block
from liftscape.embedding._inertia_prediction import InertiaLaw, InertiaPrediction, as_triple

__all__ = ["ComposedLaw", "CopiesLaw", "NullLaw"]


@dataclass(frozen=True)
class NullLaw:
    """n₋ and n₊ never fall: n± ≤ n±′ and n₀ ≤ n₀′, with K added eigenvalues of any sign.

    Source: Zhang et al. 2022 (arXiv 2111.15527).

    Attributes:
        added_parameters: K.
    """

    added_parameters: int

    def predict(self, inertia: Any, risk: Any = None) -> InertiaPrediction:
        """Return the bounds.

        Args:
            inertia: (n₋, n₀, n₊) of the smaller network.
            risk: not needed by this law.

        Returns:
            The bounds.
        """
        negative, zero, positive = as_triple(inertia)
        K = self.added_parameters
        return InertiaPrediction((negative, negative + K), (zero, zero + K), (positive, positive + K))


@dataclass(frozen=True)
class CopiesLaw:
    """inertia(H′) = inertia(H) + Σ_s inertia of the fibre's curvature of each copied neuron s of one layer.

    Three copies with shares 1, 1, −1 of all neurons of a single hidden layer whose error block H₂ has rank r give
    (n₋ + r, n₀ + 2P − 2r, n₊ + r), P the parameters of the layer with its out-weights.

    Source: derived (theory 6), exact at critical points of any depth.

    Attributes:
        at: the Linear whose neurons were copied.
        shares: β of the copies of each neuron that has several.
        added_parameters: K, parameters of the added neurons with their out-weights.
        zeros: added neurons whose original has out-weights; along a change of its share nothing changes.
        inputs: samples with which the forward pass is recorded, where it cannot be traced symbolically.
    """

    at: str
    shares: Mapping[int, tuple[float, ...]]
    added_parameters: int
    zeros: int
    inputs: Any = None

    def predict(self, inertia: Any, risk: Any = None) -> InertiaPrediction:
        """Return the prediction: exact with a risk, else the bounds that hold for every embedding.

        Args:
            inertia: (n₋, n₀, n₊) of the smaller network.
            risk: the smaller network's risk at the critical point.

        Returns:
            The bounds, tight where the risk is given.
        """
        if risk is None:
            (n, zero, p), free = as_triple(inertia), self.added_parameters - self.zeros
            return InertiaPrediction((n, n + free), (zero + self.zeros, zero + self.added_parameters), (p, p + free))
        counts, gradient_norm = as_triple(inertia), float(risk.gradient().norm())
        for neuron, shares in self.shares.items():
            added = inertia_of(copies_block(risk, self.at, neuron, shares, self.inputs), gradient_norm=gradient_norm)
            more = (added.negative, added.zero, added.positive)
            counts = tuple(a + b for a, b in zip(counts, more, strict=True))
        return InertiaPrediction(*((count, count) for count in counts))


@dataclass(frozen=True)
class ComposedLaw:
    """The law of an embedding of an embedding.

    Attributes:
        outer: the law of the last step.
        inner: the law of the steps before.
        middle: the network between them.
    """

    outer: InertiaLaw
    inner: InertiaLaw
    middle: nn.Module

    def predict(self, inertia: Any, risk: Any = None) -> InertiaPrediction:
        """Return the hull of what the last step predicts over all that the steps before allow.

        Args:
            inertia: (n₋, n₀, n₊) of the smallest network.
            risk: its risk, by which the laws of splits become exact.

        Returns:
            The bounds.
        """
        between = self.inner.predict(inertia, risk)
        middle = None if risk is None else risk.with_model(self.middle)
        total = between.negative[0] + between.zero[1] + between.positive[0]
        corners = [
            (negative, total - negative - positive, positive)
            for negative, positive in product(set(between.negative), set(between.positive))
            if between.zero[0] <= total - negative - positive <= between.zero[1]
        ]
        found = [self.outer.predict(corner, middle) for corner in corners]
        hull = lambda ranges: (min(low for low, _ in ranges), max(high for _, high in ranges))
        return InertiaPrediction(
            hull([prediction.negative for prediction in found]),
            hull([prediction.zero for prediction in found]),
            hull([prediction.positive for prediction in found]),
        )
