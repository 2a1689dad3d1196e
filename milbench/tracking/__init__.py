"""Tracking: stored trials -> MLflow.

In: finished trials of the store. Out: runs, metrics and files on an MLflow server or in `runs/mlflow.db`. The store is the
truth; MLflow shows it and can be filled again from it. Open `tracker.py` first (while a run goes on),
then `publish.py` (what is stored). Both write through `publisher.py`; `values.py` says what MLflow is told.
"""
