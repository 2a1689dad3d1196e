"""The committed notebook is made of the committed cells, and its check sees what no longer holds."""

from base64 import b64encode
from copy import deepcopy
from io import BytesIO

import matplotlib.image
import notebook
import numpy as np
import pytest
from notebook_cells import CELLS
from prose import banned, length, links

BOOK = notebook.committed()


def picture(shade: float, side: int = 8) -> str:
    file = BytesIO()
    matplotlib.image.imsave(file, np.full((side, side, 3), shade), format="png")
    return b64encode(file.getvalue()).decode()


def changed(number: int, before: str, after: str) -> notebook.Json:
    """The committed notebook with another word in the text of a code cell's output."""
    book = deepcopy(BOOK)
    data = notebook.code_cells(book)[number - 1]["outputs"][0]["data"]
    text = "".join(data["text/plain"])
    assert before in text
    data["text/plain"] = text.replace(before, after)
    return book


def test_the_cells_are_those_of_the_script() -> None:
    assert notebook.sources(BOOK) == list(CELLS)


def test_every_cell_was_executed_in_order_and_left_nothing_of_the_machine() -> None:
    cells = notebook.code_cells(BOOK)
    assert [cell["execution_count"] for cell in cells] == list(range(1, len(cells) + 1))
    assert list(notebook.unfit(BOOK)) == []
    assert notebook.as_text(BOOK) == notebook.NOTEBOOK.read_text(encoding="utf-8")


def test_the_text_of_its_cells_is_as_readable_as_a_page() -> None:
    text = "\n\n".join(source for kind, source in CELLS if kind == "markdown")
    assert banned(text) == []
    assert length(text).ninety <= 28


def test_its_links_lead_to_pages() -> None:
    found = [link for kind, source in CELLS if kind == "markdown" for link in links(source)]
    assert found
    assert [link for link in found if not (notebook.NOTEBOOK.parent / link).is_file()] == []


def test_a_notebook_that_gives_the_same_holds() -> None:
    assert list(notebook.differences(BOOK, deepcopy(BOOK), 0.0)) == []


@pytest.mark.parametrize(
    ("before", "after", "tolerance", "message"),
    [
        ("740 slides", "741 slides", 1.0, "says\nCohort(digits: 741 slides"),
        ("Cohort(", "Table(", 1.0, "says\nTable(digits"),
    ],
)
def test_another_word_or_whole_number_is_found(before: str, after: str, tolerance: float, message: str) -> None:
    (found,) = notebook.differences(BOOK, changed(1, before, after), tolerance)
    assert found.startswith(f"code cell 1: {message}")


def test_a_number_may_move_as_far_as_the_processor_allows() -> None:
    assert notebook.other_text("auroc  0.812\n", "auroc -0.100\n", 0.25).startswith("a number moved by 0.912")
    assert notebook.other_text("auroc  0.812\n", "auroc 0.9\n", 0.25) == ""
    assert notebook.other_text("p 1.0e-03", "p 0.001", 0.0) == ""


def test_a_cell_that_gives_nothing_any_more_is_found() -> None:
    book = deepcopy(BOOK)
    notebook.code_cells(book)[0]["outputs"] = []
    assert list(notebook.differences(BOOK, book, 1.0)) == ["code cell 1: gives [], committed ['text/plain']"]


def test_another_cell_is_found() -> None:
    book = deepcopy(BOOK)
    book["cells"][0]["source"] = "# Another title"
    (found,) = notebook.differences(BOOK, book, 1.0)
    assert "notebook_cells.py" in found


def test_pictures_are_compared_by_what_they_show() -> None:
    assert notebook.other_picture(picture(0.5), picture(0.505)) == ""
    assert "differ by 0." in notebook.other_picture(picture(0.2), picture(0.8))
    assert "16 x 16 pixels, committed 8 x 8" in notebook.other_picture(picture(0.5), picture(0.5, side=16))


def test_what_no_notebook_may_hold_is_found() -> None:
    book = deepcopy(BOOK)
    cell = notebook.code_cells(book)[0]
    cell["outputs"] = [
        {"output_type": "stream", "name": "stderr", "text": ["UserWarning: old\n"]},
        {"output_type": "display_data", "data": {"image/png": b64encode(bytes(70_000)).decode()}},
        {"output_type": "stream", "name": "stdout", "text": ["wrote /tmp/abc/run\n"]},
    ]
    assert list(notebook.unfit(book)) == [
        "code cell 1: UserWarning: old\n",
        "code cell 1: a picture of 70000 bytes; at most 60000",
        "names the folder /tmp/abc/run\\n",
    ]
