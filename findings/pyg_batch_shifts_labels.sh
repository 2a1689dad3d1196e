#!/usr/bin/env bash
# Versions   torch_geometric 2.8.1, torch 2.13.0 (public packages from PyPI, without milbench)
# Behaviour  A slide's graph of patches keeps its label and what else is known of the slide. When graphs are put into a batch,
#            each value whose name contains "index" is raised by the number of patches of the graphs before it, and each value
#            whose name contains "batch" by what each of these graphs holds there, plus one each. That is right for edges, and
#            it is done to labels, too. There is no error and no warning. In a batch of one graph, as in most evaluations,
#            nothing is raised.
# A guess    would be that batching does not change what a graph holds, whatever its name.
# Seen       graphs of 10, 20, 30 and 5 patches, with the values 0, 1, 2, 1 under three names
#            grade [0, 1, 2, 1], grade_index [0, 11, 32, 61], staining_batch [0, 2, 5, 7]
# Known as   pyg-team/pytorch_geometric issues 1390 and 7777, closed: names with "index" are meant so
# Exits 0 while the library behaves so, and 1 if it does not any more.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.13.0 torch_geometric==2.8.1
"$folder/venv/bin/python" -W ignore - <<'PYTHON'
import sys

import torch
from torch_geometric.data import Data
from torch_geometric.loader import DataLoader

NAMES = ("grade", "grade_index", "staining_batch")
slides = []
for patches, value in ((10, 0), (20, 1), (30, 2), (5, 1)):
    chain = torch.stack([torch.arange(patches - 1), torch.arange(1, patches)])
    slides.append(Data(x=torch.randn(patches, 8), edge_index=chain, **{name: torch.tensor([value]) for name in NAMES}))

(together,) = DataLoader(slides, batch_size=4)
alone = list(DataLoader(slides, batch_size=1))
seen = {}
for name in NAMES:
    seen[name] = together[name].tolist()
    one_by_one = [int(slide[name]) for slide in alone]
    print(f"{name}: {seen[name]} in one batch, {one_by_one} one by one")
as_seen = seen == {"grade": [0, 1, 2, 1], "grade_index": [0, 11, 32, 61], "staining_batch": [0, 2, 5, 7]}
sys.exit(0 if as_seen and one_by_one == [0, 1, 2, 1] else "torch_geometric now batches values otherwise: look again")
PYTHON
