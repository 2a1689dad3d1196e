"""Foreign folder: a folder that a run must not begin in, because it holds files of something else."""

from __future__ import annotations

from pathlib import Path

from milbench.errors import StoreError
from milbench.store.run import holds_run
from milbench.store.run_folder import FEATURES, LABELS, LOCKS, SPLITS, TUNING

OF_A_COHORT = ("labels.*", "clini.*", "k=all.tsv", "cohort.y*ml")
"""What the folder of a cohort holds, and that of a run never does."""


def refuse_foreign_folder(path: Path) -> None:
    """Refuse to begin a run among the files of something else.

    A run keeps `labels` and `features` of its own. In the folder of a cohort they would stand beside the cohort's.

    Raises
    ------
    StoreError : the folder holds no run, but what a cohort has; or its name begins with a tilde.
    """
    if str(path).startswith("~"):
        raise StoreError(f"the run folder's name is {path}, and only a shell knows what ~ means. Write the whole path.")
    if holds_run(path) or holds_run(path / TUNING) or (path / LOCKS).is_dir() or not path.is_dir():
        return
    # a link in the place of a folder of ours has a refusal of its own
    taken = [name for name in (LABELS, FEATURES, SPLITS) if (path / name).exists() and not (path / name).is_symlink()]
    taken += sorted(found.name for pattern in OF_A_COHORT for found in path.glob(pattern))
    if taken:
        raise StoreError(
            f"{path} holds no run, but {', '.join(taken[:3])}, as a cohort's folder does. A run would write among them. "
            f"Choose another folder, such as {path / 'run'}."
        )
