#!/usr/bin/env bash
# Versions   safetensors 0.8.0, numpy 2.3.5 (public packages from PyPI, without milbench)
# Behaviour  safetensors.numpy.save_file writes the bytes of an array as they lie in memory. The shape that it writes
#            beside them is that of the array. If the array is a transposed or strided view, the file holds other values.
#            There is no error and no warning. safetensors.torch.save_file refuses the same tensor.
# A guess    would be that an array reads back equal to what was saved, as with numpy.save.
# Seen       array   [[0, 3], [1, 4], [2, 5]]
#            stored  [[0, 1], [2, 3], [4, 5]]
# Exits 0 while the library behaves so, and 1 if it does not any more.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check safetensors==0.8.0 numpy==2.3.5
"$folder/venv/bin/python" - "$folder/weights.safetensors" <<'PYTHON'
import sys

import numpy as np
from safetensors.numpy import load_file, save_file

transposed = np.arange(6, dtype=np.float32).reshape(2, 3).T
save_file({"weights": transposed}, sys.argv[1])
stored = load_file(sys.argv[1])["weights"]
print("array  ", transposed.astype(int).tolist())
print("stored ", stored.astype(int).tolist())
same_bytes_in_memory_order = stored.tolist() == [[0.0, 1.0], [2.0, 3.0], [4.0, 5.0]]
sys.exit(0 if same_bytes_in_memory_order else "safetensors now stores a transposed array otherwise: look again")
PYTHON
