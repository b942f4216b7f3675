"""Reference networks, drawn from a generator of one's own."""

from liftscape.nets._branching import ResidualNet, SharedMapNet, residual_net, shared_map_net
from liftscape.nets._mlp import batch_norm_mlp, linear_autoencoder, mlp
from liftscape.nets._resnet import ResNet, resnet18

__all__ = [
    "ResNet",
    "ResidualNet",
    "SharedMapNet",
    "batch_norm_mlp",
    "linear_autoencoder",
    "mlp",
    "residual_net",
    "resnet18",
    "shared_map_net",
]
