"""Figures drawn ahead: the same files, whoever drew them, and none if the report is refused."""

import os
from pathlib import Path

import pytest
from kinds_for_tests import make_run_of_kinds
from runs_for_tests import make_run

from milbench.errors import StoreError
from milbench.process import forked
from milbench.report import contents, drawings, figures_ahead, write_report
from milbench.report.contents import start
from milbench.report.figures_ahead import Picture
from milbench.store.run import Run

DRAWS = 50


@pytest.fixture(autouse=True)
def _copies(monkeypatch: pytest.MonkeyPatch) -> None:
    """Copies also if another test left a thread behind; drawing uses nothing of it."""
    monkeypatch.setattr(forked, "_may_copy", lambda: True)
    on_cores(2, monkeypatch)


def on_cores(n: int, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (figures_ahead, drawings):
        monkeypatch.setattr(module, "usable_cores", lambda: n)


def files_in(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def report_on(run: Run, out: Path) -> dict[str, bytes]:
    return files_in(write_report([run], out, draws=DRAWS, title="toy").parent)


@pytest.fixture
def drawn_by(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A file with a line per picture that was drawn ahead: the process that drew it."""
    path, usual = tmp_path / "drawn by", Picture.do
    path.touch()

    def do(picture: Picture) -> None:
        usual(picture)
        with path.open("a") as file:
            file.write(f"{os.getpid()}\n")

    monkeypatch.setattr(Picture, "do", do)
    return path


@pytest.mark.parametrize("make", [make_run, make_run_of_kinds])
def test_a_report_is_the_same_bytes_with_figures_drawn_ahead(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, drawn_by: Path, make
) -> None:
    run = make(tmp_path / "toy")
    ahead = report_on(run, tmp_path / "two")
    assert drawn_by.read_text()
    drawn_by.write_text("")
    on_cores(1, monkeypatch)
    alone = report_on(run, tmp_path / "one")
    assert drawn_by.read_text() == ""
    assert any(name.startswith("roc") for name in alone)
    assert ahead.keys() == alone.keys()
    assert [name for name in alone if ahead[name] != alone[name]] == []


def test_a_copy_draws_while_this_process_computes_statistics(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, drawn_by: Path
) -> None:
    usual = contents.analyse_grids

    def waits(*given, **named):  # for both figures of the cohort
        while len(drawn_by.read_text().splitlines()) < 2:
            pass
        return usual(*given, **named)

    monkeypatch.setattr(contents, "analyse_grids", waits)
    report_on(make_run(tmp_path / "toy"), tmp_path / "report")
    assert str(os.getpid()) not in drawn_by.read_text()


def test_a_refused_report_changes_no_file_and_leaves_no_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, drawn_by: Path
) -> None:
    out, run = tmp_path / "report", make_run(tmp_path / "toy")
    before = report_on(run, out)
    drawn_by.write_text("")

    def refuses(*_, **__):
        while not drawn_by.read_text():
            pass
        raise StoreError("an incomplete grid cannot be compared")

    monkeypatch.setattr(contents, "analyse_grids", refuses)
    with pytest.raises(StoreError, match="incomplete"):
        write_report([run], out, draws=DRAWS, title="toy")
    assert files_in(out) == before
    with pytest.raises(StoreError, match="incomplete"):
        write_report([run], tmp_path / "new", draws=DRAWS)
    assert not (tmp_path / "new").exists()
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)


@pytest.mark.parametrize("error", [OSError(24, "Too many open files"), AttributeError("no such function")])
def test_without_memory_to_share_figures_are_drawn_with_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, drawn_by: Path, error: Exception
) -> None:
    run = make_run(tmp_path / "toy")
    usual = report_on(run, tmp_path / "usual")
    drawn_by.write_text("")

    def refused(name: str) -> int:
        raise error

    monkeypatch.setattr(os, "memfd_create", refused)
    assert report_on(run, tmp_path / "report") == usual
    assert drawn_by.read_text() == ""


def test_where_no_copy_can_be_made_this_process_draws_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, drawn_by: Path
) -> None:
    run = make_run(tmp_path / "toy")
    usual = report_on(run, tmp_path / "usual")
    drawn_by.write_text("")
    monkeypatch.setattr(forked, "_may_copy", lambda: False)
    assert report_on(run, tmp_path / "report") == usual
    assert set(drawn_by.read_text().split()) == {str(os.getpid())}


def test_a_figure_that_a_copy_could_not_tell_is_drawn_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, drawn_by: Path
) -> None:
    """As where memory is full: half of a figure may lie there then."""
    run = make_run(tmp_path / "toy")
    usual = report_on(run, tmp_path / "usual")
    drawn_by.write_text("")

    def full(room, parts):
        os.write(room._descriptor, next(iter(parts)))
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(figures_ahead.Told, "write", full)
    assert report_on(run, tmp_path / "report") == usual
    assert str(os.getpid()) in drawn_by.read_text()


def test_a_folder_that_cannot_be_written_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "report" / "roc_toy.png").mkdir(parents=True)
    with pytest.raises(StoreError, match=r"cannot write to .*report.*roc_toy\.png"):
        write_report([make_run(tmp_path / "toy")], tmp_path / "report", draws=DRAWS)


def test_names_and_tasks_known_before_statistics_are_those_of_the_analysis(tmp_path: Path) -> None:
    run = make_run(tmp_path / "two", datasets=("tcga-luad", "tcga-gbmlgg"))
    begun = start([run], reference="amil")
    (found,) = contents.finish(begun, reference="amil", draws=DRAWS, complete_cases=False)
    (outline,) = (one.outline for one in begun)
    cells, tasks = found.analysis.cells, found.analysis.tasks
    assert list(outline.model_titles.items()) == list(dict(zip(cells["model"], cells["title"], strict=True)).items())
    assert set(outline.dataset_titles) == set(tasks["dataset"])
    for name in outline.dataset_titles:
        assert list(outline.tasks[name]) == list(tasks.loc[tasks["dataset"] == name, "task"])
