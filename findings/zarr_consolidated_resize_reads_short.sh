#!/usr/bin/env bash
# Versions   zarr 3.1.6, numpy 2.3.5 (public packages from PyPI, without milbench)
# Behaviour  An array of a group whose metadata was consolidated is appended to. Read through the group, it has the rows that
#            it had when the metadata was consolidated, and the others are missing. There is no error and no warning.
#            Opened by itself, or with use_consolidated=False, it has all rows.
# A guess    would be that both ways give the same array, or that appending drops metadata that is no longer true.
# Seen       through the group: 3 rows, by itself: 6 rows
# Exits 0 while the library behaves so, and 1 if it does not any more.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check zarr==3.1.6 numpy==2.3.5
"$folder/venv/bin/python" -W ignore - "$folder/store.zarr" <<'PYTHON'
import sys

import numpy as np
import zarr

store = sys.argv[1]
group = zarr.open_group(store, mode="w")
group.create_array("features", data=np.ones((3, 2), np.float32))
zarr.consolidate_metadata(store)
zarr.open_array(store, path="features", mode="a").append(np.ones((3, 2), np.float32))

through_the_group = len(zarr.open_group(store, mode="r")["features"][:])
by_itself = len(zarr.open_array(store, path="features", mode="r")[:])
not_consolidated = len(zarr.open_group(store, mode="r", use_consolidated=False)["features"][:])
print(f"through the group: {through_the_group} rows, by itself: {by_itself} rows")
is_short = (through_the_group, by_itself, not_consolidated) == (3, 6, 6)
sys.exit(0 if is_short else "zarr now reads an array of a consolidated group otherwise: look again")
PYTHON
