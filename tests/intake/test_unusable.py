"""What headers tell is told before anything trains: unusable slides are refused, odd coordinates are said once."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from commands_for_tests import FAST, Milbench
from folders_for_tests import WIDTH, write_h5

from milbench.cohorts.cohort import folder_cohort
from milbench.errors import FeatureFileError
from milbench.intake.unusable import refuse_unusable


def slides_of(folder: Path) -> list[Path]:
    return sorted((folder / "features").iterdir())


def features(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).standard_normal(shape).astype(np.float32)


def one_fold(folder: Path) -> tuple[str, ...]:
    return ("run", "--models", "tiny", "--cohort", str(folder), "--folds", "0", "--workers", "1", "--run", "out", *FAST)


def test_a_healthy_cohort_has_nothing_to_say(cohort_folder: Path) -> None:
    assert refuse_unusable(folder_cohort(cohort_folder)) == []


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((4, 3, WIDTH), r"shape \(4, 3, 6\), expected \(patches, width\)"),
        ((0, WIDTH), r"the bag is empty \(0 patches\)"),
        ((4, WIDTH + 1), "features are 7 wide, the cohort's other slides are 6"),
    ],
)
def test_slides_that_cannot_be_trained_on_are_named_at_once(
    cohort_folder: Path, shape: tuple[int, ...], message: str
) -> None:
    for path in slides_of(cohort_folder)[4:7]:
        write_h5(path, features(*shape))
    name = slides_of(cohort_folder)[4].name
    with pytest.raises(FeatureFileError, match=rf"{name}: .*{message}.* 2 more slides of 'toy' cannot be used"):
        refuse_unusable(folder_cohort(cohort_folder))


def test_a_slide_without_any_label_is_nobodys_trouble(cohort_folder: Path) -> None:
    table = pd.read_csv(cohort_folder / "labels.csv").astype({"A": object, "B": object})
    table.loc[4, ["A", "B"]] = ""
    table.to_csv(cohort_folder / "labels.csv", index=False)
    (cohort_folder / "features" / f"{table.loc[4, 'slide_id']}.h5").write_bytes(b"")
    assert refuse_unusable(folder_cohort(cohort_folder)) == []


def test_a_run_refuses_a_broken_slide_before_it_trains(
    milbench_here: Milbench, cohort_folder: Path, tmp_path: Path
) -> None:
    slides_of(cohort_folder)[4].write_bytes(b"no HDF5")
    result = milbench_here(*one_fold(cohort_folder))
    assert result.returncode == 2, result.stdout
    assert f"{slides_of(cohort_folder)[4].name} is no readable HDF5 file" in result.stderr
    assert not list((tmp_path / "out" / "trials").rglob("*.parquet"))


def test_a_run_says_odd_coordinates_once_and_trains_on(
    milbench_here: Milbench, cohort_folder: Path, tmp_path: Path
) -> None:
    path = slides_of(cohort_folder)[4]
    write_h5(path, features(4, WIDTH), np.zeros((3, 2), dtype=np.int64))
    result = milbench_here(*one_fold(cohort_folder))
    assert result.returncode == 0, result.stderr
    said = " ".join(result.stdout.split())
    assert said.count("4 patches but 3 coordinates") == 1
    assert f"1 slide ({path.stem}): 4 patches but 3 coordinates. Training needs no coordinates" in said
    assert list((tmp_path / "out" / "trials").rglob("*.parquet"))
