"""Piece occupancy: which affine piece holds all samples of each neuron, in one streaming pass."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, final

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from liftscape.activations import PieceTable, kind_of, occupied_piece, piece_table
from liftscape.forward import Neurons, Observation, stream
from liftscape.outcomes import ActivationError

__all__ = [
    "Moments",
    "Occupancy",
    "PieceMoments",
    "activation_modules",
    "has_pieces",
    "occupancy_between",
    "piece_occupancy",
]

# Functions that are more often arithmetic than activations.
_ARITHMETIC = {"abs", "absolute", "clamp", "clip", "clamp_min", "clamp_max", "sin", "cos", "identity"}


@dataclass(frozen=True)
class Occupancy:
    """The pieces that hold all pre-activations of one layer.

    Attributes:
        name: the activation module.
        piece: row of the table for each neuron, −1 where no piece holds all samples.
        slope: λ of that piece, NaN where there is none.
        intercept: μ of that piece, NaN where there is none.
        margin: distance to the nearest end of that piece, NaN where there is none.
        correlation: |ρ| of pre- and post-activation, NaN for a neuron that is constant on the data.
    """

    name: str
    piece: Int[Tensor, " width"]
    slope: Float[Tensor, " width"]
    intercept: Float[Tensor, " width"]
    margin: Float[Tensor, " width"]
    correlation: Float[Tensor, " width"]

    @property
    def share(self) -> float:
        """The share of neurons that one piece holds."""
        return float((self.piece >= 0).double().mean())

    @property
    def exactly_linear(self) -> bool:
        """Whether one piece holds each neuron."""
        return bool((self.piece >= 0).all())


def activation_modules(model: nn.Module) -> dict[str, nn.Module]:
    """Return the activations of a model that are modules, by name.

    Args:
        model: any module.

    Returns:
        Modules whose affine pieces are known, Identity left out.
    """
    found: dict[str, nn.Module] = {}
    for name, module in model.named_modules():
        if isinstance(module, nn.Identity) or next(module.children(), None) is not None:
            continue
        try:
            piece_table(module, 0)
        except ActivationError:
            continue
        found[name] = module
    return found


def piece_occupancy(
    model: nn.Module, inputs: Any, names: Sequence[str] | None = None, dtype: torch.dtype = torch.float64
) -> tuple[Occupancy, ...]:
    """Return which affine piece holds each neuron of each activation on all of S.

    Source: Bai et al. 2022 (arXiv 2205.13283), layer linearization; theory 4.

    Args:
        model: any module; it is left as it was.
        inputs: a tensor, (inputs, targets), or a re-iterable of batches, read once.
        names: activation modules; when None all of them, and all activations that are called as functions, each call
            for itself. A channel of a convolution is one neuron, at all places.
        dtype: the dtype in whose rounding affine tails must be affine.

    Returns:
        One entry a layer, in the order of the names.

    Raises:
        SiteError: if a named activation is never called.

    Example:
        >>> net = nn.Sequential(nn.Linear(2, 3), nn.ReLU())
        >>> _ = net[0].bias.data.fill_(10.0)
        >>> piece_occupancy(net, torch.zeros(4, 2))[0].exactly_linear
        True
    """
    (moments,) = stream(model, inputs, [PieceMoments.of(model, names)])
    return moments.occupancies(dtype)


@final
@dataclass(frozen=True)
class Moments:
    """Sums and ends of pre- and post-activations, from which occupancy is read for any dtype.

    Attributes:
        rows: by the activation's name, in the order of the model.
        calls: the activation with its further arguments, by the same name.
    """

    rows: Mapping[str, Float[Tensor, "8 width"]]
    calls: Mapping[str, tuple[Any, tuple[Any, ...], Mapping[str, Any]]]

    def occupancies(self, dtype: torch.dtype = torch.float64) -> tuple[Occupancy, ...]:
        """Return which affine piece holds each neuron.

        Args:
            dtype: the dtype in whose rounding affine tails must be affine.

        Returns:
            One entry a layer.
        """
        return tuple(_occupancy(name, self._table(name, dtype), rows) for name, rows in self.rows.items())

    def _table(self, name: str, dtype: torch.dtype) -> PieceTable:
        """Return the pieces of an activation."""
        activation, args, kwargs = self.calls[name]
        return piece_table(activation, self.rows[name].shape[1], *args, include_tails=True, dtype=dtype, **kwargs)


_State = tuple[dict[str, Tensor], dict[str, tuple[Any, tuple[Any, ...], Mapping[str, Any]]]]


@final
@dataclass(frozen=True)
class PieceMoments:
    """The observer that accumulates what tells which pieces are occupied.

    Attributes:
        modules: names of activation modules.
        functions: whether activations that are called as functions are observed as well.
    """

    modules: tuple[str, ...]
    functions: bool

    @staticmethod
    def of(model: nn.Module, names: Sequence[str] | None = None) -> "PieceMoments":
        """Return the observer of named activation modules.

        Args:
            model: any module.
            names: as for :func:`piece_occupancy`.

        Returns:
            The observer.
        """
        return PieceMoments(tuple(activation_modules(model) if names is None else names), names is None)

    @property
    def place(self) -> Neurons:
        """What reaches the activations."""
        return Neurons(self.modules, has_pieces if self.functions else None)

    def init(self) -> _State:
        """Return no moments."""
        return {}, {}

    def update(self, state: _State, seen: Observation) -> _State:
        """Add the rows of one call."""
        moments, calls = state
        name, t = seen.name, seen.tensor
        apply = seen.function.forward if isinstance(seen.function, nn.Module) else seen.function
        rows = _moments(t.double(), apply(t.clone(), *seen.arguments, **seen.keywords).double())
        moments[name] = _merged(moments[name], rows) if name in moments else rows
        calls[name] = seen.function, seen.arguments, seen.keywords
        return state

    def result(self, state: _State) -> Moments:
        """Return the moments; later calls of one module stand behind its first."""
        moments, calls = state
        rank = {name: at for at, name in enumerate(self.modules)}
        order = sorted(moments, key=lambda name: rank.get(name.partition(" ")[0], len(rank)))
        return Moments({name: moments[name] for name in order}, calls)


def has_pieces(function: Any) -> bool:
    """Tell whether a function of torch is an activation whose pieces are known.

    Args:
        function: of torch, or a Tensor method.

    Returns:
        Whether it is; not where it is more often arithmetic, as with abs and clamp.
    """
    if getattr(function, "__name__", "").strip("_") in _ARITHMETIC:
        return False
    try:
        return kind_of(function).name not in _ARITHMETIC
    except ActivationError:
        return False


def _moments(pre: Float[Tensor, "rows width"], post: Float[Tensor, "rows width"]) -> Float[Tensor, "8 width"]:
    """Return count, sums, sums of products, and the ends of the pre-activations."""
    sums = [pre.new_full(pre.shape[1:], len(pre)), pre.sum(dim=0), post.sum(dim=0)]
    sums += [(first * second).sum(dim=0) for first, second in ((pre, pre), (post, post), (pre, post))]
    return torch.stack([*sums, pre.amin(dim=0), pre.amax(dim=0)]).cpu()


def _merged(old: Float[Tensor, "8 width"], new: Float[Tensor, "8 width"]) -> Float[Tensor, "8 width"]:
    """Return the moments of two batches together."""
    ends = torch.minimum(old[6], new[6])[None], torch.maximum(old[7], new[7])[None]
    return torch.cat([old[:6] + new[:6], *ends])


def occupancy_between(
    name: str, activation: nn.Module, low: Float[Tensor, " width"], high: Float[Tensor, " width"]
) -> Occupancy:
    """Return which exact piece of each neuron holds an interval of pre-activations.

    Args:
        name: of the activation.
        activation: the module.
        low: lower ends.
        high: upper ends.

    Returns:
        The entry, without correlations.
    """
    table = piece_table(activation, len(low))
    piece = occupied_piece(table, low, high)
    return _entry(name, table, piece, low, high, torch.full_like(low, torch.nan))


def _occupancy(name: str, table: PieceTable, rows: Float[Tensor, "8 width"]) -> Occupancy:
    """Read the occupied pieces and the correlation off the moments."""
    count, low, high = rows[0], rows[6], rows[7]
    piece = occupied_piece(table, low, high)
    pre, post, pre2, post2, cross = rows[1:6] / count
    variance = (pre2 - pre**2) * (post2 - post**2)
    covariance = cross - pre * post
    floor = torch.finfo(torch.float64).eps * (pre2 * post2)
    correlation = torch.where(variance > floor, covariance.abs() / variance.clamp_min(1e-300).sqrt(), torch.nan)
    return _entry(name, table, piece, low, high, correlation)


def _entry(name: str, table: PieceTable, piece: Tensor, low: Tensor, high: Tensor, correlation: Tensor) -> Occupancy:
    """Read slope, intercept and margin of the occupied pieces."""
    if not len(table.slope):
        nothing = torch.full_like(low, torch.nan)
        return Occupancy(name, piece, nothing, nothing, nothing, correlation)
    place, unknown = piece.clamp_min(0)[None], piece < 0
    pick = lambda entries: entries.gather(0, place)[0].masked_fill(unknown, torch.nan)
    distance = torch.minimum(low - pick(table.lower), pick(table.upper) - high)
    return Occupancy(name, piece, pick(table.slope), pick(table.intercept), distance, correlation)
