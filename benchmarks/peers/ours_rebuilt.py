"""liftscape with a graph built for each product: only the first product of an operator is taken."""

from benchmarks.peers import ours
from benchmarks.work import Work

__all__ = ["Adapter"]


class Adapter(ours.Adapter):
    """A new operator for each product, since an operator keeps its graph from the second product on."""

    def __init__(self, work: Work) -> None:
        super().__init__(work)
        self.renew()

    def renew(self) -> None:
        """Take a new operator."""
        self.operator = self.risk.hessian()
