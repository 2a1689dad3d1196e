"""Names, patterns and plug-ins."""

import subprocess
import sys
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest
import torch
from models_for_tests import THIS_FILE

from milbench import models, registry
from milbench.errors import UsageError
from milbench.metrics import binary
from milbench.models import REGISTERED, register_model
from milbench.registry import import_remarks, load_models, select

KNOWN = ["amil", "m4", "mmoe_amil", "tcga-brca", "tcga-crc"]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["all"], KNOWN),
        (["tcga-*"], ["tcga-brca", "tcga-crc"]),
        (["tcga-crc", "tcga-brca"], ["tcga-brca", "tcga-crc"]),
        (["m4,amil"], ["amil", "m4"]),
        (["m4,", "amil", "m4"], ["amil", "m4"]),
        (["m*", "amil"], ["amil", "m4", "mmoe_amil"]),
    ],
)
def test_names_patterns_commas_and_words_select_in_the_known_order(words: list[str], expected: list[str]) -> None:
    assert select("model", words, KNOWN) == expected


def test_an_exact_name_wins_over_a_pattern_and_over_commas() -> None:
    names = ["HER2 [IHC]", "HER2 I", "A", "B", "A,B", "*"]
    assert select("task", ["HER2 [IHC]"], names) == ["HER2 [IHC]"]
    assert select("task", ["HER2 [I]"], names) == ["HER2 I"]
    assert select("task", ["A,B"], names) == ["A,B"]
    assert select("task", ["B,A"], names) == ["A", "B"]
    assert select("task", ["*"], names) == ["*"]
    assert select("task", ["all"], names) == names


@pytest.mark.parametrize("word", ["amli", "tcga-x*", "AMIL"])
def test_what_matches_nothing_is_an_unknown_name(word: str) -> None:
    with pytest.raises(UsageError, match=r"unknown model .*Known: amil"):
        select("model", ["m4", word], KNOWN)


def test_the_nearest_name_is_suggested() -> None:
    with pytest.raises(UsageError, match="Did you mean 'amil'"):
        select("model", ["amli"], KNOWN)


def test_no_name_at_all_is_refused() -> None:
    with pytest.raises(UsageError, match="no model was named"):
        select("model", [","], KNOWN)


def test_the_baselines_come_first_and_in_the_order_of_the_papers_tables() -> None:
    assert list(load_models())[:9] == [
        "mean_pooling", "max_pooling", "amil", "dsmil", "transmil", "dtfd_mil", "mmoe_amil", "mmoe_mp_amil", "m4",
    ]  # fmt: skip


def test_a_plug_in_adds_its_models_once() -> None:
    assert "tiny" in load_models([THIS_FILE])
    assert load_models([THIS_FILE])["tiny"] is load_models([THIS_FILE])["tiny"]


def test_a_broken_plug_in_is_named_with_its_reason(tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    path.write_text("import nothing_of_that_name\n")
    with pytest.raises(UsageError, match=r"mine\.py cannot be imported: ModuleNotFoundError"):
        load_models([path])
    with pytest.raises(UsageError, match=r"absent\.py does not exist"):
        load_models([tmp_path / "absent.py"])


def test_a_broken_package_is_named_with_its_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    broken = EntryPoint("theirs", "a_package_that_is_not_there", "milbench.models")
    monkeypatch.setattr(registry, "_installed", lambda: [broken])
    with pytest.raises(UsageError, match="package 'a_package_that_is_not_there' cannot be imported: ModuleNotFound"):
        load_models()


PLUGIN = """
from milbench.models import MILModel, register_model

@register_model("{name}", title="{name}", tasks="single")
class Model(MILModel):
    def forward(self, features): ...
"""


def test_third_parties_follow_by_alphabet_whatever_order_they_are_found_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours = [name for name, model in load_models().items() if model.__module__.startswith("milbench_baselines.")]
    for name in (names := ["zebra", "aardvark"]):
        (tmp_path / f"{name}.py").write_text(PLUGIN.format(name=name))
    monkeypatch.setattr(models, "REGISTERED", dict(REGISTERED))
    found = list(load_models([tmp_path / f"{name}.py" for name in names]))
    others = found[len(ours) :]
    assert found[: len(ours)] == ours
    assert others == sorted(others)
    assert {"zebra", "aardvark"} <= set(others)


def test_selecting_names_imports_no_torch() -> None:
    code = "import sys, milbench.registry as r; r.select('model', ['a*'], ['ab']); print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"


def test_two_models_of_one_name_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    path.write_text(THIS_FILE.read_text())
    load_models([THIS_FILE])
    with pytest.raises(UsageError, match="two models are called 'tiny'"):
        load_models([path])


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("import sys; sys.exit(0)", r"sys\.exit\(0\)"),
        ("import sys; sys.exit(7)", r"sys\.exit\(7\)"),
        ("import os; os._exit(0)", r"os\._exit\(0\)"),
        ("import time; time.sleep(60)", r"not come back after 0\.5 seconds; it stands in line 1 of .*mine\.py"),
        ("raise KeyError('x')", "KeyError: 'x'"),
    ],
)
def test_a_plug_in_that_does_not_come_back_from_its_import_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, said: str
) -> None:
    monkeypatch.setattr(registry, "IMPORT_SECONDS", 0.5)
    path = tmp_path / "mine.py"
    path.write_text(text)
    with pytest.raises(UsageError, match=rf"plug-in .*mine\.py cannot be imported: .*{said}.*Fix the file"):
        load_models([path])


def test_what_a_plug_in_changes_as_it_is_imported_is_put_back_and_said(tmp_path: Path) -> None:
    path = tmp_path / "changes.py"
    path.write_text("import os, torch\ntorch.set_default_dtype(torch.float64)\nos.environ['MILBENCH_TEST'] = 'x'\n")
    load_models([path])
    assert torch.get_default_dtype() == torch.float32
    (remark,) = [text for text in import_remarks() if str(path) in text]
    assert "torch's default dtype (torch.float32 -> torch.float64), environment variables (MILBENCH_TEST" in remark


def test_functions_that_a_plug_in_replaces_by_its_own_are_put_back_and_said(tmp_path: Path) -> None:
    loss, mean, auroc = torch.nn.functional.relu, torch.Tensor.mean, binary.auroc
    path = tmp_path / "patches.py"
    path.write_text(
        "import torch, milbench.metrics.binary\n"
        "torch.nn.functional.relu = lambda *a: 0\n"
        "torch.Tensor.mean = lambda *a: 0\n"
        "milbench.metrics.binary.auroc = lambda *a, **k: 1.0\n"
        "torch.nn.functional.of_mine = lambda *a: 0\n"
    )
    load_models([path])
    assert (torch.nn.functional.relu, torch.Tensor.mean, binary.auroc) == (loss, mean, auroc)
    del torch.nn.functional.of_mine
    (remark,) = [text for text in import_remarks() if str(path) in text]
    for name in ("torch.nn.functional.relu", "torch.Tensor.mean", "milbench.metrics.binary.auroc"):
        assert f"{name} (its own -> the plug-in's)" in remark
    assert "of_mine" not in remark


@pytest.mark.parametrize("name", ["all", "", " "])
def test_no_model_takes_the_word_for_all_models_or_none(name: str) -> None:
    with pytest.raises(UsageError, match=f"no model can be called '{name}'"):
        register_model(name, title="x", tasks="single")


@pytest.mark.slow
def test_what_libraries_change_as_they_are_imported_is_blamed_on_no_plugin() -> None:
    code = (
        "from pathlib import Path; from milbench.registry import import_plugins, import_remarks;"
        f"import_plugins([Path({str(THIS_FILE)!r})]); print(import_remarks())"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout == "[]\n"
