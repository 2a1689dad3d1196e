"""A model that needs coordinates, as a user meets it: run, other cohorts, maps, export, and cohorts without coordinates."""

from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest
import torch
from folders_for_tests import make_folder_cohort

import milbench as mb
from milbench.cohorts.cohort import folder_cohort
from milbench.commands.cli import main
from milbench.layout import layout_of
from milbench.store.run import open_run

PLUGIN = Path(__file__).parents[1] / "support" / "neighbourly.py"
SMALL = ("--no-tracking", "--folds", "0", "--workers", "1", "--set", "trainer.epochs=1", "model.*.hidden=8", "model.*.attention=4")  # fmt: skip
Milbench = Callable[..., tuple[int, str, str]]


@pytest.fixture
def milbench(capsys: pytest.CaptureFixture[str]) -> Milbench:
    def call(*words: object) -> tuple[int, str, str]:
        capsys.readouterr()
        code = main([str(word) for word in words])
        printed = capsys.readouterr()
        return code, " ".join(printed.out.split()), " ".join(printed.err.split())

    return call


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("coordinates")


@pytest.fixture(scope="module")
def cohort(folder: Path) -> Path:
    return make_folder_cohort(folder / "cohort", n_patients=12)


@pytest.fixture(scope="module")
def run(folder: Path, cohort: Path) -> Path:
    words = ["run", "--cohort", str(cohort), "--run", str(folder / "run"), "--plugin", str(PLUGIN)]
    assert main([*words, "--models", "neighbourly", "amil", *SMALL]) == 0
    return folder / "run"


def of_others(cohort: Path) -> Path:
    """The cohort with other patients."""
    for path in (cohort / "features").iterdir():
        path.rename(path.with_name(path.name.replace("TCGA-", "OTHER-")))
    labels = cohort / "labels.csv"
    labels.write_text(labels.read_text().replace("TCGA-", "OTHER-"))
    return cohort


def without_coords(folder: Path, slides: list[str] | None = None) -> Path:
    """A cohort in which these slides, or all, have no coordinates."""
    made = make_folder_cohort(folder, n_patients=12)
    for path in sorted((made / "features").glob("*.h5")):
        if slides is None or path.stem in slides:
            with h5py.File(path, "a") as file:
                del file["coords"]
    return made


def test_stored_predictions_are_those_of_the_model_on_the_slides_places(run: Path, cohort: Path) -> None:
    opened, slides = open_run(run), folder_cohort(cohort)
    (trial,) = [trial for trial in opened.trials() if trial.info["model"] == "neighbourly"]
    model = mb.open_run(run).model("neighbourly", fold=0)
    table = trial.predictions()
    for row in table[table["role"] == "test"].itertuples():
        bag = slides.load(row.slide_id)
        said = torch.sigmoid(model(bag.features, layout_of(bag, 4)).logits)
        task = ["A", "B"].index(row.task)
        assert said[task].item() == pytest.approx(row.probability, abs=1e-6)
        assert torch.equal(model(*model.patches(bag).given).logits, model(bag.features, layout_of(bag, 4)).logits)


def test_the_card_of_an_export_says_how_to_hand_in_the_places(
    run: Path, folder: Path, cohort: Path, milbench: Milbench
) -> None:
    code, out, err = milbench("export", run, "neighbourly", "--fold", "0", "--out", folder / "exported")
    assert code == 0, (out, err)
    card = (folder / "exported" / "README.md").read_text()
    code_shown = card.split("```python\n")[1].split("```")[0]
    stored = folder_cohort(cohort).load(folder_cohort(cohort).slides["slide_id"].iloc[0])
    assert stored.coords is not None
    names = {"features": stored.features, "coords": stored.coords, "patch_size": stored.patch_size}
    shown = code_shown.replace("model.answers(", "said = model.answers(").replace(
        '"FOLDER"', f'"{folder / "exported"}"'
    )
    exec(shown.replace('")    #', f'", plugins=["{PLUGIN}"])  #'), names)
    model = mb.open_run(run).model("neighbourly", fold=0)
    logits = model(stored.features, layout_of(stored, 4)).logits
    assert names["said"]["A"]["probability"] == pytest.approx(torch.sigmoid(logits[0]).item(), abs=1e-6)  # type: ignore[index,call-overload]


def test_another_cohort_is_scored_by_its_places(run: Path, folder: Path, milbench: Milbench) -> None:
    other = of_others(make_folder_cohort(folder / "other", n_patients=8, seed=3))
    assert milbench("evaluate", run, "--cohort", other, "--workers", "1")[0] == 0
    code, out, _ = milbench("predict", run, other / "features", "--models", "neighbourly", "--out", folder / "said.csv")
    assert code == 0, out
    said = pd.read_csv(folder / "said.csv")
    assert set(said["model"]) == {"neighbourly"}
    assert said["ensemble"].between(0, 1).all()


def test_another_cohort_without_places_is_scored_by_the_other_models(
    run: Path, folder: Path, milbench: Milbench
) -> None:
    blind = of_others(without_coords(folder / "blind-other"))
    told = (
        "neighbourly is left out: it needs the patches' coordinates, and none of the 15 slides has any that can be used"
    )
    code, out, err = milbench("evaluate", run, "--cohort", blind, "--workers", "1")
    assert code == 0
    assert told in out + err
    code, out, err = milbench("predict", run, blind / "features", "--out", folder / "blind.csv")
    assert code == 0
    assert told in out + err
    assert set(pd.read_csv(folder / "blind.csv")["model"]) == {"amil"}
    code, _, err = milbench("predict", run, blind / "features", "--models", "neighbourly", "--out", folder / "none.csv")
    assert code == 2
    assert told in err


def test_maps_and_curves_follow_the_places(run: Path, folder: Path, cohort: Path, milbench: Milbench) -> None:
    slide = folder_cohort(cohort).slides["slide_id"].iloc[0]
    code, out, err = milbench(
        "heatmap", run, "--slide", slide, "--task", "A", "--models", "neighbourly", "--out", folder / "map.png"
    )
    assert code == 0, (out, err)
    bag = folder_cohort(cohort).load(slide)
    maps = mb.attention(mb.open_run(run).model("neighbourly", fold=0), bag)
    assert maps.per_task.shape == (2, len(bag))


def test_a_cohort_without_places_leaves_the_model_out_by_name_and_runs_the_others(
    folder: Path, milbench: Milbench
) -> None:
    blind = without_coords(folder / "blind")
    words = ("--cohort", blind, "--run", folder / "blind-run", "--plugin", PLUGIN)
    code, out, err = milbench("run", *words, "--models", "neighbourly", "amil", *SMALL)
    assert code == 0
    assert "neighbourly is left out: it needs the patches' coordinates, and none of the 15 slides has any" in out + err
    assert {trial.info["model"] for trial in open_run(folder / "blind-run").trials()} == {"amil"}
    code, _, err = milbench(
        "plan", *words[:2], *words[4:], "--run", folder / "none", "--models", "neighbourly", *SMALL[:-1]
    )
    assert code == 2
    assert "neighbourly is left out" in err


def test_one_slide_without_places_is_named(folder: Path, milbench: Milbench) -> None:
    blind = without_coords(folder / "one-blind", ["TCGA-07-A00.X.007"])
    code, out, err = milbench(
        "plan",
        "--cohort",
        blind,
        "--run",
        folder / "one-run",
        "--plugin",
        PLUGIN,
        "--models",
        "neighbourly",
        "amil",
        *SMALL,
    )
    assert code == 0
    assert "1 of 15 slides have none that can be used (TCGA-07-A00.X.007)" in out + err


def test_places_that_only_the_values_show_to_be_wrong_fail_the_model_alone(folder: Path, milbench: Milbench) -> None:
    odd = make_folder_cohort(folder / "odd", n_patients=12)
    path = odd / "features" / "TCGA-03-A00.X.003.h5"
    with h5py.File(path, "a") as file:
        n = len(file["coords"])
        del file["coords"]
        file["coords"] = np.full((n, 2), np.nan)
    run = folder / "odd-run"
    words = ("--cohort", odd, "--run", run, "--plugin", PLUGIN, "--models", "neighbourly", "amil", *SMALL)
    code, out, err = milbench("run", *words)
    assert code == 3, (out, err)
    assert {trial.info["model"] for trial in open_run(run).trials()} == {"amil"}
    assert "TCGA-03-A00.X.003" in out + err


def test_an_exported_model_takes_places_and_gives_the_same_answers(
    run: Path, folder: Path, cohort: Path, milbench: Milbench
) -> None:
    code, out, err = milbench("export", run, "neighbourly", "--fold", "0", "--out", folder / "exported")
    assert code == 0, (out, err)
    model = mb.load_exported(folder / "exported", plugins=[PLUGIN])
    bag = folder_cohort(cohort).load(folder_cohort(cohort).slides["slide_id"].iloc[2])
    own = mb.open_run(run).model("neighbourly", fold=0)
    assert torch.equal(model(bag.features, layout_of(bag, 4))[0], own(bag.features, layout_of(bag, 4)).logits)
