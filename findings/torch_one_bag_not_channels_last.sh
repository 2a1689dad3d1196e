#!/usr/bin/env bash
# Versions   torch 2.13.0 (public package from PyPI, without milbench)
# Behaviour  A bag of patches on a grid [H, W, C] becomes a batch of one image [1, C, H, W] in two ways: permute, then add the
#            axis of the batch, or the other way round. Both views show the same values of the same memory, and both say True to
#            is_contiguous(memory_format=torch.channels_last). They differ in the stride of the axis of length one alone.
#            conv2d on a CPU looks at that stride, too: the first bag is convolved as NCHW and comes back as NCHW, the second
#            comes back as channels last. contiguous(memory_format=torch.channels_last) leaves the first as it is.
#            to(memory_format=torch.channels_last) changes its stride, and conv2d then takes it for channels last.
# A guess    would be that the stride of an axis of length one does not matter, and that a tensor which says that it is
#            channels last is convolved as channels last.
# Seen       permute, then the batch axis: strides (16, 1, 80, 16), out as NCHW
#            the batch axis, then permute: strides (560, 1, 80, 16), out as channels last
#            the first after contiguous(): out as NCHW. The first after to(): out as channels last
# Known as   pytorch/pytorch issue 68430, open
# Exits 0 while the library behaves so, and 1 if it does not any more.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.13.0
"$folder/venv/bin/python" -W ignore - <<'PYTHON'
import sys

import torch

LAST = torch.channels_last
torch.manual_seed(0)
grid = torch.randn(7, 5, 16)
first, second = grid.permute(2, 0, 1)[None], grid[None].permute(0, 3, 1, 2)
same = first.equal(second) and first.data_ptr() == second.data_ptr()
bags = {
    "permute, then the batch axis": first,
    "the batch axis, then permute": second,
    "the first after contiguous()": first.contiguous(memory_format=LAST),
    "the first after to()": first.to(memory_format=LAST),
}
both_say_so = all(bag.is_contiguous(memory_format=LAST) for bag in bags.values())
print(f"same values at the same address: {same}. All say that they are channels last: {both_say_so}")

depthwise = torch.nn.Conv2d(16, 16, 3, padding=1, groups=16)
came_back = {}
for name, bag in bags.items():
    out = depthwise(bag)
    came_back[name] = "channels last" if out.is_contiguous(memory_format=LAST) else "NCHW" if out.is_contiguous() else "neither"
    print(f"{name}: strides {bag.stride()}, out as {came_back[name]}")
as_seen = same and both_say_so and list(came_back.values()) == ["NCHW", "channels last", "NCHW", "channels last"]
sys.exit(0 if as_seen else "conv2d now takes such a bag otherwise: look again")
PYTHON
