"""Pictures as data of studies."""

import torch
from torch import Tensor

from liftscape import data

__all__ = ["pictures"]


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
