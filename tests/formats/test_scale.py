"""Scales within 2 % count as one."""

import pytest

from milbench.formats.scale import is_one_scale


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([], True),
        ([0.5], True),
        ([0.5, 0.51], True),
        ([0.51, 0.5, 0.5021], True),
        ([0.5, 0.5101], False),
        ([20, 40], False),
    ],
)
def test_two_percent_are_allowed_between_the_smallest_and_the_largest(values: list[float], expected: bool) -> None:
    assert is_one_scale(values) is expected
