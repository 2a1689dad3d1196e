"""Two formats of one drawing, against those that matplotlib draws one by one."""

import io
import re
from pathlib import Path

import matplotlib
import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.font_manager import FontManager, fontManager
from PIL import Image

from milbench.report import two_formats
from milbench.report.figures import blank_figure, plain_names, save
from milbench.report.two_formats import NO_DATE, draw_both

NUMBER = re.compile(rb"-?\d*\.?\d+")
DRAWS = re.compile(rb"^(?:.* (?:m|l|c|v|cm|Do|TJ|Tj)|h|f|B|S)$", re.MULTILINE)
"""Lines of a page that go somewhere or draw; colours and clips may be set once or twice."""


def drawn(*, has_image: bool = False) -> Figure:
    """Lines, markers, bands, names and a legend, inside the clips of a square and of a circle."""
    figure = blank_figure((6.0, 3.0))
    axes = figure.add_axes((0.1, 0.2, 0.3, 0.7))
    axes.plot([0, 1, 3], [0, 2, 1], "--o", label="one")
    axes.fill_between([0, 1, 3], [0, 1, 1], [1, 2, 3], alpha=0.2)
    axes.scatter([0.5, 1.5, 2.5, 2.7], [1, 1, 1, 2], s=9, label="dots")
    axes.set(xlim=(0, 2), title="A title\nof two lines")
    round_axes = figure.add_axes((0.5, 0.2, 0.3, 0.7), projection="polar")
    round_axes.plot([0, 1, 2, 3], [1, 2, 1, 2])
    round_axes.set_ylim(0, 1.5)
    if has_image:
        axes.imshow(np.arange(12).reshape(3, 4), aspect="auto")
    figure.text(0.45, 0.05, "turned", rotation=30)
    figure.legend(loc="right")
    return figure


def by_matplotlib(figure: Figure, path: Path) -> np.ndarray:
    """Pixels, and the PDF in `path`."""
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=160)
    figure.savefig(path, metadata=NO_DATE)
    return np.asarray(Image.open(file))


def page(path: Path) -> bytes:
    """What draws on the page of a PDF without compression."""
    content = max(re.findall(rb"stream\n(.*?)\nendstream", path.read_bytes(), re.DOTALL), key=len)
    return b"\n".join(DRAWS.findall(content))


@plain_names()
def test_letters_that_were_drawn_before_are_those_of_matplotlib(tmp_path: Path) -> None:
    first, again = (draw_both(drawn(), tmp_path / f"{n}.pdf", 160) for n in range(2))
    np.testing.assert_array_equal(first, by_matplotlib(drawn(), tmp_path / "theirs.pdf"))
    np.testing.assert_array_equal(again, first)
    assert (tmp_path / "0.pdf").read_bytes() == (tmp_path / "1.pdf").read_bytes()


@plain_names()
def test_no_more_letters_are_kept_than_fit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(two_formats, "MOST_LETTERS", 3)
    monkeypatch.setattr(two_formats, "_LETTERS", {})
    pixels = draw_both(drawn(), tmp_path / "ours.pdf", 160)
    np.testing.assert_array_equal(pixels, by_matplotlib(drawn(), tmp_path / "theirs.pdf"))
    assert len(two_formats._LETTERS) <= 3


@plain_names()
def test_pixels_are_those_of_matplotlib(tmp_path: Path) -> None:
    for has_image in (False, True):
        pixels = draw_both(drawn(has_image=has_image), tmp_path / "ours.pdf", 160)
        expected = by_matplotlib(drawn(has_image=has_image), tmp_path / "theirs.pdf")
        np.testing.assert_array_equal(pixels, expected)


@plain_names()
def test_a_pdf_draws_what_matplotlibs_draws_at_the_same_places(tmp_path: Path) -> None:
    with matplotlib.rc_context({"pdf.compression": 0}):
        draw_both(drawn(), tmp_path / "ours.pdf", 160)
        by_matplotlib(drawn(), tmp_path / "theirs.pdf")
    ours, theirs = page(tmp_path / "ours.pdf"), page(tmp_path / "theirs.pdf")
    assert NUMBER.sub(b"#", ours) == NUMBER.sub(b"#", theirs)
    numbers = [np.array(NUMBER.findall(text), dtype=float) for text in (ours, theirs)]
    np.testing.assert_allclose(*numbers, rtol=0, atol=2)  # points; texts are laid out in pixels


@plain_names()
def test_a_picture_is_in_the_pdf_as_it_is(tmp_path: Path) -> None:
    draw_both(drawn(has_image=True), tmp_path / "ours.pdf", 160)
    by_matplotlib(drawn(has_image=True), tmp_path / "theirs.pdf")
    assert (tmp_path / "ours.pdf").read_bytes() == (tmp_path / "theirs.pdf").read_bytes()


@plain_names()
def test_a_figure_keeps_its_resolution(tmp_path: Path) -> None:
    figure = drawn()
    usual = figure.dpi
    draw_both(figure, tmp_path / "ours.pdf", 160)
    assert figure.dpi == usual


@plain_names()
def test_renderers_with_other_methods_draw_in_two_passes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("milbench.report.two_formats.Both", no_such_renderer)
    pixels = draw_both(drawn(), tmp_path / "ours.pdf", 160)
    np.testing.assert_array_equal(pixels, by_matplotlib(drawn(), tmp_path / "theirs.pdf"))
    assert (tmp_path / "ours.pdf").read_bytes() == (tmp_path / "theirs.pdf").read_bytes()


def no_such_renderer(*_: object) -> None:
    raise TypeError("RendererAgg.__init__() takes other arguments")


@plain_names()
def test_a_saved_png_holds_the_pixels_and_the_resolution(tmp_path: Path) -> None:
    png, _ = save(drawn(), tmp_path / "figure")
    image = Image.open(png)
    np.testing.assert_array_equal(np.asarray(image), draw_both(drawn(), tmp_path / "other.pdf", 160))
    assert [round(value) for value in image.info["dpi"]] == [160, 160]


@plain_names()
def test_fonts_of_a_style_of_text_are_looked_for_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked, usual = [], FontManager._find_fonts_by_props

    def find(manager, prop, *given, **named):
        asked.append(prop.copy())
        return usual(manager, prop, *given, **named)

    monkeypatch.setattr(FontManager, "_find_fonts_by_props", find)
    draw_both(drawn(), tmp_path / "ours.pdf", 160)
    assert len(asked) == len(set(asked)) > 1
    assert "_find_fonts_by_props" not in vars(fontManager)


@plain_names()
def test_a_figure_in_memory_is_the_one_in_a_file(tmp_path: Path) -> None:
    for has_image in (False, True):  # in one pass, and in two
        memory, path = io.BytesIO(), tmp_path / f"{has_image}.pdf"
        np.testing.assert_array_equal(
            draw_both(drawn(has_image=has_image), memory, 160), draw_both(drawn(has_image=has_image), path, 160)
        )
        assert memory.getvalue() == path.read_bytes()
