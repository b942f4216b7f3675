"""Names are drawn as they are written; powers of ten on an axis are drawn as powers."""

import pytest

from liftscape.report._style import figure_style, new_panel
from liftscape.report._svg import render


@pytest.mark.parametrize("scale", [("log", {}), ("symlog", {"linthresh": 1e-3})])
@pytest.mark.parametrize("axis", ["x", "y"])
def test_powers_of_ten_are_drawn_as_powers(axis: str, scale: tuple[str, dict[str, float]]):
    name, options = scale
    with figure_style():
        figure, axes = new_panel("powers", "$x$", "y")
        getattr(axes, f"set_{axis}scale")(name, **options)
        axes.plot([1e-7, 1e2], [1e-7, 1e2])
    drawn = render("powers", figure, "a line").svg.decode("utf-8")
    labels = [text for text in drawn.split("<!-- ")[1:] if text.startswith(r"$\mathdefault{10^{")]
    assert labels
    # One glyph for each sign of 10 and its exponent; drawn as text a label has more than twenty.
    assert all(3 <= text.split("<g id=")[0].count("<use ") <= 4 for text in labels)
