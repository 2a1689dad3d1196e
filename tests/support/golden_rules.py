"""How the golden vectors' weights and inputs are rebuilt, and how gradients are compared (tests/golden/README.md)."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from places import GOLDEN
from torch import Tensor

from milbench.models import MILModel


class Golden:
    """One file of golden vectors, with the weights and bags that made it."""

    def __init__(self, name: str) -> None:
        with np.load(GOLDEN / f"{name}.npz") as file:
            self.arrays: dict[str, Any] = dict(file)
        self.meta: dict[str, Any] = json.loads(str(self.arrays["meta"]))

    def __getitem__(self, key: str) -> Any:
        return self.arrays[key]

    @property
    def names(self) -> list[str]:
        return [str(name) for name in self["param_names"]]

    def state_dict(self) -> dict[str, Tensor]:
        """Official weights, float32, checked against the file's hash."""
        rng, digest, weights = np.random.default_rng(self.meta["fill_seed"]), hashlib.sha256(), {}
        for name, shape in zip(self.names, map(json.loads, self["param_shapes"]), strict=True):
            z = rng.standard_normal(tuple(shape))
            if len(shape) >= 2:
                z = z * 1.5 / np.sqrt(np.prod(shape[1:]))
            else:
                z = 1 + 0.1 * z if name.endswith("weight") else 0.1 * z
            values = z.astype(np.float32)
            digest.update(values.tobytes())
            weights[name] = torch.from_numpy(values)
        assert digest.hexdigest() == str(self["param_sha256"])
        return weights

    def bag(self, n: int) -> Tensor:
        """Features [n, D], float32, checked against the file's hash."""
        rng = np.random.default_rng([self.meta["fill_seed"], n])
        x = rng.standard_normal((n, self.meta["input_dim"])).astype(np.float32)
        assert hashlib.sha256(x.tobytes()).hexdigest() == str(self[f"x_sha256/{n}"])
        return torch.from_numpy(x)

    def official_names(self, load: Callable[[dict[str, Tensor]], MILModel]) -> dict[str, str]:
        """Our parameter name -> official name, learnt by loading tensors that hold their own index."""
        marked = {name: torch.full_like(t, i) for i, (name, t) in enumerate(self.state_dict().items())}
        return {own: self.names[int(p.detach().flatten()[0])] for own, p in load(marked).named_parameters()}

    def gradient_error(self, tag: str, gradients: dict[str, Tensor | None]) -> float:
        """Largest deviation of l2, sum and dot, as a fraction of the largest official l2.

        A sum of n entries counts sqrt(n) times less: that is how far noise of a given l2 can move it.
        `gradients` by official name. Fails where the official code gives a gradient and ours is None, or the reverse.
        """
        largest, worst = np.nanmax(self[f"grad/{tag}/l2"]), 0.0
        for i, name in enumerate(self.names):
            ours = gradients[name]
            assert (ours is None) == bool(self[f"grad/{tag}/none"][i]), name
            if ours is None:
                continue
            g = ours.detach().double().numpy()
            projection = np.random.default_rng([self.meta["fill_seed"], 7777, i]).standard_normal(g.shape)
            official = {kind: self[f"grad/{tag}/{kind}"][i] for kind in ("l2", "sum", "dot")}
            official["sum"] /= np.sqrt(g.size)
            digest = {"l2": np.sqrt((g**2).sum()), "sum": g.sum() / np.sqrt(g.size), "dot": (g * projection).sum()}
            worst = max(worst, *(abs(digest[kind] - official[kind]) / largest for kind in digest))
        return float(worst)


def gradients_of(model: MILModel, loss: Tensor, names: dict[str, str]) -> dict[str, Tensor | None]:
    """Gradients of `loss` by official name; None where there is none."""
    model.zero_grad()
    loss.backward()
    return {names[own]: p.grad for own, p in model.named_parameters()}
