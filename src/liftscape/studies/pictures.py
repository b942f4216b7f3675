"""Pictures as data of studies, and the plain networks that are trained on them."""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from liftscape import data

__all__ = ["pictures", "plain_cnn", "plain_mlp"]


def pictures(name: str, samples: int, device: torch.device, split: str = "train") -> tuple[Tensor, Tensor]:
    """Return pictures with mean 0 and variance 1 over all pixels, and their classes.

    Args:
        name: "digits" or "fashion-mnist".
        samples: at most so many of the first ones.
        device: where they are wanted.
        split: "train", or "test" for those that no training sees; of the digits the last 360 are kept for it.

    Returns:
        (n, 1, side, side) in float32, and (n,).
    """
    if name == "digits":
        images, classes = data.digits()
        images = images.reshape(-1, 1, 8, 8).float()
        held = slice(-360, None) if split == "test" else slice(0, -360)
        images, classes = images[held][:samples], classes[held][:samples]
    else:
        images, classes = data.fashion_mnist("test" if split == "test" else "train", samples=min(samples, 10_000))
    everything = images.double()
    return ((images - float(everything.mean())) / float(everything.std())).to(device), classes.to(device)


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
