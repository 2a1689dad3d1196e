"""Commands of the pages: each is one that the parser takes, and each block is run here or says why it is not."""

import argparse
import subprocess
import sys
from pathlib import Path

import pytest
from command_blocks import REASONS, Block, blocks_of, commands_of, inline_commands, lines_of
from places import ROOT

from milbench.commands.cli import parser
from milbench.errors import MilbenchError

PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCKS = [block for page in PAGES for block in blocks_of(page)]
RUN = sorted({block.page for block in BLOCKS if block.mark == "run"})
PARSER = parser()
INLINE = [(page.name, call) for page in PAGES for call in inline_commands(page.read_text(encoding="utf-8"))]


def place(block: Block) -> str:
    return block.place


@pytest.mark.parametrize("block", BLOCKS, ids=place)
def test_every_command_of_a_block_is_one_that_milbench_takes(block: Block) -> None:
    for words in block.commands:
        try:
            PARSER.parse_args(words)
        except MilbenchError as error:
            pytest.fail(f"{block.place}: milbench {' '.join(words)}: {error}")


@pytest.mark.parametrize(("page", "call"), INLINE, ids=[f"{page}: {call}" for page, call in INLINE])
def test_every_flag_in_a_sentence_is_one_of_its_command(page: str, call: str) -> None:
    words = call.split()[1:]
    of: argparse.ArgumentParser = PARSER
    while not words[0].startswith("-") and (below := [each for each in of._actions if each.nargs == argparse.PARSER]):
        assert words[0] in below[0].choices, f"{page}: `{call}`: there is no command '{words[0]}'"
        of = below[0].choices[words.pop(0)]
    flags = [word.split("=")[0].rstrip(",.") for word in words if word.startswith("--")]
    assert [flag for flag in flags if flag not in of._option_string_actions] == [], f"{page}: `{call}`"


@pytest.mark.parametrize("block", BLOCKS, ids=place)
def test_every_block_is_run_or_says_why_it_is_not(block: Block) -> None:
    kinds = ["run", "run by TEST", *(f"not run: {reason}" for reason in REASONS)]
    problem = f"{block.place}: put one of these before the block: {', '.join(f'<!-- {kind} -->' for kind in kinds)}"
    assert block.mark, problem
    if block.mark.startswith("not run: "):
        assert block.mark.removeprefix("not run: ") in REASONS, problem
    if block.mark.startswith("run by "):
        test = ROOT / block.mark.removeprefix("run by ")
        assert block.page.stem in test.read_text(encoding="utf-8"), f"{block.place}: {test} does not name this page"


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("page", RUN, ids=lambda page: page.name)
def test_the_blocks_of_a_page_that_are_run_work_one_after_the_other(page: Path, tmp_path: Path) -> None:
    for block in blocks_of(page):
        if block.mark == "run":
            for words in block.commands:
                done = subprocess.run(
                    [sys.executable, "-m", "milbench", *words], cwd=tmp_path, capture_output=True, text=True
                )
                assert done.returncode == 0, f"{block.place}: milbench {' '.join(words)}: {done.stderr[-2000:]}"
    shown = [path for path in tmp_path.rglob("*") if path.suffix in (".html", ".png")]
    assert shown, f"{page.name} promises a figure"


def test_calls_are_found_in_lines_with_comments_joints_and_other_programs() -> None:
    line = "pip install . && exec milbench run --models 'mmoe_*'   # milbench plan\n"
    assert list(commands_of(line)) == [["run", "--models", "mmoe_*"]]
    assert lines_of("milbench run \\\n  --seeds 1\n\nmilbench report\n") == [
        "milbench run    --seeds 1",
        "milbench report",
    ]


def test_blocks_are_found_with_their_marks_and_lines(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "# A\n<!-- run -->\n```bash\nmilbench run\n```\n\n<!-- not run: installs -->\n\n- b:\n  ```\n  milbench report\n  ```\n"
        "```yaml\nmilbench: run\n```\n```bash\nls\n```\n"
    )
    assert [(block.line, block.mark, block.commands) for block in blocks_of(page)] == [
        (3, "run", [["run"]]),
        (10, "", [["report"]]),
    ]


def test_a_flag_that_does_not_exist_and_a_command_that_does_not_exist_are_refused() -> None:
    for words in (["run", "--epochs", "3"], ["train"]):
        with pytest.raises(MilbenchError):
            PARSER.parse_args(words)
