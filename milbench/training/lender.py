"""Lender: an architecture that computes with the weights of others for a moment."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

from torch import Tensor, nn


class Lender:
    """Lends a model weights. `torch.func.functional_call` does the same in many times the time.

    Parameters
    ----------
    model : whose own parameters are back after each use.
    names : of the parameters that are lent, as `named_parameters` says them. A parameter that several modules share is
        lent to all of them.
    """

    def __init__(self, model: nn.Module, names: Iterable[str]) -> None:
        self._names = list(names)
        name_of = {parameter: name for name, parameter in model.named_parameters()}
        self._places = [
            (module._parameters, local, parameter, self._names.index(name_of[parameter]))
            for module in model.modules()
            for local, parameter in module._parameters.items()
            if parameter is not None and name_of[parameter] in self._names
        ]

    @contextmanager
    def lent(self, weights: Sequence[Tensor]) -> Iterator[None]:
        """Inside, the model has these weights, in the order of the names."""
        for parameters, local, _, place in self._places:
            parameters[local] = weights[place]  # type: ignore[assignment]
        try:
            yield
        finally:
            for parameters, local, own, _ in self._places:
                parameters[local] = own
