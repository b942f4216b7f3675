from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

import liftscape as ls

X = torch.randn(7, 3, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
MAKERS: dict[str, Callable[[torch.Generator], nn.Module]] = {
    "mlp": lambda g: ls.nets.mlp((3, 4, 2), "elu", g),
    "batch norm": lambda g: ls.nets.batch_norm_mlp((3, 4, 2), "relu", g),
    "residual": lambda g: ls.nets.residual_net(3, 4, 2, "tanh", g),
    "shared": lambda g: ls.nets.shared_map_net(3, 4, 2, "tanh", generator=g),
    "autoencoder": lambda g: ls.nets.linear_autoencoder(3, 2, g),
}


@pytest.mark.parametrize("name", MAKERS)
def test_same_seed_gives_the_same_bytes_and_leaves_the_global_state_alone(name: str) -> None:
    state = torch.get_rng_state()
    first, second = (MAKERS[name](torch.Generator().manual_seed(3)) for _ in range(2))
    other = MAKERS[name](torch.Generator().manual_seed(4))
    assert torch.equal(torch.get_rng_state(), state)
    flat = [torch.nn.utils.parameters_to_vector(net.parameters()) for net in (first, second, other)]
    assert torch.equal(flat[0], flat[1])
    assert not torch.equal(flat[0], flat[2])
    assert all(parameter.requires_grad for parameter in first.parameters())


def formula(name: str, net: nn.Module) -> Tensor:
    """The outputs from the parameters by hand."""
    p = dict(net.named_parameters())

    def affine(key: str, h: Tensor) -> Tensor:
        return h @ p[f"{key}.weight"].T + p[f"{key}.bias"]

    if name == "mlp":
        h = affine("0", X)
        return affine("2", torch.where(h > 0, h, h.exp() - 1))
    if name == "batch norm":
        h = affine("0", X)
        h = (h - h.mean(0)) / (h.var(0, unbiased=False) + 1e-5).sqrt()
        return affine("3", h.clamp(min=0))
    if name == "residual":
        h = affine("first", X)
        return affine("out", h + affine("block.1", h.tanh()).tanh())
    if name == "shared":
        return affine("out", affine("shared", affine("shared", affine("first", X).tanh()).tanh()).tanh())
    return X @ p["0.weight"].T @ p["1.weight"].T


@pytest.mark.parametrize("name", MAKERS)
def test_outputs_follow_the_formula(name: str) -> None:
    net = MAKERS[name](torch.Generator().manual_seed(3))
    torch.testing.assert_close(net(X), formula(name, net), rtol=1e-13, atol=1e-13)


def test_scale_sets_the_deviation_of_the_weights() -> None:
    net = ls.nets.mlp((400, 300, 1), generator=torch.Generator().manual_seed(0), scale=0.3, dtype=torch.float32)
    weight = dict(net.named_parameters())["0.weight"]
    assert weight.dtype == torch.float32
    assert float(weight.detach().std()) * 400**0.5 == pytest.approx(0.3, rel=0.01)


def test_misuse_is_named() -> None:
    with pytest.raises(ls.LiftscapeError, match=r"widths must be two or more positive integers.*\(3,\)"):
        ls.nets.mlp((3,))
    with pytest.raises(ls.LiftscapeError, match="'tanx' was given"):
        ls.nets.mlp((3, 2, 1), "tanx")
