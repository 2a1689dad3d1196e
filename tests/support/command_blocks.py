"""Command blocks of the pages: what they type, and what stands before them on whether the tests of the docs run them."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

FENCE = re.compile(r"^(?P<indent> *)```(?P<language>\w*)\n(?P<text>.*?)^(?P=indent)```$", re.DOTALL | re.MULTILINE)
MARK = re.compile(r"<!-- (?P<mark>run|run by (?P<test>[\w/.]+)|not run: (?P<reason>[\w ]+)) -->\s*$")
INLINE = re.compile(r"`(milbench [^`]+)`")
CALL = re.compile(r"(?:^|&& )\s*(?:exec )?milbench\b")
"""Of a line that calls milbench, and does not only name it."""

SHELL = ("bash", "")
"""Languages of blocks that are typed into a shell, if they name milbench."""

REASONS = {
    "installs": "installs packages into an environment",
    "takes long": "trains for minutes or hours",
    "needs a network": "fetches files",
    "needs your data": "names files, runs or plug-ins that the reader has",
    "needs TCGA features": "reads gigabytes that the reader has",
    "needs a GPU": "computes on a GPU",
    "needs a cluster": "talks to dask or SLURM",
    "stays": "serves until it is stopped",
}
"""Why a block is not run, and what that means."""

JOINTS = {"&&", "||", "|", ";", ">", ">>"}


class Block(NamedTuple):
    """A block of commands.

    Attributes
    ----------
    line : of its fence, from 1.
    mark : what the comment before it says: "run", "run by TEST", "not run: REASON"; "" if there is none.
    """

    page: Path
    line: int
    mark: str
    text: str

    @property
    def place(self) -> str:
        """Where it stands, as editors open it."""
        return f"{self.page.name}:{self.line}"

    @property
    def commands(self) -> list[list[str]]:
        """Words of each call of milbench, the first word left out."""
        return [command for line in lines_of(self.text) if CALL.search(line) for command in commands_of(line)]


def blocks_of(page: Path) -> Iterator[Block]:
    """Blocks of the page that call milbench, in their order."""
    text = page.read_text(encoding="utf-8")
    for fence in FENCE.finditer(text):
        mark = MARK.search(text[: fence.start()])
        block = Block(page, text.count("\n", 0, fence.start()) + 1, mark["mark"] if mark else "", fence["text"])
        if fence["language"] in SHELL and block.commands:
            yield block


def lines_of(text: str) -> list[str]:
    """Lines of a block, those that end in a backslash joined with the next."""
    return [line for line in text.replace("\\\n", " ").splitlines() if line.strip()]


def commands_of(line: str) -> Iterator[list[str]]:
    """Calls of milbench in one line of a shell: several may be joined."""
    call: list[str] = []
    for word in [*shlex.split(line, comments=True), ";"]:
        if word in JOINTS:
            if call[:1] == ["milbench"]:
                yield call[1:]
            call = []
        elif call or word != "exec":
            call.append(word)


def inline_commands(text: str) -> list[str]:
    """Calls of milbench in the sentences of a page, with at least one flag."""
    return [call for call in INLINE.findall(FENCE.sub("", text)) if " --" in call]
