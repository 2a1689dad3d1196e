"""FeatureStore: bags for the trainer, kept where they fit and else read ahead of it by threads."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor

AHEAD = 2
"""Bags that are read before they are asked for, each by a thread of its own: one to hide a read behind a step, one more for a
bag that is larger. One read at a time would not reach the disk's bandwidth."""

THREAD = "milbench-read-ahead"


class FeatureStore:
    """Features [N, D] by slide id, in their stored dtype, on one device.

    A bag stays on the GPU while `device_bytes` last, then in memory while `host_bytes` last; any other is loaded
    again each time. Which ones stay follows from their sizes and the order in which they are first handed out, never
    from how fast anything was.

    Parameters
    ----------
    load : slide_id -> features on the CPU, every value of them looked at (as `Cohort.load` does to check them), so
        that a mapped file is read where `load` runs and not where its pages are first used.
    device : where features are handed out.
    device_bytes, host_bytes : what may stay. Without a GPU both are memory.

    What stays is a copy of its own: a mapped file's pages are the system's, which takes them back when it likes.

    >>> store = FeatureStore(lambda slide: cohort.load(slide).features, device=device, device_bytes=0, host_bytes=10**9)
    >>> for slide_id, features in store.in_order(slide_ids): ...
    """

    def __init__(
        self, load: Callable[[str], Tensor], *, device: torch.device, device_bytes: int, host_bytes: int
    ) -> None:
        has_own_memory = device.type != "cpu"
        self.load, self.device = load, device
        self.near = _Memory(device_bytes if has_own_memory else 0)
        self.host = _Memory(host_bytes if has_own_memory else host_bytes + device_bytes)
        self.at_hand = (self.near if has_own_memory else self.host).kept
        # copies go beside the training, on a stream of their own
        self.stream = torch.cuda.Stream(device) if device.type == "cuda" else None  # type: ignore[no-untyped-call]

    def __getitem__(self, slide_id: str) -> Tensor:
        """Features of one slide; raises as `load`."""
        return self.at_hand[slide_id] if slide_id in self.at_hand else self._handed_out(slide_id, self._fetch(slide_id))

    def in_order(self, slide_ids: Iterable[str]) -> Generator[tuple[str, Tensor], None, None]:
        """Id and features of each slide, in order; threads have up to `AHEAD` more of them ready meanwhile.

        They end with the last slide, or when the iterator is closed, dropped or left by `break`. What `load`
        raises is raised here, at its slide. No more than `AHEAD` + 1 bags that do not stay are in memory at a time.
        """
        wanted = list(slide_ids)
        absent = {slide_id for slide_id in wanted if slide_id not in self.at_hand}
        ahead = _ReadAhead(self._fetch, [slide_id for slide_id in wanted if slide_id in absent])
        try:
            for slide_id in wanted:  # no local name for the features: it would hold them while the next are read
                if slide_id in absent:
                    yield slide_id, self._handed_out(slide_id, ahead.take())
                else:
                    yield slide_id, self.at_hand[slide_id]
        finally:
            ahead.close()

    def _fetch(self, slide_id: str) -> _Fetched:
        """One slide's features, read and on the way to the device; changes nothing, since threads run it."""
        host = self.host.kept.get(slide_id)
        if host is None:
            host = self.load(slide_id)
            if self.host.has_room(host):  # now or never: room only shrinks
                host = host.clone()
        return _Fetched(host, *_sent(host, self.device, self.stream))

    def _handed_out(self, slide_id: str, fetched: _Fetched) -> Tensor:
        """The features on the device, kept if there is room: decided here, where the order is the consumer's."""
        if slide_id not in self.near.kept and slide_id not in self.host.kept:
            _ = self.near.keep(slide_id, fetched.features) or self.host.keep(slide_id, fetched.host)
        if fetched.arrival is not None:
            stream = torch.cuda.current_stream(self.device)
            stream.wait_event(fetched.arrival)
            fetched.features.record_stream(stream)  # its memory came from the other stream
        return fetched.features


class _Fetched(NamedTuple):
    """Features of one slide: on the host, on the device, and the event of their arrival there."""

    host: Tensor
    features: Tensor
    arrival: Any = None


def _sent(host: Tensor, device: torch.device, stream: Any) -> tuple[Tensor, Any]:
    """Features on the device, and the event after which they are there; None = they are."""
    if stream is None:
        return host.to(device), None
    with torch.cuda.stream(stream):
        features = host.pin_memory().to(device, non_blocking=True)  # torch keeps pinned memory until it is copied
        return features, stream.record_event()


@dataclass
class _Memory:
    """Bags that stay, and the bytes that are left for others."""

    left: int
    kept: dict[str, Tensor] = field(default_factory=dict)

    def has_room(self, features: Tensor) -> bool:
        return features.nbytes <= self.left

    def keep(self, slide_id: str, features: Tensor) -> bool:
        """Whether there was room for one more bag."""
        if not self.has_room(features):
            return False
        self.kept[slide_id] = features
        self.left -= features.nbytes
        return True


class _ReadAhead:
    """What `fetch` makes of `slide_ids`, in order: `AHEAD` threads, as many results before they are taken."""

    def __init__(self, fetch: Callable[[str], _Fetched], slide_ids: list[str]) -> None:
        self.fetch, self.left = fetch, iter(slide_ids)
        self.pool = ThreadPoolExecutor(AHEAD, thread_name_prefix=THREAD)  # they start with their first slides
        self.ready: deque[Future[_Fetched]] = deque()
        for _ in range(AHEAD):
            self._ask()

    def take(self) -> _Fetched:
        fetched = self.ready.popleft().result()
        self._ask()
        return fetched

    def close(self) -> None:
        """End the threads after the slides that they read; the garbage collector may run in one of them."""
        itself = threading.current_thread().name.startswith(THREAD)
        self.pool.shutdown(wait=not itself, cancel_futures=True)
        self.ready.clear()

    def _ask(self) -> None:
        for slide_id in self.left:
            self.ready.append(self.pool.submit(self.fetch, slide_id))
            break
