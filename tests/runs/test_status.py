"""`milbench status` and its neighbours call models by their names, whatever their folders are called."""

from pathlib import Path

from commands_for_tests import FAST, Milbench

from milbench.runs.status import survey
from milbench.store.run import open_run

PLUGIN = """
import torch
from milbench.models import BagOutput, MILModel, register_model


@register_model("mil/v[2]", title="Mine", tasks="single")
class Mine(MILModel):
    def __init__(self, in_features, n_tasks):
        super().__init__(in_features, n_tasks)
        self.head = torch.nn.Linear(in_features, n_tasks)

    def forward(self, features):
        return BagOutput(self.head(features.mean(0)), None, {})
"""


def test_a_model_that_no_folder_can_be_called_after_runs_under_its_name(
    cohort_folder: Path, tmp_path: Path, milbench_here: Milbench
) -> None:
    (tmp_path / "mine.py").write_text(PLUGIN)
    words = ["--models", "mil/v[2]", "--cohort", "toy", "--folds", "0", "--run", "out", "--workers", "1", *FAST]
    done = milbench_here("run", *words, "--plugin", "mine.py")
    assert done.returncode == 0, done.stderr
    run = open_run(tmp_path / "out")
    assert list(survey(run).counts) == [("toy", "mil/v[2]")]
    assert {trial.info["model"] for trial in run.trials()} == {"mil/v[2]"}
    assert {path.name[:9] for path in (tmp_path / "out" / "trials" / "toy").iterdir()} == {"mil_v_2_-"}
    assert "mil/v[2]" in milbench_here("status", "out").stdout
    assert cohort_folder.exists()
