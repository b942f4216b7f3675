"""What products take in memory, and the plan that keeps a budget."""

from liftscape.memory._memory import GraphCost, measure_cost, plan_products

__all__ = [
    "GraphCost",
    "measure_cost",
    "plan_products",
]
