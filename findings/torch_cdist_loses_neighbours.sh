#!/usr/bin/env bash
# Versions   torch 2.13.0 (public package from PyPI, without milbench)
# Behaviour  torch.cdist of at most 25 points subtracts coordinates. Of more, it takes |a|² + |b|² - 2ab, a product of matrices.
#            In float32 the squares of a slide's coordinates have steps of up to a thousand, which is not little beside the
#            square of a patch's edge. So distances between neighbours come out too long or too short, and a patch may lie far
#            from itself. A graph of all patches that are at most one edge apart loses edges. Which ones depends on how many
#            patches there are and on where on the slide they lie. There is no error and no warning.
# A guess    would be exact distances: whole numbers of pixels below 16 million are exact in float32, and so are these edges.
# Seen       patches of 512 px on a grid, five in a column, neighbours at a distance of at most 512
#            25 patches far from the corner: 40 of 40. 30 patches at the corner: 49 of 49, far from the corner: 0 of 49
#            patches of 224 px, 30 of them, far from the corner: a patch lies up to 45.3 px from itself
# Known as   pytorch/pytorch issue 57690, open, for features; compute_mode="donot_use_mm_for_euclid_dist" is exact
# Exits 0 while the library behaves so, and 1 if it does not any more.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.13.0
"$folder/venv/bin/python" -W ignore - <<'PYTHON'
import sys

import torch

CORNER, FAR = (0.0, 0.0), (90117.0, 60233.0)


def corners(columns, edge, begin):
    """Upper left corners [N, 2] of patches on a grid of five rows."""
    return torch.cartesian_prod(torch.arange(columns), torch.arange(5)).float() * edge + torch.tensor(begin)


seen = {}
for columns, begin in ((5, FAR), (6, CORNER), (6, FAR)):
    patches = corners(columns, 512, begin)
    is_right = torch.cdist(patches, patches, compute_mode="donot_use_mm_for_euclid_dist") <= 512
    is_edge = torch.cdist(patches, patches) <= 512
    kept, right = (int(pairs.triu(1).sum()) for pairs in (is_edge & is_right, is_right))
    seen[len(patches), begin] = kept / right
    print(f"{len(patches)} patches from {begin}: {kept} of {right} neighbours")
smaller = corners(6, 224, FAR)
from_itself = float(torch.cdist(smaller, smaller).diagonal().max())
print(f"30 patches of 224 px: {from_itself:.1f} px from itself")
as_seen = seen[25, FAR] == seen[30, CORNER] == 1 and seen[30, FAR] < 0.9 and from_itself > 20
sys.exit(0 if as_seen else "torch now measures distances of coordinates otherwise: look again")
PYTHON
