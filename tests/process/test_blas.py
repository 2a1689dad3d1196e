"""BLAS: one thread inside, and as many as before outside."""

from __future__ import annotations

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
