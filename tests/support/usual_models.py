"""Small models that layers of functions of whole layers are taken out of, listened to or put into."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from milbench.layout import Patches
from milbench.models import MILModel
from milbench.training.weights import ParameterStack
from milbench_baselines.amil import AMIL
from milbench_baselines.dsmil import DSMIL
from milbench_baselines.dtfd_mil import DTFDMIL
from milbench_baselines.m4 import M4
from milbench_baselines.max_pooling import MaxPooling
from milbench_baselines.mean_pooling import MeanPooling
from milbench_baselines.mmoe import MMoEAMIL, MMoEMPAMIL
from milbench_baselines.transmil import TransMIL

D, S = 12, 3
SMALL = {"hidden": 16, "attention": 8}
MODELS: dict[str, Callable[[], MILModel]] = {
    "mean": lambda: MeanPooling(D, 1, hidden=16),
    "max": lambda: MaxPooling(D, 1, hidden=16),
    "amil": lambda: AMIL(D, 1, **SMALL),
    "dsmil": lambda: DSMIL(D, 1, attention=8),
    "dtfd": lambda: DTFDMIL(D, 1, **SMALL),
    "transmil": lambda: TransMIL(D, 1, hidden=16, heads=1, landmarks=8),
    "mmoe_amil": lambda: MMoEAMIL(D, 3, **SMALL, experts=2),
    "mmoe_mp_amil": lambda: MMoEMPAMIL(D, 3, **SMALL, experts=2),
    "m4": lambda: M4(D, 3, **SMALL, experts=2),
}
STACKED = [name for name, make in MODELS.items() if int(make().outputs) == 1]

SIZES = [9, 100, 200, 5000]


def made(name: str) -> MILModel:
    torch.manual_seed(0)
    return MODELS[name]().double().eval()


def bag_of(n: int) -> Tensor:
    return torch.randn(n, D, generator=torch.Generator().manual_seed(n), dtype=torch.float64)


def parts_of(model: MILModel) -> dict[str, nn.Module]:
    """Modules below the model that its forward goes through, by name."""
    return {
        name: part
        for name, part in model.named_modules()
        if name
        and not isinstance(part, nn.ModuleList)
        and name not in ("embed", "value")[: 2 * isinstance(model, DSMIL)]  # which are identities
    }


def stack_of(models: Sequence[MILModel]) -> ParameterStack:
    """Models of one task, in eval mode, in a stack."""
    stack = ParameterStack(models, "float32", torch.device("cpu"))
    stack.model.eval()
    return stack


def assert_answers(stack: ParameterStack, models: Sequence[MILModel], msg: str | None = None) -> None:
    """The stack gives two small bags the logits that the models give them alone."""
    bags, ones = [Patches(bag_of(n)) for n in (8, 8)], torch.ones(len(models), 2, 1, dtype=torch.float64)
    _, logits = stack.losses_and_logits(bags, ones, ones, at_once=len(models))
    expected = torch.stack([torch.stack([model(bag.features).logits for bag in bags]) for model in models])
    torch.testing.assert_close(logits, expected, msg=msg)
