"""The table that a run ends with."""

import io
from pathlib import Path

from kinds_for_tests import make_run_of_kinds
from rich.console import Console
from runs_for_tests import make_run

from milbench.commands.show_run import print_scores, unfinished
from milbench.endpoints.endpoint import KINDS
from milbench.stats.metric import METRICS
from milbench.stats.scores import score_table, summary
from milbench.store.run import open_run


def test_every_kind_of_task_has_a_table_of_its_own(tmp_path: Path) -> None:
    run, text = make_run_of_kinds(tmp_path / "kinds", folds=(0, 1)), io.StringIO()
    print_scores(Console(file=text, width=200), run)
    blocks = text.getvalue().split("control tasks are left out\n")[:-1]
    assert len(blocks) == len(KINDS)
    for kind, block in zip(KINDS, blocks, strict=True):
        assert f"mean test {METRICS[kind].title} over tasks" in block
        for row in summary(score_table([run], kind)).itertuples():
            assert f"{row.mean:.3f} ± {row.sd:.3f}" in block


def test_what_is_damaged_is_told_in_a_sentence_each(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", models=("m4",), folds=(0, 1))
    for trial in run.trials():
        (run.trial_folder(trial.id) / "trial.json").write_text("{}")
    text = unfinished(open_run(run.path))
    assert text.count(" Damaged: ") == 2
    assert text.endswith(").")
    assert ".." not in text.replace("...", "")
