"""Two operators that torchvision's import looks for, and that a build for CUDA lacks where torch is a build for the CPU.

A user whose builds match never needs this. Nothing here is called: timm imports torchvision, and uses neither operator.
"""

from __future__ import annotations

import torch

DETECTIONS = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
OPERATORS = torch.library.Library("torchvision", "FRAGMENT")
"""Kept, because the operators go when it goes."""

for name in ("nms", "qnms"):
    if not hasattr(torch.ops.torchvision, name):
        OPERATORS.define(f"{name}{DETECTIONS}")
