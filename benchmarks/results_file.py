"""Where benchmarks keep what they measured: `RESULTS.md`, one section a script, replaced when it is measured again.

A section names the machine, the date and the command, since a number without them says nothing.
"""

from __future__ import annotations

import argparse
import os
import platform
import shlex
import sys
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path

import psutil
import torch

RESULTS = Path(__file__).with_name("RESULTS.md")
CPU_INFO = Path("/proc/cpuinfo")

TITLE = """# Results

The scripts of this folder write this page with `--save`. Each section is one run. Compare the ratios, because seconds depend
on the machine. Machines with other guests are noisy.
"""


def add_save_flag(parser: argparse.ArgumentParser) -> None:
    """`--save [FILE]`."""
    parser.add_argument(
        "--save", nargs="?", const=RESULTS, type=Path, metavar="FILE", help="keep the tables (default: RESULTS.md here)"
    )


def publish(options: argparse.Namespace, body: str, *, threads: int | None = None) -> None:
    """Print what a script measured, and put it into its section if `--save` was given."""
    script = Path(sys.argv[0]).name
    section = f"## {script}\n\n{circumstances(threads)}\n\n{body.strip()}\n"
    print(section)
    if options.save:
        before = options.save.read_text() if options.save.exists() else TITLE
        options.save.write_text(with_section(before, script, section))


def with_section(text: str, name: str, section: str) -> str:
    """`text` with the section between the markers of `name` replaced, or appended where there is none."""
    begin, end = f"<!-- begin {name} -->", f"<!-- end {name} -->"
    block = f"{begin}\n{section.strip()}\n{end}\n"
    head, found, rest = text.partition(begin)
    if not found:
        return f"{text.rstrip()}\n\n{block}"
    _, closed, tail = rest.partition(f"{end}\n")
    if not closed:
        raise SystemExit(f"the section of {name} has no line '{end}'. Put it back where the section ends.")
    return head + block + tail


def circumstances(threads: int | None = None) -> str:
    """Machine, date and command, as a Markdown paragraph; `threads` of torch, where one number holds for all rows."""
    told = [
        "PATH" if word.startswith("/") else word for word in sys.argv[1:]
    ]  # where a checkout lies says nothing to others
    command = shlex.join(["python", f"benchmarks/{Path(sys.argv[0]).name}", *told])
    at_once = [f"{threads} thread{'s' if threads > 1 else ''}"] if threads else []
    parts = [*machine(), *at_once, f"load {os.getloadavg()[1]:.1f} over the last five minutes"]
    return f"`{command}`\\\n{datetime.now(UTC):%Y-%m-%d %H:%M} UTC; {', '.join(parts)}."


def machine() -> list[str]:
    """Processor, cores, memory, torch, and the GPU where there is one."""
    memory = f"{psutil.virtual_memory().total / 2**30:.0f} GiB"
    facts = [cpu_name(), f"{os.cpu_count()} cores", memory, f"torch {torch.__version__}"]
    return [*facts, torch.cuda.get_device_name()] if torch.cuda.is_available() else facts


def cpu_name() -> str:
    lines = CPU_INFO.read_text().splitlines() if CPU_INFO.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table, the first column left-aligned and the others right."""
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
