"""The committed notebook: made anew, or executed and compared with what is committed.

    python benchmarks/notebook.py            # fails if docs/notebook.ipynb no longer holds
    python benchmarks/notebook.py --write    # makes docs/notebook.ipynb anew

`tox -e notebook` is the check. The cells stand in `notebook_cells.py`. A new kernel executes them in an empty folder.

Same processor, same numbers. On another processor a single prediction may move far more than a mean does (docs/digits.md).
So `results/notebook.csv` names the processor that made the notebook; elsewhere numbers are held to `TOLERANCE`.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
import tempfile
from base64 import b64decode
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import matplotlib.image
import numpy as np
import pandas as pd
from example import processor
from notebook_cells import CELLS

ROOT = Path(__file__).parents[1]
NOTEBOOK = ROOT / "docs" / "notebook.ipynb"
MACHINE = ROOT / "benchmarks" / "results" / "notebook.csv"

ROUNDING, TOLERANCE = 2e-3, 0.25
"""How far a number may lie from the committed one on the processor that made the notebook, and on any other."""

MOST_OF_A_PICTURE = 0.02
"""How far a picture's pixels (0 to 1) may lie from the committed ones, on average: fonts are drawn otherwise elsewhere."""

LARGEST_PICTURE = 60_000
"""Bytes of a picture: a notebook is read in a browser and kept in git."""

CELL_SECONDS = 300
NUMBER = re.compile(r"-?\d+\.\d+(?:e[+-]\d+)?")
PLACE = re.compile(r"(?<![\w.])/(?:tmp|home|root|Users|var|mnt|opt)/[^\s\"']*")
WIDGET = "application/vnd.jupyter.widget-view+json"

Json = dict[str, Any]


def executed() -> Json:
    """The notebook with what its cells give now, in a new kernel."""
    import nbformat
    from nbclient import NotebookClient

    make = {"markdown": nbformat.v4.new_markdown_cell, "code": nbformat.v4.new_code_cell}
    cells = [make[kind](source, id=f"cell-{n:02d}") for n, (kind, source) in enumerate(CELLS, start=1)]
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    book = nbformat.v4.new_notebook(cells=cells, metadata={"kernelspec": kernel})
    # so that `!milbench` is the command of this interpreter
    os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    with tempfile.TemporaryDirectory() as folder:
        place = {"metadata": {"path": folder}}
        NotebookClient(
            book, timeout=CELL_SECONDS, kernel_name="python3", resources=place, record_timing=False
        ).execute()
    book.metadata = {"kernelspec": kernel, "language_info": {"name": "python"}}  # a kernel adds its version
    for cell in code_cells(book):
        cell.outputs = [output for output in cell.outputs if not is_bar(output)]
    nbformat.validate(book)
    found: Json = json.loads(nbformat.writes(book))
    return found


def committed() -> Json:
    """The notebook as it is committed."""
    found: Json = json.loads(NOTEBOOK.read_text(encoding="utf-8"))
    return found


def as_text(book: Json) -> str:
    """The file's content, as Jupyter writes it."""
    return json.dumps(book, indent=1, ensure_ascii=False, sort_keys=True) + "\n"


def code_cells(book: Json) -> list[Any]:
    """The cells that are executed."""
    return [cell for cell in book["cells"] if cell["cell_type"] == "code"]


def is_bar(output: Json) -> bool:
    """Whether it is a progress bar, which lives in the browser alone, or the empty line that a bar leaves behind."""
    data = output.get("data", {})
    return WIDGET in data or (set(data) == {"text/html", "text/plain"} and not data["text/plain"].strip())


# ---- checking ------------------------------------------------------------------------------------


def differences(before: Json, now: Json, tolerance: float) -> Iterator[str]:
    """What no longer holds, cell by cell."""
    if sources(before) != sources(now):
        yield "the cells are not those of benchmarks/notebook_cells.py"
        return
    for number, cells in enumerate(zip(code_cells(before), code_cells(now), strict=True), start=1):
        old, new = map(outputs_of, cells)
        if [kind for kind, _ in old] != [kind for kind, _ in new]:
            yield f"code cell {number}: gives {[kind for kind, _ in new]}, committed {[kind for kind, _ in old]}"
            continue
        for (kind, said), (_, says) in zip(old, new, strict=True):
            problem = other_picture(said, says) if kind == "image/png" else other_text(said, says, tolerance)
            if problem:
                yield f"code cell {number}: {problem}"


def sources(book: Json) -> list[tuple[str, str]]:
    """Kind and source of each cell."""
    return [(cell["cell_type"], "".join(cell["source"])) for cell in book["cells"]]


def outputs_of(cell: Json) -> list[tuple[str, str]]:
    """Kind and content of each output: a picture, or text (a table's HTML says the same as its text)."""
    found = []
    for output in cell["outputs"]:
        data = output.get("data", {})
        kind = "image/png" if "image/png" in data else "text/plain"
        found.append((kind, "".join(data.get(kind, output.get("text", output.get("evalue", ""))))))
    return found


def other_text(said: str, says: str, tolerance: float) -> str:
    """How the texts differ; "" if they are the same except for numbers within `tolerance`."""
    words = [re.sub(r"[\s-]+", " ", NUMBER.sub("#", text)) for text in (said, says)]  # columns are as wide as numbers
    if words[0] != words[1]:
        return f"says\n{says}\ncommitted:\n{said}"
    old, new = (np.array([float(number) for number in NUMBER.findall(text)]) for text in (said, says))
    apart = float(np.abs(old - new).max(initial=0.0))
    return "" if apart <= tolerance else f"a number moved by {apart:.3g}:\n{says}\ncommitted:\n{said}"


def other_picture(said: str, says: str) -> str:
    """How the pictures differ; "" if they look the same."""
    old, new = (matplotlib.image.imread(BytesIO(b64decode(text)), format="png") for text in (said, says))
    if old.shape != new.shape:
        return f"a picture of {new.shape[1]} x {new.shape[0]} pixels, committed {old.shape[1]} x {old.shape[0]}"
    apart = float(np.abs(old - new).mean())
    return "" if apart <= MOST_OF_A_PICTURE else f"a picture's pixels differ by {apart:.3f} on average"


def unfit(book: Json) -> Iterator[str]:
    """What no notebook of ours may hold: errors, warnings, large pictures, and names of a machine's folders."""
    for number, cell in enumerate(code_cells(book), start=1):
        for output in cell["outputs"]:
            if output["output_type"] == "error" or output.get("name") == "stderr":
                yield f"code cell {number}: {''.join(output.get('text', output.get('evalue', '')))}"
        for kind, content in outputs_of(cell):
            if kind == "image/png" and (size := len(b64decode(content))) > LARGEST_PICTURE:
                yield f"code cell {number}: a picture of {size} bytes; at most {LARGEST_PICTURE}"
    if place := PLACE.search(json.dumps(book)):
        yield f"names the folder {place[0]}"


def main() -> None:
    """Check, or make anew."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="make the notebook anew")
    options = parser.parse_args()
    book = executed()
    wrong = list(unfit(book))
    if options.write and not wrong:
        NOTEBOOK.write_text(as_text(book), encoding="utf-8")
        pd.DataFrame({"machine": [processor()]}).to_csv(MACHINE, index=False, lineterminator="\n")
        return
    made_here = processor() in set(pd.read_csv(MACHINE)["machine"])
    wrong += differences(committed(), book, ROUNDING if made_here else TOLERANCE)
    print("\n".join(wrong) or f"{len(code_cells(book))} cells give what is committed")
    if wrong:
        raise SystemExit("the notebook no longer holds: python benchmarks/notebook.py --write makes it anew")


if __name__ == "__main__":
    main()
