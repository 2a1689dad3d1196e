"""Datasets that plug-ins register: as good as any other, and never trusted further."""

import re
from dataclasses import replace
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from commands_for_tests import Milbench
from folders_for_tests import make_folder_cohort
from places import ROOT

import milbench
from milbench import datasets, registry
from milbench.bag import Bag
from milbench.cohorts.cohort import Cohort, folder_cohort
from milbench.commands.cli import main
from milbench.datasets import all_datasets, catalogue, dataset, of_others, register_dataset
from milbench.datasets.source import CohortSource
from milbench.endpoints.endpoint import Endpoint
from milbench.errors import DataError, MilbenchError, UsageError
from milbench.process.shared_state import left_as_it_was

PAGE = (ROOT / "docs" / "cohorts.md").read_text()
PLUGIN, SPLIT = re.findall(r"```python\n(.*?)```", PAGE, re.S)


@pytest.fixture(autouse=True)
def _own_catalogue(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets, "_CATALOGUE", dict(all_datasets()))


@pytest.fixture
def plugin(tmp_path: Path) -> Path:
    path = tmp_path / "my_datasets.py"
    path.write_text(PLUGIN)
    return path


def cohort(**changed: Any) -> Cohort:
    slides = pd.DataFrame({"slide_id": ["a", "b"], "patient_id": ["p", "q"], "t": [0.0, 1.0]})
    made = Cohort("any", slides, ("t",), 3, "", lambda slide: Bag(torch.ones(4, 3), slide))
    return replace(made, **changed)


def loaded(make: Any, data_root: Path | None = None) -> Cohort:
    register_dataset("theirs", title="Theirs")(make)
    return dataset("theirs").load(data_root, allow_missing=False)


def test_the_page_s_plug_in_runs_with_its_split(
    milbench_here: Milbench, plugin: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    made = dataset("circles", [plugin]).load(None, allow_missing=False)
    exec(SPLIT, {"np": np, "pd": pd, "circles": lambda: made})
    words = ["run", "--plugin", str(plugin), "--datasets", "circles", "--models", "mean_pooling", "--workers", "2"]
    words += [
        "--no-tracking",
        "--splits",
        str(tmp_path / "my_split.csv"),
        "--run",
        str(tmp_path / "run"),
        "--set",
        "trainer.epochs=1",
    ]
    assert milbench_here(*words).returncode == 0
    run = milbench.open_run(tmp_path / "run")
    assert {trial.info["fold"] for trial in run.trials()} == {0, 1}
    model, found = run.model("mean_pooling", fold=1), run.cohort()
    assert found.title == "Circles"
    row = run.predictions().query("fold == 1 and role == 'test'").iloc[0]
    answer = model.probabilities(found.load(row["slide_id"]).features)
    assert float(answer[0]) == pytest.approx(row["probability"], abs=1e-6)


def test_the_command_lists_datasets_of_plug_ins_last(
    milbench_here: Milbench, plugin: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    said = milbench_here("datasets", "--plugin", str(plugin))
    assert said.returncode == 0
    lines = [line for line in said.stdout.splitlines() if "circles" in line or "lung" in line or "tcga-luad" in line]
    assert [line.split("│")[1].split()[0] if "│" in line else line.split()[0] for line in lines] == [
        "tcga-luad", "circles", "lung",
    ]  # fmt: skip
    assert "our slides, 2026" in said.stdout


def test_a_path_is_a_cohort_under_the_dataset_s_name_with_the_same_fingerprint(plugin: Path, tmp_path: Path) -> None:
    folder = make_folder_cohort(tmp_path / "data" / "lung")
    found = milbench.read_cohort("lung", data_root=tmp_path / "data", plugins=[plugin])
    assert (found.name, found.title) == ("lung", "Lung")
    assert found.fingerprint == folder_cohort(folder).fingerprint


def test_a_relative_path_starts_at_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_folder_cohort(tmp_path / "toy")
    path = tmp_path / "theirs.py"
    path.write_text(
        "from milbench.datasets import register_dataset\n@register_dataset('theirs')\ndef f():\n    return 'toy'\n"
    )
    monkeypatch.chdir("/")
    source = CohortSource(name="theirs", plugins=(path,))
    assert source.load().fingerprint == folder_cohort(tmp_path / "toy").fingerprint


def test_a_class_gives_a_cohort_too() -> None:
    class Theirs(Cohort):
        def __init__(self, data_root: Path | None) -> None:
            super().__init__(**{name: getattr(cohort(), name) for name in Cohort.__dataclass_fields__})

    def make(data_root: Path | None) -> Cohort:
        return Theirs(data_root)

    assert loaded(make).name == "theirs"


def test_a_fingerprint_that_is_not_stated_is_of_labels_and_features() -> None:
    def of(made: Cohort) -> str:
        datasets._CATALOGUE.pop("theirs", None)
        return loaded(lambda: made).fingerprint

    other = cohort(slides=cohort().slides.assign(t=[1.0, 0.0]))
    moved = cohort(load=lambda slide: Bag(torch.full((4, 3), 2.0), slide))
    ordinal = cohort(endpoints={"t": Endpoint("ordinal", ("x", "y", "z"))})
    assert of(cohort()) == of(cohort(name="else"))
    assert len({of(cohort()), of(other), of(moved), of(ordinal)}) == 4
    assert of(cohort(fingerprint="v2")) == "v2"


SLIDES = cohort().slides


@pytest.mark.parametrize(
    ("made", "said"),
    [
        (7, "gives a value of type int. Return a milbench Cohort, or the path"),
        (cohort(slides=SLIDES.drop(columns="patient_id")), "with the columns slide_id, patient_id; got the columns slide_id, t"),
        (cohort(slides=[]), "got list"),
        (cohort(slides=SLIDES.assign(patient_id=[1, 2])), "patient_id holds 1. Every id must be text"),
        (cohort(slides=SLIDES.assign(slide_id=["a", "a"])), "slide 'a' stands in `slides` twice"),
        (cohort(tasks=()), "has no tasks"),
        (cohort(slides=SLIDES.iloc[:0]), "has no slides"),
        (cohort(tasks=("u",)), "task 'u' is no column of `slides`. Its columns: slide_id, patient_id, t"),
        (cohort(slides=SLIDES.assign(t=["x", "y"])), "column 't' is of type"),
        (cohort(slides=SLIDES.assign(t=[0.0, 2.0])), "slide 'b' has 2 in the binary task 't'"),
        (cohort(slides=SLIDES.assign(t=[0.0, 1.0]), endpoints={"t": Endpoint("survival")}), "slide 'a' has 0 in the survival"),
        (cohort(load=lambda slide: None), "gives no milbench Bag with a Tensor of features for slide 'a'"),
        (cohort(load=lambda slide: 1 / 0), "slide 'a' cannot be loaded: ZeroDivisionError: division by zero"),
        (cohort(in_features=5), "slide 'a'"),
        ("nowhere", "nowhere"),
    ],
)  # fmt: skip
def test_what_is_no_cohort_is_named(made: Any, said: str) -> None:
    with pytest.raises(MilbenchError, match=re.escape(said)):
        loaded(lambda: made)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("raise KeyError('x')", "gives no cohort: KeyError: 'x'. Fix its file."),
        ("import sys; sys.exit(3)", "it ends the process with sys.exit(3)"),
        ("import os; os._exit(3)", "it ends the process with os._exit(3)"),
        ("import time; time.sleep(60)", "it has not come back after 0.3 seconds"),
    ],
)
def test_a_function_that_does_not_come_back_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, line: str, said: str
) -> None:
    monkeypatch.setattr(of_others, "CALL_SECONDS", 0.3)
    path = tmp_path / "theirs.py"
    path.write_text(
        f"from milbench.datasets import register_dataset\n@register_dataset('theirs')\ndef f():\n    {line}\n"
    )
    with pytest.raises(DataError, match=rf"dataset 'theirs' \(.*theirs\.py, f\).*{re.escape(said)}"):
        dataset("theirs", [path]).load(None, allow_missing=False)


def test_what_a_function_changes_is_put_back() -> None:
    def make() -> Cohort:
        torch.set_default_dtype(torch.float64)
        return cohort()

    with left_as_it_was() as moved:
        loaded(make)
    assert not moved


def test_data_commands_take_datasets_of_plug_ins(
    plugin: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    make_folder_cohort(tmp_path / "lung")
    theirs = ["--plugin", plugin.name, "--data-root", str(tmp_path)]
    assert main(["data", "check", "circles", "--deep", *theirs]) == 0
    assert "60 labelled" in capsys.readouterr().out
    assert main(["data", "check", "lung", *theirs]) == 0
    assert re.search(r"cohort +lung\b", capsys.readouterr().out)
    (tmp_path / "lung" / "features" / "stray.h5").write_bytes(b"")
    assert main(["data", "check", "lung", *theirs]) == 1
    assert "1 slide (stray): feature file, but no label" in capsys.readouterr().out
    (tmp_path / "lung" / "features" / "stray.h5").unlink()
    assert main(["data", "splits", "circles", "--to", "clam", "--out", "sides", *theirs]) == 0
    assert (tmp_path / "sides" / "splits_0.csv").is_file()
    assert main(["data", "pack", "lung", "--out", "packed", "--dtype", "float32", *theirs]) == 0
    assert "name: lung" in (tmp_path / "packed" / "cohort.yaml").read_text()


def test_data_commands_say_what_a_plug_in_s_dataset_cannot_do(
    plugin: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    theirs = ["--plugin", plugin.name]
    assert main(["data", "pack", "circles", "--out", "packed", "--dtype", "float32", *theirs]) == 2
    assert "circles is made in memory and has no files" in capsys.readouterr().err
    assert main(["data", "check", "circels", *theirs]) == 2
    assert "Did you mean 'circles'?" in capsys.readouterr().err


def test_two_datasets_of_one_name_are_refused(plugin: Path, tmp_path: Path) -> None:
    all_datasets([plugin])
    other = tmp_path / "other.py"
    other.write_text(PLUGIN)
    with pytest.raises(UsageError, match=r"two datasets are called 'lung' \(.*my_datasets\.py and .*other\.py\)"):
        all_datasets([other])
    with pytest.raises(UsageError, match=r"two datasets are called 'digits' \(milbench and "):
        register_dataset("digits")(cohort)


def test_a_cell_may_be_run_again() -> None:
    assert loaded(cohort_of_a_cell).fingerprint == loaded(cohort_of_a_cell).fingerprint


def cohort_of_a_cell() -> Cohort:
    return cohort()


def test_a_name_or_an_argument_that_cannot_be_is_refused() -> None:
    with pytest.raises(UsageError, match="no dataset can be called 'all'"):
        register_dataset("all")
    with pytest.raises(UsageError, match="cannot name a folder"):
        register_dataset("a/b")
    with pytest.raises(UsageError, match=r"needs the argument 'folder'\. milbench gives data_root and allow_missing"):
        register_dataset("theirs")(lambda folder: folder)


def test_packages_register_datasets_by_entry_points(monkeypatch: pytest.MonkeyPatch) -> None:
    broken = EntryPoint("theirs", "a_package_that_is_not_there", "milbench.datasets")
    installed = registry._installed
    monkeypatch.setattr(
        registry, "_installed", lambda group="milbench.models": [broken] if group == broken.group else installed(group)
    )
    with pytest.raises(UsageError, match="dataset package 'a_package_that_is_not_there' cannot be imported"):
        all_datasets()


def test_a_plug_in_in_a_run_folder_is_not_imported(
    milbench_here: Milbench, plugin: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    words = ["run", "--plugin", str(plugin), "--datasets", "circles", "--models", "mean_pooling", "--folds", "0"]
    assert (
        milbench_here(
            *words, "--no-tracking", "--workers", "1", "--run", str(tmp_path / "run"), "--set", "trainer.epochs=1"
        ).returncode
        == 0
    )
    inside = plugin.rename(tmp_path / "run" / plugin.name)
    config = tmp_path / "run" / "run.yaml"
    config.write_text(config.read_text().replace(str(plugin), str(inside)))
    with pytest.raises(UsageError, match="lies in the run folder"):
        milbench.open_run(tmp_path / "run").cohort()


def test_milbench_s_own_entries_are_marked_as_such() -> None:
    own = [entry for entry in all_datasets().values() if entry.made_in is None]
    assert {"digits", "tcga-brca"} <= {entry.name for entry in own}
    with pytest.raises(UsageError, match="two datasets are called 'digits' \\(milbench and milbench\\)"):
        catalogue(dataset("digits"))
