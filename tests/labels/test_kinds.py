"""Tasks of every kind, from a user's table to one number per label, and what is said of a table that cannot be used."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from label_tables import labels_of, real_table, rows

from milbench.endpoints.endpoint import BINARY, Endpoint
from milbench.errors import LabelTableError

SURVIVAL = {"os": {"kind": "survival", "time": "t_days", "event": "e"}}
GRADES = {"grade": {"kind": "ordinal", "classes": ["G1", "G2", "G3"]}}


def test_one_table_holds_tasks_of_every_kind(tmp_path: Path) -> None:
    table = rows("TP53,subtype,grade,tmb,os_days,os_event", "mut,c,G3,1.5,10,1", "wt,a,G1,20,30,0", "mut,b,G2,3,,")
    read = labels_of(
        tmp_path,
        table,
        {
            "TP53": "binary",
            "subtype": {"kind": "multiclass", "classes": ["c", "b", "a"]},
            "grade": {"kind": "ordinal", "classes": ["G1", "G2", "G3"]},
            "tmb": {"kind": "regression", "transform": "log1p"},
            "os": {"kind": "survival", "time": "os_days", "event": "os_event", "unit": "days"},
        },
    )
    assert list(read.slides) == ["slide_id", "patient_id", "TP53", "subtype", "grade", "tmb", "os"]
    expected = [[1, 0, 2, 1.5, 10], [0, 2, 0, 20, -30], [1, 1, 1, 3, np.nan]]
    np.testing.assert_array_equal(read.slides.iloc[:, 2:].to_numpy(dtype=float), expected)
    assert read.endpoints == {
        "subtype": Endpoint("multiclass", ("c", "b", "a")),
        "grade": Endpoint("ordinal", ("G1", "G2", "G3")),
        "tmb": Endpoint("regression", transform="log1p"),
        "os": Endpoint("survival"),
    }
    assert read.endpoints.get("TP53", BINARY) == BINARY


def test_a_list_of_tasks_and_a_mapping_of_binary_ones_are_the_same(tmp_path: Path) -> None:
    table = rows("A,B", "1,wt", "0,mut")
    as_list, as_mapping = (labels_of(tmp_path, table, tasks) for tasks in (["A", "B"], {"A": "binary", "B": "binary"}))
    assert as_list.slides.equals(as_mapping.slides)
    assert (as_list.notes, as_list.findings) == (as_mapping.notes, as_mapping.findings)
    assert as_list.endpoints == as_mapping.endpoints == {}


@pytest.mark.parametrize("said", [{"kind": "binary", "column": "x"}, {"kind": "multiclass", "column": "x"}])
def test_a_message_names_the_column_and_not_the_task(tmp_path: Path, said: dict[str, Any]) -> None:
    with pytest.raises(LabelTableError, match="column 'x' holds 'Not Reported'"):
        labels_of(tmp_path, rows("x", "a", "b", "Not Reported"), {"mine": said})


STAMP = {"labels": "clini.csv", "slides": "slide.csv"}


def test_stamp_and_patho_bench_tables_hold_other_kinds_too(tmp_path: Path) -> None:
    (tmp_path / "clini.csv").write_text("PATIENT,OS_MONTHS,OS_STATUS\np,1,1:DECEASED\nq,2,0:LIVING\n")
    (tmp_path / "slide.csv").write_text("PATIENT,FILENAME\np,a.h5\np,b.h5\nq,c.h5\n")
    tasks = {"os": {"kind": "survival", "time": "OS_MONTHS", "event": "OS_STATUS"}}
    read = labels_of(tmp_path, "", tasks, **STAMP)
    assert read.slides["os"].tolist() == [30.4375, 30.4375, -60.875]
    assert read.endpoints == {"os": Endpoint("survival")}
    folds = "case_id\tslide_id\tgrade\tfold_0\n" + "".join(f"p{n}\ts{n}\t{n}\ttrain\n" for n in range(3))
    (tmp_path / "k=all.tsv").write_text(folds)
    assert labels_of(tmp_path, "", {"grade": "ordinal"}, labels="k=all.tsv").slides["grade"].tolist() == [0, 1, 2]


def test_torchmil_files_hold_a_score_or_a_class_if_it_is_declared(tmp_path: Path) -> None:
    (tmp_path / "labels").mkdir()
    for slide, number in (("a", 0.25), ("b", 3), ("c", -1e-5)):
        np.save(tmp_path / "labels" / f"{slide}.npy", np.array(number))
    read = labels_of(tmp_path, "", {"label": "regression"}, labels="labels")
    assert read.slides["label"].tolist() == [0.25, 3, -1e-5]
    with pytest.raises(LabelTableError, match=r"holds '-1e-05' for 1 slide .* \(file c.npy\).*grades 0.25, 1, 3"):
        labels_of(tmp_path, "", {"label": {"kind": "ordinal", "classes": [0.25, 1, 3]}}, labels="labels")


# ---- classes and grades ----------------------------------------------------------------------------


def test_classes_that_are_not_named_are_the_words_of_the_table_and_a_note_says_so(tmp_path: Path) -> None:
    read = labels_of(tmp_path, rows("msi", "MSS", "MSI-L", "MSI-H", "mss", ""), {"msi": "multiclass"})
    assert read.endpoints["msi"].classes == ("MSI-H", "MSI-L", "MSS")
    np.testing.assert_array_equal(read.slides["msi"], [2, 1, 0, 2, np.nan])
    assert "msi: multiclass, classes MSI-H 1, MSI-L 1, MSS 2 (as the table holds them)" in read.notes


def test_grades_that_are_numbers_are_in_their_order(tmp_path: Path) -> None:
    read = labels_of(tmp_path, rows("isup", "10", "9", "2", "2.0"), {"isup": "ordinal"})
    assert (read.endpoints["isup"].classes, read.slides["isup"].tolist()) == (("2", "9", "10"), [2, 1, 0, 0])


def test_a_class_that_reads_as_a_gap_is_one_if_it_is_named(tmp_path: Path) -> None:
    tasks = {"x": {"kind": "ordinal", "classes": ["none", "NA", "severe"]}}
    assert labels_of(tmp_path, rows("x", "none", "severe", "NA"), tasks).slides["x"].tolist() == [0, 2, 1]


@pytest.mark.parametrize(
    ("cells", "tasks", "message"),
    [
        (("G1", "G2", "G4", "G4"), GRADES, r"'G4' for 2 slides \(the first is slide s2 \(line 4\)\).*The nearest is 'G3'"),
        (("G1", "Unknown"), GRADES, r"none of the grades G1, G2, G3.*write `unknown: \[\"Unknown\"\]`"),
        (("low", "high", "med"), {"grade": "ordinal"}, "words have no order .* from the lowest to the highest"),
        (("a", "b", "a"), {"grade": "multiclass"}, "has 2 classes .*Two are a binary task: write `grade: binary`"),
        (("a", "a"), {"grade": "multiclass"}, r"has 1 class \(a\); expected three or more. Leave the task out"),
        (("", "na"), {"grade": "multiclass"}, "no cell tells one"),
        (("a", "b", "Unknown"), {"grade": "multiclass"}, "'Unknown' for 1 slides .* tell no label and are no class"),
        (tuple(map(str, range(30))), {"grade": "ordinal"}, "30 different numbers.*If it is a score, write `kind: regression`"),
        (tuple(f"w{n}" for n in range(101)), {"grade": "multiclass"}, "101 different words .*Name the classes"),
    ],
)  # fmt: skip
def test_classes_that_cannot_be_used_are_told_with_what_to_do(
    tmp_path: Path, cells: tuple[str, ...], tasks: dict[str, Any], message: str
) -> None:
    with pytest.raises(LabelTableError, match=message):
        labels_of(tmp_path, rows("grade", *cells), tasks)


def test_a_class_that_nobody_has_is_a_warning(tmp_path: Path) -> None:
    findings = labels_of(tmp_path, rows("grade", "G1", "G2"), GRADES).findings
    assert [finding.what for finding in findings] == [
        "grade: nobody has the grade G3, so no model can learn to predict it"
    ]


# ---- scores ----------------------------------------------------------------------------------------


def test_a_score_may_have_decimal_commas_and_bare_points(tmp_path: Path) -> None:
    read = labels_of(tmp_path, rows("hrd", '"1,5"', "-3", '",25"', "1e2", "nan"), {"hrd": "regression"})
    np.testing.assert_array_equal(read.slides["hrd"], [1.5, -3, 0.25, 100, np.nan])
    assert read.findings[0].what == "hrd: commas of column 'hrd' were read as decimal ones: 1,5 is 1.5"
    assert labels_of(tmp_path, rows("hrd", ".5", "5."), {"hrd": "regression"}).slides["hrd"].tolist() == [0.5, 5]


@pytest.mark.parametrize(
    ("cells", "message"),
    [
        (("1", "<0.1", "high"), r"column 'hrd' holds '<0.1' for slide s1 \(line 3\); expected a number.*'high' \(1\)"),
        (("1", "Not Reported"), r"write `unknown: \[\"Not Reported\"\]`"),
        (("1", "inf"), "'inf'"),
        (("1", "-1e300"), "holds '-1e300' .*numbers above 1e\\+15 are no measurements.*list it in `unknown:`"),
        (("1", "1e999"), "'1e999'"),
        (('"1,234"', "2.5"), r"'1,234' \(line 2\) and '2.5' \(line 3\), so commas may be decimal or part thousands"),
    ],
)
def test_a_score_with_text_is_refused(tmp_path: Path, cells: tuple[str, ...], message: str) -> None:
    with pytest.raises(LabelTableError, match=message):
        labels_of(tmp_path, rows("hrd", *cells), {"hrd": "regression"})


def test_commas_that_may_part_thousands_are_a_warning(tmp_path: Path) -> None:
    finding = labels_of(tmp_path, rows("hrd", '"1,234"', "7"), {"hrd": "regression"}).findings[0]
    assert (finding.severity, finding.fix) == ("warning", "If they part thousands, delete them from the table.")


def test_a_value_that_a_transform_does_not_take_is_refused(tmp_path: Path) -> None:
    with pytest.raises(LabelTableError, match=r"holds '-1' for slide s1 \(line 3\), and `transform: log1p` needs"):
        labels_of(tmp_path, rows("hrd", "0", "-1"), {"hrd": {"kind": "regression", "transform": "log1p"}})


def test_a_skewed_score_gets_the_hint_of_a_logarithm_and_two_values_that_of_classes(tmp_path: Path) -> None:
    skewed = labels_of(tmp_path, rows("tmb", *["1"] * 20, "2", "300"), {"tmb": "regression"}).findings
    assert [finding.severity for finding in skewed] == ["note"]
    assert "transform: log1p" in skewed[0].fix
    two = labels_of(tmp_path, rows("tmb", "1", "2"), {"tmb": "regression"}).findings
    assert two[0].fix == "Write `tmb: binary` if these are classes, or leave it out."


# ---- survival --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("dead", "alive"),
    [
        ("1", "0"), ("1.0", "0.0"), ("Dead", "Alive"), ("1:DECEASED", "0:LIVING"), ("deceased", "living"), ("yes", "no"),
        ("1:Recurred/Progressed", "0:DiseaseFree"), ("recurred", "Disease free"), ("TRUE", "FALSE"), ("event", "censored"),
        ("1:PROGRESSION", "0:CENSORED"), ("died", "alive"),
    ],
)  # fmt: skip
def test_words_say_whether_the_event_was_seen(tmp_path: Path, dead: str, alive: str) -> None:
    read = labels_of(tmp_path, rows("t_days,e", f"10,{dead}", f"20,{alive}"), SURVIVAL)
    assert read.slides["os"].tolist() == [10, -20]


def test_a_column_of_censoring_is_read_the_other_way_round_and_a_note_says_so(tmp_path: Path) -> None:
    tasks = {"os": {"kind": "survival", "time": "survival_months", "censored": "censorship"}}
    read = labels_of(tmp_path, rows("survival_months,censorship", "2,0", "4,1"), tasks)
    assert read.slides["os"].tolist() == [60.875, -121.75]
    assert "'censorship' 0 = event, 1 = censored (`censored:` says that the column tells censoring)" in read.notes[-1]
    assert "converted to days of 30.44 per month" in read.notes[-1]
    words = labels_of(tmp_path, rows("survival_months,censorship", "2,uncensored", "4,censored"), tasks)
    assert words.slides["os"].tolist() == read.slides["os"].tolist()


@pytest.mark.parametrize(("unit", "days"), [("days", 2), ("months", 60.875), ("years", 730.5)])
def test_times_become_days(tmp_path: Path, unit: str, days: float) -> None:
    tasks = {"os": {"kind": "survival", "time": "t", "event": "e", "unit": unit}}
    assert labels_of(tmp_path, rows("t,e", "2,1"), tasks).slides["os"].tolist() == [days]


def test_a_time_that_is_not_positive_and_half_a_label_are_unknown_and_told(tmp_path: Path) -> None:
    read = labels_of(tmp_path, rows("t_days,e", "0,1", "-3,0", "5,", ",1", "7,1", ",", "8,0"), SURVIVAL)
    np.testing.assert_array_equal(read.slides["os"], [np.nan] * 4 + [7, np.nan, -8])
    assert [finding.what for finding in read.findings] == [
        "os: 2 slides have a time of 0 or less, 1 of them below 0 (lines 2, 3): unknown",
        "os: 1 slide has a time and no event (line 4): unknown",
        "os: 1 slide has an event and no time (line 5): unknown",
    ]


@pytest.mark.parametrize(
    ("columns", "cells", "said", "message"),
    [
        ("t_days,os_status", ("1,1",), {}, "no column that tells whether the event was seen.*names are like one: os_status"),
        ("t_days,e", ("1,0", "2,0"), {"event": "e"}, r"all 2 slides with a known time .* are censored \(column 'e' holds 0\)"),
        ("t_days,e", ("1,1", "2,2"), {"event": "e"}, "holds '2' for slide s1 .*event_value: \"2\""),
        ("t_days,e", ("1,AWD", "2,DOD", "3,NED"), {"event": "e"}, "holds 'AWD' .* does not say whether the event was seen"),
        ("t_days,e", ("1,0", "2,1"), {"event": "e", "event_value": "3"}, "no cell of column 'e' is '3'"),
        ("t_days,cens", ("1,0",), {"event": "cens"}, "whose name says that 1 means censored.*`censored: cens`"),
        ("t,e", ("1,1",), {"time": "t", "event": "e"}, "does not tell the unit .*Write `unit:` with one of days, months, years"),
        ("t_days,e", ("long,1",), {"event": "e"}, "column 't_days' holds 'long' .*expected a number"),
        ("t_days,e", ("1,1",), {"event": "x"}, "unknown column in task 'os' 'x'"),
        ("t_days,e", ("1,1",), {"event": "t_days"}, "takes times and events from one column, 't_days'. Name two columns"),
        ("t_days,e", ("9e99,1",), {"event": "e"}, r"holds '9e99' .*numbers above 1e\+15 are no measurements"),
        ("t_days,e", ("1,a", "2,b"), {"event": "e"}, r"if 'b' does\.$"),
    ],
)  # fmt: skip
def test_survival_that_cannot_be_used_is_told_with_what_to_do(
    tmp_path: Path, columns: str, cells: tuple[str, ...], said: dict[str, str], message: str
) -> None:
    with pytest.raises(LabelTableError, match=message):
        labels_of(tmp_path, rows(columns, *cells), {"os": {"kind": "survival", "time": "t_days", **said}})


def test_the_cells_of_an_event_may_be_stated(tmp_path: Path) -> None:
    said = {"kind": "survival", "time": "t_days", "event": "e", "event_value": ["DOD", "DOC"]}
    read = labels_of(tmp_path, rows("t_days,e", "1,DOD", "2,DOC", "3,AWD", "4,NED"), {"os": said})
    assert read.slides["os"].tolist() == [1, 2, -3, -4]
    assert read.findings[0].what == "os: several cells of column 'e' count as censored: 'AWD' (1), 'NED' (1)"
    coded = labels_of(tmp_path, rows("t_days,e", "1,1", "2,2"), {"os": {**said, "event_value": 2}})
    assert (coded.slides["os"].tolist(), coded.findings) == ([-1, 2], ())


def test_a_unit_that_the_columns_name_denies_is_a_warning_and_so_is_a_follow_up_of_centuries(tmp_path: Path) -> None:
    said = {"kind": "survival", "time": "t_days", "event": "e", "unit": "months"}
    findings = labels_of(tmp_path, rows("t_days,e", "4000,1"), {"os": said}).findings
    assert [finding.fix for finding in findings] == [
        "If the times are days, write `unit: days`.",
        "Correct `unit:`, or the table.",
    ]


@pytest.mark.parametrize(("patients", "longest", "warned"), [(20, 120, True), (19, 120, False), (20, 400, False)])
def test_months_that_are_read_as_days_are_a_warning(tmp_path: Path, patients: int, longest: int, warned: bool) -> None:
    lines = [f"{longest - patient},1" for patient in range(patients)]
    findings = labels_of(tmp_path, rows("t_days,e", *lines), SURVIVAL).findings
    text = (
        "os: nobody is followed for longer than 120 days, if times are days. "
        "If times are in a longer unit than days, correct `unit:`."
    )
    assert [finding.text for finding in findings] == [text] * warned


def test_only_binary_tasks_have_a_positive_class(tmp_path: Path) -> None:
    with pytest.raises(LabelTableError, match="`positive:` names 'grade', which is ordinal"):
        labels_of(tmp_path, rows("grade", "G1"), GRADES, positive={"grade": "G3"})


# ---- real tables -----------------------------------------------------------------------------------


@pytest.mark.realdata
def test_the_subtypes_of_real_tumours_are_read_as_their_table_counts_them(tmp_path: Path) -> None:
    read = labels_of(
        tmp_path,
        real_table("tcga_gi_subtypes"),
        {
            "msi": "multiclass",
            "cms": "multiclass",
            "stage": {"kind": "ordinal", "classes": ["I", "II", "III", "IV"]},
            "density": {"kind": "regression", "column": "mutation_density", "transform": "log1p"},
        },
    )
    assert read.endpoints["msi"].classes == ("MSI-H", "MSI-L", "MSS")
    assert read.endpoints["cms"].classes == ("CMS1", "CMS2", "CMS3", "CMS4")
    assert read.slides["cms"].value_counts().to_dict() == {0: 52, 1: 152, 2: 58, 3: 106}
    assert read.slides["density"].max() == pytest.approx(364, abs=1)


@pytest.mark.realdata
def test_108_patients_of_the_cdr_have_no_time_that_can_be_used(tmp_path: Path) -> None:
    tasks = {"os": {"kind": "survival", "time": "OS.time", "event": "OS", "unit": "days"}}
    read = labels_of(tmp_path, real_table("tcga_cdr_outcomes"), tasks)
    assert [finding.what.partition(" (")[0] for finding in read.findings] == [
        "os: 108 slides have a time of 0 or less",
        "os: 57 slides have an event and no time",
    ]
    days = read.slides["os"]
    assert ((days > 0).sum(), (days < 0).sum(), days.isna().sum()) == (3573, 7413, 108 + 57 + 9)


@pytest.mark.realdata
def test_a_recurrence_score_is_a_regression(tmp_path: Path) -> None:
    tasks = {
        "ror": {"kind": "regression", "column": "ror_p_score_div100"},
        "recurrence": {
            "kind": "survival",
            "time": "recurrence_years_censored_10_years",
            "event": "recurrence_event_censored_10_years",
        },
    }
    read = labels_of(tmp_path, real_table("tcga_brca_ror_pam50_mako"), tasks)
    assert (read.slides["ror"].min(), read.slides["ror"].max()) == (-0.171, 0.82122)
    assert (read.slides["recurrence"] > 0).sum() == 79
    assert read.slides["recurrence"].abs().max() == 10 * 365.25
