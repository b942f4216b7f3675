"""Small SVG figures of outcomes in notebooks, which need no drawing library; reports draw with matplotlib."""

import math
from collections.abc import Callable, Sequence
from html import escape

from liftscape._text import printable

__all__ = ["bars", "curve", "heat_map", "spectrum"]

_WIDTH, _HEIGHT, _EDGE = 360.0, 140.0, 24.0
# Longer series are thinned: a notebook's figure has no room for more.
_MOST = 400


def curve(x: Sequence[float], y: Sequence[float], title: str) -> str:
    """Return a line through points; a value that is not finite leaves a gap.

    Args:
        x: abscissae.
        y: ordinates.
        title: what is drawn.

    Returns:
        An SVG element.
    """
    step = max(1, len(x) // _MOST)
    pairs = list(zip(x[::step], y[::step], strict=True))
    across, up = _scale([a for a, _ in pairs], _EDGE, _WIDTH - 8), _scale([b for _, b in pairs], _HEIGHT - _EDGE, 18.0)
    runs: list[list[str]] = [[]]
    for a, b in pairs:
        if math.isfinite(a) and math.isfinite(b):
            runs[-1].append(f"{across(a):.1f},{up(b):.1f}")
        elif runs[-1]:
            runs.append([])
    lines = "".join(f'<polyline points="{" ".join(run)}" fill="none" stroke="#1f6fb4"/>' for run in runs if run)
    return _svg(title, lines + _ends(x, _HEIGHT - 8, across) + _extremes(y))


def spectrum(values: Sequence[float], title: str) -> str:
    """Return eigenvalues in order on an axis that is linear near zero and logarithmic beyond, negative ones in red.

    Args:
        values: eigenvalues.
        title: what is drawn.

    Returns:
        An SVG element.
    """
    ordered = sorted(value for value in values if math.isfinite(value))
    step = max(1, len(ordered) // _MOST)
    shown = ordered[::step]
    sizes = sorted(abs(value) for value in ordered)
    unit = (sizes[len(sizes) // 2] if sizes else 0.0) or 1.0
    bent = [math.asinh(value / unit) for value in shown]
    across, up = _scale([0.0, len(shown) - 1.0], _EDGE, _WIDTH - 8), _scale([0.0, *bent], _HEIGHT - _EDGE, 18.0)
    zero = f'<line x1="{_EDGE}" x2="{_WIDTH - 8}" y1="{up(0.0):.1f}" y2="{up(0.0):.1f}" stroke="#888"/>'
    colour = lambda value: "#c0392b" if value < 0 else "#1f6fb4"
    dots = "".join(
        f'<circle cx="{across(float(place)):.1f}" cy="{up(height):.1f}" r="2" fill="{colour(value)}"/>'
        for place, (value, height) in enumerate(zip(shown, bent, strict=True))
    )
    return _svg(title, zero + dots + _extremes(ordered))


def bars(labels: Sequence[str], values: Sequence[float], title: str) -> str:
    """Return one horizontal bar for each label, from zero; at most sixteen of them.

    Args:
        labels: names.
        values: lengths; those that are not finite have no bar.
        title: what is drawn.

    Returns:
        An SVG element.
    """
    pairs = list(zip(labels, values, strict=True))[:16]
    along = _scale([0.0, *(value for _, value in pairs)], 130.0, _WIDTH - 60)
    drawn = ""
    for place, (label, value) in enumerate(pairs):
        top, end = 18.0 + 14 * place, along(value) if math.isfinite(value) else along(0.0)
        drawn += _text(4.0, top + 10, label[:20])
        left, width = min(along(0.0), end), abs(end - along(0.0))
        drawn += f'<rect x="{left:.1f}" y="{top}" width="{width:.1f}" height="10" fill="#1f6fb4"/>'
        drawn += _text(_WIDTH - 56, top + 10, f"{value:.3g}")
    return _svg(title, drawn, 24.0 + 14 * len(pairs))


def heat_map(values: Sequence[Sequence[float]], title: str) -> str:
    """Return a grid of values, dark where they are low; cells that are not finite stay empty.

    Args:
        values: by row.
        title: what is drawn.

    Returns:
        An SVG element.
    """
    finite = [value for row in values for value in row if math.isfinite(value)]
    shade, side = _scale(finite, 20.0, 235.0), 160 / max(1, len(values), max(map(len, values), default=1))
    cells = "".join(
        f'<rect x="{_EDGE + side * j:.2f}" y="{18 + side * (len(values) - 1 - i):.2f}" width="{side:.2f}" '
        f'height="{side:.2f}" fill="rgb({(s := int(shade(value)))},{s},{min(255, s + 20)})"/>'
        for i, row in enumerate(values)
        for j, value in enumerate(row)
        if math.isfinite(value)
    )
    return _svg(title, cells + _extremes(finite), 190.0)


def _scale(values: Sequence[float], start: float, stop: float) -> Callable[[float], float]:
    """Return the affine map that takes the finite values' range onto that from start to stop."""
    finite = [value for value in values if math.isfinite(value)] or [0.0]
    low, high = min(finite), max(finite)
    return lambda value: start + (stop - start) * ((value - low) / (high - low) if high > low else 0.5)


def _ends(x: Sequence[float], y: float, across: Callable[[float], float]) -> str:
    """Return the labels of an axis's ends."""
    finite = [value for value in x if math.isfinite(value)]
    return "".join(_text(across(end) - 10, y, f"{end:.3g}") for end in {min(finite), max(finite)}) if finite else ""


def _extremes(values: Sequence[float], x: float = 200.0) -> str:
    """Return a line that says how low and how high the values go."""
    finite = [value for value in values if math.isfinite(value)]
    return _text(x, 12.0, f"{min(finite):.4g} to {max(finite):.4g}") if finite else ""


def _text(x: float, y: float, text: str) -> str:
    """Return a text element."""
    return f'<text x="{x:.1f}" y="{y:.1f}" font-size="10" fill="currentColor">{escape(printable(text))}</text>'


def _svg(title: str, body: str, height: float = _HEIGHT) -> str:
    """Return the figure, named for readers who cannot see it."""
    named = escape(printable(title))
    opening = f'<svg xmlns="http://www.w3.org/2000/svg" role="img" width="{_WIDTH}" height="{height}"'
    return f'{opening} viewBox="0 0 {_WIDTH} {height}"><title>{named}</title>{_text(4.0, 12.0, title)}{body}</svg>'
