"""Probes: algorithmic unit tests of models, on made bags whose best answer is known.

In: models and names of tests. Out: scores with intervals, verdicts, and the table of them that milbench ships.
Open `probe.py` first (what a test is), then `rules.py` (the first tests) and `training.py` (how a model takes them).
"""
