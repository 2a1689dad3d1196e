"""Engines: where passes run. `loky` on this machine, `dask` on a cluster, `slurm` through submitit; `shards` by hand."""
