"""Units: numbers as people read them."""

import pytest

from milbench.report.units import BYTES, COUNT, JOULES, SECONDS, digits, in_words, nice_ticks, shared_step


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (9.65e-6, SECONDS, "9.65 µs"), (0.0123, SECONDS, "12.3 ms"), (90.0, SECONDS, "90 s"), (300.0, SECONDS, "5 min"),
        (7200.0, SECONDS, "2 h"), (0.0, SECONDS, "0 s"), (602e6, BYTES, "602 MB"), (1_234_567, COUNT, "1.23 M"),
        (12.0, COUNT, "12"), (1500.0, JOULES, "1.5 kJ"),
    ],
)  # fmt: skip
def test_a_number_has_the_unit_in_which_it_reads_well(value: float, unit: str, text: str) -> None:
    assert in_words(value, unit) == text


@pytest.mark.parametrize(("value", "text"), [(82225.0, "82,225"), (0.0456, "0.0456"), (4.8311, "4.83"), (10.0, "10")])
def test_three_digits_are_enough_and_no_power_of_ten_is_printed(value: float, text: str) -> None:
    assert digits(value) == text


def test_a_column_has_one_unit_that_of_its_middle_value() -> None:
    assert shared_step([7e-6, 1e-5, 3e-4], SECONDS) == (1e-6, "µs")
    assert shared_step([float("nan")], SECONDS)[1] == "ns"


def test_ticks_are_round_and_few() -> None:
    assert nice_ticks(0.9, 11, COUNT) == [1, 2, 5, 10]
    assert nice_ticks(50, 4000, SECONDS) == [50, 120, 300, 600, 1800, 3600]
    assert len(nice_ticks(1e-3, 1e9, COUNT)) <= 8
