"""Pages stay readable: short sentences, everyday words, links that lead somewhere."""

from pathlib import Path

import pytest
from places import ROOT
from prose import Length, Phrase, banned, broken, length, links, sentences, sources
from prose_in_code import Passage, banned_in_code, passages

PAGES = sorted(
    [
        ROOT / "README.md",
        ROOT / "CONTRIBUTING.md",
        ROOT / "SECURITY.md",
        *(ROOT / "docs").rglob("*.md"),
        *ROOT.glob("*/README.md"),
        ROOT / "benchmarks" / "RESULTS.md",
    ]
)
LINKED = sorted({*PAGES, *ROOT.glob("*.md")})

MODULES = sorted(path for room in ("milbench", "baselines", "benchmarks") for path in (ROOT / room).rglob("*.py"))

MOST = Length(median=16, ninety=28)

SAMPLE = """# One row a task is a heading

Ends here. milbench starts
a second [line](other.md) with `--a --b` and one row
a trial.

| a table | has no sentence |
|---|---|

- An item without a stop
- Another one, see Rendle et al. 2010:
  ```bash
  one row a task in a code block
  ```
"""


def name(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_sentences_are_short(page: Path) -> None:
    text = page.read_text()
    found = length(text)
    longest = sorted(sentences(text), key=lambda sentence: -sentence.words)[:5]
    listed = "\n".join(f"{name(page)}:{line}: {n} words: {sentence}" for line, sentence, n in longest)
    assert found.median <= MOST.median, f"median of {found.median} words per sentence. Divide some of:\n{listed}"
    assert found.ninety <= MOST.ninety, f"one sentence in ten has over {found.ninety - 1} words. Divide:\n{listed}"


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_words_are_of_today(page: Path) -> None:
    found = [f"{name(page)}:{line}: '{phrase}'; write '{word}'" for line, phrase, word in banned(page.read_text())]
    assert not found, "\n".join(found)


@pytest.mark.parametrize("module", MODULES, ids=name)
def test_messages_docstrings_and_comments_are_in_words_of_today(module: Path) -> None:
    found = banned_in_code(module.read_text())
    assert not found, "\n".join(f"{name(module)}:{line}: '{phrase}'; write '{word}'" for line, phrase, word in found)


@pytest.mark.parametrize("page", LINKED, ids=name)
def test_every_link_leads_to_a_file_and_a_heading_of_it(page: Path) -> None:
    found = [f"{name(page)}: [...]({link}) leads nowhere" for link in broken(page)]
    assert not found, "\n".join(found)


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_every_file_that_a_page_names_is_there(page: Path) -> None:
    assert not [path for path in sources(page.read_text()) if not (ROOT / path).exists()]


def test_a_sentence_is_measured_over_lines_and_without_code_tables_and_links() -> None:
    assert [(sentence.line, sentence.words) for sentence in sentences(SAMPLE)] == [
        (3, 2),
        (3, 12),
        (10, 5),
        (11, 7),
    ]
    assert length(SAMPLE) == Length(median=6, ninety=12)


def test_a_banned_phrase_is_found_over_two_lines_in_a_heading_and_not_in_code() -> None:
    assert banned(SAMPLE) == [Phrase(1, "One row a task", "per"), Phrase(4, "one row a trial", "per")]


@pytest.mark.parametrize(
    ("phrase", "instead"),
    [
        ("bags a second", "per"),
        ("2,048 numbers a patch", "per"),
        ("one small map an expert", "per"),
        ("8,000 new patches a slide", "per"),
        ("once an epoch", "per"),
        ("a column a gene, blank where unknown", "per"),
        ("in folders, one a slide", "per"),
        ("one row a (task, model)", "per"),
        ("for want\nof memory", "because"),
        ("all but for one", "except"),
        ("is thrown away", "delete"),
        ("worst first, with its mend", "fix"),
    ],
)
def test_phrases_that_are_banned(phrase: str, instead: str) -> None:
    assert [found.instead for found in banned(phrase)] == [instead]


@pytest.mark.parametrize(
    "phrase",
    [
        "one worker takes a GPU",
        "one class for a task",
        "a pass trains a model",
        "workers of a machine",
        "it recommends",
    ],
)
def test_phrases_that_only_look_like_them(phrase: str) -> None:
    assert banned(phrase) == []


MODULE = '''"""Rows of a table.

One row a task.
"""

raise ValueError(
    f"{path} holds {n} rows. Keep one row "
    f"a {what}."
)  # not for
# want of memory
WORD = "mended"
'''


def test_the_prose_of_a_module_is_its_docstrings_strings_of_several_words_and_comments() -> None:
    assert passages(MODULE) == [
        Passage(1, "Rows of a table.\n\nOne row a task.\n"),
        Passage(7, "X holds X rows. Keep one row a X."),
        Passage(9, "not for\nwant of memory"),
    ]


def test_a_banned_phrase_in_a_module_is_found_over_a_value_and_over_two_lines() -> None:
    assert banned_in_code(MODULE) == [
        Phrase(3, "One row a task", "per"),
        Phrase(7, "one row a X", "per"),
        Phrase(9, "for want of", "because"),
    ]


def test_files_are_named_in_code_and_in_sentences_and_not_inside_other_paths() -> None:
    page = "See `milbench/bag.py`; `python benchmarks/a_b.py --x`, not `../benchmarks/c.py`, RUN/x.py or tests/NAME.py."
    assert sources(page) == {"milbench/bag.py", "benchmarks/a_b.py"}


def test_a_link_is_broken_without_its_file_or_its_heading(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    (tmp_path / "other.md").write_text("# A title, with `code`\n")
    page.write_text(
        "# Here\n[a](other.md#a-title-with-code) [b](#here) [c](https://example.org/#x) `[d](none.md)`\n"
        "[e](other.md#gone) [f](none.md) [![picture](none.png)](#there)\n"
    )
    assert broken(page) == ["other.md#gone", "none.md", "none.png", "#there"]
    assert len(list(links(page.read_text()))) == 6
