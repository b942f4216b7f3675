"""Data sets as tensors, ready for an empirical risk."""

from liftscape.data._tables import digits, iris_petal_width, standardise

__all__ = ["digits", "iris_petal_width", "standardise"]
