"""No run begins among the files of something else."""

from pathlib import Path

import pytest

from milbench.errors import StoreError
from milbench.store.foreign_folder import refuse_foreign_folder
from milbench.store.run import Run


@pytest.mark.parametrize("name", ["features", "labels.csv", "clini.xlsx", "cohort.yaml", "splits"])
def test_no_run_begins_among_the_files_of_a_cohort(tmp_path: Path, name: str) -> None:
    (tmp_path / name).mkdir()
    with pytest.raises(
        StoreError, match=rf"holds no run, but {name}, as a cohort's folder does.*Choose another folder"
    ):
        refuse_foreign_folder(tmp_path)


def test_a_run_begins_in_a_new_an_empty_or_a_half_written_folder(run: Run, tmp_path: Path) -> None:
    refuse_foreign_folder(run.path)
    refuse_foreign_folder(tmp_path / "new")
    (tmp_path / "half" / "locks").mkdir(parents=True)
    (tmp_path / "half" / "labels").mkdir()
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "notes.md").write_text("mine")
    for name in ("half", "notes"):
        refuse_foreign_folder(tmp_path / name)


def test_a_run_folder_that_only_a_shell_can_find_is_refused() -> None:
    with pytest.raises(StoreError, match="only a shell knows what ~ means"):
        refuse_foreign_folder(Path("~nobody/run"))
