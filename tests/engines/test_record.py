"""Records of trials that failed."""

from trial_for_tests import TRIAL

from milbench.engines.record import LONGEST_MESSAGE, LONGEST_TRACEBACK, failure_record


def test_an_error_that_repeats_millions_of_values_is_kept_without_its_middle() -> None:
    record = failure_record(TRIAL, ValueError("begin" + "0, " * 1_000_000 + "end"))
    assert record["message"].startswith("begin0, 0")
    assert record["message"].endswith("0, end")
    assert len(record["message"]) < LONGEST_MESSAGE + 10
    assert len(record["traceback"]) < LONGEST_TRACEBACK + 10


def test_an_error_of_usual_length_is_kept_whole() -> None:
    assert failure_record(TRIAL, ValueError("width is 3"))["message"] == "width is 3"
