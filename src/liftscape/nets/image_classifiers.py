"""ReLU networks on square images, as torch draws them, in float32: plain ones, and deep ones with BatchNorm."""

from collections import OrderedDict
from collections.abc import Sequence
from itertools import pairwise

from torch import Tensor, nn

__all__ = ["deep_network", "plain_cnn", "plain_mlp"]


def plain_mlp(side: int, widths: Sequence[int], norm: bool = False, classes: int = 10) -> nn.Sequential:
    """Return a ReLU network on flattened pictures as torch draws it, in float32.

    Args:
        side: of the pictures.
        widths: of the hidden layers.
        norm: whether BatchNorm, on the batch in hand, stands before every activation.
        classes: outputs.

    Returns:
        The network.
    """
    layers: list[nn.Module] = [nn.Flatten()]
    for fan_in, fan_out in pairwise((side * side, *widths)):
        layers.append(nn.Linear(fan_in, fan_out))
        layers += [nn.BatchNorm1d(fan_out, track_running_stats=False), nn.ReLU()] if norm else [nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(widths[-1], classes))


def plain_cnn(
    side: int, channels: Sequence[int], norm: bool = False, classes: int = 10, halved: int = 2
) -> nn.Sequential:
    """Return a ReLU network of 3 × 3 convolutions without skips, whose last features are read by one Linear.

    Args:
        side: of the pictures.
        channels: of the convolutions.
        norm: whether BatchNorm, on the batch in hand, stands before every activation.
        classes: outputs.
        halved: so many of the first convolutions have stride 2.

    Returns:
        The network.
    """
    layers: list[nn.Module] = []
    for place, (fan_in, fan_out) in enumerate(pairwise((1, *channels))):
        stride = 2 if place < halved else 1
        side = -(-side // stride)
        layers.append(nn.Conv2d(fan_in, fan_out, 3, stride, 1))
        layers += [nn.BatchNorm2d(fan_out, track_running_stats=False), nn.ReLU()] if norm else [nn.ReLU()]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(channels[-1] * side * side, classes))


class _Block(nn.Module):
    """h ↦ σ(h + norm(conv(σ(norm(conv(h)))))) with as many channels."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first, self.first_norm = nn.Conv2d(channels, channels, 3, padding=1), nn.BatchNorm2d(channels)
        self.inner = nn.ReLU()
        self.second, self.second_norm = nn.Conv2d(channels, channels, 3, padding=1), nn.BatchNorm2d(channels)
        self.outer = nn.ReLU()

    def forward(self, h: Tensor) -> Tensor:
        """Return what the block makes of its features."""
        inner = self.inner(self.first_norm(self.first(h)))
        return self.outer(h + self.second_norm(self.second(inner)))


def deep_network(kind: str, depth: int, channels: int, classes: int = 10) -> nn.Sequential:
    """Return a ReLU network of 3 × 3 convolutions with BatchNorm, of which the first two have stride 2.

    Args:
        kind: "plain", or "residual" with two convolutions a block.
        depth: convolutions.
        channels: of each.
        classes: outputs.

    Returns:
        The network, in float32, as torch draws it.
    """
    layers: OrderedDict[str, nn.Module] = OrderedDict()

    def convolution(name: str, fan_in: int, stride: int) -> None:
        layers[name] = nn.Conv2d(fan_in, channels, 3, stride, 1)
        layers[f"norm_{name}"], layers[f"act_{name}"] = nn.BatchNorm2d(channels), nn.ReLU()

    convolution("stem", 1, 2)
    convolution("stem2", channels, 2)
    for place in range(2, depth) if kind == "plain" else range(0, depth - 2, 2):
        if kind == "plain":
            convolution(f"conv{place}", channels, 1)
        else:
            layers[f"block{place // 2}"] = _Block(channels)
    layers["pool"], layers["flat"] = nn.AdaptiveAvgPool2d(2), nn.Flatten()
    layers["head"] = nn.Linear(4 * channels, classes)
    return nn.Sequential(layers)
