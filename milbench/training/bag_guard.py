"""Untouched: a model that writes into its bag is found out before another model learns from what it left."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from torch import Tensor

from milbench.errors import DataError, MilbenchError


class Untouched:
    """Lends bags, which belong to all models of a pass and to all its epochs, to one of them.

    The first is kept as a copy beside, and put right again if the model writes into it; so most such models fail alone.
    One that does so only later has spoilt what others share, and nothing that is left of the pass is kept.

    Parameters
    ----------
    model : its name, for the message.
    """

    def __init__(self, model: str) -> None:
        self.model, self.is_trusted = model, False

    @contextmanager
    def lent(self, bags: Sequence[Tensor]) -> Iterator[None]:
        """The model may read `bags` in the block; several bags go through it stacked, and that is a copy.

        Raises
        ------
        MilbenchError : it wrote into the first one; that is as before.
        DataError : it wrote into a later one.
        """
        if len(bags) > 1:
            yield
            return
        (bag,) = bags
        copy, version = None if self.is_trusted else bag.clone(), bag._version
        try:
            yield
        finally:  # a model may write first and raise then
            if bag._version != version:
                self._refuse(bag, copy)
        self.is_trusted = True

    def _refuse(self, bag: Tensor, copy: Tensor | None) -> None:
        message = (
            f"{self.model} writes into its bag, which all models share. "
            "Let its forward write into a copy (features = features.clone())."
        )
        if copy is None:
            raise DataError(f"{message} Nothing of what was trained beside it is kept; finished trials are.")
        bag.copy_(copy)
        raise MilbenchError(message)
