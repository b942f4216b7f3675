"""The demo's way down: from worse minima, over the boundary, to below the best shallow one."""

import dataclasses

import pytest
import torch

import liftscape as ls
from liftscape.studies.embedding_principle_config import load_config
from liftscape.studies.embedding_principle_escape import escape_and_train
from liftscape.studies.embedding_principle_search import find_shallow_points


@pytest.mark.long
def test_worse_minima_are_left_for_losses_below_the_best_one_where_exact_lifts_stay() -> None:
    config, data = load_config(), ls.data.iris_petal_width()
    search = dataclasses.replace(config.search, networks=((3, 2, 1),), starts=24, saddles=0)
    points = find_shallow_points(data, search, torch.Generator().manual_seed(0), lambda _: None)[1]
    study = escape_and_train(points, data, config.escape, torch.Generator().manual_seed(1))
    assert study.level == min(point.record.value for point in points)
    assert len(study.points) == 2
    for point in study.points:
        assert point.value > study.level
        assert point.decrease > 0
        assert all(
            loss == pytest.approx(point.value, rel=1e-12)
            for t, loss in zip(point.path, point.path_loss, strict=True)
            if t <= point.boundary
        )
        assert point.escaped[0] == pytest.approx(point.value - point.decrease, rel=1e-9)
        assert point.escaped[-1] < study.level
        assert abs(point.lifted[-1] / point.value - 1) < 0.05
        assert len(study.steps) == len(point.escaped) == len(point.lifted)
