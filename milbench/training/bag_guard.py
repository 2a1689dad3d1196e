"""Bag guard: a model that writes into its bag is found out before another model learns from the changed bag."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from torch import Tensor

from milbench.errors import DataError, MilbenchError
from milbench.layout import Patches


class BagGuard:
    """Lends one model the bags that all models of a pass share, and finds out if the model writes into them.

    The first bag is copied before it is lent. If the model writes into it, the copy restores it, and this model alone
    fails. Later bags are not copied. If the model writes into one of them, what other models share is spoilt, and nothing
    that is left of the pass is kept.

    Parameters
    ----------
    model : its name, for the message.
    """

    def __init__(self, model: str) -> None:
        self.model, self.is_trusted = model, False

    @contextmanager
    def lent(self, bags: Sequence[Patches]) -> Iterator[None]:
        """Inside, the model may read `bags`. Several bags go through it stacked, which is a copy already.

        Raises
        ------
        MilbenchError : the model wrote into the first bag, which is restored.
        DataError : the model wrote into a later bag.
        """
        if len(bags) > 1:
            yield
            return
        lent = [(tensor, None if self.is_trusted else tensor.clone(), tensor._version) for tensor in bags[0].tensors]
        try:
            yield
        finally:  # a model may write first and raise then
            for tensor, copy, version in lent:
                if tensor._version != version:
                    self._refuse(tensor, copy)
        self.is_trusted = True

    def _refuse(self, tensor: Tensor, copy: Tensor | None) -> None:
        message = (
            f"{self.model} writes into its bag, which all models share. "
            "Let its forward write into a copy (features = features.clone())."
        )
        if copy is None:
            raise DataError(f"{message} Nothing that was trained together with it is kept. Finished trials are kept.")
        tensor.copy_(copy)
        raise MilbenchError(message)
