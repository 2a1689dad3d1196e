"""Jobs: SLURM jobs that each let a part of the trials score an external cohort, and store what they say in the run folder.

Each job reads every slide once. The command that submits them waits, and then finds all scores stored.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from milbench.datasets.source import CohortSource
from milbench.engines.loky import end_workers
from milbench.engines.settings import PoolSettings
from milbench.engines.shards import Shard
from milbench.engines.slurm import FOLDER, on_this_node, run_in_jobs
from milbench.errors import MilbenchError
from milbench.external.dealing import deal_of
from milbench.external.evaluate import checked, scored
from milbench.external.trained import Trained, trained
from milbench.store.run import open_run
from milbench.store.trial import StoredTrial


@dataclass(frozen=True)
class Scoring:
    """What a job needs to find the trials and the cohort again.

    Attributes
    ----------
    run : the run folder, absolute.
    dataset : the run's cohort whose models score.
    data_root : where the datasets' data lie.
    cohort : the external cohort.
    allow_overlap : whether slides of patients that the run knows are dropped, not refused.
    settings : settled.
    workers : worker processes of a job that the user asked for; 0 = no more than the slides keep busy.
    """

    run: Path
    dataset: str
    data_root: Path | None
    cohort: CohortSource
    allow_overlap: bool
    settings: PoolSettings
    workers: int


def score_in_jobs(
    scoring: Scoring, source: Trained, announce: Callable[[str], None], pending: Sequence[StoredTrial]
) -> None:
    """Let SLURM jobs score the cohort with these trials, and wait for them.

    The parts are those of all trials. So if a job dies, the next command's job goes on from its checkpoint.

    Raises
    ------
    MilbenchError : a job died, or cannot score.
    """
    n_parts, ids = min(scoring.settings.n_jobs, len(source.trials)), {trial.id for trial in pending}
    every = [Shard(number, n_parts) for number in range(1, n_parts + 1)]
    parts = [part for part in every if any(trial.id in ids for trial in source.of_shard(part).trials)]
    announce(f"SLURM jobs: {len(parts)}; trials that they score: {len(ids)}; logs: {scoring.run / FOLDER}")
    run_in_jobs(scoring.settings, partial(score_part, scoring, parts), len(parts))


def score_part(scoring: Scoring, parts: Sequence[Shard], index: int) -> str:
    """Message of the bad input that stopped this SLURM job; "" if its part of the trials has scored."""
    try:
        source = trained(open_run(scoring.run).snapshot(), scoring.dataset, scoring.data_root)
        external = checked(source, scoring.cohort.load(), allow_overlap=scoring.allow_overlap)
        here = on_this_node(scoring.settings)
        deal = deal_of(here, asked=scoring.workers, n_slides=len(external.slides), announce=print)
        scored(replace(external, source=source.of_shard(parts[index])), here.device, _unwatched, deal)
    except MilbenchError as error:
        return str(error)
    finally:
        end_workers()
    return ""


def _unwatched(slides: Iterable[str], _: str) -> Iterable[str]:
    return slides
