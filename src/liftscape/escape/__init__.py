"""The way down: inserting a layer whose neurons leave their affine pieces where that lowers the risk most."""

__all__ = []
