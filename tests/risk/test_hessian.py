"""Hessian products against torch's own functional Hessian and finite differences, layer kind by layer kind."""

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call

import liftscape as ls

F64 = torch.float64


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.attention, self.out = nn.MultiheadAttention(4, 2, batch_first=True), nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.attention(x, x, x, need_weights=False)[0]).mean(dim=1)


KINDS = {
    "linear": (nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)), (3,)),
    "convolution": (nn.Sequential(nn.Conv1d(2, 3, 2), nn.GELU(), nn.Flatten(), nn.Linear(9, 2)), (2, 4)),
    "layer norm": (nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4), nn.SiLU(), nn.Linear(4, 2)), (3,)),
    "batch norm": (nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Softplus(), nn.Linear(4, 2)), (3,)),
    "attention": (Attention(), (3, 4)),
}


def risk_of(kind: str, generator: torch.Generator) -> tuple[ls.EmpiricalRisk, Tensor, Tensor]:
    model, shape = KINDS[kind]
    model = model.to(F64).train()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator, dtype=F64) * 0.7)
    x = torch.randn(12, *shape, generator=generator, dtype=F64)
    y = torch.randn(12, 2, generator=generator, dtype=F64)
    return ls.EmpiricalRisk(model, "mse", (x, y)), x, y


@pytest.mark.parametrize("kind", KINDS)
def test_dense_hessian_is_torch_own(kind: str, generator: torch.Generator) -> None:
    risk, x, y = risk_of(kind, generator)
    names = list(risk.parameters)

    def value(*tensors: Tensor) -> Tensor:
        buffers = {name: buffer.clone() for name, buffer in risk.model.named_buffers()}
        with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
            output = functional_call(risk.model, dict(zip(names, tensors, strict=True)) | buffers, (x,))
        return nn.functional.mse_loss(output, y)

    blocks = torch.autograd.functional.hessian(value, tuple(risk.parameters.values()))
    sizes = [tensor.numel() for tensor in risk.parameters.values()]
    rows = [
        torch.cat([b.reshape(m, n) for b, n in zip(row, sizes, strict=True)], 1)
        for row, m in zip(blocks, sizes, strict=True)
    ]
    expected = torch.cat(rows)
    H = risk.hessian()
    torch.testing.assert_close(H.to_dense(), expected, rtol=1e-9, atol=1e-11)
    block = torch.randn(H.shape[0], 5, generator=generator, dtype=F64)
    torch.testing.assert_close(H @ block, expected @ block, rtol=1e-9, atol=1e-10)
    torch.testing.assert_close(H @ block[:, 0], expected @ block[:, 0], rtol=1e-9, atol=1e-10)
    scipy = torch.from_numpy(H.to_scipy() @ block[:, 0].numpy())
    torch.testing.assert_close(scipy, expected @ block[:, 0], rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("kind", KINDS)
def test_public_diagnostics_agree(kind: str, generator: torch.Generator) -> None:
    risk, _, _ = risk_of(kind, generator)
    assert ls.checks.check_gradient(risk)
    assert ls.checks.check_hessian(risk)
