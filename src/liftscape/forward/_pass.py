"""What one forward pass calls: modules and functions, what they read, and who reads what they make."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, final

from torch import nn

from liftscape.forward._modules import ModuleFacts, facts_of

__all__ = ["Call", "ForwardPass"]


@final
@dataclass(frozen=True)
class Call:
    """One call of a leaf module, or of a function of torch.

    Attributes:
        name: the module's name, or the function's.
        label: the name of the call: of the module, or of the one that calls with the function's, and its number; ""
            for a function within a leaf module.
        function: the module or function itself.
        reads: identities of the tensors read.
        makes: identities of the tensors made, or written in place.
        arguments: the call's further positional arguments, for a function.
        keywords: the call's keyword arguments, for a function.
        hands_on: whether it returns a tensor that it reads as it was, as Identity and inactive dropout do.
        shape: of the tensor it makes; empty where that is none, or several.
        random: whether it draws, as an active dropout.
    """

    name: str
    label: str
    function: Any
    reads: tuple[int, ...]
    makes: tuple[int, ...]
    arguments: tuple[Any, ...] = ()
    keywords: Mapping[str, Any] = field(default_factory=dict)
    hands_on: bool = False
    shape: tuple[int, ...] = ()
    random: bool = False

    @property
    def axes(self) -> int:
        """Number of axes of the tensor it makes; 0 where that is none, or several."""
        return len(self.shape)

    @property
    def is_module(self) -> bool:
        """Whether a module was called."""
        return isinstance(self.function, nn.Module)


@final
@dataclass(frozen=True, eq=False)
class ForwardPass:
    """The calls of one forward pass in their order; of the data nothing is kept but shapes.

    Attributes:
        model: the network.
        calls: of leaf modules, and of functions outside of leaf modules.
        functions: all calls of functions, within leaf modules too.
        outputs: identities of the tensors that the model returned.
        parameters: identities of the tensors that stood for parameters and buffers, by those of the model's.
        names: of parameters and buffers by the identities of the tensors that stood for them.
        attributes: of modules from which the forward pass reads more than what they compute, the first such attribute.
    """

    model: nn.Module
    calls: tuple[Call, ...]
    functions: tuple[Call, ...]
    outputs: tuple[int, ...]
    parameters: Mapping[int, int]
    names: Mapping[int, str]
    attributes: Mapping[str, str] = field(default_factory=dict)

    @cached_property
    def facts(self) -> Mapping[str, ModuleFacts]:
        """What the calls do not show of each module, by name: hooks, ties, frozen parameters, forward methods."""
        return facts_of(self.model)

    @cached_property
    def without_identities(self) -> "ForwardPass":
        """The pass without the calls that hand on the tensor they read, which would hide who reads it."""
        kept = tuple(call for call in self.calls if not call.hands_on)
        return ForwardPass(self.model, kept, self.functions, self.outputs, self.parameters, self.names, self.attributes)

    def readers(self, tensor: int) -> list[Call]:
        """Return the calls that read a tensor.

        Args:
            tensor: its identity.

        Returns:
            The calls in their order.
        """
        return [call for call in self.calls if tensor in call.reads]

    def maker(self, tensor: int) -> Call | None:
        """Return the call that made a tensor.

        Args:
            tensor: its identity.

        Returns:
            The last such call, or None for an input of the model.
        """
        return next((call for call in reversed(self.calls) if tensor in call.makes), None)

    def calls_of(self, function: Any) -> list[Call]:
        """Return the calls of a module or function.

        Args:
            function: itself.

        Returns:
            The calls in their order.
        """
        return [call for call in self.calls if call.function is function]
