"""Intake: what a user's data goes through before a run.

In: a folder of features and a table of labels, as they are. Out: what is there (`inspection.py`, with a draft cohort.yaml),
what is wrong (`check.py`, of whose list `run` takes all but the values: `findings.py`), and the same features in the layout that reads fastest (`pack.py`). Open `check.py` first.
"""
