"""What a run folder keeps of how features were made, and that two encoders never get so far."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from formats_for_tests import Slide, write_extracted

from milbench.errors import DataError, StoreError
from milbench.report.html.gather import _facts
from milbench.report.settings import settings_table
from milbench.runs.config import RunConfig
from milbench.runs.header import write_header
from milbench.runs.preparation import Benchmark, prepare
from milbench.store.feature_facts import in_words
from milbench.store.headers import DATASETS_SHAPE, read_json
from milbench.store.run import Run, open_run

N_SLIDES = 20


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twenty slides as `milbench features` writes them, of one encoder, at one scale."""
    folder, rng = tmp_path_factory.mktemp("facts") / "own", np.random.default_rng(0)
    (folder / "features").mkdir(parents=True)
    for n in range(N_SLIDES):
        slide = Slide(rng.standard_normal((3, 4)).astype(np.float16), np.arange(6).reshape(3, 2) * 512)
        write_extracted(folder / "features" / f"s{n:02d}.h5", slide, mpp=0.5 + n / 10_000)
    names = [f"s{n:02d}" for n in range(N_SLIDES)]
    table = pd.DataFrame({"case_id": names, "slide_id": names, "A": np.arange(N_SLIDES) % 2})
    table.to_csv(folder / "labels.csv", index=False)
    return folder


@pytest.fixture(scope="module")
def prepared(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[Path], Benchmark]:
    run = str(tmp_path_factory.mktemp("runs") / "own")
    return lambda cohort: prepare(RunConfig(cohorts=(str(cohort),), models=("mean_pooling",), folds=(0,), run=run))


@pytest.fixture(scope="module")
def run(folder: Path, prepared: Callable[[Path], Benchmark]) -> Run:
    benchmark = prepared(folder)
    write_header(benchmark)
    return open_run(benchmark.run.path)


def test_the_run_keeps_how_features_were_made_and_the_report_shows_it(run: Run) -> None:
    kept = run.datasets["own"]["features"]
    assert kept["encoder"] == {"retccl": N_SLIDES}
    assert sum(kept["mpp"].values()) == N_SLIDES
    words = in_words(kept)
    assert words["normalisation"] == "mean 0.485 0.456 0.406, sd 0.229 0.224 0.225, resized to 224 px"
    rows = {row.title: row.cells[0].text for row in settings_table([run], run.datasets, {"own": "own"}).rows}
    assert words.items() <= rows.items()
    shown = dict(_facts(run, []).facts)["features of own"].splitlines()
    assert shown == [f"{name}: {text}" for name, text in words.items()]


def test_a_run_of_an_older_version_says_nothing_of_its_features(run: Run) -> None:
    older = {
        name: {key: each for key, each in facts.items() if key != "features"} for name, facts in run.datasets.items()
    }
    titles = {row.title for row in settings_table([run], older, {"own": "own"}).rows}
    assert not titles & {"encoder", "magnification", "normalisation"}


@pytest.mark.parametrize("scale", ["abc", "-1", "nan"])
def test_a_scale_that_is_no_number_makes_a_damaged_file(run: Run, tmp_path: Path, scale: str) -> None:
    facts = {name: {**told, "features": {"mpp": {scale: 3}}} for name, told in run.datasets.items()}
    (tmp_path / "datasets.json").write_text(json.dumps(facts))
    with pytest.raises(StoreError, match=r"datasets\.json"):
        read_json(tmp_path / "datasets.json", DATASETS_SHAPE)


def test_what_is_declared_changes_no_trial(
    folder: Path, prepared: Callable[[Path], Benchmark], run: Run, tmp_path: Path
) -> None:
    path = tmp_path / "cohort.yaml"
    path.write_text(
        f"name: own\nlabels: {folder / 'labels.csv'}\nfeatures: {folder / 'features'}\nencoder: uni\nmpp: 0.25\n"
    )
    benchmark = prepared(path)
    assert {trial.slot: trial.id for trial in benchmark.trials} == run.planned()
    (entry,) = benchmark.entries
    (told,) = [finding.text for finding in entry.findings if "cohort.yaml says" in finding.text]
    assert "cohort.yaml says that the encoder is uni, the file says retccl" in told
    assert entry.features["encoder"] == {"retccl": N_SLIDES}


def test_two_encoders_in_one_cohort_are_refused_by_name(
    folder: Path, prepared: Callable[[Path], Benchmark], tmp_path: Path
) -> None:
    other = tmp_path / "own"
    (other / "features").mkdir(parents=True)
    for path in (folder / "features").iterdir():
        (other / "features" / path.name).symlink_to(path)
    (other / "labels.csv").symlink_to(folder / "labels.csv")
    (other / "features" / "s07.h5").unlink()
    write_extracted(other / "features" / "s07.h5", Slide(np.ones((2, 4), np.float16), np.zeros((2, 2))), encoder="uni")
    with pytest.raises(
        DataError, match=r"2 encoders in one cohort: retccl: 19 slides \(s00, s01, s02, \.\.\.\); uni: 1 slide \(s07\)"
    ):
        prepared(other)
