"""One screen for an issue: nothing private, nothing that stops it, and each thing that is broken with its fix, as README.md shows it."""

import json
import time
from pathlib import Path

import pytest
from commands_for_tests import Milbench

from milbench.commands.doctor import sections
from milbench.commands.doctor.page import WIDTH, as_json, as_text
from milbench.commands.doctor.private import Names, hiding, private
from milbench.commands.doctor.section import Look, Remark, Section, examined

NAMES = Names(homes=("/data/home/ada", "/home/ada"), users=("ada",), hosts=("node7.clinic.org", "node7"))

WELL = Section("well", "all of it", {"a": 1})
ILL = Section(
    "ill", "not all of it", {"a": 2}, (Remark("A part is missing.", "pip install part"),), (Remark("Hm.", "Look."),)
)


def refused() -> Section:
    raise RuntimeError("libdevice is gone\nand more")


def hung() -> Section:
    time.sleep(30)
    return WELL


def test_a_look_that_raises_or_hangs_is_a_section_and_the_others_are_there() -> None:
    found = examined([Look("one", refused, 5), Look("two", hung, 0.05), Look("three", lambda: WELL, 5)])
    assert found[0].text == "could not be found out (RuntimeError: libdevice is gone)"
    assert found[1].text == "could not be found out (no answer within 0.05 s)"
    assert found[2] == WELL
    assert [bool(section.broken) for section in found] == [True, True, False]


def test_every_broken_thing_stands_on_the_page_with_its_fix() -> None:
    page = as_text([WELL, ILL])
    assert page.splitlines() == [
        "well  all of it",
        "ill   not all of it",
        "note: Hm. Look.",
        "broken 1: A part is missing.",
        "  fix: pip install part",
    ]
    assert as_text([WELL]).endswith("\nNothing is broken.")
    values = json.loads(as_json([WELL, ILL]))
    assert values["sections"] == {"well": {"a": 1}, "ill": {"a": 2}}
    assert values["broken"] == [{"what": "A part is missing.", "fix": "pip install part"}]


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("/home/ada/runs is full", "~/runs is full"),
        ("HOME=/home/ada", "HOME=~"),
        ("/home/adam/runs", "/home/adam/runs"),
        ("/home/ada-old/runs", "/home/USER-old/runs"),
        ("It is in /home/ada.", "It is in ~."),
        ("/data/home/ada/.cache", "~/.cache"),
        ("/scratch/ada/x", "/scratch/USER/x"),
        ("/scratch/ada_1/x", "/scratch/USER_1/x"),
        ("an adapter of Canada", "an adapter of Canada"),
        ("node7.clinic.org:5000 and NODE7", "HOST:5000 and HOST"),
        ("http://ada:secret@server/x", "http://USER:***@server/x"),
    ],
)
def test_home_user_host_and_passwords_are_taken_out(text: str, shown: str) -> None:
    assert hiding(NAMES)(text) == shown


def test_names_are_taken_out_of_every_part_of_a_section() -> None:
    said = Section(
        "a",
        "/home/ada",
        {"x": ["/home/ada", {"y": "node7"}], "n": 1},
        (Remark("ada", "/home/ada"),),
        (Remark("ada", ""),),
    )
    (found,) = private([said], NAMES)
    assert "ada" not in repr(found).replace("HOST", "")
    assert "node7" not in repr(found)
    assert found.values["n"] == 1


def test_a_name_that_many_share_is_no_secret_and_the_root_folder_no_home() -> None:
    hide = hiding(Names(homes=(), users=("root",), hosts=("localhost",)))
    assert hide("root at localhost in /") == "root at localhost in /"


def test_the_exit_code_says_whether_anything_is_broken(
    milbench_here: Milbench, monkeypatch: pytest.MonkeyPatch
) -> None:
    for made, code in ((WELL, 0), (ILL, 1)):
        monkeypatch.setattr(sections, "sections_of", lambda runs, made=made: [Look("x", lambda: made, 5)])
        result = milbench_here("doctor")
        assert result.returncode == code
        assert made.text in result.stdout
        assert json.loads(milbench_here("doctor", "--json").stdout)["sections"] == {made.name: dict(made.values)}


@pytest.mark.slow
def test_the_whole_page_fits_a_screen_and_leaves_nothing_behind(
    milbench: Milbench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://ada:secret@mlflow.clinic.org")
    result = milbench("doctor")
    lines = result.stdout.splitlines()
    assert result.stderr == ""
    assert len(lines) < 40
    assert max(map(len, lines)) <= WIDTH
    assert list(tmp_path.iterdir()) == []
    labels = [look.name for look in sections.sections_of(Path("runs"))]
    assert [line.split("  ")[0] for line in lines if not line.startswith(" ")][: len(labels)] == labels
    assert "could not be found out" not in result.stdout
    assert "MLFLOW_TRACKING_URI=https://(a server)" in result.stdout
    assert str(Path.home()) + "/" not in result.stdout
    assert result.returncode == int("\nbroken 1: " in result.stdout)
