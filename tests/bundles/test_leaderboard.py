"""One page on a folder of bundles."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest
from bundles_for_tests import labels_of, make_bundle, make_sound_run
from commands_for_tests import Milbench

from milbench.bundles.board_page import NOT_VERIFIED, VERIFIED
from milbench.bundles.leaderboard import leaderboard
from milbench.errors import StoreError
from milbench.report import Recomputed


@pytest.fixture(scope="module")
def folder(bundled: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sound bundle, one that was tampered with, one on other labels, without a report, and what is no bundle."""
    place = tmp_path_factory.mktemp("board")
    shutil.copytree(bundled, place / "ann")
    shutil.copytree(bundled, place / "bob")
    (place / "bob/report/table2.tex").write_text("edited")
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("milbench.bundles.bundle.write_report", lambda _runs, out, **_: out.mkdir())
        run = make_sound_run(place / "made" / "toy", models=("amil",), labels=labels_of(4))
        make_bundle(run, place / "cy.zip")
    (place / "broken.zip").write_bytes(b"nothing")
    return place


@pytest.fixture(scope="module")
def page(folder: Path, report_anew: Recomputed) -> str:
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("milbench.bundles.verify.recompute", lambda *_, **__: report_anew)
        leaderboard(folder, folder / "page.html", 200, lambda _: None)
    return (folder / "page.html").read_text()


def rows_of(page: str, group: int) -> dict[str, str]:
    """Mark by title of the rows of a group's first table."""
    section = page.split(f'<section id="group-{group}"')[1].split("</table>")[0]
    return dict(re.findall(r'<tr><th scope="row">([^<]+)</th><td[^>]*><span>([^<]+)</span>', section))


def test_only_verified_bundles_are_marked_as_such(page: str) -> None:
    assert rows_of(page, 1) == {
        "ann · M4": VERIFIED, "ann · AMIL": VERIFIED, "bob · M4": NOT_VERIFIED, "bob · AMIL": NOT_VERIFIED,
    }  # fmt: skip
    assert "report/table2.tex: holds other bytes than checksums.sha256 says" in page


def test_bundles_on_other_labels_have_a_table_of_their_own_with_the_reason(page: str) -> None:
    assert rows_of(page, 2) == {"cy · AMIL": NOT_VERIFIED}  # it has no report
    assert "labels of TP53 differ for 1 patient(s): PAT-0004" in page


def test_what_cannot_be_read_is_listed_without_numbers(page: str, folder: Path) -> None:
    assert "<b>broken</b>: broken.zip is no zip that can be read" in page
    assert str(folder) not in page


def test_the_page_needs_no_network_and_no_script_and_knows_light_and_dark(page: str) -> None:
    assert "<script" not in page
    assert re.findall(r'(?:src|href)="(?!#|data:)', page) == []
    assert "default-src 'none'" in page
    assert "color-scheme: light dark" in page


def test_the_command_tells_with_its_exit_code_whether_all_were_verified(
    folder: Path, milbench_here: Milbench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("milbench.bundles.leaderboard.bundles_in", lambda _: [folder / "broken.zip"])
    done = milbench_here("leaderboard", str(folder), "--out", "x.html")
    assert done.returncode == 1
    assert "broken: cannot be read" in done.stdout
    assert milbench_here("leaderboard", str(folder), "--out", "x.txt").returncode == 2


def test_a_folder_without_bundles_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="holds no bundles"):
        leaderboard(tmp_path, tmp_path / "x.html", 200, lambda _: None)
