"""Dealing: slides of a cohort go to worker processes in small blocks; each slide is read once, by one of them.

Every worker holds the models of all trials, built from the run folder when its first block arrives. A slide's logits
depend on nothing but the slide, the models, the device and the number of threads. So they are the same bytes whoever
scores the slide, and in whatever order.
"""

from __future__ import annotations

import uuid
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from math import ceil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from milbench.engines.loky import NoWorkersError, end_workers, worker_processes
from milbench.engines.settings import PoolSettings
from milbench.errors import MilbenchError
from milbench.process.signals import deaf_children

if TYPE_CHECKING:
    from milbench.bag import Bag
    from milbench.cohorts.scaling import FeatureScaler
    from milbench.external.scoring import Scored, Scorer
    from milbench.external.trained import Trained
    from milbench.heatmap.stored import StoredModel
    from milbench.store.trial import StoredTrial

MOST_SLIDES_PER_BLOCK = 32
BLOCKS_PER_WORKER = 4
"""Blocks of a small cohort that each worker gets, so that none waits long for the last one."""

FEWEST_SLIDES_PER_WORKER = 100
"""A worker takes seconds to start: unless asked for, there is none for fewer slides."""


@dataclass(frozen=True, eq=False)
class Work:
    """What a worker needs to score slides.

    Attributes
    ----------
    run : the run folder.
    trials : whose models score.
    width : of the features.
    scalers : of each trial; trials of one fold share theirs.
    load : reads a slide.
    key : names the work, so that a worker builds its models once.
    """

    run: Path
    trials: tuple[StoredTrial, ...]
    width: int
    scalers: tuple[FeatureScaler, ...]
    load: Callable[[str], Bag]
    key: str = field(default_factory=lambda: uuid.uuid4().hex)


Block = tuple[str, ...]
"""Slides that one worker scores at one go."""

Deal = Callable[[Work, Sequence[str]], Iterator["Scored"]]
"""Scores slides by workers, and hands them back in the order in which they end."""


def work_of(source: Trained, models: Sequence[StoredModel], load: Callable[[str], Bag]) -> Work:
    """The work of scoring with these models."""
    trials, scalers = (tuple(getattr(model, name) for model in models) for name in ("trial", "scaler"))
    return Work(source.run.path, trials, source.in_features, scalers, load)


def deal_of(settings: PoolSettings, *, asked: int, n_slides: int, announce: Callable[[str], None]) -> Deal | None:
    """How slides are dealt to workers; None if this process scores all, which then has the threads of a worker.

    Parameters
    ----------
    settings : settled.
    asked : workers that the user asked for; 0 = no more than the slides keep busy.
    announce : told if this machine can start no workers.
    """
    workers = asked or max(1, min(settings.workers, ceil(n_slides / FEWEST_SLIDES_PER_WORKER)))
    if settings.kind == "loky" and workers == 1 and not settings.gpu_places:
        import torch

        torch.set_num_threads(settings.threads)
        return None
    is_here = settings.kind == "loky" and not settings.gpu_places
    return Dealer(replace(settings, workers=workers) if is_here else settings, announce)


@dataclass(frozen=True)
class Dealer:
    """A `Deal` on the processes of this machine, or on a dask cluster.

    If a worker dies, the slides that were with workers are scored again, one at a time, and then the others.

    Attributes
    ----------
    settings : settled.
    announce : told if this machine can start no workers, and if one dies.
    """

    settings: PoolSettings
    announce: Callable[[str], None]

    def __call__(self, work: Work, slides: Sequence[str]) -> Iterator[Scored]:
        """Slides with their logits.

        Raises
        ------
        DataError : a slide cannot be scored.
        MilbenchError : a slide killed its worker twice, or workers cannot be reached.
        """
        width = max(self.settings.workers, 1)
        blocks, suspects = _blocks(slides, width), deque[Block]()
        try:
            while blocks:
                died = yield from self._dealt(work, blocks, width, in_flight=2 * width)
                if died:
                    width = self._fewer(width)
                    suspects += ((slide,) for block in died for slide in block)
                    self.announce(_told_of_death(len(suspects), 0 if self.settings.address else width))
                    killers = yield from self._dealt(work, suspects, 1, in_flight=1)
                    if killers:
                        raise _killed_twice(killers[0][0])
        except NoWorkersError as error:
            self.announce(f"no worker processes can be started ({error}), so all slides are scored in this process.")
            yield from score_block(work, [slide for block in (*suspects, *blocks) for slide in block], self.settings)

    def _fewer(self, width: int) -> int:
        """Workers that go on after one has died; those of a cluster are not milbench's to choose."""
        return width if self.settings.kind == "dask" else ceil(width / 2)

    @contextmanager
    def _submitting(self, width: int) -> Iterator[Callable[..., Future[Any]]]:
        """A function that sends a call to one of `width` workers, as `concurrent.futures` has it."""
        if self.settings.kind == "dask":
            from milbench.engines.dask import open_dask
            from milbench.engines.supervisor import Interrupts

            with open_dask(self.settings, Interrupts(self.announce)) as pool:
                yield pool.client.get_executor(pure=False).submit
            return
        try:
            yield worker_processes(self.settings, width).submit
        finally:
            end_workers()

    def _dealt(
        self, work: Work, blocks: deque[Block], width: int, *, in_flight: int
    ) -> Generator[Scored, None, list[Block]]:
        """The slides of `blocks`, which are taken off it; returns the blocks that were with a worker that died.

        Two blocks per worker are in flight: the second waits at the worker while the first is scored. After a death
        no more are sent.
        """
        running: dict[Future[list[Scored]], Block] = {}
        died: list[Block] = []
        with self._submitting(width) as submit:
            while running or (blocks and not died):
                while blocks and not died and len(running) < in_flight:
                    block = blocks.popleft()
                    try:
                        with deaf_children():
                            running[submit(score_whole_block, work, block, self.settings)] = block
                    except BrokenProcessPool:  # a worker died since the last block was sent
                        died.append(block)
                ended, _ = wait(running, return_when=FIRST_COMPLETED)
                for future in [future for future in running if future in ended]:
                    block = running.pop(future)
                    scored = self._result(future, block)
                    if scored is None:
                        died.append(block)
                    yield from scored or ()
        return died

    def _result(self, future: Future[list[Scored]], block: Block) -> list[Scored] | None:
        """Scores of a block; None if its worker died."""
        try:
            return future.result()
        except MilbenchError:
            raise
        except _deaths(self.settings):
            return None
        except Exception as error:
            raise MilbenchError(
                f"slides {block[0]} to {block[-1]} could not be scored by a worker ({type(error).__name__}: {error}). What is "
                "scored is kept. Give the same command again; if it ends so again, with --workers 1."
            ) from error


def _blocks(slides: Sequence[str], width: int) -> deque[Block]:
    size = max(1, min(MOST_SLIDES_PER_BLOCK, len(slides) // (width * BLOCKS_PER_WORKER)))
    return deque(tuple(slides[start : start + size]) for start in range(0, len(slides), size))


def _deaths(settings: PoolSettings) -> tuple[type[Exception], ...]:
    """What a block ends with if its worker dies."""
    if settings.kind == "dask":
        from distributed import KilledWorker

        return BrokenProcessPool, KilledWorker
    return (BrokenProcessPool,)


def _told_of_death(n_suspects: int, width: int) -> str:
    """What is said if a worker has died; `width` 0 = workers that milbench did not start."""
    fewer = (
        f"Then the others, with --workers {width}. Next time give fewer from the start."
        if width
        else "Then the others."
    )
    return (
        f"a worker that scored slides was killed, probably because memory ran out. The {n_suspects} slides that workers had "
        f"are scored again, one at a time. {fewer}"
    )


def _killed_twice(slide: str) -> MilbenchError:
    return MilbenchError(
        f"slide {slide} killed the worker that scored it twice, the second time with nothing beside it. Probably memory ran "
        "out, or a model crashes. What is scored is kept for the same command: give it again where more memory is free. Or "
        "leave the slide out of the labels, or score fewer models at once (--shard 1/2, then 2/2); both score all slides anew."
    )


def score_whole_block(work: Work, slides: Sequence[str], settings: PoolSettings) -> list[Scored]:
    """What a worker sends back of a block."""
    return list(score_block(work, slides, settings))


def score_block(work: Work, slides: Sequence[str], settings: PoolSettings) -> Iterator[Scored]:
    """Slides with their logits, scored in this process, with its threads and on its device."""
    import torch

    torch.set_num_threads(settings.threads)
    yield from _scorer(work, settings).each(slides, work.load)


_scorers: dict[str, Scorer] = {}
"""The models of this process, by the key of their work; those of the latest work alone."""


def _scorer(work: Work, settings: PoolSettings) -> Scorer:
    from milbench.external.scoring import Scorer
    from milbench.heatmap.stored import StoredModel, trained_model
    from milbench.machine.hardware import resolve_device
    from milbench.store.run import Run

    if work.key not in _scorers:
        _scorers.clear()
        models = [
            StoredModel(trial, trained_model(Run(work.run), trial, work.width), scaler)
            for trial, scaler in zip(work.trials, work.scalers, strict=True)
        ]
        _scorers[work.key] = Scorer(models, resolve_device(settings.device))
    return _scorers[work.key]
