"""`milbench models`: a list that fits a terminal, and a page for each model."""

import sys
from pathlib import Path

import pytest
from commands_for_tests import PLUGIN, Milbench

from milbench import models
from milbench.commands import model_facts
from milbench.commands.model_header import blocks_of, header_of
from milbench.commands.models import HINTS
from milbench.engines.typical_cost import TypicalCost
from milbench.registry import is_baseline, load_models

WIDTH = 80
OWN = {"xamil": "single", "xmoe": "multi"}

FILE = '''
"""Several.

paper    me, "A paper with a name that is so long that no terminal of eighty characters has room for it", 2026
code     me/mine@0123abc
differs  the first difference, which takes more than one line in the file and more than one line on the page,
           as most do
         the second
kinds    as usual
"""
from torch import Tensor, nn
from milbench.models import BagOutput, MILModel, register_model


class Mean(MILModel):
    def __init__(self, in_features: int, n_outputs: int, *, hidden: int = 8) -> None:
        super().__init__(in_features, n_outputs)
        self.head = nn.Linear(in_features, n_outputs)

    def forward(self, features: Tensor) -> BagOutput:
        return BagOutput(self.head(features.mean(0)), None, {})
'''
ONE = """
@register_model("{name}", title="{name}", tasks="{tasks}", paper="Somebody et al., CVPR 2024", order_matters=True)
class Other(Mean): ...
"""


@pytest.fixture
def twenty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A plug-in of two models, beside the twenty of milbench."""
    monkeypatch.setattr(models, "REGISTERED", dict(models.REGISTERED))
    monkeypatch.setenv("COLUMNS", str(WIDTH))
    path = tmp_path / "mine.py"
    path.write_text(
        FILE + "".join(ONE.format(name=name, tasks=tasks).replace("Other", name) for name, tasks in OWN.items())
    )
    return str(path)


def test_the_list_has_a_line_per_model_and_says_how_to_see_more(
    milbench_here: Milbench, twenty: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours = {name: model for name, model in load_models().items() if is_baseline(model)}  # and none of other tests
    monkeypatch.setattr(models, "REGISTERED", ours)
    lines = milbench_here("models", "--plugin", twenty).stdout.splitlines()
    assert max(map(len, lines)) <= WIDTH
    single, multi = (
        next(number for number, line in enumerate(lines) if word in line) for word in ("group single", "group multi")
    )
    names = {line.split()[0]: number for number, line in enumerate(lines) if line[:1].strip()}
    assert single < names["amil"] < names["dtfd_mil"] < multi < names["mmoe_amil"] < names["m4"]
    assert " study " in lines[names["amil"]]
    assert sum("plugins" in line for line in lines[:-2]) == len(OWN)
    assert lines[-2:] == list(HINTS)
    assert len([line for line in lines if line.startswith(" ")]) <= 2, "hardly a model takes two lines"


def test_the_page_of_a_baseline_fits_and_says_what_its_file_and_its_registration_say(
    milbench_here: Milbench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", str(WIDTH))
    shown = milbench_here("models", "dtfd_mil").stdout
    text = " ".join(shown.split())
    assert max(map(len, shown.splitlines())) <= WIDTH
    for part in (
        "dtfd_mil: DTFD-MIL, one model per task",
        "groups study, single",
        'paper Zhang et al., "DTFD-MIL: double-tier feature distillation MIL", CVPR 2022',
        "official code hrzhang1123/DTFD-MIL@10964f4",
        "kinds of tasks binary, multiclass, ordinal, regression, survival",
        "order of patches changes the output",
        "coordinates not needed",
        "official recipe optimizer adam, lr 0.0001",
        "- distilled rows are detached and the tiers' losses summed; the gradients are those of the official two optimisers, which",
        "- evaluation's grouping is fixed by N",
        "│ model.pseudo_bags │ 4 │ one of 2, 4, 8 │",
        "parameters 789,254",
        "multiply-adds of a forward 5.3 billion",
        "memory of a training step 1",
    ):
        assert part in text, part
    assert "What it can learn" in text


def test_the_work_of_a_small_model_is_in_millions(milbench_here: Milbench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("milbench.engines.typical_cost.typical_cost", lambda *_: TypicalCost(1, 16_400_000, 10**9))
    shown = milbench_here("models", "mean_pooling").stdout
    assert "multiply-adds of a forward 16.4 million" in " ".join(shown.split())


def test_groups_and_patterns_give_several_pages(milbench_here: Milbench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("milbench.engines.typical_cost.typical_cost", lambda *_: TypicalCost(1, None, 10**9))
    shown = milbench_here("models", "mmoe_*,amil", "max_pooling").stdout
    titles = [line.split(":")[0] for line in shown.splitlines() if "one model " in line]
    assert titles == ["max_pooling", "amil", "mmoe_amil", "mmoe_mp_amil"]
    assert "not counted" in shown
    assert [line for line in shown.splitlines() if "paper" in line and "none" in line] == []
    everything = milbench_here("models", "study").stdout
    assert sum("one model " in line for line in everything.splitlines()) == 9


def test_a_plug_ins_page_shows_its_header_and_one_without_a_header_shows_none(
    milbench_here: Milbench, twenty: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("milbench.engines.typical_cost.typical_cost", lambda *_: None)
    monkeypatch.setenv("COLUMNS", str(WIDTH))
    mine = milbench_here("models", "xamil", "--plugin", twenty).stdout
    assert max(map(len, mine.splitlines())) <= WIDTH
    assert (
        "- the first difference, which takes more than one line in the file and more than one line on the page, as most do"
        in (" ".join(mine.split()))
    )
    assert "official code     me/mine@0123abc" in mine
    assert "groups            single, plugins" in mine
    assert "not counted" in mine
    theirs = milbench_here("models", "explodes", "--plugin", PLUGIN).stdout
    assert "What differs" not in theirs
    assert "kinds of tasks    binary\n" in "\n".join(line.rstrip() for line in f"{theirs}\n".splitlines()) + "\n"


def test_what_check_showed_is_on_the_page_of_a_shipped_model_alone(milbench_here: Milbench, twenty: str) -> None:
    shown = " ".join(milbench_here("models", "max_pooling", "xamil", "--plugin", twenty).stdout.split())
    first, second = shown.split("xamil: xamil")
    assert "│ Presence │ pass │ It finds what makes a slide" in first
    assert "What it can learn" not in second


def test_entries_go_on_where_a_line_is_indented_further() -> None:
    docstring = "AMIL.\n\npaper    A, B\n         2018\ndiffers  one\n           more of it\n         two\n\n         no part\nmap of all.\nmap      x"
    assert blocks_of(docstring) == {"paper": ["A, B", "2018"], "differs": ["one more of it", "two"], "map": ["x"]}
    assert blocks_of("") == {}
    assert model_facts.groups_by_name({"a": ["x", "y"], "b": ["y"]}) == {"x": ["a"], "y": ["a", "b"]}


CONJUNCTIONS = ("and ", "or ", "but ", "which ", "because ", "so ", "than ", "of the ")


@pytest.mark.parametrize("name", [name for name, model in load_models().items() if is_baseline(model)])
def test_the_header_of_every_baseline_says_what_differs_one_entry_per_line(name: str) -> None:
    """A line that was full, or an entry that begins in the middle of a sentence, most likely lacks its indent."""
    model = load_models()[name]
    header = header_of(model)
    assert {"paper", "code", "differs", "map"} <= set(header)
    assert [entry for entry in header["differs"] if entry.startswith(CONJUNCTIONS)] == []
    lines = (sys.modules[model.__module__].__doc__ or "").splitlines()
    first = next(number for number, line in enumerate(lines) if line.startswith("differs"))
    for line, after in zip(lines[first:], lines[first + 1 :], strict=False):
        if not after.startswith("         "):
            break
        is_full = len(line) + 1 + len(after.split()[0]) > 120
        assert not is_full or after.startswith("          "), f"indent further if it goes on, else shorten: {line}"
