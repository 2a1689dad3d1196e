"""Passes through the command line: how trials are put together changes no result, whatever befalls them."""

from __future__ import annotations

import gc
import json
import weakref
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from commands_for_tests import FAST, PLUGIN, Milbench
from graphs_for_tests import TapeRecorder
from predictions_for_tests import predictions
from scipy.stats import ttest_1samp
from studies_for_tests import results
from trial_for_tests import TRIAL

from milbench.datasets.source import CohortSource
from milbench.engines import computation, worker
from milbench.engines.settings import PoolSettings
from milbench.kernels import wants_fused_kernels
from milbench.metrics import auroc
from milbench.runs import benchmark as module_of_benchmark
from milbench.runs import passes as module
from milbench.runs.config import make_config
from milbench.runs.preparation import Benchmark, prepare
from milbench.runs.tuning import searches
from milbench.store.run import Run
from milbench.training.learner import Learner
from milbench.trials.job import DataPass, Job, JobGroup, Status
from milbench_baselines.layers import attention_expert

WORDS = ("run", "--models", "amil", "tiny", "tiny_multi", "--folds", "0", "1", "--workers", "1", *FAST)


def infos(run: Path) -> list[dict]:
    return [json.loads(path.read_text()) for path in sorted(run.glob("trials/**/trial.json"))]


@pytest.mark.slow
def test_trials_that_share_their_reading_end_with_the_same_bytes(
    milbench_here: Milbench, cohort_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = (*WORDS, "--cohort", str(cohort_folder))
    assert milbench_here(*words, "--run", "each").returncode == 0
    passes: list[int] = []
    shared = module._shared_reading

    def counted(*arguments: object) -> list:
        made = shared(*arguments)  # type: ignore[arg-type]
        passes.append(len(made))
        return made

    monkeypatch.setattr(module, "_is_resident", lambda *_: False)
    monkeypatch.setattr(module, "_shared_reading", counted)
    assert milbench_here(*words, "--run", "shared").returncode == 0
    assert passes == [1], "one worker reads once for all models and folds"
    assert results(tmp_path / "each") == results(tmp_path / "shared")


@pytest.mark.slow
def test_balanced_trials_of_drawn_patches_end_with_the_same_bytes_however_they_are_computed(
    milbench_here: Milbench, cohort_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = ("trainer.sampler=balanced", "trainer.bag_patches=3", "trainer.label_smoothing=0.1",
                "trainer.warmup=0.5", "trainer.optimizer=adamw")  # fmt: skip
    words = ("run", "--models", "tiny", "tiny_multi", "--folds", "0", "--workers", "1", *FAST, *settings,
             "--cohort", str(cohort_folder))  # fmt: skip
    assert milbench_here(*words, "--run", "each", "--stack", "off").returncode == 0
    monkeypatch.setattr(module, "_is_resident", lambda *_: False)
    assert milbench_here(*words, "--run", "shared", "--stack", "on").returncode == 0
    assert {info["stack"] for info in infos(tmp_path / "shared")} == {1}
    assert results(tmp_path / "each") == results(tmp_path / "shared")
    for info in infos(tmp_path / "each"):
        recipe = info["recipe"]
        assert (recipe["sampler"], recipe["bag_patches"], recipe["warmup"]) == ("balanced", 3, 0.5)


def test_a_pass_leaves_nothing_of_its_learners_behind(
    milbench_here: Milbench, cohort_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Weights and moments go with the last reference to them: the next pass needs the memory before Python looks for garbage."""
    alive: weakref.WeakSet[Learner] = weakref.WeakSet()
    left: list[int] = []
    begin, run_pass = Learner.__init__, worker.run_pass

    def seen(self: Learner, *arguments: object, **options: object) -> None:
        alive.add(self)
        begin(self, *arguments, **options)  # type: ignore[arg-type]

    def counted(data_pass: DataPass) -> list[Status]:
        gc.disable()
        try:
            statuses = run_pass(data_pass)
            left.append(len(alive))
        finally:
            gc.enable()
        return statuses

    monkeypatch.setattr(Learner, "__init__", seen)
    monkeypatch.setattr(worker, "run_pass", counted)
    assert milbench_here(*WORDS, "--cohort", str(cohort_folder)).returncode == 0
    assert left
    assert set(left) == {0}


@pytest.mark.parametrize(("workers", "made"), [(1, 1), (2, 2), (3, 3), (9, 4)])
def test_on_gpus_a_model_is_divided_until_no_worker_is_left_without_a_pass(
    tmp_path: Path, workers: int, made: int
) -> None:
    run = Run(tmp_path / "run")
    groups = [JobGroup((Job(run.path, replace(TRIAL, fold=fold), CohortSource()),)) for fold in range(4)]
    settings = PoolSettings(run=run.path, device="cuda", workers=workers)
    passes = module._shared_reading(groups, None, settings)  # type: ignore[arg-type]  # a GPU asks no cohort
    assert len(passes) == made
    assert sorted(job.trial.fold for each in passes for job in each.jobs) == [0, 1, 2, 3]


def search_of(cohort: Path, n: int, stack: str) -> Benchmark:
    """The search of n configurations of tiny, which differ in rate and decay only."""
    flags = {
        "cohorts": [str(cohort)], "models": ["tiny"], "plugins": [PLUGIN], "folds": [0], "tuning": {"configurations": n},
        "model": {"tiny": {"hidden": 8, "dropout": 0.1}}, "engine": {"stack": stack, "workers": 1},
    }  # fmt: skip
    (search,) = searches(prepare(make_config(None, [], flags)))
    return search


@pytest.mark.parametrize(("most", "sizes"), [(16, [16]), (8, [8, 8]), (4, [4, 4, 4, 4]), (2, [2] * 8), (1, [1] * 16)])
def test_a_stack_of_a_search_that_is_too_big_is_halved_until_it_pays(
    cohort_folder: Path, monkeypatch: pytest.MonkeyPatch, most: int, sizes: list[int]
) -> None:
    monkeypatch.setattr(module, "stacking_pays", lambda *_, n_members, **__: 1 < n_members <= most)
    search = search_of(cohort_folder, 8, "auto")
    passes = module.passes_of(search, search.trials, module.pool_settings(search))
    groups = [group for data_pass in passes for group in data_pass.groups]
    assert [len(group) for group in groups] == sizes
    assert {job.trains_in_stack for group in groups for job in group} == {most > 1}
    assert sorted(job.trial.key for group in groups for job in group) == sorted(t.key for t in search.trials)
    tried = [{job.trial.search["configuration"] for job in group} for group in groups]
    assert all(max(one) - min(one) == len(one) - 1 for one in tried), "neighbours, so that a part is the same for good"


@pytest.mark.parametrize(("stack", "sizes"), [("on", [16, 2]), ("off", [1] * 18)])
def test_the_flag_decides_for_trials_of_a_search_too(cohort_folder: Path, stack: str, sizes: list[int]) -> None:
    search = search_of(cohort_folder, 9, stack)
    passes = module.passes_of(search, search.trials, module.pool_settings(search))
    assert [len(group) for data_pass in passes for group in data_pass.groups] == sizes


def test_finished_trials_of_a_search_are_trained_along_with_what_is_left_of_their_stack(cohort_folder: Path) -> None:
    search = search_of(cohort_folder, 9, "on")
    left = [trial for trial in search.trials if trial.search["configuration"] in (3, 8)]
    passes = module.passes_of(search, left, module.pool_settings(search))
    groups = [group for data_pass in passes for group in data_pass.groups]
    assert [(len(group), len(group.first.others)) for group in groups] == [(2, 14), (2, 0)]


def test_stacked_and_looped_trials_agree_and_say_how_they_were_trained(
    milbench_here: Milbench, cohort_folder: Path, tmp_path: Path
) -> None:
    for stack in ("on", "off"):
        assert milbench_here(*WORDS, "--cohort", str(cohort_folder), "--stack", stack, "--run", stack).returncode == 0
    assert {info["stack"] for info in infos(tmp_path / "on") if info["model"] == "amil"} == {2}
    assert {info["stack"] for info in infos(tmp_path / "off")} == {1}
    on, off = predictions(tmp_path / "on"), predictions(tmp_path / "off")
    pd.testing.assert_frame_equal(on.drop(columns="probability"), off.drop(columns="probability"))
    np.testing.assert_allclose(on["probability"], off["probability"], atol=1e-3)


@pytest.mark.slow
def test_fused_kernels_are_asked_for_by_a_setting_of_the_engine(
    milbench_here: Milbench, cohort_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are part of no identity: `run` with the other setting finds its trials finished. A CPU has none to record."""
    asked: list[bool] = []
    monkeypatch.setattr(attention_expert, "goes_fused", lambda *_: asked.append(wants_fused_kernels()))
    words = (
        "run",
        "--cohort",
        str(cohort_folder),
        "--run",
        "out",
        "--models",
        "amil",
        "--folds",
        "0",
        "--workers",
        "1",
        *FAST,
    )
    fused = milbench_here(*words, "engine.kernels=fused")
    assert fused.returncode == 0, fused.stderr
    assert any(asked)
    assert yaml.safe_load((tmp_path / "out/run.yaml").read_text())["engine"]["kernels"] == "fused"
    assert all("kernels" not in info for info in infos(tmp_path / "out"))
    asked.clear()
    assert milbench_here(*words).returncode == 0
    assert not asked


@pytest.mark.slow
def test_a_run_with_cuda_graphs_ends_with_the_same_bytes_and_counts_replayed_steps(
    milbench_here: Milbench, cohort_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a CPU, with a recorder that plays operators again."""
    words = (*WORDS, "--cohort", str(cohort_folder), "--stack", "on", "--set", "trainer.epochs=3")
    assert milbench_here(*words, "--run", "plain").returncode == 0
    for place in (module_of_benchmark, computation):
        monkeypatch.setattr(place, "check_cuda_graphs", lambda *_, wanted: None)
    monkeypatch.setattr(computation, "CudaRecorder", lambda device: TapeRecorder())
    result = milbench_here(*words, "--cuda-graphs", "--run", "graphs")
    assert result.returncode == 0, result.stderr
    plain, graphs = (
        {name: content for name, content in results(tmp_path / run).items() if not name.endswith("trial.json")}
        for run in ("plain", "graphs")
    )
    assert plain == graphs
    assert yaml.safe_load((tmp_path / "graphs/run.yaml").read_text())["engine"]["cuda_graphs"]
    found = [info["cuda_graphs"] for info in infos(tmp_path / "graphs")]
    assert all(told["replayed_steps"] + told.get("replayed_steps_of_folds", 0) > 0 for told in found)
    assert {told["why_not_more"] for told in found} == {""}
    assert all(told["replayed_evaluations"] > 0 for told in found)
    assert {info["stack"] > 1 for info in infos(tmp_path / "graphs")} == {True, False}


@pytest.mark.slow
def test_steps_shrink_to_a_stated_memory_and_the_trial_says_so(
    milbench_here: Milbench, cohort_folder: Path, tmp_path: Path
) -> None:
    words = (*WORDS, "--cohort", str(cohort_folder), "--stack", "on")
    result = milbench_here(*words, "--memory", "500MB", "--run", "small")  # no more than the process itself takes
    assert result.returncode == 0, result.stderr
    assert "read from disk, 2 bags ahead" in result.stdout
    assert "under --memory 500.0 MB" in result.stdout
    assert all("for the memory budget" in info["memory"] for info in infos(tmp_path / "small"))
    assert milbench_here(*words, "--run", "free").returncode == 0
    assert {info["memory"] for info in infos(tmp_path / "free")} == {""}
    small, free = predictions(tmp_path / "small"), predictions(tmp_path / "free")
    np.testing.assert_allclose(small["probability"], free["probability"], atol=1e-3)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--memory", "plenty"), "'plenty' is no size"),
        (("--stack", "maybe"), "unknown value of engine.stack 'maybe'"),
        (("--set", "engine.kernels=fusd"), "Did you mean 'fused'"),
        (("--precision", "bf61"), "Did you mean 'bf16'"),
        (("--precision", "tf32", "--device", "cpu"), "TF32 exists on NVIDIA GPUs"),
        (("--cuda-graphs", "--device", "cpu"), "--cuda-graphs needs an NVIDIA GPU"),
        (("--set", "engine.cuda_graphs=yes", "--device", "cpu"), "--cuda-graphs needs an NVIDIA GPU"),
        (("--set", "engine.checkpoint_seconds=-1"), "the least is 0"),
    ],
)
def test_settings_that_make_no_sense_are_one_message(
    milbench_here: Milbench, cohort_folder: Path, tmp_path: Path, words: tuple[str, ...], message: str
) -> None:
    result = milbench_here("run", "--cohort", str(cohort_folder), "--run", "out", "--no-tracking", *words)
    assert result.returncode == 2, result.stdout
    assert message in result.stderr
    assert not list((tmp_path / "out").glob("trials/**/trial.json"))


@pytest.mark.slow
def test_a_precision_is_another_trial_and_another_run_folder(
    milbench_here: Milbench, cohort_folder: Path, tmp_path: Path
) -> None:
    words = ("run", "--models", "tiny", "--folds", "0", "--workers", "1", *FAST, "--cohort", str(cohort_folder))
    assert milbench_here(*words, "--run", "out").returncode == 0
    refused = milbench_here(*words, "--run", "out", "--precision", "bf16")
    assert refused.returncode == 2
    assert "precision: 'float32' there, 'bf16' now" in refused.stderr
    assert milbench_here(*words, "--run", "other", "--precision", "bf16").returncode == 0
    ours, other = infos(tmp_path / "out"), infos(tmp_path / "other")
    assert {info["precision"] for info in other} == {"bf16"}
    assert not {info["key"] for info in ours} & {info["key"] for info in other}


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_stacked_digits_are_statistically_those_of_trials_alone(milbench: Milbench, tmp_path: Path) -> None:
    """Twenty seeds, dropout on: rounding alone separates the two, and training may amplify it either way."""
    words = ("--models", "amil", "--tasks", "has_0", "many_3", "--folds", "0", "--seeds", "0-19", "--no-tracking")
    scores = {}
    for stack in ("on", "off"):
        result = milbench("run", *words, "--stack", stack, "--run", stack, "--set", "trainer.epochs=4", timeout=420)
        assert result.returncode == 0, result.stdout + result.stderr
        rows = predictions(tmp_path / stack).query("role == 'test'")
        scores[stack] = np.array(
            [auroc(each["target"].to_numpy(), each["probability"].to_numpy()) for _, each in rows.groupby("trial")]
        )
    difference = scores["on"] - scores["off"]
    assert len(difference) == 40
    assert np.abs(difference).max() < 0.05
    assert np.ptp(difference) == 0 or ttest_1samp(difference, 0).pvalue > 0.01
