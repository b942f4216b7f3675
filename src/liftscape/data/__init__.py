"""Data sets as tensors, ready for an empirical risk."""

from liftscape.data._images import fashion_mnist, mnist
from liftscape.data._tables import digits, iris_petal_width, standardise
from liftscape.data._target_functions import CURVES, curve

__all__ = ["CURVES", "curve", "digits", "fashion_mnist", "iris_petal_width", "mnist", "standardise"]
