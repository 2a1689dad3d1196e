"""Small copies of the baselines, and bags for them."""

import torch

from milbench.models import MILModel
from milbench.registry import load_models
from milbench.trials.arguments import constructor_arguments

MODELS = {name: model for name, model in load_models().items() if model.__module__.startswith("milbench_baselines")}


SMALL = {"hidden": 16, "attention": 4, "landmarks": 4, "heads": 2, "feed_forward": 16}


def make(name: str, n_outputs: int | None = None, **options: object) -> MILModel:
    """A small copy in eval mode, its weights drawn from the generator as it stands."""
    model = MODELS[name]
    known = constructor_arguments(model)
    n_outputs = n_outputs or (3 if model.info.tasks == "multi" else 1)
    return model(12, n_outputs, **{key: value for key, value in SMALL.items() if key in known}, **options).eval()


def bag(n: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(n, 12, generator=torch.Generator().manual_seed(seed))
