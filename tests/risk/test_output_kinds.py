"""Containers in which models return their outputs, each rebuilt as what it was."""

from collections import UserDict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

import liftscape as ls
from liftscape.functional import map_tensors

F64 = torch.float64
X = torch.randn(12, 5, generator=torch.Generator().manual_seed(0), dtype=F64)
Y = torch.randn(12, 3, generator=torch.Generator().manual_seed(1), dtype=F64)


class Named(NamedTuple):
    logits: Tensor
    aux: object


@dataclass
class Computed:
    logits: Tensor
    aux: object = field(init=False, default=None)
    calls: list[int] = field(init=False, default_factory=list)

    def __post_init__(self) -> None:
        self.aux = self.logits * 2


@dataclass(frozen=True, slots=True)
class Frozen:
    logits: Tensor
    aux: object


class Pair(tuple[Any, ...]):
    """Made from its entries one by one, with a mark of its own."""

    mark: str

    def __new__(cls, logits: Tensor, aux: object) -> "Pair":
        made = super().__new__(cls, (logits, aux))
        made.mark = "own"
        return made

    @property
    def logits(self) -> Tensor:
        return self[0]  # type: ignore[no-any-return]


class Rows(list[Any]):
    """Made from one tensor."""

    def __init__(self, logits: Tensor) -> None:
        super().__init__([logits])
        self.mark = "own"

    @property
    def logits(self) -> Tensor:
        return self[0]  # type: ignore[no-any-return]


class Returning(nn.Module):
    """A linear map that wraps its output."""

    def __init__(self, wrap: Callable[[Tensor], Any]) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.map, self.wrap = nn.Linear(5, 3, dtype=F64), wrap

    def forward(self, x: Tensor) -> Any:
        return self.wrap(self.map(x))


WRAPS: dict[str, Callable[[Tensor], Any]] = {
    "named tuple with None": lambda z: Named(z, None),
    "dataclass with computed fields": Computed,
    "frozen dataclass with slots": lambda z: Frozen(z, None),
    "tuple made from its entries": lambda z: Pair(z, None),
    "list made from a tensor": Rows,
    "user dict": lambda z: UserDict(logits=z),
}


@pytest.mark.parametrize("kind", WRAPS)
@pytest.mark.parametrize("own", [False, True], ids=["mse", "callable"])
def test_a_wrapped_output_is_the_same_risk(kind: str, own: bool) -> None:
    def loss(output: Any, target: Tensor) -> Tensor:
        assert type(output) is type(WRAPS[kind](X))
        return functional.mse_loss(output["logits"] if kind == "user dict" else output.logits, target)

    plain = ls.EmpiricalRisk(Returning(lambda z: z), "mse", (X, Y))
    risk = ls.EmpiricalRisk(Returning(WRAPS[kind]), loss if own else "mse", (X, Y))
    torch.testing.assert_close(risk.value(), plain.value(), rtol=1e-14, atol=0)
    torch.testing.assert_close(risk.hessian().to_dense(), plain.hessian().to_dense(), rtol=1e-13, atol=1e-15)
    torch.testing.assert_close(
        ls.curvature.gauss_newton(risk).to_dense(), plain.hessian().to_dense(), rtol=1e-12, atol=1e-14
    )


def test_entries_are_mapped_in_place_and_the_others_kept() -> None:
    value = Computed(X)
    value.calls.append(3)
    mapped = map_tensors(lambda tensor: tensor + 1, value)
    assert torch.equal(mapped.logits, X + 1)
    assert torch.equal(mapped.aux, 2 * X + 1), "a computed field is not computed again"
    assert mapped.calls == [3]
    assert torch.equal(value.logits, X)


def test_torchs_own_tuples_keep_their_names() -> None:
    mapped = map_tensors(lambda tensor: tensor + 1, torch.max(X, 1))
    assert torch.equal(mapped.values, X.max(1).values + 1)
    assert torch.equal(mapped.indices, X.max(1).indices + 1)


def test_tuples_and_lists_of_a_users_own_keep_their_attributes() -> None:
    for value in (Pair(X, 3), Rows(X)):
        mapped = map_tensors(lambda tensor: tensor + 1, value)
        assert type(mapped) is type(value)
        assert mapped.mark == "own"
        assert torch.equal(mapped[0], X + 1)
        assert torch.equal(value[0], X)
