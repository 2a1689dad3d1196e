#!/usr/bin/env bash
# Versions   torch 2.13.0, onnx 1.23.2, onnxscript 0.7.2, onnxruntime 1.32.0 (public packages from PyPI, without milbench)
# Behaviour  torch.onnx.export(dynamo=True) of a model that shortens long bags (`if len(x) > 100: x = x[:100]`), with a dynamic
#            number of rows and an example of 50: the branch that the example did not take is missing from the file. There is
#            no error and no warning. The file takes bags of any length and pools all their rows.
# A guess    would be an error, as torch.export gives for the same model, or a file that refuses other lengths.
# Seen       50 rows: torch and onnxruntime agree. 200 rows: torch pools the first 100, onnxruntime all 200.
# Exits 0 while the library behaves so, and 1 if it does not any more.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.13.0 onnx==1.23.2 onnxscript==0.7.2 onnxruntime==1.32.0
"$folder/venv/bin/python" - "$folder/model.onnx" <<'PYTHON'
import sys

import numpy as np
import onnxruntime
import torch


class PooledBag(torch.nn.Module):
    """Mean pooling over the first 100 rows of a bag [N, 8]."""

    def __init__(self):
        super().__init__()
        self.head = torch.nn.Linear(8, 1)

    def forward(self, bag):
        if len(bag) > 100:
            bag = bag[:100]
        return self.head(bag).mean(dim=0)


torch.manual_seed(0)
model = PooledBag().eval()
rows = torch.export.Dim.DYNAMIC
torch.onnx.export(model, (torch.randn(50, 8),), sys.argv[1], dynamo=True, external_data=False,
                  dynamic_shapes=({0: rows},), input_names=["bag"], verbose=False)
session = onnxruntime.InferenceSession(sys.argv[1])
gaps = {}
for n in (50, 200):
    bag = torch.randn(n, 8) + torch.linspace(0, 3, n)[:, None]
    with torch.no_grad():
        expected = model(bag).numpy()
        uncut = model.head(bag).mean(dim=0).numpy()
    found = session.run(None, {"bag": bag.numpy()})[0]
    gaps[n] = float(np.abs(found - expected).max())
    print(f"{n} rows: torch {expected[0]:+.4f}, onnxruntime {found[0]:+.4f}, all rows pooled {uncut[0]:+.4f}")
as_seen = gaps[50] < 1e-4 and gaps[200] > 1e-2 and float(np.abs(found - uncut).max()) < 1e-4
sys.exit(0 if as_seen else "torch.onnx.export now treats such a branch otherwise: look again")
PYTHON
