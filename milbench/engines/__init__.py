"""Engines: where and how passes are computed.

In: passes, each of groups of jobs that read the same bags. Out: finished trials in the store, and one status per trial.
Open `supervisor.py` first (feeds passes to processes and survives their deaths), then `worker.py` (one process claims one
pass) and `computation.py` (prepare, train, predict, write, retry). `loky`, `dask` and `slurm` are places to run; `shards`
deals a plan out to machines by hand.
"""
