"""What a command imports before it answers, and facts that are kept between two calls: never those of other sources."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from importlib.metadata import EntryPoint, EntryPoints
from pathlib import Path

import pytest
from commands_for_tests import FAST, PLUGIN, Milbench

import milbench
from milbench import registry
from milbench.commands import kept_facts
from milbench.commands.kept_facts import KeptFacts, sources_key
from milbench.registry import ENTRY_POINTS

HEAVY = (
    "torch", "pandas", "scipy", "sklearn", "statsmodels", "mlflow", "matplotlib", "pyarrow", "requests", "milbench_baselines",
)  # fmt: skip

CALL = f"""
import io, json, sys
from contextlib import redirect_stdout
from milbench.commands.cli import main

found = []
for words in json.loads(sys.argv[1]):
    text = io.StringIO()
    with redirect_stdout(text):
        try:
            main(words)
        except SystemExit:
            pass
    found.append([text.getvalue(), [name for name in {HEAVY} if name in sys.modules]])
print(json.dumps(found))
"""

MINE = """
import torch
from milbench.models import BagOutput, MILModel, register_model


@register_model("mine_alone", title="{title}", tasks="single")
class Mine(MILModel):
    def forward(self, features):
        return BagOutput(features.mean(0)[: self.n_tasks], None, {{}})
"""


def calls(*commands: list[str], cache: Path | str, paths: tuple[Path, ...] = ()) -> list[tuple[str, list[str]]]:
    """Output of each command and the heavy modules that were imported by then, all in one new process."""
    path = os.pathsep.join([*map(str, paths), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "XDG_CACHE_HOME": str(cache), "PYTHONPATH": path, "COLUMNS": "100"}
    ended = subprocess.run(
        [sys.executable, "-c", CALL, json.dumps(commands)],
        env=environment, capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    return [(text, modules) for text, modules in json.loads(ended.stdout)]


@pytest.mark.slow
def test_the_first_commands_of_a_user_import_no_torch(
    cohort_folder: Path, tmp_path: Path, milbench_here: Milbench
) -> None:
    words = ["--models", "mean_pooling", "--cohort", "toy", "--folds", "0", "--run", "out", "--workers", "1", *FAST]
    assert milbench_here("run", *words).returncode == 0
    commands = (["datasets"], ["models", "m4", "max_pooling"], ["models", "nothing"], ["models"], ["models", "m4"])
    first = calls(*commands, cache=tmp_path / "cache")
    assert first[0][1]
    assert first[1][1], "the first call has to import the models"
    light = (*commands, ["status", str(tmp_path / "out")], ["--help"], ["--version"])
    again = calls(*light, cache=tmp_path / "cache")
    assert [modules for _, modules in again] == [[]] * len(light)
    assert [text for text, _ in again[: len(commands)]] == [text for text, _ in first], "the answers are the same"
    assert "mean_pooling" in again[5][0]
    assert cohort_folder.exists()


def test_a_plug_ins_models_are_always_asked_for(tmp_path: Path, milbench_here: Milbench) -> None:
    kept = KeptFacts(ENTRY_POINTS, "not.imported", is_plain=False)
    assert not kept.key
    for title in ("First", "Second"):
        (tmp_path / f"{title}.py").write_text(MINE.format(title=title).replace("mine_alone", title.lower()))
        assert title in milbench_here("models", "--plugin", f"{title}.py").stdout
    assert "explodes" in milbench_here("models", "--plugin", PLUGIN).stdout


def test_packages_of_others_are_always_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    assert KeptFacts(ENTRY_POINTS, "not.imported", is_plain=True).key
    monkeypatch.setattr(
        registry, "_installed", lambda *_: EntryPoints([EntryPoint("theirs", "their_models", ENTRY_POINTS)])
    )
    assert not KeptFacts(ENTRY_POINTS, "not.imported", is_plain=True).key


def test_a_process_that_has_imported_models_asks_them() -> None:
    assert not KeptFacts(ENTRY_POINTS, "sys", is_plain=True).key


@pytest.fixture
def sources(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A milbench of two packages, as far as the key can see."""
    for package in ("harness", "brought"):
        (tmp_path / package / "inner").mkdir(parents=True)
        (tmp_path / package / "__init__.py").write_text("a = 1\n")
        (tmp_path / package / "inner" / "model.py").write_text("b = 1\n")
    real = kept_facts._sources_of
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(kept_facts, "_sources_of", lambda name: real({"milbench": "harness"}.get(name, "brought")))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path


def kept() -> KeptFacts:
    return KeptFacts(ENTRY_POINTS, "not.imported", is_plain=True)


def test_the_key_changes_with_any_source_and_version(sources: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keys = [sources_key()]
    model = sources / "brought" / "inner" / "model.py"
    times = model.stat()
    model.write_text("b = 2\n")
    os.utime(model, ns=(times.st_atime_ns, times.st_mtime_ns))
    keys.append(sources_key())  # same size, same time
    os.utime(model, ns=(0, 0))
    keys.append(sources_key())  # until now Python may have run what it compiled before
    (sources / "harness" / "inner" / "new.py").write_text("")
    keys.append(sources_key())
    model.rename(model.with_name("other.py"))
    keys.append(sources_key())
    monkeypatch.setattr(milbench, "__version__", "99")
    keys.append(sources_key())
    monkeypatch.setattr(kept_facts, "_version_of", lambda package: f"{package} of tomorrow")
    keys.append(sources_key())
    assert all(keys)
    assert len(set(keys)) == len(keys)
    (sources / "harness" / "inner" / "notes.txt").write_text("no source")
    assert sources_key() == keys[-1]


def test_what_was_kept_is_found_until_a_source_changes(sources: Path) -> None:
    kept().put("models", ["a", "b"])
    assert kept().get("models", list) == ["a", "b"]
    assert kept().get("page-a", list) is None
    (sources / "brought" / "inner" / "model.py").write_text("b = 3\n")
    assert kept().get("models", list) is None


def test_nothing_is_kept_if_a_source_changes_while_it_is_found_out(sources: Path) -> None:
    facts = kept()
    (sources / "brought" / "inner" / "model.py").write_text("b = 3\n")
    facts.put("models", ["old"])
    assert not list((sources / "cache").rglob("*.json"))


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b'{"key": "another", "facts": [1]}', b'{"facts": [1]}', b"\xff\xfe"]
)
def test_a_damaged_file_is_as_none(sources: Path, content: bytes) -> None:
    facts = kept()
    facts.put("models", [1])
    file = next((sources / "cache").rglob("models.json"))
    file.write_bytes(content)
    assert facts.get("models", list) is None
    facts.put("models", [2])
    assert facts.get("models", list) == [2]


def test_a_changed_letter_of_kept_facts_is_found_out(sources: Path) -> None:
    facts = kept()
    facts.put("models", [("amil", "AMIL", ("study",))])
    file = next((sources / "cache").rglob("models.json"))
    assert facts.get("models", list) == [["amil", "AMIL", ["study"]]]
    file.write_text(file.read_text().replace("AMIL", "AMIT"))
    assert facts.get("models", list) is None


@pytest.mark.slow
def test_a_page_that_was_made_without_docstrings_is_not_kept_for_others(tmp_path: Path) -> None:
    def page(cache: str, *flags: str) -> str:
        environment = {**os.environ, "XDG_CACHE_HOME": str(tmp_path / cache), "COLUMNS": "100"}
        words = [sys.executable, *flags, "-m", "milbench", "models", "amil"]
        return subprocess.run(words, env=environment, capture_output=True, text=True, timeout=120, check=True).stdout

    assert "What differs" not in page("one", "-OO")
    assert page("one") == page("another")


def test_a_relative_home_leaves_no_folder(sources: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(sources)
    monkeypatch.setenv("XDG_CACHE_HOME", "")
    monkeypatch.setenv("HOME", "here")
    kept().put("models", [1])
    assert not (sources / "here").exists()


def test_facts_of_another_form_are_as_none(sources: Path) -> None:
    facts = kept()
    facts.put("models", [1])

    def parse(values: Mapping[str, str]) -> str:
        return values["name"]

    assert facts.get("models", parse) is None


@pytest.mark.parametrize("place", ["a file", "", "relative"])
def test_a_cache_folder_that_cannot_be_is_passed_over_in_silence(
    sources: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], place: str
) -> None:
    (sources / "a file").write_text("")
    monkeypatch.chdir(sources)
    monkeypatch.setenv("HOME", str(sources / "a file"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(sources / place) if place == "a file" else place)
    facts = kept()
    facts.put("models", [1])
    assert facts.get("models", list) is None
    assert not (sources / "relative").exists()
    assert capfd.readouterr() == ("", "")


def test_an_unwritable_cache_folder_is_passed_over(sources: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("milbench.store.files.write_atomically", refuse)  # root may write anywhere
    kept().put("models", [1])
    assert kept().get("models", list) is None


def test_many_writers_leave_one_whole_file_and_nothing_else(sources: Path) -> None:
    code = (
        "import sys, milbench.commands.kept_facts as k\n"
        "k.sources_key = lambda: 'k' * 64\n"
        "for n in range(40):\n"
        "    f = k.KeptFacts('milbench.models', 'not.imported', is_plain=True)\n"
        "    f.put('models', [int(sys.argv[1])] * 5000)\n"
        "    found = f.get('models', list)\n"
        "    assert found and len(found) == 5000 and len(set(found)) == 1, found\n"
    )
    writers = [subprocess.Popen([sys.executable, "-c", code, str(number)]) for number in range(3)]
    assert [writer.wait(60) for writer in writers] == [0, 0, 0]
    assert [path.name for path in (sources / "cache").rglob("*") if path.is_file()] == ["models.json"]


def test_what_older_versions_kept_is_deleted(sources: Path) -> None:
    for number in range(kept_facts.MOST_KEYS + 2):
        (sources / "brought" / "inner" / "model.py").write_text(f"b = {number}\n")
        kept().put("models", [number])
    assert kept().get("models", list) == [kept_facts.MOST_KEYS + 1]
    assert len(list((sources / "cache" / "milbench" / "facts").iterdir())) == kept_facts.MOST_KEYS


def test_a_run_says_what_it_reads_before_it_reads_anything() -> None:
    code = (
        "import sys\n"
        "from milbench.commands.run import asked\n"
        "from milbench.runs.config import make_config\n"
        "flags = {'models': ['m4', 'a*'], 'cohorts': ['mine/'], 'folds': [0, 1]}\n"
        "print(asked(make_config(None, [], flags)))\n"
        f"print([name for name in {HEAVY} if name in sys.modules])\n"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60).stdout
    assert said.splitlines() == ["reading mine/ for the models m4 a*, folds 0, 1, seeds 42", "[]"]
