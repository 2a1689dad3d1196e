"""Tracking: stored trials -> MLflow.

In: finished trials of the store. Out: runs, metrics and files on an MLflow server or in `runs/mlflow.db`. The store is the
truth; MLflow shows it and can be filled again from it. Open `publish.py` first; `values.py` says what MLflow is told.
"""
