"""One adapter a peer, all with the methods of :class:`benchmarks.peers.base.Peer`."""

from importlib import import_module

from benchmarks.peers.base import NotOfferedError, Peer

__all__ = ["PEERS", "NotOfferedError", "Peer", "load"]

# Name in tables: module, and whether it is only another way to take products.
PEERS = {
    "liftscape": ("ours", False),
    "liftscape, rebuilt": ("ours_rebuilt", True),
    "PyHessian": ("pyhessian_", False),
    "curvlinops": ("curvlinops_", False),
    "hessian-eigenthings": ("eigenthings", False),
    "handwritten": ("handwritten", False),
    "handwritten, cached": ("handwritten_cached", True),
}


def load(name: str) -> type[Peer]:
    """Import the adapter of a peer."""
    return import_module(f"benchmarks.peers.{PEERS[name][0]}").Adapter
