"""Functions of torch whose own derivatives are not those of what they compute, and what a call may not touch."""

import copy
import threading
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import embedding
from torch.nn.utils import parametrizations
from torch.nn.utils import weight_norm as weight_norm_by_hook
from torch.utils.checkpoint import checkpoint

import liftscape as ls
from liftscape.checks import check_gradient, check_hessian

F64 = torch.float64
X = torch.randn(12, 5, generator=torch.Generator().manual_seed(0), dtype=F64)
Y = torch.randn(12, 3, generator=torch.Generator().manual_seed(1), dtype=F64)
WORDS = torch.randint(0, 4, (12, 6), generator=torch.Generator().manual_seed(2))


class Bag(nn.Module):
    """Words, their mean through a tanh, and a reader that may share their weights."""

    def __init__(self, tied: bool = False, **options: Any) -> None:
        super().__init__()
        self.words, self.last = nn.Embedding(10, 4, **options), nn.Linear(4, 10 if tied else 3)
        nn.init.normal_(self.words.weight)
        if tied:
            self.last.weight = self.words.weight

    def forward(self, words: Tensor) -> Tensor:
        return self.last(torch.tanh(self.words(words)).mean(1))[:, :3]


class Rows(Bag):
    """The same by functions."""

    def forward(self, words: Tensor) -> Tensor:
        rows = embedding(words, self.words.weight, 0) + torch.embedding(self.words.weight, words, 1)
        return self.last(torch.tanh(rows).mean(1))


def zeroed(bag: Bag) -> Bag:
    bag.words.weight.data[0] = 0
    return bag


def normed(wrap: Callable[[nn.Module], nn.Module]) -> nn.Module:
    return nn.Sequential(wrap(nn.Linear(5, 4)), nn.Tanh(), nn.Linear(4, 3))


def convolved() -> nn.Module:
    conv = parametrizations.weight_norm(nn.Conv1d(1, 2, 2))
    return nn.Sequential(nn.Unflatten(1, (1, 5)), conv, nn.Tanh(), nn.Flatten(), nn.Linear(8, 3))


MODELS: dict[str, tuple[Callable[[], nn.Module], Tensor]] = {
    "weight_norm": (lambda: normed(parametrizations.weight_norm), X),
    "weight_norm of a convolution": (convolved, X),
    "weight_norm, older": (lambda: normed(lambda layer: weight_norm_by_hook(layer)), X),
    "padding_idx": (lambda: Bag(padding_idx=0), WORDS),
    "padding_idx, tied": (lambda: Bag(tied=True, padding_idx=0), WORDS),
    "padding_idx, by functions": (Rows, WORDS),
    "scale_grad_by_freq": (lambda: Bag(scale_grad_by_freq=True), WORDS),
    "sparse": (lambda: Bag(sparse=True), WORDS),
    "max_norm": (lambda: Bag(max_norm=1.0), WORDS),
    "max_norm, a row of zeros": (lambda: zeroed(Bag(padding_idx=0, max_norm=1.0)), WORDS),
    "max_norm, other norms": (lambda: Bag(max_norm=1.0, norm_type=3.0), WORDS),
}


@pytest.mark.filterwarnings("ignore:.*weight_norm.*deprecated")
@pytest.mark.parametrize("name", MODELS)
def test_gradient_and_hessian_are_those_of_central_differences(name: str) -> None:
    torch.manual_seed(0)
    build, inputs = MODELS[name]
    model = build().double()
    given = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    risk = ls.EmpiricalRisk(model, "mse", (inputs, Y))
    assert check_gradient(risk)
    assert check_hessian(risk)
    H = risk.hessian().to_dense()
    assert float((H - H.T).norm()) < 1e-12 * float(H.norm())
    assert all(torch.equal(tensor, given[key]) for key, tensor in model.state_dict().items())


def test_the_gradient_through_bags_counts_their_largest_norm() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.EmbeddingBag(10, 4, max_norm=1.0, mode="sum"), nn.Tanh(), nn.Linear(4, 3)).double()
    assert check_gradient(ls.EmpiricalRisk(model, "mse", (WORDS, Y)))


class Recomputed(nn.Module):
    """A network of which a part keeps no activations."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(5, 6), nn.Linear(6, 3)
        self.middle = nn.Sequential(nn.Linear(6, 6), nn.Tanh(), nn.Linear(6, 6), nn.Tanh())
        self.how = how

    def forward(self, x: Tensor) -> Tensor:
        h = torch.tanh(self.first(x))
        kept = checkpoint(self.middle, h, use_reentrant=self.how == "older") if self.how else self.middle(h)
        return self.last(kept)


@pytest.mark.parametrize("how", ["older", "newer"])
def test_a_checkpointed_part_has_the_parameters_of_the_call(how: str) -> None:
    torch.manual_seed(0)
    model, plain = Recomputed(how).double(), Recomputed("").double()
    plain.load_state_dict(model.state_dict())
    risk, right = (ls.EmpiricalRisk(each, "mse", (X, Y)) for each in (model, plain))
    elsewhere = {name: tensor + 0.3 for name, tensor in risk.parameters.items()}
    torch.testing.assert_close(risk.gradient(elsewhere), right.gradient(elsewhere), rtol=1e-13, atol=1e-15)
    operator, v = risk.hessian(), torch.randn(risk.size, dtype=F64)
    expected = right.hessian() @ v
    for parameter in model.parameters():
        parameter.data.add_(1.0)
    torch.testing.assert_close(operator @ v, expected, rtol=1e-13, atol=1e-15)
    # Outside of our calls the user's own checkpoint is torch's.
    model(X.clone().requires_grad_()).sum().backward()


class Writer(nn.Module):
    """A network that begins by writing into its input."""

    def __init__(self, write: Callable[[Tensor], object]) -> None:
        super().__init__()
        self.last, self.write = nn.Linear(5, 3), write

    def forward(self, x: Tensor) -> Tensor:
        self.write(x)
        return self.last(x)


WRITERS: dict[str, Callable[[], nn.Module]] = {
    "module": lambda: nn.Sequential(nn.LeakyReLU(inplace=True), nn.Linear(5, 3)),
    "method": lambda: Writer(lambda x: x.clamp_(min=0)),
    "view": lambda: Writer(lambda x: x.view(-1).mul_(2)),
    "item": lambda: Writer(lambda x: x.__setitem__((slice(None), 0), 1.0)),
    "operator": lambda: Writer(lambda x: x.__iadd__(1.0)),
    "out": lambda: Writer(lambda x: torch.mul(x, 2.0, out=x)),
}
HARMLESS: dict[str, Callable[[], nn.Module]] = {
    "inactive dropout": lambda: nn.Sequential(nn.Dropout(0.3, inplace=True), nn.Linear(5, 3)).eval(),
    "dropout of nothing": lambda: Writer(lambda x: nn.functional.dropout(x, 0.0, True, True)),
    "shape": lambda: Writer(lambda x: x.unsqueeze_(1).squeeze_(1)),
    "no entry": lambda: Writer(lambda x: x.__setitem__(x > 1e9, 0.0)),
    "another tensor": lambda: Writer(lambda x: torch.empty_like(x).copy_(x).add_(1.0)),
}


@pytest.mark.parametrize("name", WRITERS)
def test_data_are_not_written_into(name: str) -> None:
    x = X.clone()
    with pytest.raises(ls.LiftscapeError, match=r"^the model writes into its inputs by .*begin with a copy\.$"):
        ls.EmpiricalRisk(WRITERS[name]().double(), "mse", (x, Y))
    with pytest.raises(ls.LiftscapeError, match="writes into its inputs"):
        ls.layer_linearity(WRITERS[name]().double(), x)
    assert torch.equal(x, X)


@pytest.mark.parametrize("name", HARMLESS)
def test_what_could_write_and_does_not_is_no_writer(name: str) -> None:
    torch.manual_seed(0)
    x = X.clone()
    assert check_hessian(ls.EmpiricalRisk(HARMLESS[name]().double(), "mse", (x, Y)))
    assert torch.equal(x, X)


class Masked(nn.Module):
    """A network that widens its mask."""

    def __init__(self) -> None:
        super().__init__()
        self.last = nn.Linear(5, 3, dtype=F64)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        mask |= x > 0
        return self.last(torch.where(mask, x, 0.0))


def test_a_mask_is_an_input_too() -> None:
    mask = torch.zeros(12, 5, dtype=torch.bool)
    with pytest.raises(ls.LiftscapeError, match="writes into its inputs by __ior__"):
        ls.EmpiricalRisk(Masked(), "mse", ((X, mask), Y))
    assert not mask.any()


def test_what_is_written_later_in_place_is_no_input() -> None:
    torch.manual_seed(0)
    risk = ls.EmpiricalRisk(nn.Sequential(nn.Linear(5, 3), nn.LeakyReLU(inplace=True)).double(), "mse", (X, Y))
    assert check_hessian(risk)


class Remembering(nn.Module):
    """A network that keeps what it computed."""

    def __init__(self) -> None:
        super().__init__()
        self.last = nn.Linear(5, 3)
        self.seen: Tensor | None = None
        self.features: dict[str, Tensor] = {}
        self.history: list[Tensor] = []
        self.inner: list[Tensor] = []
        self.nested = {"h": self.inner}

    def forward(self, x: Tensor) -> Tensor:
        self.seen = self.last(x)
        self.features["h"] = self.seen
        self.history.append(self.seen)
        self.inner.append(self.seen)
        self.new = self.seen
        return torch.tanh(self.seen)


def test_no_graph_that_a_call_leaves_in_attributes_stays() -> None:
    model = Remembering().double()
    features, history = model.features, model.history
    risk = ls.EmpiricalRisk(model, "mse", (X, Y))
    risk.gradient()
    assert check_hessian(risk)
    assert (model.features is features, model.history is history, model.nested["h"] is model.inner) == (True,) * 3
    left = [model.seen, *features.values(), *history, *model.inner, getattr(model, "new", None)]
    assert not any(isinstance(each, Tensor) and each.requires_grad for each in left)
    copy.deepcopy(model)
    risk.at(risk.parameters)


class Caching(nn.Module):
    """A network that keeps a constant beside what it is of, or behind a flag, and a vocabulary that holds itself."""

    def __init__(self, flag: bool) -> None:
        super().__init__()
        self.last, self.flag, self.size, self.ready = nn.Linear(5, 3), flag, 0, False
        self.words: dict[str, Any] = {}
        self.words["self"] = self.words

    def forward(self, x: Tensor) -> Tensor:
        if self.flag and not self.ready:
            self.scale, self.ready = torch.arange(x.shape[-1]).cos().to(x), True
        if not self.flag and self.size != x.shape[-1]:
            self.size, self.scale = x.shape[-1], torch.arange(x.shape[-1]).cos().to(x)
        return self.last(x * self.scale)


@pytest.mark.parametrize("flag", [False, True])
def test_constants_that_a_model_caches_are_its_own(flag: bool) -> None:
    model = Caching(flag).double()
    assert check_hessian(ls.EmpiricalRisk(model, "mse", (X, Y)))
    assert model(X).shape == (12, 3)
    assert torch.equal(model.scale, torch.arange(5).cos().double())


def test_other_threads_keep_their_checkpoints() -> None:
    torch.manual_seed(0)
    own = {name: getattr(torch.utils.checkpoint, name) for name in ("_checkpoint_without_reentrant_generator",)}
    risk, runs, started, ended = ls.EmpiricalRisk(Slow(), "mse", (X, Y)), [], threading.Event(), threading.Event()

    def part(x: Tensor) -> Tensor:
        runs.append(x)
        return x.sin()

    def train() -> None:
        started.wait()
        checkpoint(part, X.clone().requires_grad_(), use_reentrant=False).sum().backward()
        ended.set()

    other = threading.Thread(target=train)
    other.start()
    Slow.wait = lambda: (started.set(), ended.wait())
    try:
        risk.value()
    finally:
        Slow.wait = lambda: None
    other.join()
    assert len(runs) == 2
    assert all(getattr(torch.utils.checkpoint, name) is value for name, value in own.items())
    assert torch.backends.mha.get_fastpath_enabled()


class Slow(nn.Module):
    """A network in whose middle another thread may work."""

    wait: Callable[[], object] = lambda: None

    def __init__(self) -> None:
        super().__init__()
        self.last = nn.Linear(5, 3, dtype=F64)

    def forward(self, x: Tensor) -> Tensor:
        type(self).wait()
        return self.last(x)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
def test_what_was_compiled_is_called_as_it_was_written() -> None:
    torch.manual_seed(0)
    plain = nn.Sequential(nn.Linear(5, 4), nn.Tanh(), nn.Linear(4, 3)).double()
    whole, inside = torch.compile(plain), copy.deepcopy(plain)
    inside[0].compile()
    right = ls.EmpiricalRisk(plain, "mse", (X, Y)).hessian().to_dense()
    for model in (whole, inside):
        risk = ls.EmpiricalRisk(model, "mse", (X, Y))  # pyright: ignore[reportArgumentType]
        assert torch.equal(risk.hessian().to_dense(), right)


@torch.compile(backend="eager", fullgraph=True)
def compiled(x: Tensor) -> Tensor:
    """A function of its own."""
    return x.tanh() * x.sin()


class Calling(nn.Module):
    """A network that calls a compiled function."""

    def __init__(self) -> None:
        super().__init__()
        self.last = nn.Linear(5, 3, dtype=F64)

    def forward(self, x: Tensor) -> Tensor:
        return compiled(self.last(x))


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
def test_a_compiled_function_is_called_as_it_was_written() -> None:
    assert check_hessian(ls.EmpiricalRisk(Calling(), "mse", (X, Y)))


@pytest.mark.filterwarnings("ignore:.*spectral_norm.*deprecated")
@pytest.mark.parametrize("wrap", [parametrizations.spectral_norm, nn.utils.spectral_norm])
def test_a_spectral_norm_in_training_mode_is_no_function_of_its_weights(wrap: Callable[[nn.Module], nn.Module]) -> None:
    torch.manual_seed(0)
    model = normed(wrap).double()
    with pytest.raises(
        ls.LiftscapeError, match=r"^'0' is spectrally normalised in training mode.*call model\.eval\(\)"
    ):
        ls.EmpiricalRisk(model, "mse", (X, Y))
    assert check_hessian(ls.EmpiricalRisk(model.eval(), "mse", (X, Y)))
