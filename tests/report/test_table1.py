"""Table 1: counts of labels, by slide and by patient."""

import json
from pathlib import Path

import pandas as pd
from runs_for_tests import make_run

from milbench.report.table1 import label_counts, table1
from milbench.report.tables import to_latex, to_markdown
from milbench.store.run import Run

LABELS = "slide_id,patient_id,TP53,A_B\ns1,p1,1.0,0.0\ns2,p1,0.0,\ns3,p2,0.0,\ns4,p3,,1.0\n"


def labelled(path: Path, *, datasets: tuple[str, ...] = ("toy",)) -> Run:
    run = make_run(path, datasets=datasets, models=("amil",), folds=(0,))
    for name in datasets:
        run.label_file(name).write_text(LABELS)
    return run


def test_slides_and_patients_are_counted_apart(tmp_path: Path) -> None:
    row = label_counts(labelled(tmp_path / "run").labels("toy")).set_index("task").loc["TP53"]
    assert [row[f"slides_{what}"] for what in ("n", "mutated", "wild_type", "unknown")] == [4, 1, 2, 1]
    assert [row[f"patients_{what}"] for what in ("n", "mutated", "wild_type", "unknown")] == [3, 1, 1, 1]


def test_a_patients_known_label_wins_over_an_unknown_one(tmp_path: Path) -> None:
    row = label_counts(labelled(tmp_path / "run").labels("toy")).set_index("task").loc["A_B"]
    assert row["patients_unknown"] == 1
    assert row["slides_unknown"] == 2


def test_slides_of_joined_patients_count_with_the_patient_s_label(tmp_path: Path) -> None:
    run = labelled(tmp_path / "run")
    apart = table1([run])
    run.label_file("toy").write_text("slide_id,patient_id,TP53,A_B\np1,p1,1.0,0.0\np2,p2,0.0,\np3,p3,,1.0\n")
    header = json.loads((run.path / "datasets.json").read_text())
    header["toy"] |= {"bag": "patient", "slides_of": {"p1": ["s1", "s2"], "p2": ["s3"], "p3": ["s4"]}}
    (run.path / "datasets.json").write_text(json.dumps(header))
    joined = table1([Run(run.path)])
    assert apart is not None
    assert joined is not None
    assert [cell.text for cell in joined.rows[0].cells] == ["4", "2", "1", "1", "3", "1", "1", "1"]
    assert joined.caption == f"{apart.caption} If bags are patients, a slide counts with the label of its patient."


def test_every_task_of_every_cohort_has_a_row_with_a_rule_between_cohorts(tmp_path: Path) -> None:
    table = table1([labelled(tmp_path / "run", datasets=("one", "two"))])
    assert table is not None
    assert [row.title for row in table.rows] == ["ONE, TP53", "ONE, A_B", "TWO, TP53", "TWO, A_B"]
    assert [row.rule for row in table.rows] == [False, False, True, False]
    assert isinstance(table.data, pd.DataFrame)
    assert r"A\_B" in to_latex(table)
    assert "| ONE, TP53 | 4 | 1 | 2 | 1 | 3 | 1 | 1 | 1 |" in to_markdown(table)


def test_runs_without_labels_have_no_table_1(tmp_path: Path) -> None:
    assert table1([make_run(tmp_path / "run", models=("amil",), folds=(0,))]) is None


def test_labels_are_mutated_or_wild_type_only_in_the_studys_cohorts(tmp_path: Path) -> None:
    genes = table1([labelled(tmp_path / "genes", datasets=("tcga-luad",))])
    others = table1([labelled(tmp_path / "others", datasets=("toy", "tcga-luad"))])
    assert genes is not None
    assert others is not None
    assert genes.columns[1:3] == ("mutated", "wild type")
    assert others.columns[1:3] == ("positive", "negative")
    assert "mutated" not in others.caption
