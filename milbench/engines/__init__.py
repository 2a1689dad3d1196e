"""Engines: where and how passes are computed.

In: passes, each a list of trials that read the same bags. Out: finished trials in the store, and one status per trial.
Open `supervisor.py` first (feeds passes to processes and survives what they do), then `worker.py` (what one process does
with one pass). `loky`, `dask` and `slurm` are places to run; `shards` deals a plan out to machines by hand.
"""
