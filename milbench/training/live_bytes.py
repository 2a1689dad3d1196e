"""Live bytes: what the results of a step hold, followed operation by operation, and what they would hold of a larger bag."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable, Mapping
from itertools import accumulate
from typing import Any, NamedTuple

from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode


class Trace(NamedTuple):
    """Storages of a step in the order in which they came and went.

    Attributes
    ----------
    sizes : bytes of each, in the order in which they came.
    events : place of a storage in `sizes`, first as it comes and again as it goes.
    """

    sizes: list[int]
    events: list[int]

    def copy(self) -> Trace:
        """The trace until now."""
        return Trace(list(self.sizes), list(self.events))

    def most(self) -> int:
        """Bytes that storages held at the same time, at most."""
        came: set[int] = set()
        changes = []
        for place in self.events:
            changes.append(-self.sizes[place] if place in came else self.sizes[place])
            came.add(place)
        return max(accumulate(changes), default=0)

    def at(self, own: int, larger: Trace, its: int, wanted: int) -> Trace | None:
        """Trace of a bag of `wanted` patches: each storage on the line through this trace and one of a larger bag.

        None if the two steps did not take the same operations.

        Parameters
        ----------
        own, its : patches of the bag of this trace, and of that of the larger one.
        """
        if self.events != larger.events:
            return None
        share = (wanted - own) / (its - own)
        return Trace(
            [max(0, round(a + (b - a) * share)) for a, b in zip(self.sizes, larger.sizes, strict=True)], self.events
        )


class LiveBytes(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Inside, the storages of all new results are followed. Those of `before`, which results may be views of, are not.

    Attributes
    ----------
    trace : of them.
    """

    def __init__(self, before: Iterable[Tensor] = ()) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.trace = Trace([], [])
        self._before = {each.untyped_storage()._cdata for each in before}
        self._living: dict[int, weakref.ref[Any]] = {}

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """Without this, torch imports its compiler at the first operation: a second."""
        return False

    def __torch_dispatch__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        found = func(*args, **(kwargs or {}))
        for each in found if isinstance(found, (tuple, list)) else (found,):
            if isinstance(each, Tensor):
                self._follow(each)
        return found

    def _follow(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        address, place = storage._cdata, len(self.trace.sizes)
        if address in self._living or address in self._before:
            return

        def gone(_: object) -> None:
            self.trace.events.append(place)
            del self._living[address]

        self._living[address] = weakref.ref(storage, gone)
        self.trace.sizes.append(storage.nbytes())
        self.trace.events.append(place)
