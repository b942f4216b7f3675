"""The arguments that several commands share."""

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

__all__ = ["Checkpoint", "Data", "Dtype", "Force", "Json", "LossName", "Model", "Recipe", "Weights"]

Model = Annotated[
    str,
    Parameter(
        show_default=False,
        help="file.py:function or package.module:function that returns a torch.nn.Module, called without arguments.",
    ),
]
Data = Annotated[
    str,
    Parameter(
        help="file.py:function that returns (inputs, targets) or an iterable of such batches; "
        "or a .npz or .safetensors file with inputs and targets.",
    ),
]
LossName = Annotated[
    str | None,
    Parameter(
        name="--loss",
        help="mse, cross_entropy or file.py:function of (output, target); if not given, cross_entropy where targets "
        "are integers, mse where they are real.",
    ),
]
Weights = Annotated[
    Path | None, Parameter(help="Weights of the model: .safetensors, or .pt with a state dict (no code is read).")
]
Recipe = Annotated[
    Path | None,
    Parameter(help="A folder or .safetensors file that lift or fold wrote from MODEL: work on the network it holds."),
]
Dtype = Annotated[
    Literal["float64", "float32"], Parameter(help="Model and data are converted to it; certificates need float64.")
]
Checkpoint = Annotated[
    Path | None, Parameter(help="Folder that records the work under way; the same command resumes there after a kill.")
]
Json = Annotated[bool, Parameter(name="--json", negative="", help="Print JSON to stdout instead of tables.")]
Force = Annotated[bool, Parameter(negative="", help="Overwrite another network in the place of the output.")]
