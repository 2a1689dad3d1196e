"""FeatureStore: bags for the trainer, with layouts where models need them, kept where they fit and else read ahead of it by threads."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch

from milbench.bag import Bag
from milbench.errors import DataError
from milbench.layout import Patches, patches_of
from milbench.serving.read_ahead import AHEAD, Depth, ReadAhead


class FeatureStore:
    """Patches by slide id, features in their stored dtype, on one device.

    A bag stays on the GPU while `device_bytes` last, then in memory while `host_bytes` last; any other is loaded
    again each time. Which ones stay follows from their sizes and the order in which they are first handed out, never
    from how fast anything was.

    Parameters
    ----------
    load : slide_id -> bag on the CPU, every value of them looked at (as `Cohort.load` does to check them), so
        that a mapped file is read where `load` runs and not where its pages are first used.
    device : where patches are handed out.
    device_bytes, host_bytes : what may stay. Without a GPU both are memory.
    most_ahead, ahead_bytes : bags that are read ahead at the most, and what those after the first `AHEAD` may take.

    Attributes
    ----------
    n_neighbours : what layouts hold (`ask_for_layouts`); None = bags come without a layout.

    What stays is a copy of its own: a mapped file's pages are the system's, which takes them back when it likes.

    >>> store = FeatureStore(cohort.load, device=device, device_bytes=0, host_bytes=10**9)
    >>> for slide_id, patches in store.in_order(slide_ids): ...
    """

    def __init__(
        self,
        load: Callable[[str], Bag],
        *,
        device: torch.device,
        device_bytes: int,
        host_bytes: int,
        most_ahead: int = AHEAD,
        ahead_bytes: int = 0,
    ) -> None:
        has_own_memory = device.type != "cpu"
        self.load, self.device = load, device
        self.n_neighbours: int | None = None
        self.near = _Memory(device_bytes if has_own_memory else 0)
        self.host = _Memory(host_bytes if has_own_memory else host_bytes + device_bytes)
        self.at_hand = (self.near if has_own_memory else self.host).kept
        self.depth = Depth(most_ahead, ahead_bytes)  # of all passes: what one measured, the next begins with
        # copies go beside the training, on a stream of their own
        self.stream = torch.cuda.Stream(device) if device.type == "cuda" else None  # type: ignore[no-untyped-call]

    def ask_for_layouts(self, n_neighbours: int | None) -> None:
        """Hand out layouts with at least so many neighbours from now on; None asks for nothing.

        A bag that was kept without them is read again.
        """
        if n_neighbours is None or (self.n_neighbours is not None and n_neighbours <= self.n_neighbours):
            return
        self.n_neighbours = n_neighbours
        self.near.forget()
        self.host.forget()

    def __getitem__(self, slide_id: str) -> Patches:
        """Patches of one slide; raises as `load`."""
        return self.at_hand[slide_id] if slide_id in self.at_hand else self._handed_out(slide_id, self._fetch(slide_id))

    def in_order(self, slide_ids: Iterable[str]) -> Generator[tuple[str, Patches], None, None]:
        """Id and patches of each slide, in order; threads have up to `depth.now` more of them ready meanwhile.

        They end with the last slide, or when the iterator is closed, dropped or left by `break`. What `load`
        raises is raised here, at its slide. No more than `depth.now` + 1 bags that do not stay are in memory at a time.
        """
        wanted = list(slide_ids)
        absent = {slide_id for slide_id in wanted if slide_id not in self.at_hand}
        ahead = ReadAhead(self._fetch, [slide_id for slide_id in wanted if slide_id in absent], self.depth)
        try:
            for slide_id in wanted:  # no local name for the patches: it would hold them while the next are read
                if slide_id in absent:
                    yield slide_id, self._handed_out(slide_id, ahead.take())
                else:
                    yield slide_id, self.at_hand[slide_id]
        finally:
            ahead.close()

    def _fetch(self, slide_id: str) -> _Fetched:
        """One slide's patches, read and on the way to the device; changes nothing, since threads run it."""
        host = self.host.kept.get(slide_id)
        if host is None:
            host = _with_layout(self.load(slide_id), self.n_neighbours)
            if self.host.has_room(host):  # now or never: room only shrinks
                host = host.each(torch.clone)
        return _Fetched(host, *_sent(host, self.device, self.stream))

    def _handed_out(self, slide_id: str, fetched: _Fetched) -> Patches:
        """The patches on the device, kept if there is room: decided here, where the order is the consumer's."""
        if slide_id not in self.near.kept and slide_id not in self.host.kept:
            _ = self.near.keep(slide_id, fetched.patches) or self.host.keep(slide_id, fetched.host)
        if fetched.arrival is not None:
            stream = torch.cuda.current_stream(self.device)
            stream.wait_event(fetched.arrival)
            for tensor in fetched.patches.tensors:
                tensor.record_stream(stream)  # its memory came from the other stream
        return fetched.patches


def _with_layout(bag: Bag, n_neighbours: int | None) -> Patches:
    """The bag's patches; if it has no layout, models that ask for one are told why, and others go on."""
    try:
        return patches_of(bag, n_neighbours)
    except DataError as error:
        return Patches(bag.features, problem=str(error))


class _Fetched(NamedTuple):
    """Patches of one slide: on the host, on the device, and the event of their arrival there."""

    host: Patches
    patches: Patches
    arrival: Any = None

    @property
    def nbytes(self) -> int:
        return self.host.nbytes


def _sent(host: Patches, device: torch.device, stream: Any) -> tuple[Patches, Any]:
    """Patches on the device, and the event after which they are there; None = they are."""
    if stream is None:
        return host.each(lambda tensor: tensor.to(device)), None
    with torch.cuda.stream(stream):
        # torch keeps pinned memory until it is copied
        patches = host.each(lambda tensor: tensor.pin_memory().to(device, non_blocking=True))
        return patches, stream.record_event()


@dataclass
class _Memory:
    """Bags that stay, and the bytes that are left for others."""

    left: int
    kept: dict[str, Patches] = field(default_factory=dict)

    def forget(self) -> None:
        """Keep none of them."""
        self.left += sum(patches.nbytes for patches in self.kept.values())
        self.kept.clear()

    def has_room(self, patches: Patches) -> bool:
        return patches.nbytes <= self.left

    def keep(self, slide_id: str, patches: Patches) -> bool:
        """Whether there was room for one more bag."""
        if not self.has_room(patches):
            return False
        self.kept[slide_id] = patches
        self.left -= patches.nbytes
        return True
