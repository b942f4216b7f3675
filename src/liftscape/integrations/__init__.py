"""Other libraries: ONNX files of a network, and monitors for the trainers of Lightning and of Transformers.

Each is imported when its name is first asked for; `pip install 'liftscape[onnx]'`, `[lightning]` and `[transformers]`
bring what they need.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from liftscape.integrations._lightning import LightningMonitor as LightningMonitor
    from liftscape.integrations._transformers import TrainerMonitor as TrainerMonitor
    from liftscape.integrations.onnx_files import OnnxExport as OnnxExport
    from liftscape.integrations.onnx_files import to_onnx as to_onnx

_MODULE_OF = {
    "LightningMonitor": "_lightning",
    "OnnxExport": "onnx_files",
    "TrainerMonitor": "_transformers",
    "to_onnx": "onnx_files",
}

__all__ = sorted(_MODULE_OF)  # pyright: ignore[reportUnsupportedDunderAll]


def __getattr__(name: str) -> Any:
    """Import the module that holds a public name when the name is first asked for."""
    if name in _MODULE_OF:
        return getattr(import_module(f"{__name__}.{_MODULE_OF[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    """List the public names, loaded or not."""
    return sorted(__all__)
