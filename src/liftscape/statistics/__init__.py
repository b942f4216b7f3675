"""Statistics over independent runs: effects with their intervals."""

from liftscape.statistics._effects import Effect, effect_of, median_of

__all__ = ["Effect", "effect_of", "median_of"]
