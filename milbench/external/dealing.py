"""Dealing: slides of a cohort go to worker processes in small blocks; each slide is read once, by one of them.

Every worker holds the models of all trials, built from the run folder when its first block arrives. A slide's logits
depend on nothing but the slide, the models, the device and the number of threads. So they are the same bytes whoever
scores the slide, and in whatever order.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import islice
from math import ceil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from milbench.engines.loky import NoWorkersError, end_workers, worker_processes
from milbench.engines.settings import PoolSettings
from milbench.engines.signals import deaf_children
from milbench.errors import MilbenchError

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

    Attributes
    ----------
    settings : settled.
    announce : told if this machine can start no workers.
    """

    settings: PoolSettings
    announce: Callable[[str], None]

    def __call__(self, work: Work, slides: Sequence[str]) -> Iterator[Scored]:
        """Slides with their logits.

        Raises
        ------
        DataError : a slide cannot be scored.
        MilbenchError : a worker was killed.
        """
        try:
            with self._submitting() as submit:
                yield from self._dealt(submit, work, slides)
        except NoWorkersError as error:
            self.announce(f"no worker processes can be started ({error}), so all slides are scored in this process.")
            yield from score_block(work, slides, self.settings)

    @contextmanager
    def _submitting(self) -> Iterator[Callable[..., Future[Any]]]:
        """A function that sends a call to a worker, as `concurrent.futures` has it."""
        if self.settings.kind == "dask":
            from milbench.engines.dask import open_dask
            from milbench.engines.supervisor import Interrupts

            with open_dask(self.settings, Interrupts(self.announce)) as pool:
                yield pool.client.get_executor(pure=False).submit
            return
        try:
            yield worker_processes(self.settings, self.settings.workers).submit
        finally:
            end_workers()

    def _dealt(self, submit: Callable[..., Future[Any]], work: Work, slides: Sequence[str]) -> Iterator[Scored]:
        """Keep two blocks per worker in flight: the second waits at the worker while the first is scored."""
        width = max(self.settings.workers, 1)
        size = max(1, min(MOST_SLIDES_PER_BLOCK, len(slides) // (width * BLOCKS_PER_WORKER)))
        blocks = (slides[start : start + size] for start in range(0, len(slides), size))
        running: list[Future[list[Scored]]] = []
        while True:
            with deaf_children():
                running += [submit(score_whole_block, work, block, self.settings)
                            for block in islice(blocks, 2 * width - len(running))]  # fmt: skip
            if not running:
                return
            ended, _ = wait(running, return_when=FIRST_COMPLETED)
            for future in (future for future in running if future in ended):
                yield from _result(future)
            running = [future for future in running if future not in ended]


def _result(future: Future[list[Scored]]) -> list[Scored]:
    try:
        return future.result()
    except MilbenchError:
        raise
    except Exception as error:
        raise MilbenchError(
            f"a worker that scored slides was killed ({type(error).__name__}), probably because memory ran out. What is scored "
            "is kept for the most part: give the same command again with fewer workers (--workers)."
        ) from error


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
