"""Names for calls of functions: the module that calls, the function, and its number where there are several."""

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

    def next(self, place: str, function: str) -> str:
        """Return the name of the next call.

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
        count = self._counts[name] = self._counts.get(name, 0) + 1
        count += name in self._taken
        return name if count == 1 else f"{name} {count}"

    def clear(self) -> None:
        """Start anew, as for another forward pass."""
        self._counts.clear()
