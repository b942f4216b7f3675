"""A residual network for small images."""

import torch
from torch import Tensor, nn

from liftscape._random import as_generator
from liftscape.nets._drawn_layers import linear

__all__ = ["BasicBlock", "ResNet", "resnet18"]

# Blocks that begin a stage halve the image.
_STAGES = (1, 2, 4, 8)
_BLOCKS = 2


class BasicBlock(nn.Module):
    """x ↦ relu(shortcut(x) + bn₂(conv₂(relu(bn₁(conv₁(x)))))), as built by :func:`resnet18`."""

    def __init__(self, first: nn.Conv2d, second: nn.Conv2d, shortcut: nn.Module) -> None:
        super().__init__()
        self.conv1 = first
        self.bn1 = nn.BatchNorm2d(first.out_channels, dtype=first.weight.dtype)
        self.conv2 = second
        self.bn2 = nn.BatchNorm2d(second.out_channels, dtype=second.weight.dtype)
        self.shortcut = shortcut

    def forward(self, x: Tensor) -> Tensor:
        """Return the features (n, channels, height, width) of features."""
        h = torch.relu(self.bn1(self.conv1(x)))
        return torch.relu(self.bn2(self.conv2(h)) + self.shortcut(x))


class ResNet(nn.Module):
    """Convolution, four stages of residual blocks, mean over the image, linear map, as built by :func:`resnet18`."""

    def __init__(self, stem: nn.Sequential, stages: nn.Sequential, out: nn.Linear) -> None:
        super().__init__()
        self.stem = stem
        self.stages = stages
        self.out = out

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits (n, classes) of images (n, channels, height, width)."""
        return self.out(self.stages(self.stem(x)).mean(dim=(2, 3)))


def resnet18(
    classes: int = 10,
    channels: int = 3,
    width: int = 64,
    generator: torch.Generator | int | None = None,
    dtype: torch.dtype = torch.float32,
) -> ResNet:
    """Return the residual network of 18 layers for images of 32 × 32, 11.2 million parameters at full width.

    Stages have width, 2, 4 and 8 times width channels, two blocks each; the first convolution is 3 × 3 with stride 1
    and there is no pooling behind it, as for CIFAR. Weights are drawn from N(0, 2 / fan_in), those of the last map
    from N(0, 1 / fan_in); BatchNorm has gains 1 and shifts 0.

    Source: He et al. 2016 (arXiv 1512.03385), sections 3.3 and 4.2.

    Args:
        classes: the number of outputs.
        channels: of the images.
        width: channels of the first stage.
        generator: source of the weights; seed 0 when None.
        dtype: dtype of the parameters.

    Returns:
        The network, in training mode.

    Example:
        >>> sum(parameter.numel() for parameter in resnet18().parameters())
        11173962
        >>> resnet18(width=4).eval()(torch.zeros(2, 3, 8, 8)).shape
        torch.Size([2, 10])
    """
    generator = as_generator(generator)
    stem = _convolution(channels, width, 3, 1, generator, dtype)
    blocks: list[nn.Module] = []
    fan_in = width
    for stage, factor in enumerate(_STAGES):
        fan_out = width * factor
        for index in range(_BLOCKS):
            stride = 2 if stage and not index else 1
            first = _convolution(fan_in, fan_out, 3, stride, generator, dtype)
            second = _convolution(fan_out, fan_out, 3, 1, generator, dtype)
            shortcut: nn.Module = nn.Identity()
            if stride != 1 or fan_in != fan_out:
                projection = _convolution(fan_in, fan_out, 1, stride, generator, dtype)
                shortcut = nn.Sequential(projection, nn.BatchNorm2d(fan_out, dtype=dtype))
            blocks.append(BasicBlock(first, second, shortcut))
            fan_in = fan_out
    return ResNet(
        nn.Sequential(stem, nn.BatchNorm2d(width, dtype=dtype), nn.ReLU()),
        nn.Sequential(*blocks),
        linear(fan_in, classes, generator, dtype),
    )


def _convolution(
    fan_in: int, fan_out: int, kernel: int, stride: int, generator: torch.Generator, dtype: torch.dtype
) -> nn.Conv2d:
    """Return a convolution without bias, drawn from N(0, 2 / fan_in)."""
    layer = nn.Conv2d(fan_in, fan_out, kernel, stride, kernel // 2, bias=False, device="meta", dtype=dtype)
    layer = layer.to_empty(device="cpu")
    with torch.no_grad():
        draw = torch.randn(layer.weight.shape, generator=generator, dtype=torch.float64)
        layer.weight.copy_(draw * (2.0 / (fan_in * kernel**2)) ** 0.5)
    return layer
