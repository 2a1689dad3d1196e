"""A bundle that was tampered with, in each way that somebody may think of, also if checksums were made to match."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from bundles_for_tests import rewrite_predictions, seal_again, trial_folder
from commands_for_tests import Milbench, environment

from milbench.bundles.verify import verify
from milbench.report import Recomputed
from milbench.store.run import Run


def said(bundle: Path) -> list[str]:
    return [each.text for each in verify(bundle).differences]


@pytest.fixture
def same_report(report_anew: Recomputed, monkeypatch: pytest.MonkeyPatch) -> None:
    """For changes that no number follows from: the report is made anew once for all of these tests."""
    monkeypatch.setattr("milbench.bundles.verify.recompute", lambda *_, **__: report_anew)


def test_an_untouched_bundle_is_equal_in_every_number(bundled: Path) -> None:
    verdict = verify(bundled)
    assert verdict.differences == ()
    assert verdict.n_numbers > 1000
    assert verdict.n_trials == 6
    assert verdict.seal


def test_an_anonymised_bundle_is_equal_in_every_number(hidden: Path) -> None:
    assert verify(hidden).differences == ()


def test_a_changed_prediction_moves_numbers_even_if_all_checksums_were_made_to_match(spoiled: Path) -> None:
    folder = trial_folder(spoiled, "toy/amil/TP53/fold0")
    table = pd.read_parquet(folder / "predictions.parquet")
    row = table.index[(table["role"] == "test") & (table["target"] == 1)][0]
    table.loc[row, "probability"] = 1e-6
    rewrite_predictions(folder, table)
    seal_again(spoiled)
    found = [
        each for each in verify(spoiled).differences if each.file == "report/data/scores.csv" and each.column == "auroc"
    ]
    assert found
    assert all("found" in each.what and "recomputed" in each.what and each.row for each in found)


def test_a_changed_prediction_is_named_by_its_file_if_nobody_covered_it_up(spoiled: Path, same_report: None) -> None:
    folder = trial_folder(spoiled, "toy/amil/TP53/fold0")
    table = pd.read_parquet(folder / "predictions.parquet")
    table.loc[0, "probability"] = 0.5
    table.to_parquet(folder / "predictions.parquet", index=False)
    file = (folder / "predictions.parquet").relative_to(spoiled).as_posix()
    lines = said(spoiled)
    assert f"{file}: holds other bytes than checksums.sha256 says" in lines
    assert any(line.startswith("runs/toy/trials/toy/amil/TP53/fold0") and "another checksum" in line for line in lines)


def test_a_dropped_row_is_named_with_its_slide(spoiled: Path) -> None:
    folder = trial_folder(spoiled, "toy/m4/all/fold1")
    table = pd.read_parquet(folder / "predictions.parquet")
    gone = table.index[(table["role"] == "test") & (table["task"] == "TP53")][5]
    slide = table.loc[gone, "slide_id"]
    rewrite_predictions(folder, table.drop(index=gone))
    seal_again(spoiled)
    assert any("has no row of TP53 for 1 slide(s)" in line and f"{slide} (test)" in line for line in said(spoiled))


def test_a_patient_on_both_sides_is_named(spoiled: Path, same_report: None) -> None:
    split = spoiled / "runs/toy/splits/toy.csv"
    split.write_text(split.read_text() + "PAT-0003,train,val\n")
    seal_again(spoiled)
    assert (
        "runs/toy/splits/toy.csv: patient PAT-0003 stands in 2 rows, so it is on the sides test and train of fold_0"
        in said(spoiled)
    )


def test_predictions_of_a_patient_on_both_sides_are_named(spoiled: Path, same_report: None) -> None:
    folder = trial_folder(spoiled, "toy/amil/PIK3CA/fold0")
    table = pd.read_parquet(folder / "predictions.parquet")
    table.loc[table["slide_id"] == "SLIDE-0002-A", "patient_id"] = table.loc[table["role"] == "val", "patient_id"].iloc[
        0
    ]
    rewrite_predictions(folder, table)
    seal_again(spoiled)
    assert any("patient(s) on two sides: PAT-00" in line for line in said(spoiled))


@pytest.mark.parametrize(("name", "row", "column"), [
    ("report/table2.csv", "1", "auroc"), ("report/data/cells.csv", "2", "low"), ("report/tasks_toy.csv", "1", "auroc"),
])  # fmt: skip
def test_an_edited_number_of_a_table_is_named_with_its_place(
    spoiled: Path, same_report: None, name: str, row: str, column: str
) -> None:
    table = pd.read_csv(spoiled / name, dtype=str)
    cell = table.loc[int(row) - 1, column]
    table.loc[int(row) - 1, column] = "0.99"
    table.to_csv(spoiled / name, index=False, lineterminator="\n")
    seal_again(spoiled)
    assert said(spoiled) == [f"{name}, row {row}, column {column}: 0.99 found, {cell} recomputed"]


def test_an_edited_number_in_latex_markdown_and_on_the_page_is_named(spoiled: Path, same_report: None) -> None:
    number = pd.read_csv(spoiled / "report/table2.csv")["auroc"].map("{:.3f}".format)[0]
    for name in ("table2.tex", "table2.md", "index.html", "index.md"):
        path = spoiled / "report" / name
        path.write_text(path.read_text().replace(number, "0.999", 1))
    seal_again(spoiled)
    lines = said(spoiled)
    for name in ("table2.tex", "table2.md", "index.html", "index.md"):
        assert any(line.startswith(f"report/{name}") for line in lines), name


def test_an_edited_value_in_the_data_of_the_page_is_named(spoiled: Path, same_report: None) -> None:
    page = spoiled / "report/index.html"
    text = page.read_text()
    start = text.index('"auroc":[') + len('"auroc":[')
    end = min(text.index(mark, start) for mark in ",]")
    page.write_text(f"{text[:start]}0.123{text[end:]}")
    seal_again(spoiled)
    assert any(line.startswith("report/index.html, row core.") and "0.123 found" in line for line in said(spoiled))


def test_other_words_on_the_page_are_named(spoiled: Path, same_report: None) -> None:
    page = spoiled / "report/index.html"
    page.write_text(page.read_text().replace("leads with", "wins with"))
    seal_again(spoiled)
    assert any("says something else than the recomputed text" in line for line in said(spoiled))


def test_a_line_of_the_checksums_that_was_edited_is_named(spoiled: Path, same_report: None) -> None:
    checksums = spoiled / "checksums.sha256"
    digest = checksums.read_text()[:64]
    checksums.write_text(checksums.read_text().replace(digest, "0" * 64, 1))
    assert said(spoiled) == ["CITATION.cff: holds other bytes than checksums.sha256 says"]


def test_a_missing_file_is_named(spoiled: Path, same_report: None) -> None:
    (spoiled / "report/table2.tex").unlink()
    assert said(spoiled) == [
        "report/table2.tex: is missing; checksums.sha256 lists it",
        "report/table2.tex: is missing, or no text",
    ]


def test_missing_checksums_are_named(spoiled: Path, same_report: None) -> None:
    (spoiled / "checksums.sha256").unlink()
    assert [line.split(":")[0] for line in said(spoiled)] == ["checksums.sha256"]


@pytest.mark.parametrize(
    "name",
    [
        "notes.txt",
        "runs/toy/features.h5",
        "runs/toy/trials/toy/amil/TP53/x.bin",
        "report/extra.csv",
        "runs/other/run.yaml",
    ],
)
def test_an_extra_file_is_named_even_if_the_checksums_list_it(spoiled: Path, same_report: None, name: str) -> None:
    (spoiled / name).parent.mkdir(exist_ok=True)
    (spoiled / name).write_text("hello")
    assert [line.split(":")[0] for line in said(spoiled)] == [name, name]  # not listed, and at no place of a bundle
    seal_again(spoiled)
    assert [line.split(":")[0] for line in said(spoiled)] == [name]


def test_an_edited_split_is_named_with_the_first_patient_who_moved(spoiled: Path, same_report: None) -> None:
    split = spoiled / "runs/toy/splits/toy.csv"
    split.write_text(split.read_text().replace("PAT-0000,test,test", "PAT-0000,train,test"))
    seal_again(spoiled)
    lines = said(spoiled)
    assert "runs/toy/splits/toy.csv: is not the table that the run was made with: its hash is another" in lines
    assert any("first PAT-0000: test here, train there" in line for line in lines)
    assert any(line.startswith("runs/toy/splits/toy.csv: is not the split of 6 trial(s)") for line in lines)


def test_a_missing_fold_of_one_model_is_named(spoiled: Path, same_report: None) -> None:
    shutil.rmtree(trial_folder(spoiled, "toy/m4/all/fold1"))
    plan = spoiled / "runs/toy/plan.json"
    left = {
        slot: trial for slot, trial in json.loads(plan.read_text()).items() if not slot.startswith("toy/m4/all/fold1")
    }
    plan.write_text(json.dumps(left))
    seal_again(spoiled)
    assert any(
        "m4 on toy lacks 2 of 4 cells that others have: PIK3CA fold 1 seed 42, TP53 fold 1 seed 42" in line
        for line in said(spoiled)
    )


def test_a_missing_trial_is_named_and_stops_the_report(spoiled: Path) -> None:
    shutil.rmtree(trial_folder(spoiled, "toy/m4/all/fold1"))
    lines = said(spoiled)
    assert any(
        line.startswith("runs/toy/trials/toy/m4/all/fold1-seed42") and "is missing; plan.json lists it" in line
        for line in lines
    )
    assert any(line.startswith("report/: could not be recomputed: an incomplete grid") for line in lines)


def test_changed_labels_are_named_with_the_patient(spoiled: Path, same_report: None) -> None:
    labels = spoiled / "runs/toy/labels/toy.csv"
    table = pd.read_csv(labels)
    table.loc[9, "TP53"] = 1 - table.loc[9, "TP53"]
    table.to_csv(labels, index=False, lineterminator="\n")
    seal_again(spoiled)
    lines = said(spoiled)
    assert "runs/toy/labels/toy.csv: is not the table that the run was made with: its hash is another" in lines
    assert any(
        "1 label(s) of TP53 that are not those of labels/toy.csv, first slide SLIDE-0009-A of patient PAT-0009" in line
        for line in lines
    )


def test_a_record_with_other_settings_is_named(spoiled: Path, same_report: None) -> None:
    record = trial_folder(spoiled, "toy/amil/TP53/fold0") / "trial.json"
    record.write_text(record.read_text().replace('"dropout": 0.25', '"dropout": 0.5'))
    seal_again(spoiled)
    assert any("the key in its trial.json does not follow from the settings" in line for line in said(spoiled))


def test_a_run_folder_can_be_verified_too(sound_run: Run) -> None:
    verdict = verify(sound_run.path)
    assert (verdict.differences, verdict.header, verdict.n_trials) == ((), None, 6)


def test_exit_codes_tell_equal_from_different_from_no_bundle(
    bundled: Path, spoiled: Path, milbench_here: Milbench, tmp_path: Path, same_report: None
) -> None:
    good = milbench_here("verify", str(bundled))
    assert good.returncode == 0
    assert "numbers recomputed, all equal" in good.stdout
    (spoiled / "report/table2.tex").write_text("nothing")
    bad = milbench_here("verify", str(spoiled))
    assert bad.returncode == 1
    assert "report/table2.tex" in bad.stderr
    assert "differences" in bad.stdout
    none = milbench_here("verify", str(tmp_path / "nothing.zip"))
    assert none.returncode == 2
    assert "is not there" in none.stderr


@pytest.mark.slow
def test_verifying_imports_no_torch(bundled: Path) -> None:
    script = (
        "import sys; from milbench.commands.cli import main; code = main(['verify', sys.argv[1]]); "
        "assert not {'torch', 'mlflow'} & sys.modules.keys(); sys.exit(code)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(bundled)], env=environment(), capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
