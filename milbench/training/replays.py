"""Replays: work on tensors that is recorded once per size of what it reads, and then replayed by one launch.

=================  ==========================================================================================
first visit        the work is done as always: it fills caches, loads kernels, and gives the stream its workspaces
second visit       the work is recorded over tensors that stay where they are, and replayed
all later visits   what the work reads is copied into these tensors, and the work is replayed
=================  ==========================================================================================

Work that a graph cannot hold, because its Python needs the CPU (`host_reads.py`), is done as always.

A recording stays until training ends, and none is made when memory gets short. A rule that lets the least recently used
one go would help nobody: an epoch visits each bag once, so it would let recordings go shortly before they are needed.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from contextlib import AbstractContextManager
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from milbench.layout import Patches
from milbench.training.host_reads import host_reads


class Recorder(Protocol):
    """What records work on a device, and plays it again."""

    def session(self) -> AbstractContextManager[None]:
        """Inside, work can be recorded and replayed."""
        ...

    def has_room(self, n_bytes: int) -> bool:
        """Whether there is memory for one more recording, of work that takes about so much."""
        ...

    def record(self, work: Callable[[], None], generators: Sequence[torch.Generator]) -> Callable[[], None]:
        """Replay of `work`: it does again what `work` does to tensors, wherever the generators are by then.

        What `work` reads and writes stays where it is. What it writes while it is recorded means nothing.

        Parameters
        ----------
        generators : that `work` draws from, besides torch's own.

        Raises
        ------
        Exception : `work` cannot be recorded, or memory ran out. Nothing more must be recorded.
        """
        ...


class Work(Protocol):
    """Work that may be recorded: it reads bags and labels and what always stays in place, such as weights."""

    def __call__(self, bags: Sequence[Patches], *labels: Tensor) -> Sequence[Tensor | None]:
        """New tensors, or None where there is nothing, the same for all bags of one size."""
        ...


class ReplayMemory:
    """What all recordings of one pass share: the recorder, and the tensors through which they get bags and labels.

    Attributes
    ----------
    is_open : whether work may be recorded and replayed.
    problem : why recording ended before training did; "" if it did not.
    """

    def __init__(self, recorder: Recorder) -> None:
        self.recorder = recorder
        self.is_open, self.problem = True, ""
        self._users: list[Replays] = []
        self._rooms: dict[tuple[Hashable, torch.dtype], Tensor] = {}

    def replays(self) -> Replays:
        """Recordings of another piece of work; none so far."""
        self._users.append(Replays(self))
        return self._users[-1]

    def why_not_more(self) -> str:
        """What kept work from being recorded, in words; "" if nothing did."""
        return self.problem or "; ".join(
            dict.fromkeys(need for each in self._users for need in each.needs_cpu_for or [])
        )

    def let_go(self) -> bool:
        """Whether there were recordings, whose memory steps may now have. There will be no others."""
        had_any = any(each.n_recorded for each in self._users)
        if had_any:
            self.end("memory ran out")
        return had_any

    def end(self, problem: str = "") -> None:
        """Forget all recordings, and do all further work as always."""
        self.is_open, self.problem = False, self.problem or problem
        for each in self._users:
            each.forget()
        self._rooms.clear()

    def places_for(self, bags: Sequence[Patches], labels: Sequence[Tensor]) -> tuple[list[Patches], list[Tensor]]:
        """Tensors like these, that stay where they are. All work of the pass gets what it reads through the same memory."""
        number = iter(range(sum(len(bag.tensors) for bag in bags)))
        bag_places = [bag.each(lambda tensor: self._room(("bag", next(number)), tensor)) for bag in bags]
        return bag_places, [self._room(("label", i), label) for i, label in enumerate(labels)]

    def _room(self, name: Hashable, like: Tensor) -> Tensor:
        """If there is too little memory of this name, new memory of twice the size is made. Recordings keep what they have."""
        room = self._rooms.get((name, like.dtype))
        if room is None or room.numel() < like.numel():
            room = self._rooms[name, like.dtype] = torch.empty(2 * like.numel(), dtype=like.dtype, device=like.device)
        return room[: like.numel()].view(like.shape)


class Replays:
    """Recordings of one piece of work, by the size of what it reads.

    Attributes
    ----------
    n_replayed : how often work was replayed.
    needs_cpu_for : what the work needed the CPU for when it was first done, with one bag and with each other number of
        bags. If anything, it is not recorded any more. None = it has not been done yet.
    """

    def __init__(self, memory: ReplayMemory) -> None:
        self.memory, self.n_replayed = memory, 0
        self.needs_cpu_for: list[str] | None = None
        self._watched_with: set[int] = set()
        self._seen: dict[Hashable, list[_Kind | None]] = {}
        self._recorded: dict[Hashable, _Recording] = {}
        self._results: dict[tuple[int, _Kind], Tensor] = {}

    @property
    def n_recorded(self) -> int:
        """Number of recordings."""
        return len(self._recorded)

    @property
    def is_open(self) -> bool:
        """Whether work may be recorded and replayed."""
        return self.memory.is_open

    def forget(self) -> None:
        """Let all recordings go; what they read or wrote may be elsewhere from now on."""
        self._seen.clear()
        self._recorded.clear()
        self._results.clear()

    def of(
        self,
        work: Work,
        bags: Sequence[Patches],
        labels: Sequence[Tensor],
        *,
        among: Hashable = None,
        generators: Sequence[torch.Generator] = (),
        n_bytes: int = 0,
    ) -> Sequence[Tensor | None]:
        """What `work` makes of bags and labels. It may lie where the next replay puts its results.

        Parameters
        ----------
        among : what else decides which operations the work consists of.
        generators : that the work draws from, besides torch's own; always the same for the same `among`.
        n_bytes : memory that the work takes, about.
        """
        if not self.is_open:
            return work(bags, *labels)
        size = among, tuple(_Kind.of(tensor) for bag in bags for tensor in bag.tensors), tuple(map(_Kind.of, labels))
        if size not in self._seen:
            made = self._watched(work, bags, labels, generators)
            # not if it raised: memory may have run out, and the same work comes again
            self._seen[size] = [None if each is None else _Kind.of(each) for each in made]
            return made
        if size not in self._recorded and not self.needs_cpu_for and self.memory.recorder.has_room(n_bytes):
            self._record(size, work, bags, labels, generators)
        recording = self._recorded.get(size)
        if recording is None:
            return work(bags, *labels)
        self.n_replayed += 1
        recording.take_in(bags, labels)
        recording.replay()
        return recording.results

    def _watched(
        self, work: Work, bags: Sequence[Patches], labels: Sequence[Tensor], generators: Sequence[torch.Generator]
    ) -> Sequence[Tensor | None]:
        """The results, of which the first time with so many bags shows whether other times can be recorded."""
        if len(bags) in self._watched_with:
            return work(bags, *labels)
        with host_reads(bags[0].features.device, generators) as found:
            made = work(bags, *labels)
        self._watched_with.add(len(bags))
        self.needs_cpu_for = list(dict.fromkeys([*(self.needs_cpu_for or []), *found]))
        return made

    def _record(
        self,
        size: Hashable,
        work: Work,
        bags: Sequence[Patches],
        labels: Sequence[Tensor],
        generators: Sequence[torch.Generator],
    ) -> None:
        try:
            results = [self._place(i, kind, bags[0].features.device) for i, kind in enumerate(self._seen[size])]
            recording = _Recording(*self.memory.places_for(bags, labels), results)
            recording.take_in(bags, labels)  # a recorder may do the work, which needs bags that make sense
            recording.replay = self.memory.recorder.record(lambda: recording.put(work), generators)
        except Exception as error:  # noqa: BLE001 - as always the work may do; if not, it raises there
            self.memory.end(f"{type(error).__name__}: {error}")
        else:
            self._recorded[size] = recording

    def _place(self, number: int, kind: _Kind | None, device: torch.device) -> Tensor | None:
        """Where the result of this number goes. Recordings whose results are alike share it."""
        if kind is None:
            return None
        if (number, kind) not in self._results:
            self._results[number, kind] = torch.empty(kind.shape, dtype=kind.dtype, device=device)
        return self._results[number, kind]


class _Kind(NamedTuple):
    """What tensors have in common that can share a place."""

    shape: torch.Size
    dtype: torch.dtype

    @classmethod
    def of(cls, tensor: Tensor) -> _Kind:
        return cls(tensor.shape, tensor.dtype)


class _Recording:
    """Recorded work. Its bags, labels and results stay where they are; what it makes on the way has no place of its own."""

    replay: Callable[[], None]

    def __init__(self, bags: list[Patches], labels: list[Tensor], results: list[Tensor | None]) -> None:
        self.bags, self.labels, self.results = bags, labels, results

    def take_in(self, bags: Sequence[Patches], labels: Sequence[Tensor]) -> None:
        """Put bags of this size, and their labels, where the work reads them."""
        for place, label in zip(self.labels, labels, strict=True):
            place.copy_(label.detach())
        for bag_place, bag in zip(self.bags, bags, strict=True):
            for place, tensor in zip(bag_place.tensors, bag.tensors, strict=True):
                place.copy_(tensor)

    def put(self, work: Work) -> None:
        """Do the work on what was taken in, and put what it makes into the results."""
        made = work(self.bags, *self.labels)
        places = [place for place in self.results if place is not None]
        torch._foreach_copy_(places, [each for each in made if each is not None])
