"""Charts of studies: what is written beside and below the axes stays within the figure."""

import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

from liftscape.report._study_chart import draw_chart
from liftscape.report._style import figure_style
from liftscape.studies.findings import Chart, Series


@pytest.mark.parametrize("length", [6, 18, 20, 28, 32, 45])
@pytest.mark.parametrize("count", [1, 2, 5, 6])
def test_a_legend_stays_within_the_figure(length: int, count: int) -> None:
    plain = tuple(Series(str(k) + "word " * (length // 5), (1.0, 2.0), (1.0, 2.0), "bold", k) for k in range(count))
    with figure_style():
        figure = draw_chart(Chart("name", "A title", "steps", "loss", plain, "caption"))
        canvas = FigureCanvasAgg(figure)
        canvas.draw()
        inner = figure.legends[0].get_window_extent(canvas.get_renderer())
        assert inner.x0 >= 0
        assert inner.x1 <= figure.bbox.width
