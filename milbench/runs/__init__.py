"""Runs: from a configuration to a finished run folder.

In: a `RunConfig`, made of YAML, `--set` and flags. Out: a run folder whose planned trials are finished, failed or left.
Open `benchmark.py` first: prepare -> plan -> passes -> engine -> store -> track. Then `preparation.py` (models, cohorts,
splits, trials), `header.py` (what the folder says before any trial is done), `passes.py` (which trials are trained
together), `merge.py` and `status.py` (finished folders). `notebook.py`, `ensemble.py` and `one_training.py`
are what Python users see.
"""
