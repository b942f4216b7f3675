"""liftscape without the sweep that looks for missed eigenvalues, which no peer has."""

from benchmarks.peers import ours

__all__ = ["Adapter"]


class Adapter(ours.Adapter):
    """Eigenvalues as soon as they have converged, which says nothing of others that belong among them."""

    chance = 1.0
