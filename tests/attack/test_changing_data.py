"""Data that a source makes anew at each reading are refused, and the same samples in any order are not."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import DataLoader, Dataset

import liftscape as ls
from liftscape.outcomes import DataError
from liftscape.samples import as_batches

N = 24
G = torch.Generator().manual_seed(0)
X = torch.randn(N, 4, 6, generator=G, dtype=torch.float64)
Y = torch.randn(N, 2, generator=G, dtype=torch.float64)
TOKENS = torch.randint(0, 50, (N, 9), generator=G)

Change = Callable[[Tensor], Tensor]
CHANGES: dict[str, Change] = {
    "noise": lambda x: x + 0.1 * torch.randn_like(x),
    "noise of 1e-12": lambda x: x * (1 + 1e-12 * torch.randn_like(x)),
    "flip": lambda x: x.flip(-1) if torch.rand(()) < 0.5 else x,
    "permutation": lambda x: x[..., torch.randperm(x.shape[-1])],
    "permuted rows": lambda x: x[torch.randperm(len(x))],
    "roll": lambda x: x.roll(int(torch.randint(1, 6, ())), -1),
    "sign": lambda x: x if torch.rand(()) < 0.5 else -x,
    "two entries swap": lambda x: x[:, [1, 0, *range(2, 6)]] if torch.rand(()) < 0.5 else x,
    "one entry erased": lambda x: x.index_fill(1, torch.randint(0, 6, (1,)), 0.0),
    "rotation": lambda x: x.roll(1, 0) if torch.rand(()) < 0.5 else x,
    "brightness": lambda x: x * torch.rand(()),
}


class Samples(Dataset[Any]):
    """Samples that a function changes each time they are asked for."""

    def __init__(self, sample: Callable[[int], Any]) -> None:
        self.sample = sample

    def __len__(self) -> int:
        return N

    def __getitem__(self, index: int) -> Any:
        return self.sample(index)


NESTINGS: dict[str, Callable[[int, Change], Any]] = {
    "tensor": lambda i, f: (f(X[i]), Y[i]),
    "tuple": lambda i, f: ((X[i, 0], f(X[i])), Y[i]),
    "dict": lambda i, f: ({"a": TOKENS[i], "b": {"c": f(X[i])}}, Y[i]),
    "list": lambda i, f: ([f(X[i]), TOKENS[i]], Y[i]),
    "float32": lambda i, f: (f(X[i]).float(), Y[i]),
    "complex": lambda i, f: (torch.complex(X[i], f(X[i])), Y[i]),
    "targets": lambda i, f: (X[i], f(X[i])),
}


QUICK = {"dict", "targets"}
MANY = [pytest.param(name, marks=() if name in QUICK else pytest.mark.long) for name in NESTINGS]


@pytest.mark.parametrize("shuffle", [False, True])
@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("nesting", MANY)
def test_augmentation_is_refused(nesting: str, change: str, shuffle: bool) -> None:
    if (nesting, change) == ("float32", "noise of 1e-12"):
        return
    torch.manual_seed(0)
    batches = as_batches(
        DataLoader(Samples(lambda i: NESTINGS[nesting](i, CHANGES[change])), batch_size=7, shuffle=shuffle)
    )
    kind = "targets" if nesting == "targets" else "inputs"
    with pytest.raises(DataError, match=f"gave other {kind} than when first read") as raised:
        list(batches)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("batch_size", [1, 5, 24])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("nesting", MANY)
def test_shuffled_samples_are_the_same_data(nesting: str, dtype: torch.dtype, batch_size: int) -> None:
    sample = lambda i: NESTINGS[nesting](i, lambda x: x if nesting == "complex" else x.to(dtype))
    batches = as_batches(DataLoader(Samples(sample), batch_size=batch_size, shuffle=True))
    for _ in range(4):
        assert len(list(batches)) == -(-N // batch_size)


def swapped(tokens: Tensor) -> Tensor:
    """Keeps the sum of the tokens and that of their squares."""
    return tokens[torch.randperm(len(tokens))]


def replaced(tokens: Tensor) -> Tensor:
    """Keeps the sum of the tokens."""
    changed = tokens.clone()
    changed[torch.randint(0, 4, ())] += 1
    changed[torch.randint(4, 9, ())] -= 1
    return changed


@pytest.mark.parametrize("dtype", [torch.int64, torch.int32, torch.int16, torch.uint8])
@pytest.mark.parametrize("change", [swapped, replaced])
def test_changed_tokens_are_refused(change: Change, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    for inputs_of in (lambda i: change(TOKENS[i]).to(dtype), lambda i: {"ids": change(TOKENS[i]).to(dtype)}):
        batches = as_batches(DataLoader(Samples(lambda i, of=inputs_of: (of(i), Y[i])), batch_size=7, shuffle=True))
        with pytest.raises(DataError, match="gave other inputs"):
            list(batches)


def test_targets_of_other_samples_are_refused() -> None:
    """Inputs and targets are each the same set, but not as pairs."""
    pairs = iter(torch.randperm(N, generator=torch.Generator().manual_seed(s)) for s in range(9))

    class Mixed:
        def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
            order = next(pairs)
            return iter([(X[:9], Y[order[:9]]), (X[9:], Y[order[9:]])])

    with pytest.raises(DataError, match="gave other inputs"):
        list(as_batches(Mixed()))


class After:
    """Gives one sample another entry from a reading on."""

    def __init__(self, reading: int, batches: list[tuple[Tensor, Tensor]]) -> None:
        self.left, self.batches = reading, batches

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        self.left -= 1
        for x, y in self.batches:
            changed = x.clone()
            if self.left < 0:
                changed[0, 0, 0] = torch.nextafter(changed[0, 0, 0], torch.tensor(9.0, dtype=x.dtype))
            yield changed, y


@pytest.mark.parametrize("reading", [1, 2, 5, 9])
def test_a_last_digit_that_changes_late_is_noticed(reading: int) -> None:
    batches = as_batches(After(reading, [(X[:10], Y[:10]), (X[10:], Y[10:])]))
    for _ in range(reading - 1):
        list(batches)
    with pytest.raises(DataError, match="gave other inputs"):
        list(batches)


@pytest.mark.filterwarnings("ignore:Sparse")
@pytest.mark.parametrize("layout", [torch.sparse_coo, torch.sparse_csr, torch.sparse_csc])
def test_sparse_inputs(layout: torch.layout) -> None:
    dense = torch.where(X[:, 0] > 0.4, X[:, 0], 0.0)

    class Sparse:
        def __init__(self, change: Change) -> None:
            self.change = change

        def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
            order = torch.randperm(N)
            for part in order.split(10):
                yield self.change(dense[part]).to_sparse(layout=layout), Y[part]

    same = as_batches(Sparse(lambda x: x))
    assert all(len(list(same)) == 3 for _ in range(3))
    for change in (CHANGES["flip"], CHANGES["brightness"], lambda x: x[:, torch.randperm(6)]):
        with pytest.raises(DataError, match="gave other inputs"):
            [list(batches) for batches in [as_batches(Sparse(change))] for _ in range(9)]


class Lazy(Mapping[str, Tensor]):
    """Makes its entries when they are read."""

    def __getitem__(self, key: str) -> Tensor:
        return CHANGES["noise"](X[:, 0])

    def __iter__(self) -> Iterator[str]:
        return iter(["input"])

    def __len__(self) -> int:
        return 1


class Pair(list[Tensor]):
    """Makes its inputs when they are read."""

    def __iter__(self) -> Iterator[Tensor]:
        return iter([CHANGES["noise"](X[:, 0]), Y])


@pytest.mark.parametrize(
    "data", [(Lazy(), Y), [(Lazy(), Y)], [Pair([X, Y]), Pair([X, Y])]], ids=["pair", "list", "kind"]
)
def test_what_a_list_makes_when_it_is_read_is_compared(data: Any) -> None:
    with pytest.raises(DataError, match="gave other inputs"):
        list(as_batches(data))


class Counting:
    def __init__(self) -> None:
        self.seen = 0

    def __call__(self, *_: Any, **__: Any) -> Any:
        self.seen += 1
        raise AssertionError("hashed")


def test_data_at_hand_are_not_hashed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("liftscape.samples._batches.read_batch", Counting())
    for data in ((X, Y), [(X, Y)] * 2, ((X, Y), (X, Y)), [[{"a": X, "b": None}, Y]]):
        list(as_batches(data))


SEQUENCES = [torch.arange(1, 2 + int(n)) % 11 for n in torch.randint(1, 9, (N,), generator=G)]


def padded(samples: list[Any], fill: int) -> tuple[dict[str, Tensor], Tensor]:
    tokens = pad_sequence([x for x, _ in samples], batch_first=True, padding_value=fill)
    places = torch.arange(tokens.shape[1]).expand_as(tokens)
    inputs = {"ids": tokens, "mask": (tokens != fill).long(), "places": places}
    return inputs, pad_sequence([y for _, y in samples], batch_first=True, padding_value=-100)


@pytest.mark.parametrize("fill", [0, 99])
@pytest.mark.parametrize("batch_size", [2, 3, 8])
def test_padding_to_the_longest_of_a_shuffled_batch_is_no_other_data(batch_size: int, fill: int) -> None:
    torch.manual_seed(0)
    pairs = Samples(lambda i: (SEQUENCES[i], SEQUENCES[i] + 1))
    batches = as_batches(DataLoader(pairs, batch_size, shuffle=True, collate_fn=lambda part: padded(part, fill)))
    for _ in range(15):
        list(batches)


def test_noise_beside_padding_is_refused_in_any_order_with_the_same_shapes() -> None:
    torch.manual_seed(0)
    noisy = lambda x: x + torch.randint(0, 3, x.shape)
    pairs = Samples(lambda i: (noisy(SEQUENCES[i]), SEQUENCES[i]))
    batches = as_batches(DataLoader(pairs, 4, collate_fn=lambda part: padded(part, 0)))
    with pytest.raises(DataError, match="gave other inputs"):
        list(batches)


@pytest.mark.parametrize("use", ["value", "gradient", "hessian", "certify", "eigenpairs"])
def test_every_way_to_read_refuses(use: str) -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Flatten(), nn.Linear(24, 4), nn.Tanh(), nn.Linear(4, 2)).double()
    loader = DataLoader(Samples(lambda i: (CHANGES["noise"](X[i]), Y[i])), batch_size=8)
    ways: dict[str, Callable[[ls.EmpiricalRisk], object]] = {
        "value": lambda risk: risk.value(),
        "gradient": lambda risk: risk.gradient(),
        "hessian": lambda risk: risk.hessian() @ torch.ones(risk.size),
        "certify": ls.certify,
        "eigenpairs": lambda risk: ls.curvature.eigenpairs(risk.hessian(), 1),
    }
    with pytest.raises(DataError, match="gave other inputs"):
        ways[use](ls.EmpiricalRisk(net, "mse", loader))
