#!/usr/bin/env bash
# Versions   torchmil 1.0.2, torch 2.13.0 (public packages from PyPI, without milbench)
# Behaviour  ChebConv, the graph convolution of torchmil's DeepGraphSurv, lays the K terms of its polynomial out as [K, N, D] and
#            reads them as [N, K * D] without turning the axes. So the first patch is made of the inputs of patches 0, 1
#            and 2, without an edge between them, and the next of 3, 4 and 5. There is no error and no warning. If the same
#            patches and the same graph are listed in another order, DeepGraphSurv's answer is another one.
# A guess    would be that a patch hears its neighbours in the graph alone, and that the order of a graph's nodes is of no account.
# Seen       six patches without an edge: patch 0 hears patches [0, 1, 2], where [0] is right
#            one slide in two orders: PatchGCN -0.0057 and -0.0057, DeepGraphSurv +0.3058 and +0.2349
# Exits 0 while the library behaves so, and 1 if it does not any more.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.13.0 torchmil==1.0.2
"$folder/venv/bin/python" -W ignore - <<'PYTHON'
import sys

import torch
from torchmil.models import DeepGraphSurv, PatchGCN
from torchmil.nn.gnns.chebconv import ChebConv

torch.manual_seed(0)
patches = torch.randn(1, 6, 4, requires_grad=True)
alone = torch.zeros(1, 6, 6)
ChebConv(4, 8, K=3, compute_lambda_max=False)(patches, alone)[0, 0].sum().backward()
heard = patches.grad[0].abs().sum(1).nonzero().flatten().tolist()
print(f"six patches without an edge: patch 0 hears patches {heard}")

place = torch.arange(9)
edges = ((place[:, None] - place[None, :]).abs() == 1).float()
scale = edges.sum(1).rsqrt()
graph = (scale[:, None] * edges * scale[None, :])[None]
bag = torch.randn(1, 9, 16)
other = torch.arange(8, -1, -1)
moved = {}
for model in (PatchGCN, DeepGraphSurv):
    torch.manual_seed(1)
    network = model(in_shape=(16,)).eval()
    with torch.no_grad():
        first, second = float(network(bag, graph)), float(network(bag[:, other], graph[:, other][:, :, other]))
    moved[model.__name__] = abs(first - second)
    print(f"one slide in two orders: {model.__name__} {first:+.4f} and {second:+.4f}")
as_seen = heard == [0, 1, 2] and moved["PatchGCN"] < 1e-5 and moved["DeepGraphSurv"] > 1e-3
sys.exit(0 if as_seen else "torchmil's graph convolution now hears other patches: look again")
PYTHON
