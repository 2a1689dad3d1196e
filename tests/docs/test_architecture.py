"""The page on architecture says what the linter holds and what lies in the folders."""

import re
import tomllib

import pytest
from places import ROOT

PAGE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
DRAWING = (ROOT / "docs" / "images" / "rooms.svg").read_text(encoding="utf-8")
CONTRACTS = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
LAYERS = [name.strip() for line in CONTRACTS[0]["layers"] for name in line.split("|")]
DOOR = [
    "registry",
    "models",
    "model_info",
    "layout",
    "bag",
    "names",
    "special_files",
    "search_space",
    "patch_size",
    "kernels",
    "errors",
    "visible",
]
ROOMS = [name for name in LAYERS if name not in (*DOOR, "__main__")]


def test_the_contract_names_every_room_and_the_door_and_nothing_else() -> None:
    package = ROOT / "milbench"
    folders = {path.parent.name for path in package.glob("*/__init__.py")}
    files = {path.stem for path in package.glob("*.py")} - {"__init__"}
    assert set(ROOMS) == folders
    assert files == {*DOOR, "__main__"}


def test_the_page_lists_the_rooms_in_the_order_of_the_contract() -> None:
    assert re.findall(r"^\| `(\w+)/` \|", PAGE, re.MULTILINE) == ROOMS


def test_the_drawing_shows_the_rooms_in_the_order_of_the_contract() -> None:
    assert re.findall(r">(\w+)/</text>", DRAWING) == ROOMS


def test_the_file_to_open_first_exists_in_every_room() -> None:
    first = re.findall(r"^\| `(\w+)/` \|.*\| `(\w+\.py)` \|$", PAGE, re.MULTILINE)
    assert [room for room, _ in first] == ROOMS
    assert [f"{room}/{file}" for room, file in first if not (ROOT / "milbench" / room / file).is_file()] == []


@pytest.mark.parametrize("page", ["docs/architecture.md", "CONTRIBUTING.md"])
def test_every_file_that_a_page_names_exists(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    named = [name for name in re.findall(r"`([\w./]+/[\w./]*)`", text) if "NAME" not in name]
    places = (ROOT, ROOT / "milbench")
    assert named
    assert [name for name in named if not any((place / name).exists() for place in places)] == []


@pytest.mark.parametrize("room", ROOMS)
def test_every_room_says_what_comes_in_what_goes_out_and_what_to_open_first(room: str) -> None:
    text = (ROOT / "milbench" / room / "__init__.py").read_text(encoding="utf-8").split('"""')[1]
    assert "In:" in text
    assert "Out:" in text
    assert "Open `" in text or "open it first" in text
