"""The notebook as a page: `docs/notebook.md`, with what its cells printed and drew when it was committed."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

PATH = "docs/notebook.md"


def pages(notebook: Path, pictures: Path) -> dict[str, str]:
    """The page by its path; pictures of cells are written into the folder `pictures`, which lies beside the page."""
    pictures.mkdir(parents=True, exist_ok=True)
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    parts = [part for number, cell in enumerate(cells) for part in _cell(cell, f"cell{number}", pictures)]
    return {PATH: "\n\n".join(parts) + "\n\n[Download this notebook](notebook.ipynb).\n"}


def _cell(cell: Mapping[str, Any], name: str, pictures: Path) -> Iterator[str]:
    source = "".join(cell["source"])
    if cell["cell_type"] == "markdown":
        yield source
        return
    language = "text" if source.startswith("!") else "python"  # a command of the shell is no Python
    yield f"```{language}\n{source}\n```"
    for place, output in enumerate(cell["outputs"]):
        yield _output(output, pictures / f"{name}_{place}.png")


def _output(output: Mapping[str, Any], picture: Path) -> str:
    data = output.get("data", {})
    if "image/png" in data:
        picture.write_bytes(base64.b64decode("".join(data["image/png"])))
        return f"![What the cell above drew]({picture.parent.name}/{picture.name})"
    text = "".join(data.get("text/plain", output.get("text", "")))
    return f"```text\n{text.rstrip()}\n```"
