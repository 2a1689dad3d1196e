"""Trials: what a trial is, as plain values.

In: models, cohorts, splits and settings. Out: the list of trials, each with an identity hashed from all that decides its
result. Nothing is trained here. Open `plan.py` first; `recipe.py` holds the settings of a training, `job.py` the
jobs, groups and passes that the command sends to its workers.
"""
