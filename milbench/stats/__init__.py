"""Statistics: pure functions of stored predictions. No torch.

In: finished trials. Out: scores, intervals, comparisons and ranks as frozen tables. Open `analysis.py` first: it is all that
the report prints of tasks of one kind. `metric.py` names the metric that ranks models, by kind. `scores.py` makes the means of
the table that a run ends with, without SciPy; `crossed.py` holds the bootstrap.
"""
