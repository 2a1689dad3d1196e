"""Models of torchmil beside milbench's, at one size and with equal weights, for `peers.py`.

Where the two architectures differ, milbench's options are set to torchmil's sizes, and what torchmil does not have is
given weights that change nothing: an output layer of ones on the diagonal (TransMIL), a gate that is open (DTFD-MIL).
milbench computes these parts all the same, so it does the work of both. Dropout is off, because torchmil has none at
the same places.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torchmil.models import ABMIL, DSMIL, DTFDMIL, TransMIL  # type: ignore[import-not-found]

import milbench_baselines  # noqa: F401 - registers the models, also where milbench is not installed
from milbench.models import MILModel
from milbench.registry import load_models

HIDDEN = 512
OPEN = 40.0
"""Bias of a sigmoid gate of zero weights that makes it exactly 1 in float32."""


class Peer(NamedTuple):
    """One method in both libraries.

    Attributes
    ----------
    model, options : milbench's name, and its constructor arguments.
    theirs : torchmil's model of bags [N, D], by D.
    names : torchmil's parameter or prefix by milbench's.
    loss_factor : torchmil's loss over milbench's.
    same_gradients : whether the two losses have the same gradients.
    """

    model: str
    options: Mapping[str, Any]
    theirs: Callable[[int], nn.Module]
    names: Mapping[str, str]
    loss_factor: float = 1.0
    same_gradients: bool = True


def _embedding(width: int, *, bias: bool = True) -> nn.Sequential:
    return nn.Sequential(nn.Linear(width, HIDDEN, bias=bias), nn.ReLU())


PEERS = {
    "ABMIL, gated": Peer(
        "amil",
        {"hidden": HIDDEN, "attention": 256, "dropout": 0.0},
        lambda width: ABMIL(in_shape=(width,), att_dim=256, gated=True, feat_ext=_embedding(width)),
        {
            "expert.embed": "feat_ext",
            "expert.attention.tanh_branch": "pool.fc1.module",
            "expert.attention.sigmoid_branch": "pool.fc_gated.module",
            "expert.attention.score": "pool.fc2",
            "head": "classifier.module",
        },
    ),
    "DSMIL": Peer(
        "dsmil",
        {"attention": 128},
        lambda width: DSMIL(in_shape=(width,), att_dim=128, nonlinear_q=True),
        {"score": "inst_classifier", "query": "q_nn", "head": "bag_classifier"},
        loss_factor=2.0,
    ),
    "TransMIL": Peer(
        "transmil",
        {"hidden": HIDDEN, "heads": 8, "landmarks": 256, "dropout": 0.0, "value_residual": 0},
        lambda width: TransMIL(
            in_shape=(width,), att_dim=HIDDEN, n_heads=8, n_landmarks=256, feat_ext=_embedding(width)
        ),
        {
            "embed": "feat_ext",
            "class_token": "cls_token",
            "layer1.norm": "layers.0.norm1",
            "layer2.norm": "layers.1.norm1",
            "layer1.attn.to_qkv": "layers.0.att_module.qkv_nn",
            "layer2.attn.to_qkv": "layers.1.att_module.qkv_nn",
            "position.conv7": "pos_layer.proj",
            "position.conv5": "pos_layer.proj1",
            "position.conv3": "pos_layer.proj2",
            "norm": "norm",
            "head": "classifier",
        },
    ),
    "DTFD-MIL": Peer(
        "dtfd_mil",
        {"hidden": HIDDEN, "attention": 128, "pseudo_bags": 4, "distillation": "AFS"},
        lambda width: DTFDMIL(
            in_shape=(width,), att_dim=128, n_groups=4, distill_mode="afs", feat_ext=_embedding(width, bias=False)
        ),
        {
            "reduction": "feat_ext",
            "attention.tanh_branch": "attention_pool.fc1.module",
            "attention.score": "attention_pool.fc2",
            "classifier.linear": "classifier.module",
            "tier_two.attention.tanh_branch": "u_attention_pool.fc1.module",
            "tier_two.attention.score": "u_attention_pool.fc2",
            "tier_two.classifier.linear": "u_classifier.module",
        },
        same_gradients=False,  # torchmil's second tier also moves the first
    ),
}


def both(name: str, width: int) -> tuple[MILModel, nn.Module]:
    """milbench's and torchmil's model with equal weights, in training mode."""
    peer = PEERS[name]
    ours, theirs = load_models()[peer.model](width, 1, **peer.options), peer.theirs(width)
    given = dict(theirs.named_parameters())
    with torch.no_grad():
        for mine, parameter in ours.named_parameters():
            parameter.copy_(_as_ours(mine, parameter, _theirs_of(mine, peer.names, given)))
    return ours.train(), theirs.train()


def _theirs_of(mine: str, names: Mapping[str, str], given: Mapping[str, Tensor]) -> Tensor | None:
    """torchmil's parameter for one of milbench's; None where it has none."""
    for prefix, other in names.items():
        if mine == prefix or mine.startswith(f"{prefix}."):
            return given.get(other + mine.removeprefix(prefix))
    return None


def _as_ours(mine: str, like: Tensor, found: Tensor | None) -> Tensor:
    """Value of one of milbench's parameters, from torchmil's or one that changes nothing."""
    if found is None:
        if "sigmoid_branch.bias" in mine:
            return torch.full_like(like, OPEN)
        return torch.eye(len(like)) if "to_out.0.weight" in mine else torch.zeros_like(like)
    if found.numel() == like.numel():
        return found.reshape(like.shape)
    return torch.stack((torch.zeros_like(found[0]), found[0]))  # a head of two logits, whose difference is the answer


class Gap(NamedTuple):
    """Largest differences between the two libraries, relative to the largest value: of logit, loss and gradients."""

    logit: float
    loss: float
    gradients: float | None


def gap(name: str, patches: int, width: int) -> Gap:
    """How far both are apart on one bag, in float64."""
    peer, features = PEERS[name], torch.randn(patches, width, dtype=torch.float64)
    ours, theirs = (model.double() for model in both(name, width))
    label = torch.ones(1, dtype=torch.float64)
    np.random.seed(1)  # noqa: NPY002, TID251 - torchmil groups patches by NumPy's global generator
    order = np.arange(patches)
    np.random.shuffle(order)  # noqa: NPY002
    np.random.seed(1)  # noqa: NPY002, TID251
    is_grouped = name == "DTFD-MIL"
    output = ours.forward_grouped(features, [torch.from_numpy(order)]) if is_grouped else ours(features)
    loss = ours.loss(output, label, torch.ones_like(label)) * peer.loss_factor
    loss.backward()
    parts = theirs.compute_loss(label, features[None])[1]
    np.random.seed(1)  # noqa: NPY002, TID251
    answer = theirs(features[None])
    sum(parts.values()).backward()
    with torch.no_grad():
        of_logit = float((output.logits - answer).abs().max() / answer.abs().max())
        of_loss = float((loss - sum(parts.values())).abs() / loss.abs())
    return Gap(of_logit, of_loss, _of_gradients(peer, ours, theirs) if peer.same_gradients else None)


def _of_gradients(peer: Peer, ours: MILModel, theirs: nn.Module) -> float:
    given = {name: p.grad for name, p in theirs.named_parameters() if p.grad is not None}
    worst = 0.0
    for mine, parameter in ours.named_parameters():
        found = _theirs_of(mine, peer.names, given)
        if found is None:
            continue
        own = parameter.grad if found.numel() == parameter.numel() else parameter.grad[1:]
        worst = max(worst, float((own.reshape(found.shape) - found).abs().max() / found.abs().max().clamp(min=1e-12)))
    return worst
