#!/usr/bin/env bash
# Versions   xarray 2026.9.0, dask 2026.8.0, numpy 2.4.6 (public packages from PyPI, without milbench)
# Behaviour  Features of patches are stored as float16. The mean over a slide's patches, in xarray and in dask, adds them up in
#            float16: above 2,048 a sum of ones does not grow any more. NumPy takes float32 for the sum of a mean, and xarray
#            and dask do not, because they count values that are not missing, or sum chunk by chunk. So a slide's mean depends
#            on how many patches it has and how they are cut into chunks. There is no error and no warning.
# A guess    would be NumPy's mean: half floats have three digits, and so should their mean.
# Seen       20,000 patches, features of about 1: NumPy 1.009
#            xarray 0.276, xarray with skipna=False 1.009, dask in chunks of 5,000 0.835, xarray on such chunks 2.038
# Known as   numpy/numpy issue 23075, open, for numpy.nanmean; xarray and dask pass it on
# Exits 0 while the libraries behave so, and 1 if they do not any more.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check xarray==2026.9.0 "dask[array]==2026.8.0" numpy==2.4.6
"$folder/venv/bin/python" - <<'PYTHON'
import sys
import warnings

warnings.simplefilter("error")  # none comes

import dask.array
import numpy as np
import xarray

patches = np.abs(np.random.default_rng(0).normal(1, 0.5, (20_000, 4))).astype(np.float16)
slide = xarray.DataArray(patches, dims=("patch", "feature"))
seen = {
    "NumPy": patches.mean(0),
    "xarray": slide.mean("patch"),
    "xarray with skipna=False": slide.mean("patch", skipna=False),
    "dask in chunks of 5,000": dask.array.from_array(patches, chunks=(5_000, 4)).mean(0).compute(),
    "xarray on such chunks": slide.chunk(patch=5_000).mean("patch").compute(),
}
means = {name: float(np.asarray(mean, np.float64).mean()) for name, mean in seen.items()}
for name, mean in means.items():
    print(f"{name}: {mean:.3f}")
right = [abs(means[name] - 1) < 0.02 for name in ("NumPy", "xarray with skipna=False")]
wrong = [abs(means[name] - 1) > 0.1 for name in ("xarray", "dask in chunks of 5,000", "xarray on such chunks")]
sys.exit(0 if all(right + wrong) else "xarray or dask now take the mean of half floats otherwise: look again")
PYTHON
