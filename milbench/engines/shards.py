"""Shards: parts of the plan for machines that know nothing of each other; `milbench merge` joins their results.

Every shard records its number, how many shards there are, and the whole plan. So a merge knows what is missing.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from milbench.errors import StoreError, UsageError
from milbench.store.files import inside, json_bytes, write_atomically, writing
from milbench.store.headers import SHARD_SHAPE, read_json
from milbench.store.run import Run
from milbench.store.slot import Slot

if TYPE_CHECKING:  # torch takes seconds to import, and `milbench status` asks for records alone
    from milbench.trials.plan import Trial

SHARDS = "shards"


@dataclass(frozen=True)
class Shard:
    """One part of a plan: number `number` of `count`, counted from 1."""

    number: int
    count: int

    def __str__(self) -> str:
        return f"{self.number}/{self.count}"

    @property
    def file_name(self) -> str:
        """ "2-of-4", for folders and files."""
        return f"{self.number}-of-{self.count}"


def parse_shard(text: str) -> Shard | None:
    """The shard that "2/4" names; None for no text.

    Raises
    ------
    UsageError : the text names no shard.
    """
    if not text:
        return None
    match = re.fullmatch(r"([0-9]+)/([0-9]+)", text)
    if match is None or max(map(len, match.groups())) > 6 or not 1 <= int(match[1]) <= int(match[2]):
        raise UsageError(f"--shard takes i/n with i from 1 to n, such as 2/4; got '{text}'.")
    return Shard(int(match[1]), int(match[2]))


def groups_of_shard(groups: Iterable[tuple[Trial, ...]], shard: Shard) -> list[tuple[Trial, ...]]:
    """The shard's groups of trials, each whole: dealt like cards, model by model, so that all shards get slow models.

    Within a model the keys decide the order: the same plan is dealt the same way on every machine.
    """

    def place(group: tuple[Trial, ...]) -> tuple[str, str, str]:
        first = min(group, key=lambda trial: trial.key)
        return first.dataset, first.model, first.key

    return sorted(groups, key=place)[shard.number - 1 :: shard.count]


@dataclass(frozen=True)
class ShardRecord:
    """What a run folder records of one shard that was computed in it.

    Attributes
    ----------
    plan : trial id by slot, of the whole plan.
    mine : slots of the plan that belong to this shard.
    """

    number: int
    count: int
    plan: dict[str, str]
    mine: tuple[str, ...]

    @property
    def shard(self) -> Shard:
        """Number and count together."""
        return Shard(self.number, self.count)


def write_shard(run: Run, shard: Shard, plan: Sequence[Trial], mine: Sequence[Trial]) -> None:
    """Record in `run` that it holds, or will hold, this shard of the plan."""
    record = ShardRecord(
        shard.number, shard.count, {trial.slot: trial.id for trial in plan}, tuple(trial.slot for trial in mine)
    )
    write_record(run, record)


def write_record(run: Run, record: ShardRecord) -> None:
    """Write the record into the folder. A record of the same shard is replaced."""
    with writing(run.path):
        folder = inside(run.path, SHARDS)
        folder.mkdir(exist_ok=True)
        write_atomically(folder / f"{record.shard.file_name}.json", json_bytes(asdict(record)))


def shard_records(run: Run) -> list[ShardRecord]:
    """The shards that were computed in `run`; none for a run of the whole plan.

    Raises
    ------
    StoreError : a record is damaged.
    """
    folder = inside(run.path, SHARDS)
    return [_read_record(inside(folder, path.name)) for path in sorted(folder.glob("*-of-*.json"))]


def every_slot(run: Run) -> list[Slot]:
    """The grid of the run. If it is a shard that was not merged, also the slots of the other shards.

    Raises
    ------
    StoreError : a record is damaged.
    """
    of_shards = {slot: trial_id for record in shard_records(run) for slot, trial_id in record.plan.items()}
    return run.slots_of({**of_shards, **run.planned()})


def _read_record(path: Path) -> ShardRecord:
    values = read_json(path, SHARD_SHAPE)
    number, count, plan = values["number"], values["count"], values["plan"]
    if (
        number > count
        or path.name != f"{Shard(number, count).file_name}.json"
        or not plan.keys() >= set(values["mine"])
    ):
        raise StoreError(f"{path} is damaged (it is that of another shard). Run the shard's command again.")
    return ShardRecord(number, count, plan, tuple(values["mine"]))
