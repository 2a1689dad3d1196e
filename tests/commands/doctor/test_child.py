"""What crashes or hangs does so in a process of its own, and the page names it."""

from pathlib import Path

import pytest

from milbench.commands.doctor import devices, imports, locks, try_imports, try_locks
from milbench.commands.doctor.child import Told, run_script
from milbench.commands.doctor.imports import failed, imported

BROKEN = {
    "fine_one": "print('chatter')\n",
    "raises_one": "raise ImportError('numpy.core.multiarray failed to import\\nand more')\n",
    "leaves_one": "raise SystemExit(3)\n",
    "killed_one": "import os, signal\nos.kill(os.getpid(), signal.SIGSEGV)\n",
    "never_one": "",
}
GPU = {"name": "H1", "bytes": 8_000_000_000, "capability": "9.0", "error": ""}


def of_torch(
    cuda: str | None, *, available: bool = False, gpus: tuple[dict[str, object], ...] = ()
) -> dict[str, object]:
    facts = {"version": "2.13.0", "cuda": cuda, "hip": None, "available": available, "gpus": list(gpus)}
    return {"module": "torch", "facts": facts, "warnings": ["UserWarning: the driver is too old"] * (not available)}


def test_a_module_that_raises_leaves_or_kills_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, text in BROKEN.items():
        (tmp_path / f"{name}.py").write_text(text)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    found = imported(list(BROKEN))
    assert found["fine_one"]["facts"] == {}
    assert found["raises_one"]["error"] == "ImportError: numpy.core.multiarray failed to import"
    assert found["leaves_one"]["error"] == "SystemExit: 3"
    assert found["killed_one"]["error"] == "the process was killed by SIGSEGV"
    assert "never_one" not in found, "the process had ended"
    remarks = failed(found)
    assert [remark.what.split("`")[1] for remark in remarks] == [
        "import raises_one",
        "import leaves_one",
        "import killed_one",
    ]
    assert remarks[0].fix == "Install it anew: pip install --force-reinstall raises_one"
    assert (
        failed({"numpy": {"error": "x"}})[0].fix.partition("==")[0]
        == "Install it anew: pip install --force-reinstall numpy"
    )


def test_an_import_without_end_is_ended_and_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "endless_one.py").write_text("import time\ntime.sleep(60)\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    told = run_script("try_imports.py", "endless_one", seconds=0.6)
    assert told.ended == "no end after 0.6 s"
    assert told.lines in ([{"module": "endless_one"}], []), "a busy machine may not have come so far"


def test_warnings_and_facts_of_a_module_come_along(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "warning_one.py").write_text("import warnings\nwarnings.warn('old driver')\n")
    monkeypatch.syspath_prepend(tmp_path)
    found = try_imports.tried("warning_one")
    assert found["warnings"] == ["UserWarning: old driver"]
    assert try_imports.tried("h5py")["facts"]["hdf5"].count(".") >= 2


def test_locks_of_this_file_system_are_tried_and_nothing_is_left(tmp_path: Path) -> None:
    found = locks.locks_at(tmp_path / "runs")
    assert found.values == {"folder": str(tmp_path), "flock": "works", "fcntl": "works", "HDF5": "works"}
    assert list(tmp_path.iterdir()) == []


def test_locks_that_have_no_effect_or_are_refused_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import fcntl

    monkeypatch.setattr(fcntl, "flock", lambda *_: None)
    monkeypatch.setattr(fcntl, "lockf", lambda *_: None)
    for attempt in (try_locks.flock, try_locks.posix):
        assert try_locks.tried(attempt, tmp_path / "a") == "has no effect: two hold one lock at the same time"

    def refuse(*_: object) -> None:
        raise OSError(37, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    assert try_locks.tried(try_locks.flock, tmp_path / "b") == "fails (No locks available)"


@pytest.mark.parametrize("kind", try_locks.KINDS)
def test_every_kind_of_lock_that_fails_has_a_fix(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    lines = [{"lock": each} for each in try_locks.KINDS] + [
        {"lock": each, "wrong": "fails (no)" * (each == kind)} for each in try_locks.KINDS
    ]
    monkeypatch.setattr(locks, "run_script", lambda *_, **__: Told(lines, ""))
    (remark,) = locks.locks_at(tmp_path).broken
    assert remark.what == f"{kind} locks in {tmp_path}: fails (no)."
    assert remark.fix == locks.FIXES[kind]


def test_a_lock_that_is_waited_for_without_end_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told = Told([{"lock": "flock"}], "no end after 20 s")
    monkeypatch.setattr(locks, "run_script", lambda *_, **__: told)
    assert locks.locks_at(tmp_path).broken[0].what.endswith("fails (no end after 20 s).")


def test_a_folder_that_cannot_be_written_is_broken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(locks.tempfile, "TemporaryDirectory", refuse)  # root may write anywhere
    assert "Permission denied" in locks.locks_at(tmp_path).broken[0].what


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> dict[str, dict[str, object]]:
    """What the imports of torch and torchvision give, to be filled by the test."""
    found: dict[str, dict[str, object]] = {}
    monkeypatch.setattr(devices, "imported", lambda _: found)
    monkeypatch.setattr(devices, "driver_version", lambda: "580.1.2")
    monkeypatch.setattr(devices, "vision_build", lambda: "0.28.0+cu130")
    monkeypatch.delenv(devices.VISIBLE, raising=False)
    return found


def test_torchvision_for_another_build_of_torch_is_said_with_the_command(seen: dict[str, dict[str, object]]) -> None:
    seen |= {
        "torch": of_torch(None),
        "torchvision": {"error": "RuntimeError: operator torchvision::nms does not exist"},
    }
    found = devices.devices()
    assert "torchvision 0.28.0+cu130 does not fit torch 2.13.0, built for CPUs only" in found.broken[0].what
    assert found.broken[0].fix.endswith("torchvision==0.28.0 --index-url https://download.pytorch.org/whl/cpu")
    assert "built for CPUs only" in found.notes[0].what


def test_a_broken_torch_is_one_remark_and_the_page_goes_on(seen: dict[str, dict[str, object]]) -> None:
    seen |= {
        "torch": {"error": "OSError: libcudart.so.13: cannot open shared object file"},
        "torchvision": {"error": "ImportError: torch"},
    }
    found = devices.devices()
    assert len(found.broken) == 1
    assert "libcudart" in found.broken[0].what
    assert "fails at import" in found.text


def test_a_gpu_that_is_there_and_not_seen_is_broken_unless_it_is_hidden(
    seen: dict[str, dict[str, object]], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen |= {"torch": of_torch("13.0")}
    assert "sees no GPU" in devices.devices().broken[0].what
    assert "the driver is too old" in devices.devices().broken[0].what
    monkeypatch.setenv(devices.VISIBLE, "")
    assert devices.devices().broken == ()


def test_gpus_are_shown_and_one_that_cannot_compute_is_broken(seen: dict[str, dict[str, object]]) -> None:
    seen |= {
        "torch": of_torch(
            "13.0", available=True, gpus=(GPU, {**GPU, "name": "H2", "error": "AcceleratorError: no kernel image"})
        )
    }
    found = devices.devices()
    assert "H1 8.0 GB, compute capability 9.0; H2" in found.text
    assert [remark.what for remark in found.broken] == ["H2 does not compute (AcceleratorError: no kernel image)."]


def test_the_version_of_a_driver_is_read_from_the_system(tmp_path: Path) -> None:
    (tmp_path / "version").write_text("NVRM version: NVIDIA UNIX x86_64 Kernel Module  580.65.06  Sun Jul 27\n")
    assert devices.driver_version(tmp_path / "version") == "580.65.06"
    assert devices.driver_version(tmp_path / "none") == ""


def test_every_module_that_is_tried_names_the_package_that_brings_it() -> None:
    from milbench.commands.doctor.requirements import requirements

    known = {each.name for needs in requirements().values() for each in needs}
    assert set(imports.MODULES.values()) <= known
