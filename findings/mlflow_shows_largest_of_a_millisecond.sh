#!/usr/bin/env bash
# Versions   mlflow-skinny 3.17.2, sqlalchemy 2.1.9, alembic 1.20.1 (public packages from PyPI, without milbench)
# Behaviour  Of a metric that was logged several times, a run shows the value of the largest step; of one step, that of the
#            latest millisecond; of one millisecond, the largest value. Without a step, all are of step 0. So losses that are
#            logged within a millisecond, as from a small model or in a batch, leave their largest value on the page, and their
#            history comes back sorted by size. A training that starts again at step 0 leaves the first training's last value.
# A guess    would be the value that was logged last, and a history in the order of logging.
# Seen       losses 0.9, 0.5, 0.2, 0.4 logged without a step, in one millisecond: the run shows 0.9, history [0.2, 0.4, 0.5, 0.9]
#            steps 0 to 3, then again from step 0 a second later with 0.3 and 0.1: the run shows 0.4, of the first training
# Exits 0 while the library behaves so, and 1 if it does not any more.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check mlflow-skinny==3.17.2 sqlalchemy==2.1.9 alembic==1.20.1
"$folder/venv/bin/python" -W ignore - "$folder" <<'PYTHON'
import sys

from mlflow import MlflowClient
from mlflow.entities import Metric

LOSSES = (0.9, 0.5, 0.2, 0.4)
client = MlflowClient(f"sqlite:///{sys.argv[1]}/store.db")
experiment = client.create_experiment("study")


def shown(*batches):
    """The loss that a run shows, and its history as MLflow hands it out."""
    run = client.create_run(experiment).info.run_id
    for batch in batches:
        client.log_batch(run, metrics=[Metric("loss", value, milliseconds, step) for value, milliseconds, step in batch])
    return client.get_run(run).data.metrics["loss"], [metric.value for metric in client.get_metric_history(run, "loss")]


in_one_millisecond, history = shown([(loss, 1000, 0) for loss in LOSSES])
print(f"without a step, last logged {LOSSES[-1]}: the run shows {in_one_millisecond}, history {history}")
first = [(loss, 1000, step) for step, loss in enumerate(LOSSES)]
started_again, _ = shown(first, [(0.3, 2000, 0), (0.1, 2000, 1)])
print(f"started again from step 0, last logged 0.1: the run shows {started_again}")
as_seen = in_one_millisecond == 0.9 and history == sorted(LOSSES) and started_again == 0.4
sys.exit(0 if as_seen else "MLflow now shows another value of a metric: look again")
PYTHON
