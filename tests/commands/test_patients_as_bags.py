"""Runs whose bags are patients, as a user makes them: training, maps, other cohorts and new slides."""

import json
import re
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib.text import Text
from patients_for_tests import (
    KINDS,
    SMALL,
    WIDTH,
    cohort_of_patients,
    joined_features,
    trained,
    write_slide,
    write_yaml,
)

from milbench.cohorts.cohort import folder_cohort
from milbench.commands.cli import main
from milbench.endpoints.endpoint import BINARY
from milbench.heatmap.asked import Asked
from milbench.heatmap.attention import as_array, slide_maps
from milbench.heatmap.plots import curve_figure, usage_figure
from milbench.heatmap.report import evaluate_cohort
from milbench.heatmap.stored import find_cohort
from milbench.report.contents import gather
from milbench.report.kind_tables import label_table
from milbench.report.settings import settings_table
from milbench.report.sheets import make_tables
from milbench.store.run import Run, open_run
from milbench.store.trial import WEIGHTS

Milbench = Callable[..., tuple[int, str, str]]
MODELS = ("mean_pooling", "amil", "transmil", "m4")
ASKED = Asked("A", BINARY)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("patients")


@pytest.fixture(scope="module")
def run(folder: Path) -> Path:
    return trained(folder, "own", "--models", *MODELS)


@pytest.fixture(scope="module")
def run_of_slides(folder: Path) -> Path:
    return trained(folder, "slides", "--models", "amil", bag="")


@pytest.fixture(scope="module")
def other(folder: Path) -> Path:
    """A cohort of other patients."""
    return cohort_of_patients(folder / "other", "other", first=100, patients=12)


def test_a_patient_gets_one_answer_of_all_slides(run: Path) -> None:
    cohort = find_cohort(open_run(run), "own")
    for model in MODELS:
        stored = cohort.load(model, "A", 0)
        table = stored.trial.predictions()
        rows = table[table["task"] == "A"]
        assert rows["patient_id"].is_unique
        assert (rows["slide_id"] == rows["patient_id"]).all()
        for row in rows.itertuples():
            answer = stored.answers(joined_features(cohort, row.patient_id))[stored.row(ASKED)]
            assert float(answer) == pytest.approx(row.probability, abs=1e-5)


def test_the_run_folder_the_header_and_the_report_say_that_bags_are_patients(run: Path, inside: Milbench) -> None:
    facts = open_run(run).datasets["own"]
    assert (facts["bag"], facts["n_slides"], facts["n_patients"]) == ("patient", 36, 18)
    assert facts["slides_of"]["p02"] == ["s02.0", "s02.1", "s02.2"]
    rows = settings_table([open_run(run)], {"own": facts}, {"own": "own"}).rows
    assert {row.title: row.cells[0].text for row in rows}["bag"] == "patient"
    code, printed, _ = inside("plan", "--cohort", run.with_name("own"), "--models", "amil", "--run", run, *SMALL[1:])
    assert code == 0
    assert "own: 36 slides, 18 patients, bag: patient" in printed
    assert "changed" not in printed


def test_a_run_of_slides_says_nothing_of_bags(run_of_slides: Path) -> None:
    facts = open_run(run_of_slides).datasets["slides"]
    assert not {"bag", "slides_of"} & facts.keys()


def test_other_bags_are_another_question_and_named_as_the_change(run: Path, inside: Milbench, tmp_path: Path) -> None:
    cohort = Path(shutil.copytree(run.with_name("own"), tmp_path / "own"))
    write_yaml(cohort, "own", "slide")
    _, printed, _ = inside("plan", "--cohort", cohort, "--models", "amil", "--run", run, *SMALL[1:])
    assert "changed: own: bag: patient -> slide" in printed
    assert "labels" not in printed.split("changed: own")[1]


def test_a_trial_that_is_gone_is_computed_again_with_the_same_bytes(run: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(run, tmp_path / "run"))
    trial = next(found for found in Run(copy).trials() if found.info["model"] == "amil")
    names = ("predictions.parquet", WEIGHTS)
    before = {name: (trial.path / name).read_bytes() for name in names}
    shutil.rmtree(trial.path)
    words = ("--cohort", str(run.with_name("own")), "--models", *MODELS, "--run", str(copy))
    assert main(["run", *words, *SMALL]) == 0
    assert {name: (trial.path / name).read_bytes() for name in names} == before


@pytest.fixture(scope="module")
def run_of_kinds(folder: Path) -> Path:
    return trained(folder, "kinds", "--models", "m4", tasks=KINDS)


def test_classes_and_survival_are_learned_of_patients(run_of_kinds: Path) -> None:
    run = open_run(run_of_kinds)
    answers = run.answers()
    assert set(answers["task"]) == {"A", "subtype", "OS"}
    one = answers[(answers["task"] == "OS") & (answers["answer"] == "risk")]
    assert one["patient_id"].is_unique
    for contents in gather([run], reference="m4", draws=100, complete_cases=False):
        if contents.kind != "binary":
            table = label_table(contents)
            assert (table.data["n_slides"][0], table.data["n_patients"][0]) == (36, 18)
            assert table.caption.endswith("If bags are patients, a slide counts with the label of its patient.")


COUNT_SLIDES = ("Labels by task", "slides", "slides unknown", "A patient is positive where one of the slides is labelled so", "If bags are patients")  # fmt: skip
"""Beginnings of what tells of slides also if bags are patients: labels and sizes count both."""


def of_slides(texts: Iterable[str]) -> list[str]:
    """Sentences and cells that speak of slides and do not mean files."""
    parts = [part.strip() for text in texts for part in re.split(r"[.|\n]", text)]
    return [part for part in parts if re.search(r"\bslides?\b", part) and not part.startswith(COUNT_SLIDES)]


def test_tables_speak_of_patients_where_a_bag_is_one_and_of_slides_where_it_is_one(
    run_of_kinds: Path, run_of_slides: Path
) -> None:
    def said(run: Path, reference: str) -> list[str]:
        every = gather([open_run(run)], reference=reference, draws=100, complete_cases=False)
        tables = [table for contents in every for table in make_tables([contents])]
        return [text for table in tables for text in (table.caption, *table.columns)]

    assert of_slides(said(run_of_kinds, "m4")) == []
    texts = said(run_of_kinds, "m4")
    assert any(
        text.startswith("Operating points on kinds, patients: ") and "validation patients" in text for text in texts
    )
    assert any(text.startswith("Every metric on kinds, patients: ") for text in texts)
    assert any("The c-index is Harrell's, over patients, each of whom is one bag." in text for text in texts)
    assert any(text.startswith("time per patient") for text in texts)
    assert any("validation slides" in text for text in of_slides(said(run_of_slides, "amil")))


@pytest.mark.slow
def test_the_whole_report_speaks_of_patients_where_a_bag_is_one(
    run_of_kinds: Path, inside: Milbench, tmp_path: Path
) -> None:
    assert inside("report", run_of_kinds, "--no-tracking", "--draws", "100", "--out", tmp_path)[0] == 0
    assert of_slides([(tmp_path / "index.md").read_text()]) == []
    page = (tmp_path / "index.html").read_text()
    core = json.loads(re.search(r'id="data-core">(.*?)</script>', page)[1])  # type: ignore[index]
    assert core["bag"] == "patient"
    assert of_slides(core["undefined"]["reason"]) == []
    assert "Every test patient is called once" in page


def test_check_names_patients_that_a_side_lacks(folder: Path, run_of_kinds: Path, inside: Milbench) -> None:
    _, printed, _ = inside("data", "check", run_of_kinds.with_name("kinds"))
    assert "subtype has no c among its 2 val patients in fold 0" in " ".join(printed.split())
    _, printed, _ = inside("plan", "--cohort", run_of_kinds.with_name("kinds"), "--models", "amil", *SMALL[1:])
    assert "subtype has no c among its 2 val patients in fold 0" in " ".join(printed.split())


def test_the_measures_of_maps_speak_of_patients(run: Path, inside: Milbench, tmp_path: Path) -> None:
    cohort = find_cohort(open_run(run), "own")
    found = evaluate_cohort(cohort, ["m4"], [0])
    assert found.points is not None
    texts = [
        text.get_text()
        for figure in (usage_figure(found.usages[0]), curve_figure(found.points, "own", found.bag))
        for text in figure.findobj(Text)
    ]
    assert of_slides(texts) == []
    assert any(text.endswith("test patients") for text in texts)
    assert "mean probability, positive patients" in texts


def test_the_card_of_an_export_counts_patients_once(run: Path, inside: Milbench, tmp_path: Path) -> None:
    assert inside("export", run, "m4", "--fold", "0", "--draws", "100", "--out", tmp_path / "out")[0] == 0
    heads = next(
        line for line in (tmp_path / "out" / "README.md").read_text().splitlines() if line.startswith("| task")
    )
    assert heads == "| task | metric | this export | mean over trainings | trainings | test patients |"


# ---- maps ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("model", MODELS)
def test_the_map_of_a_slide_is_its_part_of_the_patient_s_map(run: Path, model: str) -> None:
    cohort = find_cohort(open_run(run), "own")
    stored = cohort.load(model, "A", 0)
    whole = as_array(stored.maps(joined_features(cohort, "p17")).per_task[stored.row(ASKED)])
    every = slide_maps(cohort, "p17", ASKED, [stored], experts=False)
    assert [(each.slide_id, each.patient) for each in every] == [(f"s17.{i}", "p17") for i in range(3)]
    np.testing.assert_array_equal(np.concatenate([each.maps[0].values for each in every]), whole)
    alone = slide_maps(cohort, "s17.1", ASKED, [stored], experts=False)
    assert len(alone) == 1
    np.testing.assert_array_equal(alone[0].maps[0].values, every[1].maps[0].values)
    assert alone[0].places.corners[0].tolist() == [512, 0]


def test_slides_of_a_patient_share_one_scale(run: Path) -> None:
    cohort = find_cohort(open_run(run), "own")
    every = slide_maps(cohort, "p17", ASKED, [cohort.load("amil", "A", 0)], experts=False)
    values, shares, ranks = (
        np.concatenate(of_slides)
        for of_slides in zip(*((m.values, m.scaled("share"), m.scaled("rank")) for each in every for m in each.maps), strict=True)
    )  # fmt: skip
    np.testing.assert_allclose(shares, values * len(values))
    assert sorted(ranks) == pytest.approx(np.linspace(0, 1, len(values)))


def test_a_patient_gets_a_panel_of_all_slides_and_polygons_of_each(run: Path, inside: Milbench, tmp_path: Path) -> None:
    code, _, errors = inside("heatmap", run, "--slide", "p17", "--models", "amil", "m4", "--out", tmp_path)
    assert (code, errors) == (0, "")
    assert {path.name for path in tmp_path.iterdir()} == {
        "p17_A.png", "p17_A.svg", *(f"s17.{i}_A.geojson" for i in range(3)),
    }  # fmt: skip


def test_a_choice_of_slides_is_a_choice_of_patients(run: Path, inside: Milbench, tmp_path: Path) -> None:
    code, printed, _ = inside("heatmap", run, "--slides", "top-tp", "--models", "amil", "--scale", "softmax", "--out", tmp_path)  # fmt: skip
    assert code == 0
    assert "the positive test patient that AMIL scores highest" in printed


def test_an_unknown_slide_of_a_run_of_patients_gets_the_nearest(run: Path, inside: Milbench) -> None:
    code, _, errors = inside("heatmap", run, "--slide", "s17.9")
    assert code == 2
    assert "no slide 's17.9'. Nearest of its 54: s17." in errors


def test_the_export_holds_each_slide_s_part_and_its_patient(run: Path, inside: Milbench, tmp_path: Path) -> None:
    code, printed, _ = inside("heatmap", run, "--export", tmp_path / "maps.h5", "--models", "amil")
    assert code == 0
    assert "maps of 36 slides" in printed
    cohort = find_cohort(open_run(run), "own")
    stored = cohort.load("amil", "A", 0)
    whole = as_array(stored.maps(joined_features(cohort, "p17")).per_task[0])
    with h5py.File(tmp_path / "maps.h5") as file:
        parts = [file["slides"][f"s17.{i}"] for i in range(3)]
        assert {part.attrs["patient"] for part in parts} == {"p17"}
        np.testing.assert_allclose(np.concatenate([part[0] for part in parts]), whole, rtol=1e-6)


# ---- other cohorts and new slides ----------------------------------------------------------------


def test_an_external_cohort_is_scored_patient_by_patient(
    run: Path, other: Path, inside: Milbench, tmp_path: Path
) -> None:
    copy = Path(shutil.copytree(run, tmp_path / "run"))
    code, printed, errors = inside("evaluate", copy, "--cohort", other, "--draws", "100")
    assert (code, errors) == (0, "")
    assert "other: 24 slides of 12 patients (bag: patient)" in printed
    scored = pd.read_parquet(next(copy.glob("external/other/trials/**/predictions.parquet")))
    assert sorted(scored["patient_id"].unique()) == [f"p{i}" for i in range(100, 112)]
    code, printed, _ = inside("evaluate", copy, "--cohort", other, "--draws", "100")
    assert code == 0
    assert "0 trials scored 12 patients, 7 had done so before" in printed


def test_slides_are_scored_by_runs_of_slides(
    run_of_slides: Path, other: Path, inside: Milbench, tmp_path: Path
) -> None:
    cohort = Path(shutil.copytree(other, tmp_path / "other"))
    write_yaml(cohort, "other", "")
    copy = Path(shutil.copytree(run_of_slides, tmp_path / "run"))
    code, printed, _ = inside("evaluate", copy, "--cohort", cohort, "--draws", "100")
    assert code == 0
    assert "other: 24 slides of 12 patients, 2 tasks" in printed


def test_a_cohort_of_other_bags_is_refused_with_the_line_to_write(
    run: Path, run_of_slides: Path, other: Path, inside: Milbench, tmp_path: Path
) -> None:
    slides = Path(shutil.copytree(other, tmp_path / "other"))
    write_yaml(slides, "other", "")
    for words in (("evaluate", run, "--cohort", slides), ("predict", run, slides)):
        code, _, errors = inside(*words)
        assert code == 2
        assert "has one bag per slide, and the models were trained on one bag per patient" in errors
        assert "Put the line `bag: patient` into its cohort.yaml." in errors
    for words in (("evaluate", run_of_slides, "--cohort", other), ("predict", run_of_slides, other)):
        code, _, errors = inside(*words)
        assert code == 2
        assert "Put the line `bag: slide` into its cohort.yaml, in place of `bag: patient`." in errors


def test_a_slide_of_the_run_is_found_inside_of_an_external_patient(
    run: Path, other: Path, inside: Milbench, tmp_path: Path
) -> None:
    cohort, copy = (Path(shutil.copytree(path, tmp_path / path.name)) for path in (other, run))
    shutil.copy(run.with_name("own") / "features" / "s02.1.h5", cohort / "features" / "s101.1.h5")
    code, _, errors = inside("evaluate", copy, "--cohort", cohort)
    assert code == 2
    assert "s101.1 those of s02.1" in errors


def test_new_slides_are_joined_by_the_table_of_patients(
    run: Path, other: Path, inside: Milbench, tmp_path: Path
) -> None:
    slides = sorted(path.stem for path in (other / "features").iterdir())
    owners = pd.DataFrame({"slide_id": slides, "patient_id": [name.split(".")[0] for name in slides]})
    owners.to_csv(tmp_path / "patients.csv", index=False)
    words = ("--patients", tmp_path / "patients.csv", "--models", "amil", "--out", tmp_path / "said.csv")
    code, printed, _ = inside("predict", run, other / "features", *words)
    assert code == 0
    assert "24 slides are joined into 12 bags" in printed
    said = pd.read_csv(tmp_path / "said.csv")
    assert set(said["level"]) == {"patient"}
    cohort, stored = folder_cohort(other), find_cohort(open_run(run), "own").load("amil", "A", 0)
    rows = said[said["task"] == "A"].set_index("patient_id")
    for patient in ("p100", "p101"):
        bag = cohort.load(patient)
        assert rows.loc[f"s{patient[1:]}", "fold0-seed42"] == pytest.approx(
            float(stored.answers(bag.features)[0]), abs=1e-6
        )
        assert rows.loc[f"s{patient[1:]}", "n_patches"] == len(bag)


def test_new_slides_without_patients_are_bags_of_their_own_and_that_is_said(
    run: Path, other: Path, inside: Milbench, tmp_path: Path
) -> None:
    code, printed, _ = inside("predict", run, other / "features", "--models", "amil", "--out", tmp_path / "said.csv")
    assert code == 0
    assert (
        "each slide is a bag of its own. If patients have several slides, say whose they are with --patients" in printed
    )
    assert pd.read_csv(tmp_path / "said.csv")["patient_id"].nunique() == 24


# ---- checks --------------------------------------------------------------------------------------


def test_slides_that_cannot_be_joined_are_found_before_anything_trains(inside: Milbench, tmp_path: Path) -> None:
    cohort = cohort_of_patients(tmp_path / "own", "own")
    write_slide(cohort / "features" / "s02.1.h5", np.ones((5, WIDTH)), patch_size=512)
    code, printed, _ = inside("data", "check", cohort)
    assert code == 1
    told = "bag: patient: 1 patient (p02): slides have different patch sizes: 256 level-0 px (s02.0), 512 level-0 px (s02.1)"
    assert told in " ".join(printed.split())
    code, _, errors = inside("plan", "--cohort", cohort, "--models", "amil")
    assert code == 2
    assert told in errors
    write_yaml(cohort, "own", "slide")
    assert inside("data", "check", cohort)[0] == 0


def test_check_tells_the_fingerprint_of_the_run_and_counts_patients(run: Path, inside: Milbench) -> None:
    code, printed, _ = inside("data", "check", run.with_name("own"))
    assert code == 0
    assert folder_cohort(run.with_name("own")).fingerprint in printed
    assert "positive / labelled patients" in printed


def test_a_pack_says_what_its_bags_are(run: Path, inside: Milbench, tmp_path: Path) -> None:
    code, _, _ = inside("data", "pack", run.with_name("own"), "--out", tmp_path / "packed", "--dtype", "float32")
    assert code == 0
    packed, own = folder_cohort(tmp_path / "packed"), folder_cohort(run.with_name("own"))
    assert packed.bag == "patient"
    assert torch.equal(packed.load("p17").features, own.load("p17").features)


def test_splits_for_other_tools_name_slides(run: Path, inside: Milbench, tmp_path: Path) -> None:
    assert inside("data", "splits", run.with_name("own"), "--to", "clam", "--out", tmp_path / "clam")[0] == 0
    table = pd.read_csv(tmp_path / "clam" / "splits_0.csv")
    assert {"s17.0", "s17.1", "s17.2"} <= set(table[["train", "val", "test"]].stack())
    words = ("--splits", tmp_path / "clam", "--cohort", run.with_name("own"), "--models", "amil")
    assert inside("plan", *words)[0] == 0


def test_the_header_holds_what_a_later_version_reads(run: Path) -> None:
    told = json.loads((run / "datasets.json").read_text())["own"]
    assert sum(map(len, told["slides_of"].values())) == told["n_slides"]
