"""The result of every embedding: the larger network, its chart, and what its inertia must be."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from torch import nn

from liftscape.embedding._chart import Chart
from liftscape.embedding._inertia_prediction import InertiaLaw, InertiaPrediction
from liftscape.embedding._manifold import LiftedManifold
from liftscape.functional import trainable_parameters
from liftscape.outcomes import EmbeddingError, Outcome

__all__ = ["Embedding"]


@dataclass(frozen=True)
class Embedding(Outcome):
    """A network embedded in a deeper or wider one, with the chart π that leads back.

    Attributes:
        model: the larger network, new.
        base: a copy of the smaller network.
        sites: evidence site by site.
        chart: π with R′ = R∘π near the point (lifts), or to first order (splits, null neurons).
        law: how the inertia moves.
        lifted: the manifold T_S on which the larger network lies; None for width embeddings.
    """

    model: nn.Module
    base: nn.Module
    sites: tuple[Any, ...]
    chart: Chart = field(repr=False)
    law: InertiaLaw = field(repr=False)
    lifted: LiftedManifold | None = field(default=None, repr=False)

    @property
    def corank(self) -> int:
        """M − rank J at the point."""
        return self.chart.corank(trainable_parameters(self.model))

    @property
    def added_parameters(self) -> int:
        """ΔM = M′ − M."""
        return self.chart.added_parameters(trainable_parameters(self.model))

    @property
    def manifold(self) -> LiftedManifold:
        """The lifted manifold T_S.

        Raises:
            EmbeddingError: for an embedding that is not an exact lift.
        """
        if self.lifted is None:
            raise EmbeddingError(
                "only exact lifts lie on a lifted manifold; a width embedding has none, use its chart."
            )
        return self.lifted

    def predict_inertia(self, inertia: Any, risk: Any = None) -> InertiaPrediction:
        """Predict the inertia of the embedded critical point.

        Source: theory T4 (lifts) and 6 (splits), derived.

        Args:
            inertia: (n₋, n₀, n₊) of the smaller network at the critical point.
            risk: the smaller network's risk, by which the law of a split becomes exact.

        Returns:
            Bounds, tight where the law is exact.
        """
        return self.law.predict(inertia, risk)

    def to_dict(self) -> dict[str, Any]:
        """Return the evidence as plain values, without the networks themselves.

        Returns:
            A dict that :mod:`json` can write.
        """
        evidence = [site.to_dict() if isinstance(site, Outcome) else str(site) for site in self.sites]
        return {
            "model": type(self.model).__name__,
            "sites": evidence,
            "corank": self.corank,
            "added_parameters": self.added_parameters,
        }


Embed = Callable[[nn.Module], Embedding]
