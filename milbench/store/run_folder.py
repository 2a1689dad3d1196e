"""Run folder: where everything of a run lies.

::

    runs/digits/
      run.yaml  environment.json  datasets.json  plan.json
      questions.json             what is asked of each dataset now, and what was asked before
      splits/digits.csv  labels/digits.csv
      features/digits.json       size, time and SHA-256 of each feature file, if the dataset has files
      splits/<hash>/digits.csv   a split that the dataset had before
      trials/digits/amil/has_0/fold0-seed42-1f3a9c02/
        predictions.parquet  history.parquet  model.safetensors  trial.json (last, with checksums)
      failures/<key>.json        what went wrong, until the trial succeeds
      locks/<key>.lock           held by the process that computes the trial
      claims/<key>.json          says which process that is
      checkpoints/               where trainings that are not done have got to
      external/                  what trials say of other cohorts (`milbench.external.scored`)
      tuning/, untuned/          the search for the run's settings, and what they are compared with: run folders of their
                                 own (docs/tuning.md)
      partial/                   trials being written; a killed process leaves them to the next claim

A trial's folder appears by one atomic rename.
"""

from __future__ import annotations

from pathlib import Path

from milbench.errors import StoreError
from milbench.store.files import inside
from milbench.store.slot import id_parts
from milbench.store.trial import TRIAL

PLAN, CONFIG, ENVIRONMENT, DATASETS = "plan.json", "run.yaml", "environment.json", "datasets.json"
QUESTIONS = "questions.json"

TRIALS, FAILURES, SPLITS, LABELS, FEATURES = "trials", "failures", "splits", "labels", "features"
PARTIAL, CLAIMS, LOCKS = "partial", "claims", "locks"
EXTERNAL = "external"
TUNING = "tuning"
"""Folder of a run that holds the search for its settings, which is a run of its own."""
CHOSEN = "chosen"
"""Folder of a search: a file of chosen settings per cohort."""
UNTUNED = "untuned"
"""Folder of a tuned run that holds the same trainings with the recipe's own settings: a run of its own."""

FOLDERS = (
    TRIALS, FAILURES, LOCKS, SPLITS, LABELS, PARTIAL, CLAIMS, "checkpoints", "shards", FEATURES, EXTERNAL, TUNING, UNTUNED,
)  # fmt: skip


class RunFolder:
    """Names of what a run holds, which may be there or not. A link that leads out of the folder is refused (`StoreError`).

    Parameters
    ----------
    shown : how a report's commands name the folder, where that is not `path`: a bundle names no folder of one machine.
    """

    def __init__(self, path: Path, shown: Path | None = None) -> None:
        self.path = path
        self.shown = shown or path

    @property
    def name(self) -> str:
        """Name of the folder."""
        return self.path.name

    def has_failed(self, key: str) -> bool:
        """Whether a failure of the trial is on record."""
        return self.failure_file(key).exists()

    def failure_file(self, key: str) -> Path:
        """Where a failure of the trial is recorded, if there is one."""
        return inside(self.path, FAILURES) / f"{key}.json"

    def has_folder(self, trial_id: str) -> bool:
        """Whether anything lies in the trial's place, even a link; what lies there may be damaged."""
        return is_there(self.path / TRIALS / trial_id)

    def has_record(self, trial_id: str) -> bool:
        """Whether the trial's place holds a `trial.json`, which is written last; nothing is verified."""
        return (self.trial_folder(trial_id) / TRIAL).exists()

    def trial_folder(self, trial_id: str) -> Path:
        """Folder of the trial, which need not be there.

        Raises
        ------
        StoreError : it is no trial's id, or a symbolic link leads elsewhere.
        """
        try:
            parts = id_parts(trial_id)
        except ValueError as error:
            raise StoreError(f"{self.path}: {error}.") from error
        return inside(self.path, TRIALS, *parts)

    def split_file(self, dataset: str) -> Path:
        """Path of the dataset's split table."""
        return inside(self.path, SPLITS, f"{dataset}.csv")

    def former_split_file(self, dataset: str, sha256: str) -> Path:
        """Path of a split table that the dataset had before."""
        return inside(self.path, SPLITS, sha256[:8], f"{dataset}.csv")

    def content_file(self, dataset: str) -> Path:
        """Where it stands what the dataset's feature files hold; datasets without files and older runs have none."""
        return inside(self.path, FEATURES, f"{dataset}.json")

    def label_file(self, dataset: str) -> Path:
        """Path of the dataset's labels; runs of older versions have none."""
        return inside(self.path, LABELS, f"{dataset}.csv")


def is_there(path: Path) -> bool:
    """Whether there is anything of that name; a link that leads nowhere is something."""
    return path.exists() or path.is_symlink()
