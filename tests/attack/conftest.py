"""Of each law's cases a few run in the quick suite, spread over all of them, and the others in the long one."""

from collections import defaultdict
from pathlib import Path

import pytest

QUICK = 3


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark all but three cases of each test in this folder as long."""
    cases: dict[str, list[pytest.Item]] = defaultdict(list)
    for item in items:
        if Path(__file__).parent in item.path.parents and item.get_closest_marker("long") is None:
            cases[item.nodeid.partition("[")[0]].append(item)
    for several in cases.values():
        kept = {round(index * (len(several) - 1) / (QUICK - 1)) for index in range(QUICK)}
        for index, item in enumerate(several):
            if len(several) > QUICK and index not in kept:
                item.add_marker(pytest.mark.long)
