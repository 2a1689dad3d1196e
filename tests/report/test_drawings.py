"""Figures saved side by side: the same files whatever the number of processes, and an error names its figure."""

import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
from matplotlib.figure import Figure
from runs_for_tests import make_run

from milbench.process import forked
from milbench.report.contents import gather
from milbench.report.drawings import drawing, saving
from milbench.report.figures import blank_figure


@pytest.fixture(autouse=True)
def _copies(monkeypatch: pytest.MonkeyPatch) -> None:
    """Copies also if another test left a thread behind; drawing uses nothing of it."""
    monkeypatch.setattr(forked, "_may_copy", lambda: True)


def test_figures_of_a_report_are_the_same_bytes_from_one_process_and_from_two(tmp_path: Path) -> None:
    contents = gather([make_run(tmp_path / "toy")], reference="amil", draws=50, complete_cases=False)
    for processes in (1, 2):
        (tmp_path / f"{processes}").mkdir()
        with drawing(contents, tmp_path / f"{processes}", processes=processes) as drawn:
            pass
        assert {figure.stem for figure in drawn} == {path.stem for path in (tmp_path / f"{processes}").iterdir()}
    ours, theirs = ({path.name: path.read_bytes() for path in (tmp_path / name).iterdir()} for name in ("1", "2"))
    assert len(ours) > 8
    assert ours == theirs


@pytest.mark.parametrize("processes", [1, 2, 3])
def test_an_error_is_the_one_of_a_single_process_and_names_its_figure(tmp_path: Path, processes: int) -> None:
    drawings = [(partial(figure_of, name), tmp_path / name) for name in ("box", "absent/roc", "gain")]
    with pytest.raises(FileNotFoundError) as raised, saving(drawings, processes):
        pass
    assert raised.value.filename == str(tmp_path / "absent" / "roc.png")
    assert raised.value.__notes__ == ["while making figure roc"]


def figure_of(text: str) -> Figure:
    figure = blank_figure((2.0, 1.0))
    figure.text(0.5, 0.5, text)
    return figure


def test_a_report_waits_for_no_package_that_it_does_not_need(tmp_path: Path) -> None:
    """Torch, SciPy's statistics, scikit-learn and MLflow take seconds to import, subsets of fonts a tenth of one."""
    code = """
import sys
import milbench.commands.report, milbench.commands.show_run, milbench.report, milbench.report.stamp
from milbench.report.figures import blank_figure, save
from pathlib import Path
figure = blank_figure((2.0, 1.0))
figure.text(0.5, 0.5, "a")
save(figure, Path(sys.argv[1]) / "a")
print([name for name in ("torch", "scipy.stats", "sklearn", "mlflow", "seaborn", "h5py", "fontTools.ttLib") if name in sys.modules])
"""
    found = subprocess.check_output([sys.executable, "-c", code, str(tmp_path)], text=True)
    assert found.strip() == "[]"


def test_fonts_are_still_embedded_whole_where_somebody_asks_for_it(tmp_path: Path) -> None:
    """`pdf.fonttype` 42 needs the module that is imported when it is used."""
    code = """
import sys
from milbench.report.figures import importable_matplotlib
importable_matplotlib()
import matplotlib
matplotlib.rcParams["pdf.fonttype"] = 42
from matplotlib.figure import Figure
figure = Figure()
figure.text(0.5, 0.5, "a")
figure.savefig(sys.argv[1])
"""
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "a.pdf")], check=True)
    assert b"CIDFontType2" in (tmp_path / "a.pdf").read_bytes()


def test_figures_are_the_same_without_3d_axes_and_lists_of_properties(tmp_path: Path) -> None:
    code = """
import sys
if sys.argv[2] == "little":
    from milbench.report.fewer_imports import import_little
    import_little()
from milbench.report.figures import blank_figure, save
from pathlib import Path
figure = blank_figure((3.0, 3.0))
figure.add_axes((0.2, 0.2, 0.6, 0.6), projection="polar").plot([0, 1, 2], [1, 2, 3])
save(figure, Path(sys.argv[1]) / sys.argv[2])
import matplotlib.artist, matplotlib.lines
assert "alpha" in matplotlib.artist.kwdoc(matplotlib.lines.Line2D)
print("mpl_toolkits.mplot3d" in sys.modules)
"""
    said = [
        subprocess.check_output([sys.executable, "-c", code, str(tmp_path), how], text=True).strip()
        for how in ("little", "all")
    ]
    assert said[0] == "False"
    for suffix in (".png", ".pdf"):
        assert (tmp_path / f"little{suffix}").read_bytes() == (tmp_path / f"all{suffix}").read_bytes()


def test_nobody_looks_for_garbage_among_modules_while_they_are_imported(tmp_path: Path) -> None:
    make_run(tmp_path / "toy")
    code = """
import gc, sys
from milbench.commands.cli import main
looks = []

def look(phase, about):
    if phase == "start" and "numpy" in sys.modules and "milbench.report.sheets" not in sys.modules:
        looks.append(about)

gc.callbacks.append(look)
assert main(["report", sys.argv[1], "--out", sys.argv[1] + "-report", "--draws", "100", "--no-tracking"]) == 0
print(looks, gc.isenabled(), gc.get_freeze_count())
"""
    found = subprocess.check_output([sys.executable, "-c", code, str(tmp_path / "toy")], text=True)
    assert found.splitlines()[-1] == "[] True 0"
