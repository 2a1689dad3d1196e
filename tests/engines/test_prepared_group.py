"""A model is built for its trial, and what it changes in the process fails this trial alone."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable
from dataclasses import replace

import pytest
from models_for_tests import Tiny
from trial_for_tests import TRIAL

from milbench.engines import prepared_group
from milbench.engines.prepared_group import build_model
from milbench.errors import MilbenchError


def built_while(monkeypatch: pytest.MonkeyPatch, happens: Callable[[], object]) -> object:
    class Changes(Tiny):
        def __init__(self, in_features: int, n_tasks: int) -> None:
            happens()
            super().__init__(in_features, n_tasks)

    monkeypatch.setattr(prepared_group, "load_models", lambda _: {"tiny": Changes})
    return build_model(replace(TRIAL, hyperparameters={}), 6)


def test_what_a_thread_changes_beside_it_is_not_the_models_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    """MLflow is imported, and tables are read, by a thread of the run that trains in this process."""
    monkeypatch.delenv("_MLFLOW_TELEMETRY_SESSION_ID", raising=False)
    built_while(monkeypatch, lambda: warnings.simplefilter("ignore"))
    built_while(monkeypatch, lambda: os.environ.update(_MLFLOW_TELEMETRY_SESSION_ID="x"))


def test_a_model_that_changes_what_is_shared_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(MilbenchError, match=r"Changes changes environment variables .* as it is built"):
        built_while(monkeypatch, lambda: os.environ.update(MILBENCH_TEST="set"))
    assert "MILBENCH_TEST" not in os.environ
