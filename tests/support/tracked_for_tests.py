"""What MLflow holds of a run, and a command that is killed."""

from __future__ import annotations

from typing import Any

from milbench.store.run import Run
from milbench.tracking.client import default_uri


def stored(run: Run) -> list[Any]:
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=default_uri(run.path.parent))
    experiment = client.get_experiment_by_name(f"milbench {run.name}")
    return list(client.search_runs([experiment.experiment_id], max_results=1000))


def killing(*_: Any) -> None:
    raise KeyboardInterrupt
