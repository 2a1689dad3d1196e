"""Intake: what a user's data goes through before a run.

In: a folder of features and a table of labels, as they are. Out: what is there (`inspection.py`, with a draft cohort.yaml),
what is wrong (`check.py`; `findings.py` makes the part of the list that `run` needs too), and the same features in the layout
that reads fastest (`pack.py`). Open `check.py` first.
"""
