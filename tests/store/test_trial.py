"""A stored trial counts only if its weights have the names, types and shapes that its record promises."""

import json
from pathlib import Path

import numpy as np
import pytest
from one_trial import HISTORY, ID, INFO, PREDICTIONS, write
from run_mutations import reseal
from safetensors.numpy import save_file

from milbench.store.run import Run
from milbench.store.run_writing import write_trial

ONE = np.float32(1)
OTHER_WEIGHTS = {
    "another shape": ({"w": np.ones((3, 1), np.float32)}, "holds w as F32 [3, 1]; expected F32 [3]"),
    "another type": ({"w": np.ones(3, np.float64)}, "holds w as F64 [3]; expected F32 [3]"),
    "another name": ({"v": np.ones(3, np.float32)}, "holds v as F32 [3]; expected none"),
    "a tensor more": ({"w": np.ones(3, np.float32), "x": np.asarray(ONE)}, "holds x as F32 []; expected none"),
    "a tensor parted": ({"w": np.ones(2, np.float32), "x": np.asarray(ONE)}, "holds w as F32 [2]; expected F32 [3]"),
}


@pytest.fixture
def weights(run: Run) -> Path:
    """The weights of the one finished trial."""
    write(run)
    return run.path / "trials" / ID / "model.safetensors"


def test_a_record_tells_type_and_shape_of_each_weight(weights: Path) -> None:
    assert json.loads((weights.parent / "trial.json").read_text())["weights"] == {"w": "F32 [3]"}


def test_a_record_without_weights_tells_of_none(run: Run) -> None:
    write_trial(run, ID, INFO, PREDICTIONS, HISTORY, None)
    assert "weights" not in json.loads((run.path / "trials" / ID / "trial.json").read_text())
    assert run.damage(ID) == run.damage(ID, verify_files=False) == ""


@pytest.mark.parametrize("other", OTHER_WEIGHTS)
def test_weights_that_do_not_fit_the_record_are_damage_however_their_checksum_fits(
    run: Run, weights: Path, other: str
) -> None:
    tensors, why = OTHER_WEIGHTS[other]
    save_file(tensors, weights)
    reseal(weights)
    assert run.damage(ID) == run.damage(ID, verify_files=False) == f"model.safetensors {why}"
    assert run.trials() == []
    write(run)
    assert run.damage(ID) == ""


def test_a_trial_whose_record_tells_no_shapes_keeps_counting(run: Run, weights: Path) -> None:
    record = json.loads((weights.parent / "trial.json").read_text())
    del record["weights"]
    (weights.parent / "trial.json").write_text(json.dumps(record))
    assert [trial.id for trial in run.trials()] == [ID]
    assert run.damage(ID, verify_files=False) == ""


def test_weights_that_are_gone_or_no_plain_file_are_damage_at_a_glance(run: Run, weights: Path, tmp_path: Path) -> None:
    weights.rename(tmp_path / "elsewhere")
    assert run.damage(ID, verify_files=False) == "model.safetensors: No such file or directory"
    weights.symlink_to(tmp_path / "elsewhere")
    assert "symbolic link" in run.damage(ID, verify_files=False)


@pytest.mark.slow
def test_a_model_of_more_bytes_than_any_table_counts_as_done(run: Run) -> None:
    write_trial(run, ID, INFO, PREDICTIONS, HISTORY, {"w": np.zeros(70_000_000, np.float32)})
    assert run.damage(ID) == ""
