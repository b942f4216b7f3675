"""Other libraries: ONNX files of a network, and monitors for the trainers of Lightning and of Transformers.

Each is imported when its name is first asked for; `pip install 'liftscape[onnx]'`, `[lightning]` and `[transformers]`
bring what they need.
"""

from importlib import import_module
from typing import Any

_HOME = {
    "LightningMonitor": "_lightning",
    "OnnxExport": "onnx_files",
    "TrainerMonitor": "_transformers",
    "to_onnx": "onnx_files",
}

__all__ = sorted(_HOME)  # pyright: ignore[reportUnsupportedDunderAll]


def __getattr__(name: str) -> Any:
    """Import the module that holds a public name when the name is first asked for."""
    if name in _HOME:
        return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    """List the public names, loaded or not."""
    return sorted(__all__)
