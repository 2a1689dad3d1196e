"""Chosen: the trainings of a run that are exported together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from milbench.cohorts.bag_names import PATIENT, SLIDE
from milbench.endpoints.endpoint import KINDS, Kind
from milbench.engines.shards import every_slot
from milbench.errors import StoreError, UsageError
from milbench.external.trained import Trained
from milbench.heatmap.stored import finished_trial
from milbench.labels.finding import some
from milbench.names import folder_name
from milbench.runs.notebook import chosen_slot, chosen_slots, the_one
from milbench.store.run import Run
from milbench.store.slot import ALL_TASKS, Slot
from milbench.store.trial import StoredTrial

ENSEMBLE = "ensemble"


@dataclass(frozen=True, eq=False)
class Chosen:
    """Trainings of one model that are exported together.

    Attributes
    ----------
    source : the exported trials, with their cohort.
    finished : all finished trainings of the model on these tasks, whose mean the report prints.
    n_planned : trainings of the model on these tasks that the run's plan holds.
    is_ensemble : whether all trainings are exported.
    lead : the task whose numbers the model card shows first.
    """

    source: Trained
    finished: tuple[StoredTrial, ...]
    n_planned: int
    is_ensemble: bool
    lead: str

    @property
    def run(self) -> Run:
        """The run that they come from."""
        return self.source.run

    @property
    def trials(self) -> tuple[StoredTrial, ...]:
        """The exported trials, in the order of the plan."""
        return self.source.trials

    @property
    def model(self) -> str:
        """Registry name."""
        return str(self.trials[0].info["model"])

    @property
    def tasks(self) -> tuple[str, ...]:
        """Tasks that every training answers, the leading one first."""
        return (self.lead, *(task for task in self.trials[0].info["tasks"] if task != self.lead))

    @property
    def kinds(self) -> tuple[Kind, ...]:
        """Kinds of the tasks."""
        found = {fitted.kind for fitted in self.trials[0].endpoint_of.values()}
        return tuple(kind for kind in KINDS if kind in found)

    @property
    def levels(self) -> tuple[str, ...]:
        """What scores and thresholds are of: patients alone if a bag is a patient."""
        return (SLIDE, PATIENT) if self.source.bag == SLIDE else (PATIENT,)

    @property
    def folder(self) -> str:
        """Name of the folder, unless another is asked for."""
        tasks = self.trials[0].info["tasks"]
        which = ENSEMBLE if self.is_ensemble else training_name(self.trials[0])
        return folder_name(f"{self.model}-{tasks[0] if len(tasks) == 1 else ALL_TASKS}-{which}")


def training_name(trial: StoredTrial) -> str:
    """Name of a training inside an export.

    It tells fold and seed: "fold0-seed42".
    """
    return f"fold{trial.info['fold']}-seed{trial.info['seed']}"


def chosen(
    run: Run,
    model: str,
    *,
    fold: int | None,
    dataset: str | None = None,
    task: str | None = None,
    seed: int | None = None,
    data_root: Path | None = None,
) -> Chosen:
    """The trainings that are asked for; whatever the run has one of need not be said.

    Parameters
    ----------
    fold : None = the trainings of all folds and seeds, as an ensemble.

    Raises
    ------
    UsageError : the run has no such training, or several.
    StoreError : a training is not done, or of an ensemble not all are.
    """
    if fold is None and seed is not None:
        raise UsageError("an ensemble has the trainings of all seeds. Leave --seed away, or choose a fold with --fold.")
    slots = chosen_slots(every_slot(run), model=model, dataset=dataset, task=task)
    finished = _finished(run, slots)
    if fold is None:
        trials = _all_of(slots, finished)
    else:
        slot = chosen_slot(every_slot(run), model=model, dataset=dataset, task=task, fold=fold, seed=seed)
        trials = (finished_trial(run, slot.trial_id),)
    tasks = trials[0].info["tasks"]
    lead = tasks[0] if task is None else the_one("task", f"{model} on {slots[0].dataset}", tasks, task)
    source = Trained(run, slots[0].dataset, trials, len(slots), data_root)
    return Chosen(source, tuple(finished.values()), len(slots), fold is None, lead)


def _finished(run: Run, slots: Sequence[Slot]) -> dict[str, StoredTrial]:
    """Finished trials by their id."""
    found = {}
    for slot in slots:
        try:
            found[slot.trial_id] = finished_trial(run, slot.trial_id)
        except StoreError:
            continue
    return found


def _all_of(slots: Sequence[Slot], finished: dict[str, StoredTrial]) -> tuple[StoredTrial, ...]:
    left = [slot.trial_id for slot in slots if slot.trial_id not in finished]
    if not left:
        return tuple(finished.values())
    done = next(iter(finished.values()), None)
    instead = f", or export one that is done: --fold {done.info['fold']}" if done else ""
    raise StoreError(
        f"{len(left)} of {len(slots)} trainings of {slots[0].model} are not done, failed or are damaged ({some(left)}), and "
        f"an ensemble has all. Start the run's command again{instead}."
    )
