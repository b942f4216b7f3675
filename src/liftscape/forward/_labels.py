"""Names for calls, of functions and of modules, with their number where there are several."""

from typing import final

from torch import nn

__all__ = ["CallLabels"]


@final
class CallLabels:
    """Names the calls of one forward pass in their order, so that whoever follows it finds the same names.

    Args:
        model: the network that is called; no call gets the name of one of its modules.
    """

    def __init__(self, model: nn.Module) -> None:
        self._taken = {name for name, _ in model.named_modules(remove_duplicate=False)}
        self._counts: dict[str, int] = {}

    def next_module(self, name: str) -> str:
        """Return the name of the next call of a module.

        Args:
            name: the module's.

        Returns:
            As in "relu" or "relu 2".
        """
        count = self._counts[name] = self._counts.get(name, 0) + 1
        return name if count == 1 else f"{name} {count}"

    def next(self, place: str, function: str) -> str:
        """Return the name of the next call of a function.

        Args:
            place: name of the module that calls, "" for the network itself.
            function: the function's own name.

        Returns:
            As in "block.relu" or "block.relu 2".

        Example:
            >>> labels = CallLabels(nn.Sequential(nn.Linear(1, 1)))
            >>> labels.next("0", "relu"), labels.next("0", "relu_")
            ('0.relu', '0.relu 2')
        """
        stem = function.strip("_")
        name = f"{place}.{stem}" if place else stem
        return self.next_module(f"{name}()" if name in self._taken else name)

    def clear(self) -> None:
        """Start anew, as for another forward pass."""
        self._counts.clear()
