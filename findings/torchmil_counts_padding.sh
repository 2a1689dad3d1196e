#!/usr/bin/env bash
# Versions   torchmil 1.0.2, torch 2.13.0 (public packages from PyPI, without milbench)
# Behaviour  torchmil pads the bags of a batch to the longest one and makes a mask of what is padding. Its TransMIL takes no mask:
#            padded patches take part like all others. So what it says of a slide depends on which slide is beside it in
#            the batch. There is no error and no warning. ABMIL and PatchGCN leave padding out.
# A guess    would be that a slide's answer does not depend on its neighbour, or that such a model refuses a padded batch.
# Seen       a slide of 9 patches: alone, and in one batch with a slide of 25
#            ABMIL +0.1868 +0.1868, PatchGCN +0.0624 +0.0624, TransMIL -0.4663 -0.4318
# Exits 0 while the library behaves so, and 1 if it does not any more.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.13.0 torchmil==1.0.2
"$folder/venv/bin/python" -W ignore - <<'PYTHON'
import sys

import torch
from torchmil.data import collate_fn
from torchmil.models import ABMIL, MILModelWrapper, PatchGCN, TransMIL


def bag(n):
    """A bag of n patches in a chain: each is the neighbour of itself and of those before and after it."""
    place = torch.arange(n)
    near = ((place[:, None] - place[None, :]).abs() <= 1).float()
    return {"X": torch.randn(n, 16), "Y": torch.tensor([1.0]), "adj": (near / near.sum(1, keepdim=True)).to_sparse()}


torch.manual_seed(0)
short, long = bag(9), bag(25)
moved = {}
for model in (ABMIL, PatchGCN, TransMIL):
    torch.manual_seed(1)
    network = MILModelWrapper(model(in_shape=(16,))).eval()
    with torch.no_grad():
        alone, beside = (float(network(collate_fn(batch)).flatten()[0]) for batch in ([short], [short, long]))
    moved[model.__name__] = abs(alone - beside)
    print(f"{model.__name__:8} alone {alone:+.4f}, beside a longer slide {beside:+.4f}")
as_seen = max(moved["ABMIL"], moved["PatchGCN"]) < 1e-5 and moved["TransMIL"] > 1e-3
sys.exit(0 if as_seen else "torchmil now treats padding otherwise: look again")
PYTHON
