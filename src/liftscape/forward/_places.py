"""Where an observer looks at a forward pass: what reaches modules, what leaves them, or both."""

from collections.abc import Callable, Collection, Generator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol, final, runtime_checkable

from torch import Tensor, nn

from liftscape.functional import hooked
from liftscape.outcomes import SiteError

__all__ = ["Deliver", "Inputs", "Observation", "Outputs", "Pairs", "Place", "require_calls"]


@final
@dataclass(frozen=True)
class Observation:
    """One call as an observer sees it; its tensors are outside the graph and must not be kept.

    Attributes:
        name: of the module, or of the call of a function; of a pair of modules that of the last one.
        tensor: what reached it, at neurons one row for each sample and place; at outputs what left it.
        output: of a pair what left the last module.
        first: of a pair the name of the first module.
        function: the module or function that is called.
        arguments: further positional arguments of a function.
        keywords: its keyword arguments.
    """

    name: str
    tensor: Tensor
    output: Tensor | None = None
    first: str = ""
    function: Any = None
    arguments: tuple[Any, ...] = ()
    keywords: dict[str, Any] = field(default_factory=dict)

    @property
    def pair(self) -> tuple[str, str]:
        """Names of the first and last module."""
        return self.first, self.name


Deliver = Callable[[Observation], None]


@runtime_checkable
class Place(Protocol):
    """A place in a forward pass."""

    def attached(self, model: nn.Module, deliver: Deliver) -> AbstractContextManager[None]:
        """Return the context in which each call at this place is delivered."""
        ...


@final
@dataclass(frozen=True)
class Inputs:
    """What reaches named modules, in the shape it has.

    Attributes:
        names: of modules whose first argument is wanted.
    """

    names: Sequence[str]

    @contextmanager
    def attached(self, model: nn.Module, deliver: Deliver) -> Generator[None]:
        """Deliver while the context lasts, and raise at its end if a module was never called."""
        seen: set[str] = set()

        def enter(name: str) -> Callable[[nn.Module, Any], None]:
            def hook(module: nn.Module, args: Any) -> None:
                seen.add(name)
                deliver(Observation(name, args[0].detach(), function=module))

            return hook

        # Before the call, since an activation in place overwrites what it reads.
        with hooked(before=[(model.get_submodule(name), enter(name)) for name in self.names]):
            yield
        require_calls(self.names, seen)


@final
@dataclass(frozen=True)
class Outputs:
    """What leaves named modules, in the shape it has.

    Attributes:
        names: of modules whose output is wanted.
    """

    names: Sequence[str]

    @contextmanager
    def attached(self, model: nn.Module, deliver: Deliver) -> Generator[None]:
        """Deliver while the context lasts, and raise at its end if a module was never called."""
        seen: set[str] = set()

        def leave(name: str) -> Callable[[nn.Module, Any, Tensor], None]:
            def hook(module: nn.Module, _args: Any, output: Tensor) -> None:
                seen.add(name)
                deliver(Observation(name, output.detach(), function=module))

            return hook

        with hooked(after=[(model.get_submodule(name), leave(name)) for name in self.names]):
            yield
        require_calls(self.names, seen)


@final
@dataclass(frozen=True)
class Pairs:
    """What reaches a first module and what leaves a last one, in the shapes they have.

    Attributes:
        pairs: names of modules, the first called before the last, or the same.
    """

    pairs: Sequence[tuple[str, str]]

    @contextmanager
    def attached(self, model: nn.Module, deliver: Deliver) -> Generator[None]:
        """Deliver while the context lasts, and raise at its end if a last module was never called after its first."""
        held: dict[str, Tensor] = {}
        seen: set[tuple[str, str]] = set()

        def enter(first: str) -> Callable[[nn.Module, Any], None]:
            return lambda _module, args: held.update({first: args[0].detach().clone()})

        def leave(last: str) -> Callable[[nn.Module, Any, Tensor], None]:
            def hook(module: nn.Module, _args: Any, output: Tensor) -> None:
                for first in [pair[0] for pair in self.pairs if pair[1] == last and pair[0] in held]:
                    seen.add((first, last))
                    deliver(Observation(last, held[first], output.detach(), first, module))

            return hook

        forget = (model, lambda _module, _args: held.clear())
        firsts = [(model.get_submodule(first), enter(first)) for first in {pair[0] for pair in self.pairs}]
        lasts = [(model.get_submodule(last), leave(last)) for last in {pair[1] for pair in self.pairs}]
        with hooked(before=[forget, *firsts], after=lasts):
            yield
        for first, last in self.pairs:
            if (first, last) not in seen:
                raise SiteError(f"module '{last}' is never called after '{first}' on these inputs.")


def require_calls(names: Sequence[str], seen: Collection[str]) -> None:
    """Raise unless every named module was called.

    Args:
        names: of modules.
        seen: names of those that were called.

    Raises:
        SiteError: if one was not.
    """
    for name in names:
        if name not in seen:
            raise SiteError(f"module '{name}' is never called on these inputs, so no features reach it.")
