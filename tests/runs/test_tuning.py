"""Searches: equal budgets, choices by validation alone, and nothing that a kill or an order can change."""

from __future__ import annotations

import shutil
import subprocess
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from commands_for_tests import PLUGIN, Milbench, command, environment

from milbench.cohorts.tuned import read_tuned
from milbench.errors import StoreError
from milbench.runs.config import make_config
from milbench.runs.header import refuse_other_settings, write_header
from milbench.runs.preparation import Benchmark, prepare
from milbench.runs.tuning import Choice, choose, searches, untuned, warnings_of_nesting, write_chosen
from milbench.search_space import Configuration
from milbench.stats.search import tried
from milbench.store.run import Run, open_run
from milbench.store.run_folder import TUNING, UNTUNED
from milbench.trials.request import Place

WORDS = (
    "--run", "out", "--models", "tiny", "tiny_multi", "--cohort", "toy", "--folds", "0", "--workers", "1", "--no-tracking",
    "--plugin", PLUGIN, "--set", "trainer.epochs=3", "tuning.compare=false",
)  # fmt: skip


def planned(cohort: Path, **tuning: object) -> Benchmark:
    flags = {
        "cohorts": [str(cohort)], "models": ["tiny", "tiny_multi"], "plugins": [PLUGIN], "folds": [0],
        "trainer": {"epochs": 9}, "tuning": {"configurations": 5, **tuning}, "engine": {"max_failures": 2},
    }  # fmt: skip
    return prepare(make_config(None, [], flags))


def payloads(run: Run) -> dict[str, dict[str, str]]:
    return {trial.id: dict(trial.info["payload_sha256"]) for trial in run.trials()}


def test_every_model_tries_as_many_configurations_on_as_many_bags(cohort_folder: Path) -> None:
    (search,) = searches(planned(cohort_folder))
    trials = pd.DataFrame(
        [(t.model, t.tasks, t.search["configuration"], t.recipe.epochs, t.recipe.bags_per_step) for t in search.trials],
        columns=["model", "tasks", "configuration", "epochs", "bags"],
    )
    assert trials.groupby(["model", "tasks"])["configuration"].apply(sorted).map(tuple).unique().tolist() == [
        (0, 1, 2, 3, 4)
    ]
    assert set(trials["epochs"]) == {9}
    assert set(trials["bags"]) == {1}
    assert all(trial.roles == ("val",) for trial in search.trials)
    assert search.config.engine.max_failures == 0, "a choice needs the outcome of every configuration"


def test_configuration_0_is_the_trial_of_a_run_that_tunes_nothing(cohort_folder: Path) -> None:
    (search,) = searches(planned(cohort_folder))
    plain = {t.slot: (t.recipe, t.hyperparameters) for t in planned(cohort_folder, configurations=0).trials}
    first = [t for t in search.trials if t.search["configuration"] == 0]
    assert {t.slot.removesuffix("-config0"): (t.recipe, t.hyperparameters) for t in first} == plain
    assert len({t.key for t in search.trials}) == len(search.trials)


def test_the_tasks_of_a_model_share_configurations_unless_each_is_tuned(cohort_folder: Path) -> None:
    for per, n_places in (("model", 2), ("task", 3)):
        (search,) = searches(planned(cohort_folder, per=per))
        assert len(search.request.search.rungs[0].numbers) == n_places
        settings = {(t.model, t.search["configuration"]): t.recipe for t in search.trials}
        assert all(settings[t.model, t.search["configuration"]] == t.recipe for t in search.trials)


def test_a_run_tunes_trains_and_compares(milbench_here: Milbench, cohort_folder: Path, tmp_path: Path) -> None:
    words = [word for word in WORDS if word != "tuning.compare=false"]
    result = milbench_here("run", *words, "--tune", "3")
    assert result.returncode == 0, result.stderr
    assert "search: 3 configurations of each model, 9 trainings, in out/tuning" in result.stdout
    search, tuned, untuned = (open_run(tmp_path / "out" / part) for part in (TUNING, "", UNTUNED))
    assert [len(run.trials()) for run in (search, tuned, untuned)] == [9, 3, 3]
    assert not any("test" in set(trial.answers()["role"]) for trial in search.trials())
    assert all({"val", "test"} == set(trial.answers()["role"]) for trial in tuned.trials())
    settings = read_tuned(tmp_path / "out" / TUNING / "chosen" / "toy.yaml")
    assert settings.configurations == 3
    assert settings.command.startswith("milbench")
    for trial in tuned.trials():
        chosen = settings.of(trial.info["model"], "A")
        assert chosen is not None
        assert {key: trial.info["recipe"][key] for key in chosen.trainer} == chosen.trainer
        assert {key: trial.info["hyperparameters"][key] for key in chosen.model} == chosen.model
    best = tried(search, per_task=False).groupby("model").first()["configuration"]
    assert {model: settings.of(model, "A").number for model in best.index} == best.to_dict()


@pytest.mark.slow
def test_a_model_that_fails_does_not_keep_the_others_from_their_comparison(
    milbench_here: Milbench, cohort_folder: Path, tmp_path: Path
) -> None:
    """What to do next is said once, at the end, when all three parts have run."""
    words = [word for word in WORDS if word != "tuning.compare=false"]
    result = milbench_here("run", *words, "--models", "explodes", "tiny_multi", "--tune", "1")
    assert result.returncode == 3, result.stderr
    assert [len(open_run(tmp_path / "out" / part).trials()) for part in (TUNING, "", UNTUNED)] == [1, 1, 1]
    before, _, after = result.stdout.partition("the same trainings with the recipe's own settings, to compare")
    assert "next: " not in before
    assert after.count("next: milbench report out") == 1
    assert "1 trials done, 2 trials failed" in after


@pytest.mark.slow
def test_models_that_join_a_tuned_run_later_leave_the_others_in_its_tables(
    milbench_here: Milbench, cohort_folder: Path, tmp_path: Path
) -> None:
    assert milbench_here("run", *WORDS, "--models", "tiny", "--tune", "2").returncode == 0
    n_alone = len(open_run(tmp_path / "out").trials())
    joined = milbench_here("run", *WORDS, "--models", "tiny_multi", "--tune", "2")
    assert joined.returncode == 0, joined.stderr
    assert "left out of every table" not in joined.stdout
    assert len(open_run(tmp_path / "out").trials()) == n_alone + 1
    settings = read_tuned(tmp_path / "out" / TUNING / "chosen" / "toy.yaml")
    assert {model for model, _ in settings.chosen} == {"tiny", "tiny_multi"}
    more = milbench_here("run", *WORDS, "--models", "tiny_multi", "--tune", "3")
    assert "toy: tiny chose among 2 configurations, and the models of this command among 3" in more.stdout


def test_the_same_command_computes_nothing_again_and_more_configurations_keep_the_earlier_ones(
    milbench_here: Milbench, cohort_folder: Path, tmp_path: Path
) -> None:
    assert milbench_here("tune", *WORDS, "--tune", "2", "--out", "a.yaml").returncode == 0
    before = payloads(open_run(tmp_path / "out" / TUNING))
    again = milbench_here("tune", *WORDS, "--tune", "2", "--out", "b.yaml")
    assert "6 trials (6 already done)" in again.stdout
    assert (tmp_path / "a.yaml").read_bytes() == (tmp_path / "b.yaml").read_bytes()
    more = milbench_here("tune", *WORDS, "--tune", "3")
    assert "9 trials (6 already done)" in more.stdout
    after = payloads(open_run(tmp_path / "out" / TUNING))
    assert before.items() <= after.items()


RATES_ONLY = ("--set", "trainer.epochs=1", "model.tiny.hidden=8", "model.tiny.dropout=0.1", "model.tiny_multi.hidden=8",
              "model.tiny_multi.dropout=0.1")  # fmt: skip


def searched(milbench_here: Milbench, folder: Path, n: int, *more: str) -> Run:
    """The search of n configurations that differ in rate and decay only."""
    words = [word if word != "out" else folder.name for word in WORDS]
    result = milbench_here("tune", *words, *RATES_ONLY, "--tune", str(n), "--out", f"{folder.name}.yaml", *more)
    assert result.returncode == 0, result.stderr
    return open_run(folder / TUNING)


@pytest.mark.slow
def test_rates_that_are_tried_in_one_stack_end_where_each_ends_alone(
    milbench_here: Milbench, cohort_folder: Path, tmp_path: Path
) -> None:
    words = ("--models", "tiny_multi", "--stack")
    on, off = (searched(milbench_here, tmp_path / stack, 8, *words, stack) for stack in ("on", "off"))
    assert [t.info["stack"] for t in on.trials()] == [8] * 8
    assert {t.info["stack"] for t in off.trials()} == {1}
    histories = zip(on.trials(), off.trials(), strict=True)
    for ours, own in ((a.history(), b.history()) for a, b in histories):
        assert ours["lr"].tolist() == own["lr"].tolist()
        pd.testing.assert_frame_equal(ours, own, rtol=1e-3)
    assert read_tuned(tmp_path / "on.yaml").chosen == read_tuned(tmp_path / "off.yaml").chosen


@pytest.mark.slow
def test_a_search_that_goes_on_keeps_what_is_finished_and_ends_whole_blocks_as_one_search_does(
    milbench_here: Milbench, cohort_folder: Path, tmp_path: Path
) -> None:
    words = ("--stack", "on", "--models", "tiny_multi")
    first = payloads(searched(milbench_here, tmp_path / "grown", 10, *words))
    grown = searched(milbench_here, tmp_path / "grown", 16, *words)
    whole = payloads(searched(milbench_here, tmp_path / "whole", 16, *words))
    assert first.items() <= payloads(grown).items(), "what is finished stays"
    cut = {trial.id for trial in grown.trials() if trial.info["search"]["configuration"] in (8, 9)}
    assert [trial.info["stack"] for trial in grown.trials() if trial.id in cut] == [1, 1]
    assert {id_: of for id_, of in payloads(grown).items() if id_ not in cut} == {
        id_: of for id_, of in whole.items() if id_ not in cut
    }


def test_other_test_labels_change_no_choice(milbench_here: Milbench, cohort_folder: Path, tmp_path: Path) -> None:
    """The split is kept, and every label of a test patient is turned around."""
    assert milbench_here("tune", *WORDS, "--tune", "4", "--out", "a.yaml").returncode == 0
    roles = open_run(tmp_path / "out" / TUNING).roles("toy")
    tests = set(roles.loc[roles["fold_0"] == "test", "patient_id"].astype(str))
    shutil.copy(tmp_path / "out" / TUNING / "splits" / "toy.csv", tmp_path / "kept.csv")
    table = pd.read_csv(cohort_folder / "labels.csv", dtype=str)
    mine = table["case_id"].isin(tests)
    assert mine.sum() > 3
    table.loc[mine, ["A", "B"]] = np.where(table.loc[mine, ["A", "B"]] == "0", "1", "0")
    table.to_csv(cohort_folder / "labels.csv", index=False)
    words = [word if word != "out" else "other" for word in WORDS]
    assert milbench_here("tune", *words, "--splits", "kept.csv", "--tune", "4", "--out", "b.yaml").returncode == 0
    one, other = (read_tuned(tmp_path / name) for name in ("a.yaml", "b.yaml"))
    assert one.chosen == other.chosen
    scores = [tried(open_run(tmp_path / name / TUNING), per_task=False)["score"] for name in ("out", "other")]
    assert scores[0].tolist() == scores[1].tolist()


@pytest.mark.slow
def test_shards_that_are_merged_choose_as_one_machine_does(
    milbench_here: Milbench, cohort_folder: Path, tmp_path: Path
) -> None:
    assert milbench_here("tune", *WORDS, "--tune", "3", "--out", "whole.yaml").returncode == 0
    for shard in ("1/4", "2/4", "3/4", "4/4"):
        words = [word if word != "out" else f"part{shard[0]}" for word in WORDS]
        assert milbench_here("run", *words, "--tune", "3", "--shard", shard).returncode == 0
    merged = milbench_here("merge", "all", *(f"part{number}" for number in range(1, 5)))
    assert merged.returncode == 0, merged.stderr
    words = [word if word != "out" else "all" for word in WORDS]
    done = milbench_here("tune", *words, "--tune", "3", "--out", "merged.yaml")
    assert "9 trials (9 already done)" in done.stdout, done.stdout + done.stderr
    assert read_tuned(tmp_path / "whole.yaml").chosen == read_tuned(tmp_path / "merged.yaml").chosen


@pytest.mark.parametrize(
    "text", ["models: [", "configurations: 2\nmodels: {tiny: {configuration: 7, trainer: {}, model: {}}}\n"]
)
def test_a_spoilt_file_of_chosen_settings_is_written_anew(
    cohort_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    monkeypatch.chdir(tmp_path)
    base = planned(cohort_folder)
    chosen = {Place("toy", name): Choice(Configuration(3, {"lr": 0.5}), 0.7, 0.6) for name in base.models}
    (path,) = write_chosen(base, chosen, "milbench tune")
    path.write_text(text)
    assert write_chosen(base, chosen, "milbench tune") == [path]
    assert read_tuned(path).of("tiny", "A") == Configuration(3, {"lr": 0.5})


def header_of_a_search(cohort: Path, tmp_path: Path) -> Path:
    """A folder with the header of a search, and no trials."""
    base = planned(cohort, configurations=2)
    base = prepare(replace(base.config, run=str(tmp_path / "out")))
    (search,) = searches(base)
    write_header(search)
    return search.run.path


def test_a_search_is_no_run_folder(cohort_folder: Path, tmp_path: Path) -> None:
    folder = header_of_a_search(cohort_folder, tmp_path)
    base = planned(cohort_folder, configurations=2)
    with pytest.raises(StoreError, match=f"holds the search of a tuned run. Name the run itself: --run {tmp_path}/out"):
        refuse_other_settings(prepare(replace(base.config, run=str(folder))))


def test_the_split_of_a_search_belongs_to_the_whole_run(cohort_folder: Path, tmp_path: Path) -> None:
    """As milbench itself proposes it, after labels have changed."""
    folder = header_of_a_search(cohort_folder, tmp_path)
    config = planned(cohort_folder, configurations=2).config
    again = prepare(replace(config, splits=str(folder / "splits")))
    assert again.run.path == tmp_path / "out"
    for part in (again, next(searches(again)), untuned(again)):
        refuse_other_settings(part)


@pytest.mark.slow
@pytest.mark.parametrize("more", [("--tune", "6"), ("--tune", "8", *RATES_ONLY, "--stack", "on")])
def test_a_killed_search_goes_on_to_the_same_bytes_and_the_same_choice(
    milbench: Milbench, cohort_folder: Path, tmp_path: Path, more: tuple[str, ...]
) -> None:
    assert milbench("tune", *WORDS, *more, "--out", "whole.yaml").returncode == 0
    words = [word if word != "out" else "cut" for word in WORDS]
    for n_done in (1, 7, 13):
        process = subprocess.Popen(command("tune", *words, *more), cwd=tmp_path, env=environment())
        while len(list((tmp_path / "cut" / TUNING / "trials").rglob("trial.json"))) < n_done and process.poll() is None:
            time.sleep(0.01)
        process.kill()
        process.wait()
    assert milbench("tune", *words, *more, "--out", "cut.yaml").returncode == 0
    assert payloads(open_run(tmp_path / "cut" / TUNING)) == payloads(open_run(tmp_path / "out" / TUNING))
    assert read_tuned(tmp_path / "cut.yaml").chosen == read_tuned(tmp_path / "whole.yaml").chosen


def test_folds_with_test_sides_of_their_own_are_warned_of(cohort_folder: Path, tmp_path: Path) -> None:
    patients = sorted(set(pd.read_csv(cohort_folder / "labels.csv", dtype=str)["case_id"]))
    turns = [("test", "val", "train", "train")[place % 4] for place in range(len(patients) + 1)]
    table = pd.DataFrame({"patient_id": patients, "fold_0": turns[:-1], "fold_1": turns[1:]})
    table.to_csv(tmp_path / "splits.csv", index=False)
    for folds, n_warnings in (([0], 0), ([0, 1], 1)):
        flags = {"cohorts": [str(cohort_folder)], "models": ["tiny"], "plugins": [PLUGIN], "folds": folds,
                 "splits": str(tmp_path / "splits.csv"), "tuning": {"configurations": 2}}  # fmt: skip
        assert len(warnings_of_nesting(prepare(make_config(None, [], flags)))) == n_warnings


def test_halving_spends_as_much_on_every_rung_and_keeps_the_recipes_own(
    cohort_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = planned(cohort_folder, configurations=27, halving=True)
    monkeypatch.setattr("milbench.runs.tuning._finished", _last_is_best)
    rungs = list(searches(base))[-1].request.search.rungs
    assert [rung.divisor for rung in rungs] == [9, 3, 1]
    assert [[len(numbers) for numbers in rung.numbers.values()] for rung in rungs] == [[27, 27], [9, 9], [3, 3]]
    assert all(0 in numbers for rung in rungs for numbers in rung.numbers.values())


def _last_is_best(base: Benchmark, rung: object) -> object:
    class Finished:
        def __init__(self) -> None:
            self.rung = rung

        def best(self, place: object) -> list[int]:
            return sorted(self.rung.numbers[place], reverse=True)

    return Finished()


def test_a_search_by_halving_runs_to_its_choice(milbench_here: Milbench, cohort_folder: Path, tmp_path: Path) -> None:
    result = milbench_here("tune", *WORDS, "--tune", "4", "--tune-halving", "--out", "chosen.yaml")
    assert result.returncode == 0, result.stderr
    table = tried(open_run(tmp_path / "out" / TUNING), per_task=False)
    rungs = table.groupby(["model", "epochs"])["configuration"].nunique().unstack()
    assert rungs.to_dict("list") == {0: [2, 2], 1: [4, 4]}
    spent = table.groupby(["model", "epochs"])["bag_steps"].sum().unstack()
    assert (spent[0] / spent[1]).tolist() == pytest.approx([1.5, 1.5])  # 2 x 3 epochs after 4 x 1


def test_a_configuration_that_a_model_refuses_is_recorded_and_never_chosen(
    milbench_here: Milbench, cohort_folder: Path, tmp_path: Path
) -> None:
    (tmp_path / "space.yaml").write_text("tuning: {space: {tiny: {model: {dropout: {one_of: [3.0]}}}}}\n")
    result = milbench_here("tune", *WORDS, "--config", "space.yaml", "--tune", "3", "--out", "chosen.yaml")
    assert result.returncode in (0, 3), result.stderr
    search = open_run(tmp_path / "out" / TUNING)
    assert len(search.failures()) == 4  # configurations 1 and 2 of two tasks
    assert read_tuned(tmp_path / "chosen.yaml").of("tiny", "A").number == 0
    table = tried(search, per_task=False).set_index(["model", "configuration"])
    assert table.loc[("tiny", 1), "n_failed"] == 2
    assert np.isnan(table.loc[("tiny", 1), "score"])


def test_a_choice_is_refused_while_trials_are_left(
    cohort_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    base = planned(cohort_folder)
    (search,) = searches(base)
    with pytest.raises(StoreError, match="lacks 15 trials of the search, such as toy/"):
        choose(base, search)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--tune", "-1"), "tuning.configurations is -1; the least is 0"),
        (("--tune", "2", "--tune-per", "fold"), "Did you mean|unknown value of tuning.per"),
        (("--tune", "2", "--tune-halving", "--shard", "1/2"), "do not go together"),
        (
            ("--tune", "2", "--set", "tuning.space.tinny.trainer.lr.one_of=[1.0]"),
            "tuning.space names the model 'tinny'",
        ),
        (("--tune", "2", "--set", "tuning.space.tiny.model.hiden.one_of=[1]"), "Did you mean 'hidden'"),
        (("--tune", "2", "--set", "tuning.space.*.model.hiden.one_of=[1]"), "Did you mean 'hidden'"),
        (
            ("--tune", "2", "--set", "tuning.space.*.trainer.optimizer.times=[1, 2]"),
            "configuration 1: trainer.optimizer: a search space multiplies a default of 'adam'",
        ),
        (
            ("--tune", "2", "--set", "tuning.space.tiny.trainer.warmup.one_of=[5]"),
            "search space of 'tiny', configuration 1: trainer.warmup is 5 epochs, and training takes 3",
        ),
        (
            ("--tune", "4", "--tune-halving", "--set", "trainer.warmup=2"),
            "--tune-halving trains for 1 of 3 epochs first: trainer.warmup is 2 epochs",
        ),
        (("--tune", "2", "--set", "tuning.space.tiny.trainer.epochs.one_of=[1]"), "which all configurations share"),
    ],
)
def test_bad_requests_are_one_clear_message(
    milbench_here: Milbench, cohort_folder: Path, words: tuple[str, ...], message: str
) -> None:
    result = milbench_here("run", *WORDS, *words)
    assert result.returncode == 2
    assert pd.Series([result.stderr]).str.contains(message).all(), result.stderr
    assert "Traceback" not in result.stderr
