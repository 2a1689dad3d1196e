"""Slides without labels: what the table says of each, on which scale, and what is flagged."""

import shutil
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from external_for_tests import WIDTH, cohort_of_kinds, run_of_kinds
from folders_for_tests import write_h5
from scipy.special import expit, logit
from zarr_stores import write_table, write_wsidata

from milbench import datasets
from milbench.commands.cli import main
from milbench.datasets import all_datasets
from milbench.errors import DataError, LabelTableError
from milbench.external.predict import compared_with_training, predict
from milbench.external.ranges import HIGH, SMALL, training_ranges
from milbench.external.scoring import Checkpoint
from milbench.external.slides import NewSlides, new_slides
from milbench.external.stamp import write_for_stamp
from milbench.external.thresholds import binary_thresholds
from milbench.external.trained import Trained, trained
from milbench.store.run import open_run

TRAININGS = ["fold0-seed42", "fold1-seed42"]


def watch(slides: Iterable[str], _: str) -> Iterable[str]:
    return slides


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return run_of_kinds(tmp_path_factory)


@pytest.fixture(scope="module")
def source(run: Path) -> Trained:
    return trained(open_run(run).snapshot())


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return cohort_of_kinds(tmp_path_factory.mktemp("new") / "new", "new", first=500, patients=12)


def predicted(source: Trained, slides: NewSlides, folder: Path) -> pd.DataFrame:
    ranges = training_ranges(source, watch)
    return predict(source, slides, "cpu", Checkpoint(folder / "c.npz", {}), ranges, watch)


@pytest.fixture(scope="module")
def table(source: Trained, cohort: Path, tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    return predicted(source, new_slides(cohort), tmp_path_factory.mktemp("table"))


def of(table: pd.DataFrame, task: str, answer: str, *, level: str = "slide", model: str = "tiny") -> pd.DataFrame:
    wanted = {"task": task, "answer": answer, "level": level, "model": model}
    return table[np.logical_and.reduce([table[name] == value for name, value in wanted.items()])]


def test_every_slide_and_patient_has_a_row_per_model_task_and_answer(table: pd.DataFrame) -> None:
    keys = ["level", "slide_id", "patient_id", "model", "task", "answer"]
    assert not table.duplicated(keys).any()
    for level in ("slide", "patient"):
        rows = table[table["level"] == level]
        assert rows["patient_id"].nunique() == 12
        assert set(rows["task"]) == {"TP53", "subtype", "grade", "HRD", "OS"}
        assert set(rows["model"]) == {"tiny", "tiny_multi"}


def test_mean_and_spread_are_those_of_the_trainings(table: pd.DataFrame) -> None:
    rows = of(table, "HRD", "value")
    np.testing.assert_allclose(rows["mean"], rows[TRAININGS].mean(axis=1))
    np.testing.assert_allclose(rows["sd"], rows[TRAININGS].std(axis=1, ddof=1))
    np.testing.assert_allclose(rows["ensemble"], rows["mean"])


def test_the_ensemble_is_a_mean_on_the_scale_of_each_kind(table: pd.DataFrame, source: Trained) -> None:
    binary = of(table, "TP53", "probability")
    np.testing.assert_allclose(binary["ensemble"], expit(logit(binary[TRAININGS]).mean(axis=1)))
    shares = [of(table, "subtype", f"probability of {name}")["ensemble"].to_numpy() for name in "abc"]
    np.testing.assert_allclose(np.sum(shares, axis=0), 1)
    risk, told = of(table, "OS", "risk"), [
        trial.info["training_risk"]["OS"] for trial in source.trials if trial.id.startswith("own/tiny/OS")
    ]  # fmt: skip
    scaled = [(risk[name] - each["mean"]) / each["sd"] for name, each in zip(TRAININGS, told, strict=True)]
    np.testing.assert_allclose(risk["ensemble"], np.mean(scaled, axis=0))


def test_survival_at_the_edge_of_one_fold_alone_has_no_ensemble(table: pd.DataFrame) -> None:
    rows = table[table["answer"].str.startswith("survival at ")]
    lacking = rows[TRAININGS].isna().any(axis=1)
    assert lacking.any()
    assert rows.loc[lacking, "ensemble"].isna().all()
    assert rows.loc[lacking, "mean"].notna().all()


def test_labels_follow_thresholds_of_validation_rows(table: pd.DataFrame, source: Trained) -> None:
    rows = of(table, "TP53", "probability")
    trials = [trial for trial in source.trials if trial.id.startswith("own/tiny/TP53")]
    at = binary_thresholds(trials, "TP53", "slide")
    assert (rows["threshold"] == at.of_folds).all()
    assert list(rows["label"]) == ["1" if p >= at.of_folds else "0" for p in rows["mean"]]
    assert list(rows["ensemble_label"]) == ["1" if p >= at.of_ensemble else "0" for p in rows["ensemble"]]
    assert set(of(table, "OS", "risk")["ensemble_label"]) == {"high risk", "low risk"}
    assert set(of(table, "grade", "expected grade")["label"]) <= {"G1", "G2", "G3"}
    assert (of(table, "HRD", "value")["label"] == "").all()


def test_the_ensemble_s_threshold_is_the_best_on_scores_of_trainings_that_left_the_slide_out(source: Trained) -> None:
    trials = [trial for trial in source.trials if trial.id.startswith("own/tiny/TP53")]
    rows = pd.concat([trial.answers() for trial in trials])
    rows = rows[rows["role"] == "val"].groupby("slide_id").agg(
        target=("target", "max"), score=("prediction", lambda p: logit(p).mean())
    )  # fmt: skip
    gain = [
        ((rows["score"] >= t) & (rows["target"] == 1)).sum() / (rows["target"] == 1).sum()
        - ((rows["score"] >= t) & (rows["target"] == 0)).sum() / (rows["target"] == 0).sum()
        for t in rows["score"]
    ]
    best = rows["score"].iloc[int(np.argmax(gain))]
    found = logit(binary_thresholds(trials, "TP53", "slide").of_ensemble)
    chosen = gain[int(np.argmin(np.abs(rows["score"].to_numpy() - found)))]
    assert chosen == pytest.approx(max(gain)), (found, best)


def test_a_slide_unlike_those_of_the_training_is_flagged(source: Trained, tmp_path: Path) -> None:
    folder = tmp_path / "features"
    folder.mkdir()
    rng = np.random.default_rng(0)
    write_h5(folder / "small.h5", rng.standard_normal((1, WIDTH)).astype(np.float32))
    write_h5(folder / "large.h5", 50 * rng.standard_normal((5, WIDTH)).astype(np.float32))
    write_h5(folder / "usual.h5", rng.standard_normal((5, WIDTH)).astype(np.float32))
    rows = (
        predicted(source, new_slides(folder), tmp_path).drop_duplicates(["level", "patient_id"]).set_index("patient_id")
    )
    assert rows.loc["small", "flags"].str.contains(SMALL).all()
    assert (rows.loc["large", "flags"] == HIGH).all()
    assert (rows.loc["usual", "flags"] == "").all()


def test_slides_in_a_table_of_stores_are_named_as_anywhere(tmp_path: Path) -> None:
    write_wsidata(tmp_path / "stores" / "a.zarr", np.ones((2, 3)), np.arange(4).reshape(2, 2) * 256)
    write_table(tmp_path / "stores" / "a.zarr", "conch_tiles", "tiles", np.ones((2, 5)), np.arange(2))
    found = new_slides(tmp_path / "stores#conch_tiles")
    assert found.folder.header("a").width == 5
    with pytest.raises(DataError, match="nowhere#uni_tiles does not exist"):
        new_slides(tmp_path / "nowhere#uni_tiles")


def test_a_patient_is_the_mean_of_its_slides(source: Trained, cohort: Path, tmp_path: Path) -> None:
    features = cohort / "features"
    slides = sorted(path.stem for path in features.glob("*.h5"))
    pd.DataFrame({"slide_id": slides, "patient_id": ["x", "x", *slides[2:]]}).to_csv(tmp_path / "p.csv", index=False)
    found = predicted(source, new_slides(features, tmp_path / "p.csv"), tmp_path)
    of_slides, of_patients = (of(found, "HRD", "value", level=level) for level in ("slide", "patient"))
    both = of_slides[of_slides["slide_id"].isin(slides[:2])]
    one = of_patients[of_patients["patient_id"] == "x"].iloc[0]
    assert one["ensemble"] == pytest.approx(both["ensemble"].mean())
    assert one["n_patches"] == both["n_patches"].sum()


def test_slides_of_another_width_are_refused_before_one_is_read(source: Trained, tmp_path: Path) -> None:
    (tmp_path / "features").mkdir()
    write_h5(tmp_path / "features" / "wide.h5", np.zeros((3, WIDTH + 1), dtype=np.float32))
    with pytest.raises(
        DataError, match=f"slide wide: 3 patches of width {WIDTH + 1}; the models take one or more of width"
    ):
        compared_with_training(new_slides(tmp_path / "features"), source)


def test_a_table_that_does_not_say_whose_a_slide_is_is_refused(cohort: Path, tmp_path: Path) -> None:
    (tmp_path / "p.csv").write_text("slide_id,doctor\nnew-500,a\n")
    with pytest.raises(LabelTableError, match="columns are slide_id, doctor; expected slide_id and patient_id"):
        new_slides(cohort / "features", tmp_path / "p.csv")


def test_the_command_writes_a_table_that_no_spreadsheet_computes(run: Path, cohort: Path, tmp_path: Path) -> None:
    features = Path(shutil.copytree(cohort / "features", tmp_path / "features"))
    (features / "new-500.h5").rename(features / "=1+1.h5")
    out = tmp_path / "deep" / "p.csv"
    assert main(["predict", str(run), str(features), "--out", str(out), "--models", "tiny"]) == 0
    text = out.read_text()
    assert "'=1+1" in text
    assert ",=1+1" not in text
    assert list(out.parent.iterdir()) == [out]


def test_a_dataset_of_a_plug_in_is_predicted_as_its_folder(
    run: Path, cohort: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(datasets, "_CATALOGUE", dict(all_datasets()))
    plugin = tmp_path / "theirs.py"
    plugin.write_text(
        f"""
from milbench.datasets import register_dataset
@register_dataset("theirs")
def theirs():
    return {str(cohort)!r}
"""
    )
    tables = []
    for place in (str(cohort), "theirs"):
        out = ("--out", str(tmp_path / "p.csv"), "--models", "tiny")
        assert main(["predict", str(run), place, "--plugin", str(plugin), *out]) == 0
        tables.append((tmp_path / "p.csv").read_text())
    assert tables[0] == tables[1]
    capsys.readouterr()
    assert main(["predict", str(run), "digits"]) == 2
    assert "digits is made in memory and has no files" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("task", "columns"),
    [
        ("TP53", ["TP53", "TP53_0", "TP53_1"]),
        ("subtype", ["subtype", "subtype_a", "subtype_b", "subtype_c"]),
        ("grade", ["grade", "grade_G1", "grade_G2", "grade_G3"]),
        ("HRD", ["HRD", "pred"]),
        ("OS", ["OS_time", "OS_event", "pred_score"]),
    ],
)
def test_files_for_stamp_have_the_columns_of_each_kind_and_no_label(
    table: pd.DataFrame, tmp_path: Path, task: str, columns: list[str]
) -> None:
    written = write_for_stamp(table, tmp_path)
    assert len(written) == 2 * 5 * 3  # models, tasks, two trainings and their ensemble
    found = pd.read_csv(tmp_path / "tiny" / task / "ensemble" / "patient-preds.csv")
    assert list(found.columns) == ["PATIENT", *columns]
    n_labels = 2 if task == "OS" else 1
    assert found[columns[:n_labels]].isna().all(axis=None)
    said = found[columns[n_labels:]]
    assert said.notna().all(axis=None)
    if task in ("TP53", "subtype", "grade"):
        np.testing.assert_allclose(said.sum(axis=1), 1)


def test_the_command_writes_files_for_stamp(run: Path, cohort: Path, tmp_path: Path) -> None:
    out = tmp_path / "stamp"
    assert main(["predict", str(run), str(cohort), "--out", str(out), "--models", "tiny", "--format", "stamp"]) == 0
    assert len(list(out.rglob("patient-preds.csv"))) == 15


def test_slides_of_the_table_without_features_are_named_with_their_patients(cohort: Path, tmp_path: Path) -> None:
    slide = sorted(path.stem for path in (cohort / "features").iterdir())[0]
    (tmp_path / "patients.csv").write_text(f"slide_id,patient_id\n{slide},P\nabsent,P\n")
    notes = new_slides(cohort / "features", tmp_path / "patients.csv").notes
    assert (
        "without features: 1 of 2 slides of the table (absent). The answers of their patients (P) are of the other slides alone"
        in notes
    )


def test_ranges_that_cannot_be_kept_are_used_all_the_same(run: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(run, tmp_path / "copy", ignore=shutil.ignore_patterns("external")))
    (copy / "external").write_text("a file where the folder would be")
    found = training_ranges(trained(open_run(copy).snapshot()), watch)
    assert found is not None
    assert found.fewest_patches > 0


@pytest.mark.parametrize(
    ("words", "message"), [(("--format", "stamp"), "is a file. With --format stamp, name a folder")]
)
def test_a_place_of_another_kind_is_refused_before_a_slide_is_read(
    run: Path, cohort: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], words: tuple[str, ...], message: str
) -> None:
    (tmp_path / "out").write_text("kept")
    assert main(["predict", str(run), str(cohort), "--out", str(tmp_path / "out"), *words]) == 2
    assert message in capsys.readouterr().err
    assert (tmp_path / "out").read_text() == "kept"
