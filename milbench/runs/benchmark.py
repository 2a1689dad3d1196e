"""Benchmark: what was prepared and planned -> passes -> engine -> run folder -> tracking."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from time import time

import torch

from milbench.engines.loky import computed_seconds
from milbench.engines.pools import open_pool
from milbench.engines.prepared_group import CHECKPOINTS
from milbench.engines.settings import PoolSettings
from milbench.engines.supervisor import Interrupts, execute
from milbench.formats.linked import n_bytes
from milbench.machine.sizes import bytes_text
from milbench.runs.changes import changes_of
from milbench.runs.forecast import forecast
from milbench.runs.header import refuse_other_settings, write_header
from milbench.runs.passes import passes_of, pool_settings, residencies
from milbench.runs.preparation import Benchmark, with_record
from milbench.runs.progress import Progress
from milbench.runs.status import at_work
from milbench.store.claims import living
from milbench.store.files import inside
from milbench.store.leftovers import delete, is_at_work
from milbench.store.question import stale_sentences
from milbench.store.run import Run
from milbench.store.run_folder import CLAIMS
from milbench.store.run_writing import delete_stale, sweep
from milbench.tracking.client import default_uri
from milbench.tracking.tracker import Tracker
from milbench.training.cuda_recorder import check_cuda_graphs
from milbench.training.precision import check_precision
from milbench.trials.job import DataPass, Status
from milbench.trials.plan import Trial

NOTICEABLE = 1_000_000_000
"""Bytes of features whose first reading is announced."""


@dataclass(frozen=True)
class Outcome:
    """How a run ended.

    Attributes
    ----------
    run : the run on disk.
    done, already, failed : numbers of trials; `already` were finished before.
    skipped : trials of models that kept failing (`engine.max_failures`).
    left : trials that an interrupt left undone.
    interrupted : whether someone asked to stop.
    refused : message of the bad input that stopped the run; empty if none did.
    """

    run: Run
    done: int
    already: int
    failed: int
    skipped: int
    left: int
    interrupted: bool
    refused: str


def refuse_what_cannot_run(benchmark: Benchmark) -> None:
    """Refuse settings that this folder or machine cannot take, before anything is tried that takes time.

    Raises
    ------
    StoreError : the run folder holds a run with other settings.
    UsageError : a device, precision, GPU or package that is not here, or settings that do not go together.
    """
    refuse_other_settings(benchmark)
    _check_device(benchmark, pool_settings(benchmark))


def run_benchmark(benchmark: Benchmark, progress: Progress, *, prune: bool = False) -> Outcome:
    """How the run of all unfinished trials ended; results lie in the run folder.

    Raises
    ------
    StoreError : the run folder cannot be written, or holds a run with other settings.
    KeyboardInterrupt : stopped at once by a second Ctrl-C.
    """
    refuse_other_settings(benchmark)
    settings = pool_settings(benchmark)
    slow_precision = _check_device(benchmark, settings)
    changes = changes_of(benchmark, will_run=True)
    _announce(_first_readings(benchmark), progress)
    benchmark = replace(benchmark, entries=[with_record(entry, benchmark.run) for entry in benchmark.entries])
    write_header(benchmark)
    sweep(benchmark.run)
    _announce([*changes, *_of_other_questions(benchmark.run, prune=prune), *_damage_notes(benchmark)], progress)
    others = _Others(benchmark.run, progress)
    others.tell()
    todo = benchmark.unfinished_trials()
    passes = passes_of(benchmark, todo, settings)
    settings = _without_idle_workers(settings, passes)
    _warn_of_changed_sources(benchmark, progress)
    if todo:
        _announce([slow_precision, *residencies(benchmark, settings)], progress)
    pairs = [[(job.trial.dataset, job.trial.model) for job in each.jobs] for each in passes]
    progress.begin(len(benchmark.trials), pairs, settings.width, settings.place)
    outcome = _execute(benchmark, todo, passes, settings, progress, others)
    _clean_up(outcome)
    return outcome


def _clean_up(outcome: Outcome) -> None:
    """Delete what processes that were killed left, and checkpoints once no training can go on from them."""
    sweep(outcome.run)
    if not outcome.left and not is_at_work(outcome.run.path):
        delete(list(inside(outcome.run.path, CHECKPOINTS).glob("*")))


def _first_readings(benchmark: Benchmark) -> list[str]:
    """A sentence for each cohort whose files this run folder does not know, if reading them takes noticeable time."""
    new = [entry.cohort for entry in benchmark.entries if entry.record is None and entry.cohort.files]
    sizes = {cohort.name: sum(n_bytes(cohort.files[s]) for s in cohort.by_slide.slides["slide_id"]) for cohort in new}
    return [
        f"{name}: reading feature files whole, {bytes_text(size)}, so that later changes are seen (less if a run "
        "folder beside this one knows some)"
        for name, size in sizes.items()
        if size >= NOTICEABLE
    ]


def _of_other_questions(run: Run, *, prune: bool) -> list[str]:
    """Sentences on trials that answer another question than the one asked now; with `prune` they are deleted."""
    stale = run.stale()
    if prune:
        for trial in stale:
            delete_stale(run, trial)
    return [
        f"{sentence}: {'deleted' if prune else 'kept, left out of every table'}" for sentence in stale_sentences(stale)
    ]


def _damage_notes(benchmark: Benchmark) -> list[str]:
    """A sentence per trial whose folder is not that trial, or not whole."""
    run = benchmark.run
    reasons = {trial.id: run.damage(trial.id) for trial in benchmark.trials if run.has_folder(trial.id)}
    return [f"{trial_id} is damaged and is computed again: {why}" for trial_id, why in reasons.items() if why]


def _check_device(benchmark: Benchmark, settings: PoolSettings) -> str:
    """Warning of a precision that is slow on this machine's device; "" if there is none to give.

    Raises
    ------
    UsageError : the device lacks the precision, or the CUDA graphs that are asked for.
    """
    if settings.is_elsewhere:
        return ""
    device = torch.device(settings.device)
    check_cuda_graphs(device, wanted=benchmark.config.engine.cuda_graphs)
    return check_precision(benchmark.config.precision, device)


def _without_idle_workers(settings: PoolSettings, passes: Sequence[DataPass]) -> PoolSettings:
    """The settings with no more workers than passes, but two at least: a lone worker would be this process."""
    if settings.is_elsewhere or not passes:
        return settings
    return replace(settings, workers=min(settings.workers, max(len(passes), 2)))


def _warn_of_changed_sources(benchmark: Benchmark, progress: Progress) -> None:
    """Warn if finished trials were computed from another text of a model's file with the same version."""
    stored = ((trial, benchmark.run.trial(trial.id)) for trial in benchmark.trials)
    changed = Counter(
        trial.model for trial, found in stored if found and found.info.get("source_sha256") != trial.source_sha256
    )
    for name, count in changed.items():
        progress.note(
            f"warning: {count} finished trials of '{name}' were made by another text of "
            f"{benchmark.models[name].__module__} with the same version number. "
            "If results changed, raise `version` in its @register_model."
        )


def _announce(sentences: Sequence[str], progress: Progress) -> None:
    for sentence in filter(None, sentences):
        progress.note(sentence)


def _execute(
    benchmark: Benchmark, todo: Sequence[Trial], passes: Sequence[DataPass], settings: PoolSettings, progress: Progress,
    others: _Others,
) -> Outcome:  # fmt: skip
    """How the passes ended; workers store results, this process shows and tracks them."""
    interrupts = Interrupts(progress.stop)
    progress.running = partial(_running, benchmark.run)
    if settings.kind == "loky" and not settings.on_gpu and not settings.is_elsewhere:
        progress.computed = computed_seconds
    tally = _Tally(n_already=len(benchmark.trials) - len(todo))
    with (
        interrupts.installed(),
        _foretold(benchmark, settings, progress),
        open_pool(settings, interrupts) as pool,
        _tracker(benchmark, progress) as tracker,
        progress,
    ):
        tracker.log_stored(benchmark.run.trials())
        most = benchmark.config.engine.max_failures
        for status in execute(passes, pool, interrupts, max_failures=most, on_busy=others.tell):
            progress.advance(status)
            tally.add(status)
            _track(tracker, benchmark.run, status)
    return tally.outcome(benchmark, interrupted=interrupts.requested)


@contextmanager
def _foretold(benchmark: Benchmark, settings: PoolSettings, progress: Progress) -> Iterator[None]:
    """Inside, the progress knows the forecast as soon as there is one, if it asked for it."""
    if not progress.forecasts:
        yield
        return
    with forecast(benchmark, settings) as found:
        progress.foretold = lambda: found.seconds
        yield


def _running(run: Run) -> list[tuple[tuple[str, str], int, float]]:
    """(dataset, model), process and age in seconds of each trial that is computed right now."""
    found = []
    for trial_id, claim in at_work(run).items():
        dataset, model = trial_id.split("/")[:2]
        found.append(((dataset, model), claim.pid, time() - claim.since))
    return found


class _Others:
    """Processes of other commands that compute trials in the same folder, each told of once."""

    def __init__(self, run: Run, progress: Progress) -> None:
        self.run, self.progress = run, progress
        self.told: set[tuple[str, int]] = set()

    def tell(self) -> None:
        """Say who computes trials; call it while this command computes none."""
        for claim in living(inside(self.run.path, CLAIMS)):
            if (claim.host, claim.pid) not in self.told:
                self.told.add((claim.host, claim.pid))
                self.progress.note(
                    f"another command computes trials in {self.run.path} ({claim}): both share them, and compute each once"
                )


class _Tally:
    """How many trials ended how, and the bad input that stopped the run."""

    def __init__(self, n_already: int) -> None:
        self.counts = Counter(already=n_already)
        self.refused = ""

    def add(self, status: Status) -> None:
        """Count one ended trial; a refused one is left, not ended."""
        if status.state == "refused":
            self.refused = status.message
        else:
            self.counts[status.state] += 1

    def outcome(self, benchmark: Benchmark, *, interrupted: bool) -> Outcome:
        """The run's outcome. A refusal also asks the pool to stop, but is no interrupt."""
        return Outcome(
            benchmark.run,
            done=self.counts["done"],
            already=self.counts["already"],
            failed=self.counts["failed"],
            skipped=self.counts["skipped"],
            left=len(benchmark.trials) - self.counts.total(),
            interrupted=interrupted and not self.refused,
            refused=self.refused,
        )


def _tracker(benchmark: Benchmark, progress: Progress) -> Tracker:
    run, tracking = benchmark.run, benchmark.config.tracking
    uri = tracking.uri or default_uri(run.path.absolute().parent)
    return Tracker(uri, run, enabled=tracking.enabled, warn=progress.note)


def _track(tracker: Tracker, run: Run, status: Status) -> None:
    stored = run.trial(status.job.trial.id)
    if stored is not None:
        tracker.log_trial(stored)
