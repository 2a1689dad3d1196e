"""Untouched: a model that writes into its bag is found out before another model learns from what it left."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from torch import Tensor

from milbench.errors import DataError, MilbenchError


class Untouched:
    """Lends bags, which belong to all models of a pass and to all its epochs, to one of them.

    The first that it gets are kept as copies beside, and put right again if it writes into them; so most such models
    fail alone. One that does so only later has spoilt what others share, and nothing that is left of the pass is kept.

    Parameters
    ----------
    model : its name, for the message.
    """

    def __init__(self, model: str) -> None:
        self.model, self.is_trusted = model, False

    @contextmanager
    def lent(self, bags: Sequence[Tensor]) -> Iterator[None]:
        """The model may read `bags` in the block.

        Raises
        ------
        MilbenchError : it wrote into the first ones; they are as before.
        DataError : it wrote into later ones.
        """
        copies = [] if self.is_trusted else [bag.clone() for bag in bags]
        before = [bag._version for bag in bags]
        yield
        changed = [bag for bag, version in zip(bags, before, strict=True) if bag._version != version]
        if not changed:
            self.is_trusted = True
            return
        message = (
            f"{self.model} writes into its bag, which all models share. "
            "Let its forward write into a copy (features = features.clone())."
        )
        if self.is_trusted:
            raise DataError(f"{message} Nothing of what was trained beside it is kept; finished trials are.")
        for bag, copy in zip(bags, copies, strict=True):
            bag.copy_(copy)
        raise MilbenchError(message)
