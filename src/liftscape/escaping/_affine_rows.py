"""What an affine map reads and what the risk makes of its outputs, as rows: h_i and g_i = ∂R/∂z_i, batch by batch."""

from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, final

import torch
from jaxtyping import Float
from torch import Tensor, nn

from liftscape.linearity import rows_read, rows_written
from liftscape.outcomes import SiteError
from liftscape.risk import EmpiricalRisk
from liftscape.sites import AFFINE, Affine, hearing_pairs, run_batches

__all__ = [
    "Move",
    "Rows",
    "collect_rows",
    "extremes",
    "line_derivatives",
    "stream_gradients",
    "value_along",
]

# Name of the map, h_i, z_i and g_i of one batch.
Receive = Callable[[str, Float[Tensor, "rows m"], Float[Tensor, "rows D"], Float[Tensor, "rows D"]], None]
# From rows h_i to what is added to z_i.
Move = Callable[[Float[Tensor, "rows m"]], Float[Tensor, "rows D"]]


@final
class Rows:
    """The rows of one map, or as many of them, drawn uniformly, as a budget holds.

    Attributes:
        h: (kept, m), float64.
        g: (kept, D), float64.
        total: how many rows there are.
    """

    def __init__(self, limit: int, generator: torch.Generator) -> None:
        self.h = self.g = torch.empty(0, 0)
        self.total = 0
        self._limit, self._generator, self._keys = limit, generator, torch.empty(0)

    def add(self, h: Tensor, g: Tensor) -> None:
        """Take in some rows; of all so far those with the smallest random keys are kept."""
        keys = torch.rand(len(h), generator=self._generator, dtype=torch.float64).to(h.device)
        self.h, self.g = (torch.cat([old, new]) if self.total else new for old, new in ((self.h, h), (self.g, g)))
        self._keys = torch.cat([self._keys, keys]) if self.total else keys
        self.total += len(h)
        if len(self.h) > self._limit:
            kept = self._keys.topk(self._limit, largest=False).indices.sort().values
            self.h, self.g, self._keys = self.h[kept], self.g[kept], self._keys[kept]


def _shaped(map_: Affine, rows: Tensor, z: Tensor) -> Tensor:
    """Return rows in the shape and dtype of what the map wrote."""
    if isinstance(map_, nn.Linear):
        return rows.reshape(z.shape).to(z.dtype)
    turned = z.movedim(-1 - len(map_.kernel_size), -1)
    return rows.reshape(turned.shape).movedim(-1, -1 - len(map_.kernel_size)).to(z.dtype)


@contextmanager
def _changed(model: nn.Module, hooks: Mapping[str, Callable[[Affine, Any, Tensor], Tensor]]) -> Generator[None]:
    """Let hooks change the outputs of named maps while the context lasts."""
    with ExitStack() as stack:
        for name, hook in hooks.items():
            stack.callback(model.get_submodule(name).register_forward_hook(hook).remove)
        yield


def stream_gradients(
    risk: EmpiricalRisk, names: Sequence[str], receive: Receive, moves: Mapping[str, Move] | None = None
) -> None:
    """Hand h_i, z_i and g_i = ∂R/∂z_i of each named map to a receiver, call by call, in one pass over the data.

    Args:
        risk: the empirical risk; its model is left as it was.
        names: Linear maps and convolutions.
        receive: called once for each call of a map.
        moves: what is added to z_i of a map, by name; g_i is then taken there.

    Raises:
        SiteError: if a map is never called.
    """
    heard: list[tuple[str, Tensor, Tensor, Tensor]] = []
    seen: set[str] = set()

    def hook(name: str) -> Callable[[Affine, Any, Tensor], Tensor]:
        def listen(map_: Affine, args: Any, z: Tensor) -> Tensor:
            # What the map has read may be overwritten in place before the gradient is there.
            h = rows_read(map_, args[0]).detach().clone()
            probe = torch.zeros_like(z, requires_grad=True)
            heard.append((name, h, rows_written(map_, z), probe))
            moved = z if moves is None or name not in moves else z + _shaped(map_, moves[name](h), z)
            return moved + probe

        return listen

    with torch.enable_grad(), _changed(risk.model, {name: hook(name) for name in names}):
        for term in risk.terms(risk.parameters):
            probes = [entry[3] for entry in heard]
            # A batch on which the forward pass takes another way calls none of them.
            gradients = torch.autograd.grad(term, probes, allow_unused=True) if probes else ()
            seen.update(entry[0] for entry in heard)
            for (name, h, z, probe), g in zip(heard, gradients, strict=True):
                map_ = risk.model.get_submodule(name)
                receive(name, h, z, rows_written(map_, torch.zeros_like(probe) if g is None else g))  # pyright: ignore[reportArgumentType]
            heard.clear()
    for name in names:
        if name not in seen:
            raise SiteError(
                f"'{name}' is called on few samples but not on these data; give batches of a size at which the forward "
                "pass takes one way."
            )


def collect_rows(
    risk: EmpiricalRisk, name: str, limit: int, generator: torch.Generator, move: Move | None = None
) -> Rows:
    """Return the rows of one map, at most so many.

    Args:
        risk: the empirical risk.
        name: of the map.
        limit: how many rows are kept; drawn uniformly where there are more.
        generator: of the draw.
        move: as for :func:`stream_gradients`.

    Returns:
        The rows.
    """
    rows = Rows(limit, generator)
    moves = None if move is None else {name: move}
    stream_gradients(risk, [name], lambda _name, h, _z, g: rows.add(h, g), moves)
    return rows


def line_derivatives(risk: EmpiricalRisk, name: str, move: Move) -> tuple[float, float]:
    """Return R′(0) and R″(0) of r ↦ R with z_i + r·move(h_i) in the place of a map's outputs z_i.

    Where a map is called again on what it made, its later h_i move with r, too.

    Args:
        risk: the empirical risk.
        name: of the map.
        move: from rows h_i to the direction.

    Returns:
        Both derivatives.
    """
    first = second = 0.0
    r = torch.zeros((), dtype=torch.float64, device=risk.flatten().device, requires_grad=True)
    with torch.enable_grad(), _changed(risk.model, {name: _mover(move, r)}):
        for term in risk.terms(risk.parameters):
            slope = torch.autograd.grad(term, r, create_graph=True)[0]
            first += float(slope.detach())
            if slope.requires_grad:
                second += float(torch.autograd.grad(slope, r)[0])
    return first, second


def value_along(risk: EmpiricalRisk, name: str, move: Move, r: float) -> float:
    """Return R with z_i + r·move(h_i) in the place of a map's outputs.

    Args:
        risk: the empirical risk.
        name: of the map.
        move: from rows h_i to the direction.
        r: how far.

    Returns:
        The value.
    """
    far = torch.tensor(r, dtype=torch.float64, device=risk.flatten().device)
    with _changed(risk.model, {name: _mover(move, far)}):
        return float(risk.value())


def extremes(model: nn.Module, name: str, inputs: Any, maps: Float[Tensor, "k m"]) -> tuple[Tensor, Tensor]:
    """Return the smallest and the largest value of maps of what an affine map reads, over all data.

    Args:
        model: any module.
        name: of the affine map.
        inputs: a tensor, (inputs, targets), or a re-iterable of batches, read once.
        maps: one row for each, float64.

    Returns:
        Both, (k,), on the CPU.
    """
    map_ = model.get_submodule(name)
    assert isinstance(map_, AFFINE)
    low = torch.full((len(maps),), torch.inf, dtype=torch.float64)
    high = -low

    def receive(_pair: tuple[str, str], h: Tensor, _z: Tensor) -> None:
        values = rows_read(map_, h) @ maps.T.to(h.device)
        torch.minimum(low, values.amin(dim=0).cpu(), out=low)
        torch.maximum(high, values.amax(dim=0).cpu(), out=high)

    with hearing_pairs(model, [(name, name)], receive):
        run_batches(model, inputs)
    return low, high


def _mover(move: Move, r: Tensor) -> Callable[[Affine, Any, Tensor], Tensor]:
    """Return a hook that adds r·move(h) to what a map writes."""
    return lambda map_, args, z: z + r.to(z.dtype) * _shaped(map_, move(rows_read(map_, args[0])), z)
