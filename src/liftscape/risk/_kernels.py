"""The kernels of torch that can be differentiated twice, chosen inside and restored."""

from collections.abc import Generator
from contextlib import contextmanager, nullcontext

import torch
from torch import nn
from torch.compiler import set_stance
from torch.nn.attention import SDPBackend, sdpa_kernel

__all__ = ["twice_differentiable"]


@contextmanager
def twice_differentiable(model: nn.Module) -> Generator[None, None, None]:
    """Let attention and recurrent layers run on kernels that have a second derivative, while the context lasts.

    Args:
        model: the module that will be called.

    Yields:
        Nothing.
    """
    # The fused attention kernels stop at the first derivative, the encoder layer's fast path in eval mode has none.
    fast_path = torch.backends.mha.get_fastpath_enabled()
    cudnn = torch.backends.cudnn.enabled
    recurrent = any(isinstance(module, nn.RNNBase) for module in model.modules())
    compiled = any(
        "_orig_mod" in module._modules or module._compiled_call_impl is not None for module in model.modules()
    )
    torch.backends.mha.set_fastpath_enabled(False)
    if cudnn and recurrent:
        torch.backends.cudnn.enabled = False
    try:
        # What was compiled has a graph of its own, which can be differentiated once.
        with sdpa_kernel(SDPBackend.MATH), set_stance("force_eager") if compiled else nullcontext():
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast_path)
        if cudnn and recurrent:
            torch.backends.cudnn.enabled = True
