#!/usr/bin/env bash
# Versions   zarr 3.1.6, h5py 3.16.0, numpy 2.3.5 (public packages from PyPI, without milbench)
# Behaviour  An array is cut to its first rows and then made longer again, as a writer does that drops a slide's last rows before
#            it goes on. In zarr, rows of the last chunk that stays come back with their old values. With shards, all
#            rows of the last shard that stays come back. There is no error and no warning.
# A guess    would be that the new rows hold the fill value, as in HDF5.
# Seen       eight rows, cut to three, then eight again (chunks of two rows, one shard of eight)
#            zarr         [1, 2, 3, 4, 0, 0, 0, 0]
#            zarr, shard  [1, 2, 3, 4, 5, 6, 7, 8]
#            HDF5         [1, 2, 3, 0, 0, 0, 0, 0]
# Known as   zarr-developers/zarr-python issue 1017, open (without shards)
# Exits 0 while the libraries behave so, and 1 if they do not any more.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check zarr==3.1.6 h5py==3.16.0 numpy==2.3.5
"$folder/venv/bin/python" -W ignore - "$folder" <<'PYTHON'
import sys

import h5py
import numpy as np
import zarr

folder = sys.argv[1]
rows = np.arange(1, 9, dtype=np.float32)


def cut_and_grown(array):
    """Values of an array of eight rows, after it was three rows long."""
    array[:] = rows
    array.resize((3,))
    array.resize((8,))
    return array[:].astype(int).tolist()


plain = cut_and_grown(zarr.create_array(f"{folder}/plain.zarr", shape=(8,), chunks=(2,), dtype="float32"))
shard = cut_and_grown(zarr.create_array(f"{folder}/shard.zarr", shape=(8,), chunks=(2,), shards=(8,), dtype="float32"))
with h5py.File(f"{folder}/file.h5", "w") as file:
    hdf5 = cut_and_grown(file.create_dataset("features", shape=(8,), maxshape=(None,), chunks=(2,), dtype="float32"))
print("zarr        ", plain)
print("zarr, shard ", shard)
print("HDF5        ", hdf5)
as_seen = plain == [1, 2, 3, 4, 0, 0, 0, 0] and shard == [1, 2, 3, 4, 5, 6, 7, 8] and hdf5 == [1, 2, 3, 0, 0, 0, 0, 0]
sys.exit(0 if as_seen else "a zarr array that is cut and grown now holds other values: look again")
PYTHON
