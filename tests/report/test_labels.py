"""Labels keep their distance, their order and, where there is room, their place."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from liftscape.report._captions import power_of_ten
from liftscape.report._edge_labels import spread

positions = st.lists(st.floats(-5, 5), max_size=12, unique=True)


@given(positions, st.floats(0.01, 1))
def test_labels_keep_distance_and_order(places: list[float], gap: float):
    placed = spread(places, gap)
    by_place = sorted(range(len(places)), key=lambda index: places[index])
    moved = [placed[index] for index in by_place]
    assert all(high - low >= gap - 1e-9 for low, high in pairwise(moved))


@given(st.lists(st.integers(-50, 50), max_size=12, unique=True))
def test_labels_with_room_stay(places: list[int]):
    assert spread([float(place) for place in places], 1.0) == [float(place) for place in places]


@given(st.floats(1e-300, 1e-4) | st.floats(1e5, 1e300))
def test_powers_of_ten_read_back(value: float):
    mantissa, exponent = power_of_ten(-value, 3).split("·10")
    superscripts = {ord(sign): plain for sign, plain in zip("⁻⁰¹²³⁴⁵⁶⁷⁸⁹", "-0123456789", strict=True)}
    read = float(f"{mantissa.replace('−', '-')}e{exponent.translate(superscripts)}")
    assert abs(read + value) <= 6e-4 * value
