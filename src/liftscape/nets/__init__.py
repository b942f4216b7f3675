"""Reference networks, drawn from a generator of one's own."""

from liftscape.nets._mlp import batch_norm_mlp, linear_autoencoder, mlp
from liftscape.nets._modules import ResidualNet, SharedMapNet, residual_net, shared_map_net

__all__ = [
    "ResidualNet",
    "SharedMapNet",
    "batch_norm_mlp",
    "linear_autoencoder",
    "mlp",
    "residual_net",
    "shared_map_net",
]
