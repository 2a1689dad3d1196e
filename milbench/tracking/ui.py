"""Addresses of the MLflow UI's pages that matter, and the command that serves them."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from milbench.errors import TrackingError
from milbench.tracking.client import all_runs, client_of
from milbench.tracking.publisher import BEST_FIRST, KIND

if TYPE_CHECKING:
    from mlflow import MlflowClient


def ui_command(uri: str, port: int) -> list[str]:
    """Command that serves the MLflow UI of `uri` on the loopback address."""
    return [
        sys.executable,
        "-m",
        "mlflow",
        "ui",
        "--backend-store-uri",
        uri,
        "--host",
        "127.0.0.1",
        "--port",
        str(port),
    ]


def ui_links(uri: str, port: int) -> list[str]:
    """Lines with the pages that matter: of every experiment its runs, and its models compared.

    Raises
    ------
    TrackingError : nothing has been tracked at `uri`, or it cannot be read.
    """
    if uri.startswith("sqlite:///") and not Path(uri.removeprefix("sqlite:///")).exists():
        raise TrackingError(
            f"nothing has been tracked at {uri} yet. Start with `milbench run`, or name the store with --uri."
        )
    try:
        client = client_of(uri)
        experiments = [e for e in client.search_experiments() if e.name.startswith("milbench ")]
        return [line for experiment in experiments for line in _links(client, experiment, f"http://127.0.0.1:{port}/#")]
    except Exception as error:
        raise TrackingError(f"MLflow at {uri} cannot be read ({str(error).splitlines()[0]}).") from error


def _links(client: MlflowClient, experiment: Any, root: str) -> list[str]:
    parents = [run for run in all_runs(client, experiment.experiment_id) if run.data.tags.get(KIND) == "parent"]
    runs = f"{root}/experiments/{experiment.experiment_id}/runs"
    lines = [
        f"{experiment.name}, parents and trials: {runs}",
        f"  models, best first: {runs}?viewStateShareKey={BEST_FIRST}",
    ]
    by_dataset: dict[str, list[str]] = {}
    for run in reversed(parents):
        by_dataset.setdefault(run.data.tags["dataset"], []).append(run.info.run_id)
    for dataset, ids in by_dataset.items():
        listed = ",".join(f'"{run_id}"' for run_id in ids)
        url = f'{root}/compare-runs?runs=[{listed}]&experiments=["{experiment.experiment_id}"]'
        lines.append(f"  {dataset}, {len(ids)} models compared: {url.replace(chr(34), '%22')}")
    return lines
