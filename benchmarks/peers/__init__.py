"""One adapter a peer, all with the methods of :class:`benchmarks.peers.base.Peer`."""

from importlib import import_module

from benchmarks.peers.base import NotOfferedError, Peer

__all__ = ["PEERS", "NotOfferedError", "Peer", "load"]

# Name in tables: module, and the kinds of task that it does otherwise than another one; () for all.
PEERS = {
    "liftscape": ("ours", ()),
    "liftscape, rebuilt": ("ours_rebuilt", ("hvp",)),
    "liftscape, unverified": ("ours_unverified", ("top", "bottom")),
    "PyHessian": ("pyhessian_", ()),
    "curvlinops": ("curvlinops_", ()),
    "hessian-eigenthings": ("eigenthings", ()),
    "handwritten": ("handwritten", ()),
    "handwritten, cached": ("handwritten_cached", ("hvp",)),
}


def load(name: str) -> type[Peer]:
    """Import the adapter of a peer."""
    return import_module(f"benchmarks.peers.{PEERS[name][0]}").Adapter
