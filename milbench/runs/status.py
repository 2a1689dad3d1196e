"""Status: what is done, running, failed and left in a run folder. It only reads, so it may run at any time."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from milbench.engines.shards import shard_records
from milbench.store.claims import Claim, living
from milbench.store.leftovers import leftovers, size_of
from milbench.store.question import StaleTrial
from milbench.store.run import Run
from milbench.store.run_folder import CLAIMS


@dataclass
class Count:
    """Numbers of trials of one model on one dataset, by state."""

    done: int = 0
    running: int = 0
    failed: int = 0
    left: int = 0


@dataclass(frozen=True)
class RunStatus:
    """State of a run folder.

    Attributes
    ----------
    counts : by (dataset, model), in the order of the plan.
    running : id and claim of each trial that is computed right now.
    shards : which parts of a divided plan the folder holds, such as "2/4".
    stale : trials on disk that answer another question than the one asked now.
    damaged : why a folder is not the planned trial in whose place it lies, by the trial's id.
    leftovers : files and folders that dead processes left.
    leftover_bytes : what they take.
    """

    counts: Mapping[tuple[str, str], Count]
    running: tuple[tuple[str, Claim], ...]
    shards: tuple[str, ...]
    stale: tuple[StaleTrial, ...] = ()
    damaged: Mapping[str, str] = field(default_factory=dict)
    leftovers: tuple[Path, ...] = ()
    leftover_bytes: int = 0


def survey(run: Run) -> RunStatus:
    """The state of every planned trial. Checksums are left to `run` and `report`, since they read every weight."""
    failed = {failure["id"] for failure in run.failures()}
    stale = run.stale()
    other_questions = {trial.id for trial in stale}
    working = at_work(run)
    counts: dict[tuple[str, str], Count] = defaultdict(Count)
    damaged = run.damaged(verify_files=False)
    for slot in run.slots():
        trial_id, count = slot.trial_id, counts[slot.dataset, slot.model]
        if trial_id not in other_questions | damaged.keys() and run.has_record(trial_id):
            count.done += 1
        elif trial_id in working:
            count.running += 1
        elif trial_id in failed:
            count.failed += 1
        else:
            count.left += 1
    left_behind = leftovers(run.path)
    return RunStatus(
        counts,
        tuple(sorted(working.items())),
        tuple(str(record.shard) for record in shard_records(run)),
        tuple(stale),
        damaged,
        tuple(left_behind),
        size_of(left_behind),
    )


def at_work(run: Run) -> dict[str, Claim]:
    """Claims of living processes by trial id; the last eight digits of the id are the first of the claim's key."""
    id_of = {trial_id[-8:]: trial_id for trial_id in run.planned().values()}
    return {id_of[claim.key[:8]]: claim for claim in living(run.path / CLAIMS) if claim.key[:8] in id_of}
