"""BLAS: one thread inside, and as many as before outside."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from runs_for_tests import make_run
from threadpoolctl import threadpool_info, threadpool_limits

from milbench.process.blas import one_blas_thread
from milbench.stats import analysis


def blas_threads() -> set[int]:
    """Numbers of threads of the libraries that are loaded."""
    return {each["num_threads"] for each in threadpool_info() if each["user_api"] == "blas"}


def test_inside_there_is_one_thread_and_outside_as_many_as_before() -> None:
    np.ones((2, 2)) @ np.ones((2, 2))
    with threadpool_limits(2, user_api="blas"):
        with one_blas_thread():
            assert blas_threads() == {1}
        assert blas_threads() == {2}


def test_an_analysis_draws_with_one_thread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usual, found = analysis.drawn, []

    def noting(*words: Any) -> Any:
        found.append(blas_threads())
        return usual(*words)

    monkeypatch.setattr(analysis, "drawn", noting)
    with threadpool_limits(2, user_api="blas"):
        analysis.analyse([make_run(tmp_path / "run")], draws=20)
    assert found == [{1}]


@pytest.mark.parametrize(("said", "expected"), [({}, {1}), ({"OPENBLAS_NUM_THREADS": "2"}, {2})])
def test_a_report_begins_before_numpy_starts_threads_and_a_number_that_the_user_gives_holds(
    said: dict[str, str], expected: set[int]
) -> None:
    program = """
import json, sys
import milbench.commands.report
assert "numpy" not in sys.modules
milbench.commands.report.never_start_blas_threads()
import numpy
from threadpoolctl import threadpool_info
print(json.dumps([each["num_threads"] for each in threadpool_info() if each["user_api"] == "blas"]))
"""
    names = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "GOTO_NUM_THREADS")
    usual = {name: value for name, value in os.environ.items() if name not in names}
    done = subprocess.run([sys.executable, "-c", program], env={**usual, **said}, capture_output=True, check=True)
    assert set(json.loads(done.stdout)) <= {min(each, os.cpu_count() or 1) for each in expected}
