"""Every measured number of the pages comes from a file that a command made."""

import json
import re
from pathlib import Path

import pytest
import yaml
from page_numbers import (
    EVERYWHERE,
    MARK,
    REGIONS,
    Block,
    Entry,
    Number,
    blocks,
    constant,
    left_over,
    marks,
    numbers,
    part_of,
    register,
    repeats,
    spans_of,
    without_source,
)
from places import ROOT
from prose import CODE, COMMENT, FENCE
from prose_in_code import passages

PAGES = {
    path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8")
    for path in sorted(
        [*(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md")), *(ROOT / "docs").glob("*.md"),
         *ROOT.glob("*/README.md")]
    )
}  # fmt: skip
REGISTER = register()
CONSTANTS = [entry for entry in REGISTER if entry.constant]
HOW = (
    "Write <!-- from FILE: PART --> behind the sentence or above the table, where FILE is what a benchmark wrote, or take the "
    "number out. If it is no measurement, say in docs/numbers.yaml why. CONTRIBUTING.md tells more."
)


def found_in(page: str, entries: list[Entry] | None = None, name: str = "docs/page.md", root: Path = ROOT) -> list[str]:
    return list(without_source(page, name, entries or [], root))


# ---- the pages -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", PAGES)
def test_every_measured_number_has_a_source(name: str) -> None:
    found = found_in(PAGES[name], REGISTER, name)
    assert not found, "\n".join([*found, HOW])


def test_the_words_of_made_pages_and_of_the_notebook_state_no_measured_number() -> None:
    """Their numbers are those of the code and of its output; a mark in their words would be shown."""
    site = ROOT / "docs" / "site"
    texts = [(path, passage.text) for path in sorted(site.glob("*.py")) for passage in passages(path.read_text())]
    texts.append((site / "doors.yaml", (site / "doors.yaml").read_text()))
    notebook = ROOT / "docs" / "notebook.ipynb"
    cells = [cell for cell in json.loads(notebook.read_text())["cells"] if cell["cell_type"] == "markdown"]
    texts += [(notebook, "".join(cell["source"])) for cell in cells]
    found = [f"{path.name}: {message}" for path, text in texts for message in found_in(text, REGISTER)]
    assert not found, "\n".join(found)


@pytest.mark.parametrize("name", PAGES)
def test_every_mark_names_something_that_is_there(name: str) -> None:
    comments = COMMENT.findall(CODE.sub("", FENCE.sub("", PAGES[name])))
    meant = [comment for comment in comments if re.match(r"<!--\s*(from|held)\b", comment)]
    assert [comment for comment in meant if not MARK.fullmatch(comment)] == []
    empty = [str(source) for comment in meant for source in marks(comment) if not part_of(source).strip()]
    assert not empty, f"{name}: nothing is there: {', '.join(empty)}"


@pytest.mark.parametrize("name", PAGES)
def test_a_script_that_writes_into_a_page_is_held_by_a_test(name: str) -> None:
    scripts = {Path(match["name"]).stem for pattern in REGIONS for match in pattern.finditer(PAGES[name])}
    tox = (ROOT / "tox.ini").read_text()
    held = {stem for stem in scripts if f"benchmarks/{stem}.py {{posargs}}" in tox}
    for stem in scripts - held:
        assert "PLACE.on(" in (ROOT / "tests" / "benchmarks" / f"test_{stem}.py").read_text()


# ---- the register ----------------------------------------------------------------------------------


def test_every_entry_stands_on_its_page() -> None:
    stale = [
        f"{entry.page}: {entry.words}"
        for entry in REGISTER
        if not any(any(spans_of(entry.words, text)) for name, text in PAGES.items() if entry.page in (name, EVERYWHERE))
    ]
    assert not stale, "docs/numbers.yaml has words that are gone. Delete:\n" + "\n".join(stale)


@pytest.mark.parametrize("entry", CONSTANTS, ids=lambda entry: entry.constant)
def test_a_default_or_limit_is_that_of_the_code(entry: Entry) -> None:
    value = constant(entry.constant)
    assert repeats(entry.words, value), f"{entry.page} says '{entry.words}', {entry.constant} is {value}"


def test_the_register_is_read_as_page_reason_and_words(tmp_path: Path) -> None:
    path = tmp_path / "numbers.yaml"
    path.write_text(yaml.safe_dump({"docs/a.md": {"an example": ["1.5 s"], "a.b:C.d": ["2 s", "3 s"]}}))
    found = {entry.words: entry.constant for entry in register(path)}
    assert found == {"1.5 s": "", "2 s": "a.b:C.d", "3 s": "a.b:C.d"}


@pytest.mark.parametrize(
    ("words", "value", "expected"),
    [
        ("within 2 %", 0.02, True), ("within 3 %", 0.02, False), ("after 17 minutes", 1020.0, True), ("1.8e19", 1.8e19, True),
        ("above 0.27 GB", 2**28, True), ("above 0.28 GB", 2**28, False), ("256 MiB", 2**28, True), ("over ten minutes", 600.0, True), ("| `lr` | 4 |", 4, True),
    ],
)  # fmt: skip
def test_a_constant_is_repeated_in_its_unit_and_rounded(words: str, value: float, *, expected: bool) -> None:
    assert repeats(words, value) is expected


# ---- which numbers count ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("It took 12 s, 3 minutes and 1,024 MB.", ["12", "3", "1,024"]),
        ("AUROC rose from 0.81 to 0.9.", ["0.81", "0.9"]),
        ("It is 2 to 3 times as fast, or 40 % slower.", ["2", "3", "40"]),
        (
            "Twice as fast; four times as long; five minutes; half as many; two slides.",
            ["Twice", "four", "five", "half"],
        ),
        ("Better in 18 of 20 seeds, 237 of the 3,655 slides.", ["18", "20", "237", "3,655"]),
        ("It differs by 1e-9, or -0.5.", ["1e-9", "0.5"]),
        ("11 tiles per second, 44 operations", ["11", "44"]),
        ("1.5x, 3x faster, 4× as fast, 6-fold more, 2 to 5 GB", ["1.5", "3", "4", "6", "2", "5"]),
        ("five genes, 3 folds, 16 bags per step, bags of 2,000 × 1,024", []),
        ("timm 1.0.31, M4, SHA-256 of 50 files, level-0, float32, v0.2.1, commit 070e44d, 3s, eq. 9, 20x", []),
        ("`0.5 s` in code, a [link](of_0.5.md) and <!-- 0.5 s -->", []),
        ("| model | s |\n|---|---|\n| AMIL | 12 |\n| 3 | **4** / 5.5 |\n| 7 | 8 epochs |", ["12", "4", "5.5"]),
        ("```\n0.5 s\n```\n", []),
    ],
)
def test_what_counts_as_measured(text: str, shown: list[str]) -> None:
    assert [number.shown for block in blocks(text) for number in numbers(block)] == shown


# ---- which sources count ---------------------------------------------------------------------------

RESULTS = """# Results
<!-- begin a.py -->
`python benchmarks/a.py --patches 777`\\
2026-01-01 10:00 UTC; 2 cores, load 666.5.

| model | s | share |
|---|---|---|
| amil | 12.34 | 0.0625 |
| m4 | 99.9 | 0.5 |
<!-- end a.py -->
<!-- begin b.py -->
| m4 | 0.444 |
<!-- end b.py -->
"""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "R.md").write_text(RESULTS)
    (tmp_path / "test_page.py").write_text('PAGE = "page.md"')
    return tmp_path


@pytest.mark.parametrize(
    ("page", "is_fine"),
    [
        ("It takes 12.3 s. <!-- from R.md: a.py -->", True),
        ("It takes 12 s. <!-- from R.md -->", True),
        ("It takes 12.4 s. <!-- from R.md: a.py -->", False),
        ("It takes 12.3 s. <!-- from R.md: b.py -->", False),
        ("It takes 12.3 s. <!-- from R.md: a.py: m4 -->", False),
        ("It takes 12.3 s. <!-- from R.md: a.py: amil -->", True),
        ("It takes 12.3 s. <!-- from NONE.md -->", False),
        ("It takes 777 s. <!-- from R.md: a.py -->", False),
        ("It takes 666.5 s. <!-- from R.md: a.py -->", False),
        ("It takes 6.2 %. <!-- from R.md: a.py in percent -->", True),
        ("It takes 6.2 %. <!-- from R.md: a.py -->", False),
        ("It takes 12.3 s, and -0.44 more. <!-- from R.md: a.py --> <!-- from R.md: b.py -->", True),
        ("It takes 12.3 s.\n\nAnother 12.3 s. <!-- from R.md: a.py -->", False),
        ("<!-- from R.md: a.py -->\n- It takes 12.3 s.\n- It takes 99.9 s.", True),
        ("<!-- from R.md: a.py -->\n- It takes 12.3 s.\n\nIt takes 99.9 s.", False),
        ("<!-- from R.md: a.py -->\n| m | s | x |\n|---|---|---|\n| AMIL | 12.3 | 0.06 |", True),
        ("<!-- from R.md: a.py -->\n| m | s | x |\n|---|---|---|\n| AMIL | 12.3 | 0.5 |", False),
        ("It takes 1.5 s. <!-- held by test_page.py -->", True),
        ("It takes 1.5 s. <!-- held by R.md -->", False),
        ("| m | s | source |\n|---|---|---|\n| a | 1.5 | run |", True),
        ("| m | s | source |\n|---|---|---|\n| a | 1.5 | |", False),
        ("<!-- begin benchmarks/a.py -->\n| 1 | 1.5 |\n<!-- end benchmarks/a.py -->", True),
        ("<!-- begin benchmarks/a.py -->\n| 1 | 1.5 |\n<!-- end benchmarks/b.py -->", False),
    ],
)
def test_which_sources_count(page: str, root: Path, *, is_fine: bool) -> None:
    assert (found_in(page, root=root) == []) is is_fine


def test_an_entry_excuses_its_words_on_its_page_alone() -> None:
    page = "At most 5 s, or\n5 s more."
    assert found_in(page, [Entry("docs/page.md", "most 5 s", "a limit")]) == [
        'docs/page.md:2: 5 has no source: "At most 5 s, or 5 s more."'
    ]
    assert len(found_in(page, [Entry("docs/other.md", "most 5 s", "a limit")])) == 2
    assert len(found_in(page, [Entry(EVERYWHERE, "5 s", "a limit")])) == 0


# ---- what would be caught --------------------------------------------------------------------------


NEW = ("It takes 4.37 s.", "It is 7.3 times as fast.", "The AUROC is 0.8137.", "It needs 913 MB.", "| AMIL | 4711 |")


@pytest.mark.parametrize("name", PAGES)
def test_a_new_number_is_caught_with_its_line(name: str) -> None:
    for number, sentence in enumerate(NEW, 1):
        page = (
            f"{PAGES[name]}\n| model | s |\n|---|---|\n{sentence}\n"
            if "|" in sentence
            else f"{PAGES[name]}\n{sentence}\n"
        )
        last = f"{name}:{len(page.splitlines())}: "
        assert [message for message in found_in(page, REGISTER, name) if message.startswith(last)], (number, sentence)


def altered(block: Block, number: Number) -> Block:
    """The block with another first digit of the number."""
    other = re.sub(r"[1-9]", lambda digit: str(int(digit[0]) % 9 + 1), number.shown, count=1)
    return block._replace(text=block.text[: number.start] + other + block.text[number.start + len(number.shown) :])


def test_most_numbers_that_drift_from_their_file_are_caught() -> None:
    caught = []
    for name, page in PAGES.items():
        for block in blocks(page):
            wanted = numbers(block) if block.marks and not any(source.held for source in block.marks) else []
            drifted = [altered(block, number) for number in wanted if re.search("[1-9]", number.shown)]
            caught += [bool(left_over(each, (), name)) for each in drifted]
    assert len(caught) > 200
    assert sum(caught) / len(caught) > 0.9
