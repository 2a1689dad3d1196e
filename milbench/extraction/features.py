"""Features: from slides to one file of features per slide.

::

    slides ──> plan ──> corners ──> tiles in slots ──> encoder ──> {slide}.h5
               └────── reading processes ──────┘      └─── this process ──┘

Patches of a slide are encoded in batches that begin at its first patch, whoever reads them and in whatever order they come:
the number of readers changes no byte. A slide that fails is listed with its reason, and the others are done.

Several commands may work in one folder. Each takes the next slide that no other one holds, and at the end waits for those of
the others: if their process dies, the slide is taken over.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from time import sleep
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from milbench.errors import DataError, MilbenchError
from milbench.extraction.feature_file import FeatureFile
from milbench.extraction.folder import facts_of, prepare, state_of, why_again
from milbench.extraction.plan import Plan, SlideFile
from milbench.extraction.reader import Answer, PlanTask, Task, TilesTask, Trouble
from milbench.extraction.readers import TASKS_AHEAD, Readers, Reading, ReadingHere
from milbench.extraction.settings import Settings
from milbench.extraction.sheet import SHEETS
from milbench.extraction.slots import Slots
from milbench.machine.allocator import tune_allocator
from milbench.store.claims import Claim, let_go, take
from milbench.store.run_folder import CLAIMS

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from milbench.extraction.encoder import Encoder

BATCH_ON_GPU, BATCH_ON_CPU = 64, 8
"""Patches that are encoded at once. On a CPU the activations of few patches stay in the cache, and in memory that the C library keeps."""

SLIDES_AHEAD = 2
"""Slides whose patches are known and not all dealt: while one is read, tissue of the next is looked for."""

LOOK_SECONDS = 1.0
"""How often a command that has nothing left to do looks for slides that others hold."""


class Watch:
    """What is told of an extraction as it goes; this one does not listen."""

    def begun(self, slides: int, finished: int) -> None:
        """`slides` are asked for, and `finished` of them were done before."""

    def planned(self, slide_id: str, patches: int) -> None:
        """The patches of a slide are known."""

    def encoded(self, slide_id: str, patches: int) -> None:
        """So many more patches of a slide have features."""

    def ended(self, slide_id: str, problem: str = "") -> None:
        """A slide is done, or has failed for a reason."""

    def note(self, text: str) -> None:
        """Something is to be said."""


class Outcome(NamedTuple):
    """What came of an extraction.

    Attributes
    ----------
    done, skipped : numbers of patches by slide id; None = not looked up. Skipped ones were done before.
    failed : reasons by slide id.
    by_others : done by other commands while this one ran.
    """

    done: dict[str, int]
    skipped: tuple[str, ...]
    failed: dict[str, str]
    by_others: tuple[str, ...] = ()


@dataclass
class SlideInWork:
    """A slide whose patches are known.

    Attributes
    ----------
    to_read : numbers of the first patches of batches that no reader has got.
    """

    plan: Plan
    file: FeatureFile
    to_read: deque[int] = field(default_factory=deque)


@dataclass
class Extraction:
    """The state of an extraction: which slides wait, are planned, and have ended.

    Attributes
    ----------
    claimed : slides that this process holds.
    held : slides that other processes hold.
    others : those processes, as far as they were told of.
    """

    encoder: Encoder
    facts: Mapping[str, Any]
    folder: Path
    slots: Slots
    waiting: deque[SlideFile]
    watch: Watch
    planning: int = 0
    in_work: dict[str, SlideInWork] = field(default_factory=dict)
    done: dict[str, int] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    by_others: list[str] = field(default_factory=list)
    claimed: set[str] = field(default_factory=set)
    held: deque[SlideFile] = field(default_factory=deque)
    others: set[tuple[str, int]] = field(default_factory=set)

    def run(self, reading: Reading) -> None:
        """Do all slides that wait.

        Raises
        ------
        MilbenchError : what would be the same for every slide, such as a full disk.
        """
        while self.waiting:
            given = self._give(reading)
            while given:
                task, answer = reading.next_answer()
                given += self._give(reading) - 1  # first, so that readers do not wait for the encoder
                self._take(task, answer)
                given += self._give(reading)
            self._wait_for_others()

    def _wait_for_others(self) -> None:
        """Look at the slides that others hold once more, after a while."""
        if self.held:
            sleep(LOOK_SECONDS)
            self.waiting, self.held = self.held, deque()

    def _give(self, reading: Reading) -> int:
        """Number of tasks that readers had room for."""
        given = 0
        while reading.has_room() and (task := self._next_task()) is not None:
            reading.give(task)
            given += 1
        return given

    def _next_task(self) -> Task | None:
        """What is to be read next: patches in the order of slides, and in time the plan of the next slide."""
        to_read = [work for work in self.in_work.values() if work.to_read]
        may_plan = self.planning + len(to_read) < SLIDES_AHEAD and len(self.in_work) < 2 * SLIDES_AHEAD
        if may_plan and (slide := self._next_slide()) is not None:
            self.planning += 1
            return PlanTask(slide)
        if not to_read or not self.slots.free:
            return None
        plan, first = to_read[0].plan, to_read[0].to_read.popleft()
        corners = plan.corners[first : first + self.slots.shape[0]]
        return TilesTask(plan.slide, first, corners, plan.reading, self.slots.free.pop())

    def _next_slide(self) -> SlideFile | None:
        """The next slide that nobody has done or holds; this process holds it from now on."""
        while self.waiting:
            slide = self.waiting.popleft()
            holder = take(self.folder / CLAIMS, slide.slide_id)
            if holder is not None:
                self._leave(slide, holder)
                continue
            self.claimed.add(slide.slide_id)
            if why_again(self.folder, slide, self.facts) is not None:
                return slide
            self._let_go(slide.slide_id)
            self.by_others.append(slide.slide_id)
            self.watch.ended(slide.slide_id)
        return None

    def _leave(self, slide: SlideFile, holder: Claim) -> None:
        self.held.append(slide)
        if (holder.host, holder.pid) not in self.others:
            self.others.add((holder.host, holder.pid))
            self.watch.note(
                f"another command works in {self.folder} ({holder}): both share the slides, and make each once"
            )

    def _let_go(self, slide_id: str) -> None:
        self.claimed.discard(slide_id)
        let_go(self.folder / CLAIMS, slide_id)

    def _take(self, task: Task, answer: Answer) -> None:
        """Go on with what a reader says of a task."""
        slide_id = task.slide.slide_id
        try:
            if isinstance(task, PlanTask):
                self.planning -= 1
            if isinstance(answer, Trouble):
                self._fail(slide_id, answer)
            elif isinstance(answer, Plan):
                self._begin(answer)
            elif isinstance(task, TilesTask) and slide_id in self.in_work:
                self._encode(self.in_work[slide_id], task)
        finally:
            if isinstance(task, TilesTask):
                self.slots.free.append(task.slot)

    def _begin(self, plan: Plan) -> None:
        slide = plan.slide
        try:
            file = FeatureFile(self.folder, plan, self.facts, state_of(slide.path))
        except OSError as error:
            self._fail(slide.slide_id, Trouble(f"{slide.path} is not there any more: {error.strerror or error}."))
            return
        batches = range(0, len(plan.corners), self.slots.shape[0])
        self.in_work[slide.slide_id] = SlideInWork(plan, file, deque(batches))
        for note in plan.notes:
            self.watch.note(f"{slide.slide_id}: {note}")
        self.watch.planned(slide.slide_id, len(plan.corners))

    def _encode(self, work: SlideInWork, task: TilesTask) -> None:
        slide_id = work.plan.slide.slide_id
        try:
            work.file.write(task.first, encoded(self.encoder, self.slots[task.slot][: len(task.corners)]))
        except DataError as error:
            self._fail(slide_id, Trouble(f"{error}{_first_of(error, task)}"))
            return
        self.watch.encoded(slide_id, len(task.corners))
        if not work.file.missing:
            work.file.finish()
            self.done[slide_id] = len(work.plan.corners)
            del self.in_work[slide_id]
            self._let_go(slide_id)
            self.watch.ended(slide_id)

    def _fail(self, slide_id: str, trouble: Trouble) -> None:
        """Record why a slide has no features, once, and keep nothing of it."""
        if trouble.stops_all:
            raise MilbenchError(trouble.text)
        if slide_id in self.in_work:
            self.in_work.pop(slide_id).file.drop()
        if slide_id not in self.failed:
            self.failed[slide_id] = trouble.text
            self._let_go(slide_id)
            self.watch.ended(slide_id, trouble.text)

    def drop(self) -> None:
        """Delete what is half-written, and let go of all slides."""
        for work in self.in_work.values():
            work.file.drop()
        for slide_id in list(self.claimed):
            self._let_go(slide_id)
        with suppress(OSError):  # others hold slides
            (self.folder / CLAIMS).rmdir()


def _first_of(error: DataError, task: TilesTask) -> str:
    """Where the patch lies that the error tells of, if it tells of one."""
    from milbench.extraction.encoder import NotFiniteError

    if not isinstance(error, NotFiniteError):
        return ""
    x, y = task.corners[error.row].tolist()
    return f" The first is the patch at ({x}, {y})."


def encoded(encoder: Encoder, tiles: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Features float32 [B, D] of tiles uint8 [B, P, P, 3].

    Raises
    ------
    MilbenchError : the device has too little memory.
    """
    import torch

    try:
        rows = encoder.encode(torch.from_numpy(tiles))
    except torch.OutOfMemoryError as error:
        raise MilbenchError(
            f"the device has too little memory for batches of {len(tiles)} patches. Use a smaller --batch. "
            "Finished slides are kept."
        ) from error
    return np.asarray(rows.numpy(), np.float32)


def extract(
    slides: Sequence[SlideFile],
    encoder: Encoder,
    settings: Settings,
    folder: Path,
    *,
    workers: int,
    batch: int | None = None,
    watch: Watch | None = None,
) -> Outcome:
    """Make the feature files of all slides that have none yet.

    Parameters
    ----------
    workers : processes that read; 0 = this process reads.
    batch : patches that are encoded at once; on some devices it changes last digits. None = `BATCH_ON_GPU` or `BATCH_ON_CPU`.

    Raises
    ------
    UsageError : the folder holds features of other settings.
    MilbenchError : what would be the same for every slide, such as a full disk. Finished slides are kept.
    """
    watch = watch or Watch()
    facts = facts_of(encoder, settings)
    prepare(folder, facts)
    waiting, skipped = _still_to_do(slides, folder, facts, watch)
    watch.begun(len(slides), len(skipped))
    on_cpu = str(encoder.device) == "cpu"
    if on_cpu:
        tune_allocator(from_disk=False)  # else each batch faults its activations in anew
    at_once = batch or (BATCH_ON_CPU if on_cpu else BATCH_ON_GPU)
    shape = (at_once, settings.patch_size, settings.patch_size, 3)
    n_slots = TASKS_AHEAD * max(workers, 1) + 2
    with Slots(n_slots, shape) as slots:
        extraction = Extraction(encoder, facts, folder, slots, waiting, watch)
        sheets = folder / SHEETS
        n_readers = min(workers, len(waiting) * 64)
        reading = Readers(n_readers, settings, sheets, slots) if n_readers else ReadingHere(settings, sheets, slots)
        try:
            extraction.run(reading)
        finally:
            reading.close()
            extraction.drop()
    return Outcome(extraction.done, skipped, extraction.failed, tuple(extraction.by_others))


def _still_to_do(
    slides: Sequence[SlideFile], folder: Path, facts: Mapping[str, Any], watch: Watch
) -> tuple[deque[SlideFile], tuple[str, ...]]:
    waiting: deque[SlideFile] = deque()
    skipped = []
    for slide in slides:
        why = why_again(folder, slide, facts)
        if why is None:
            skipped.append(slide.slide_id)
        else:
            waiting.append(slide)
            if why:
                watch.note(f"{slide.slide_id}: {why}; made again")
    return waiting, tuple(skipped)
