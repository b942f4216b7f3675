"""The dense matrix of a convolution, entry by entry from its definition."""

import itertools

import numpy as np
from torch import nn

__all__ = ["dense_matrix"]

_MODES = {"reflect": "reflect", "replicate": "edge", "circular": "wrap"}


def dense_matrix(map_: "nn.Conv1d | nn.Conv2d", shape: tuple[int, ...]) -> np.ndarray:
    """Return the matrix from flattened inputs (channels, *places) to flattened outputs, the bias left out."""
    places = shape[1:]
    index = np.arange(int(np.prod(places))).reshape(places)
    pads = []
    for axis, (k, d) in enumerate(zip(map_.kernel_size, map_.dilation, strict=True)):
        if map_.padding == "same":
            pads.append((d * (k - 1) // 2, d * (k - 1) - d * (k - 1) // 2))
        else:
            pads.append((0, 0) if map_.padding == "valid" else (map_.padding[axis],) * 2)
    # −1 marks a padded zero.
    fill = {"mode": "constant", "constant_values": -1}
    padded = np.pad(index, pads, **(fill if map_.padding_mode == "zeros" else {"mode": _MODES[map_.padding_mode]}))
    sizes = [
        (n - d * (k - 1) - 1) // s + 1
        for n, k, d, s in zip(padded.shape, map_.kernel_size, map_.dilation, map_.stride, strict=True)
    ]
    weight = map_.weight.detach().double().numpy()
    m, c = weight.shape[:2]
    matrix = np.zeros((m, *sizes, shape[0], index.size))
    for place in itertools.product(*map(range, sizes)):
        for tap in itertools.product(*map(range, map_.kernel_size)):
            at = tuple(s * p + d * t for s, p, d, t in zip(map_.stride, place, map_.dilation, tap, strict=True))
            if padded[at] >= 0:
                for o, i in itertools.product(range(m), range(c)):
                    channel = o // (m // map_.groups) * c + i
                    matrix[o, *place, channel, padded[at]] += weight[o, i, *tap]
    return matrix.reshape(m * int(np.prod(sizes)), -1)
