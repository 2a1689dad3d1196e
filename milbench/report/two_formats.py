"""Two formats of one drawing: pixels and a PDF page, laid out once.

::

    figure ── draws itself on ── Both ─┬─ pixels, as matplotlib's PNG has them
                                       └─ PDF, the same calls scaled to points

Most of the time of a figure goes into the layout of its texts and ticks. `Figure.savefig` does that anew for each format.
Of what is left, letters take most: those that were drawn before at the same part of a pixel are copied.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache, partial
from io import BytesIO
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, NamedTuple

import matplotlib.backends.backend_agg as agg
import matplotlib.backends.backend_pdf as pdf
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg, RendererAgg
from matplotlib.font_manager import fontManager
from matplotlib.ft2font import FT2Font
from matplotlib.transforms import Affine2D, Bbox, TransformedPath
from numpy.typing import NDArray

if TYPE_CHECKING:
    from matplotlib.figure import Figure

NO_DATE: dict[str, Any] = {"CreationDate": None, "Producer": None, "Creator": None}
POINTS = 72
"""Per inch, of a PDF."""

LONG = 40
"""Letters of a line beyond which it is aligned anew for the PDF: letters fit to pixels are wider, which adds up."""
SHARE_LEFT = {"left": 0.0, "center": 0.5, "right": 1.0}
"""Of what a text lacks in width, the share that is left of it."""


PARTS = 64
"""Of a pixel, by which a letter's place is told."""
MOST_LETTERS = 8192
"""Drawn letters that are kept, each a few hundred bytes."""


class _Letter(NamedTuple):
    """A letter as it was drawn: opacities [height, width], and its place from the pixel that it was drawn at."""

    opacities: NDArray[np.uint8]
    left: int
    top: int


_LETTERS: dict[tuple[Any, ...], _Letter] = {}


class _NeedsItsOwnPassError(Exception):
    """The figure holds what is drawn otherwise in a PDF, such as pictures, whose pixels are not resampled there."""


def draw_both(figure: Figure, path: Path | BytesIO, dpi: int) -> NDArray[np.uint8]:
    """Pixels [height, width, 4] of `figure`, whose PDF is in `path` or in memory; the same as `Figure.savefig` draws.

    In the PDF a text may lie a point or two elsewhere, since it is laid out with letters that fit to pixels.

    The same figure gives the same bytes, since no date is written.
    """
    usual = figure.dpi
    figure.dpi = dpi
    try:
        return _in_one_pass(figure, path, dpi)
    except (_NeedsItsOwnPassError, AttributeError, TypeError):  # renderers of another matplotlib may have other methods
        return _in_two_passes(figure, path)
    finally:
        figure.dpi = usual


def _in_one_pass(figure: Figure, path: Path | BytesIO, dpi: int) -> NDArray[np.uint8]:
    inches = figure.get_size_inches()
    file: Any = pdf.PdfFile(path, metadata=NO_DATE)
    try:
        file.newPage(*inches)
        page = pdf.RendererPdf(file, dpi, inches[1], inches[0])
        width, height = map(int, figure.bbox.size)
        both = Both(width, height, dpi, page)
        with _letters_not_loaded(), _fonts_found_once():
            figure.draw(both)
        page.finalize()
        file.finalize()
    finally:
        file.close()
    return np.asarray(both.buffer_rgba())


def _in_two_passes(figure: Figure, path: Path | BytesIO) -> NDArray[np.uint8]:
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    if isinstance(path, BytesIO):  # what a first pass has begun
        path.seek(0)
        path.truncate()
    figure.savefig(path, format="pdf", metadata=NO_DATE)
    return np.asarray(canvas.buffer_rgba())


class Both(RendererAgg):  # type: ignore[misc]
    """Draws pixels, and the same on a PDF page."""

    def __init__(self, width: int, height: int, dpi: float, page: Any) -> None:
        super().__init__(width, height, dpi)
        self._page, self._scale = page, POINTS / dpi
        self._to_points = Affine2D().scale(self._scale)
        self._rectangles: dict[tuple[float, ...], Bbox] = {}
        self._outlines: dict[int, tuple[Any, TransformedPath]] = {}
        # the renderer of pixels has these as attributes of its own
        pixels: Any = self
        self._markers, self._collection = pixels.draw_markers, pixels.draw_path_collection
        pixels.draw_markers, pixels.draw_path_collection = self._both_markers, self._both_collection
        for name in ("draw_image", "draw_quad_mesh", "draw_gouraud_triangles"):
            setattr(self, name, _refuse)

    def draw_path(self, gc: Any, path: Any, transform: Any, rgbFace: Any = None) -> None:
        """A path in both."""
        super().draw_path(gc, path, transform, rgbFace)
        self._page.draw_path(self._of_page(gc), path, self._in_points(transform), rgbFace)

    def draw_text(
        self, gc: Any, x: float, y: float, s: str, prop: Any, angle: float, *rest: Any, mtext: Any = None, **named: Any
    ) -> None:  # fmt: skip
        """A text in both."""
        super().draw_text(gc, x, y, s, prop, angle, *rest, mtext=mtext, **named)
        x, y = x * self._scale, (self.height - y) * self._scale
        if len(s) > LONG and angle == 0 and mtext is not None and not mtext.get_parse_math():
            wider = self._width(self, s, prop) * self._scale - self._width(self._page, s, prop)
            x += SHARE_LEFT[mtext.get_horizontalalignment()] * wider
        self._page.draw_text(self._of_page(gc), x, y, s, prop, angle, *rest, mtext=mtext, **named)

    def _draw_text_glyphs_and_boxes(self, gc: Any, x: float, y: float, angle: float, glyphs: Any, boxes: Any) -> None:
        """Letters as `RendererAgg` draws them, each once for every part of a pixel that it lies at."""
        if boxes or not gc.get_antialiased():
            pixels: Any = super()
            pixels._draw_text_glyphs_and_boxes(gc, x, y, angle, glyphs, boxes)
            return
        cos, sin = math.cos(math.radians(angle)), math.sin(math.radians(angle))
        for font, size, number, slant, extend, dx, dy in glyphs:  # x to the right; y downwards, dy upwards
            across = round(PARTS * (x + dx * cos - dy * sin))
            up = round(PARTS * (self.height - y + dx * sin + dy * cos))
            key = (
                font.fname, font.face_index, size, self.dpi, number, slant, extend, angle, across % PARTS, up % PARTS
            )  # fmt: skip
            letter = _LETTERS.get(key)
            if letter is None:
                letter = self._drawn_letter(font, size, number, (cos, sin, slant, extend), (across % PARTS, up % PARTS))
                if len(_LETTERS) >= MOST_LETTERS:
                    _LETTERS.clear()
                _LETTERS[key] = letter
            top = letter.top + up // PARTS
            bottom = int(self.height) - top + letter.opacities.shape[0]
            self._renderer.draw_text_image(letter.opacities, letter.left + across // PARTS, bottom, 0, gc)

    def _drawn_letter(
        self, font: Any, size: float, number: int, look: tuple[float, ...], place: tuple[int, int]
    ) -> _Letter:
        module: Any = agg
        cos, sin, slant, extend = look
        font.set_size(size, self.dpi)
        turned = np.array([[cos, -sin], [sin, cos]]) @ [[extend, extend * slant], [0, 1]]
        font._set_transform((0x10000 * turned).round().astype(int), list(place))
        bitmap = font._render_glyph(number, module.get_hinting_flag(), module.RenderMode.NORMAL)
        return _Letter(np.array(bitmap.buffer), bitmap.left, bitmap.top)

    @staticmethod
    def _width(renderer: Any, text: str, prop: Any) -> float:
        return float(renderer.get_text_width_height_descent(text, prop, ismath=False)[0])

    def _both_markers(self, gc: Any, marker: Any, of_marker: Any, path: Any, transform: Any, face: Any = None) -> None:
        self._markers(gc, marker, of_marker, path, transform, face)
        of_marker, transform = self._in_points(of_marker), self._in_points(transform)
        self._page.draw_markers(self._of_page(gc), marker, of_marker, path, transform, face)

    def _both_collection(
        self, gc: Any, transform: Any, paths: Any, transforms: Any, offsets: Any, of_offsets: Any, *rest: Any, **named: Any
    ) -> None:  # fmt: skip
        self._collection(gc, transform, paths, transforms, offsets, of_offsets, *rest, **named)
        transform, of_offsets = self._in_points(transform), self._in_points(of_offsets)
        gc = self._of_page(gc)
        self._page.draw_path_collection(gc, transform, paths, transforms, offsets, of_offsets, *rest, **named)

    def _in_points(self, transform: Any) -> Any:
        if transform.is_affine:
            return Affine2D(self._to_points.get_matrix() @ transform.get_matrix())
        return transform + self._to_points

    def _of_page(self, gc: Any) -> Any:
        """The same colours, widths and dashes, which are in points already, and the clip in points.

        The page compares clips with the ones before, so that the same clip must be the same object.
        """
        own: Any = self._page.new_gc()
        own.copy_properties(gc)
        rectangle, outline = gc.get_clip_rectangle(), gc._clippath
        if rectangle is not None:
            bounds = tuple(float(value) for value in rectangle.extents)
            if bounds not in self._rectangles:
                self._rectangles[bounds] = Bbox.from_extents(*(self._scale * value for value in bounds))
            own.set_clip_rectangle(self._rectangles[bounds])
        if outline is not None:
            if id(outline) not in self._outlines:
                scaled = TransformedPath(outline._path, outline._transform + self._to_points)
                self._outlines[id(outline)] = (outline, scaled)  # kept, so that no other takes its number
            own.set_clip_path(self._outlines[id(outline)][1])
        return own


@contextmanager
def _letters_not_loaded() -> Iterator[None]:
    """Inside, a PDF places letters without a look at their outlines, which it needs once per font and not for each letter."""
    module: Any = pdf
    usual = module._text_helpers
    if hasattr(FT2Font, "_layout"):  # else another matplotlib, which lays out in another way
        flags = usual.LoadFlags.NO_HINTING
        module._text_helpers = SimpleNamespace(**{**vars(usual), "layout": partial(_places_of_letters, flags)})
    try:
        yield
    finally:
        module._text_helpers = usual


def _places_of_letters(flags: Any, text: str, font: Any, *, features: Any = None, language: Any = None) -> Any:
    return font._layout(text, flags, features=features, language=language)


@contextmanager
def _fonts_found_once() -> Iterator[None]:
    """Inside, matplotlib looks for the fonts of a style of text once, and not for each text, its layout and its formats."""
    manager: Any = fontManager
    find = getattr(manager, "_find_fonts_by_props", None)
    if find is None:  # another matplotlib
        yield
        return
    manager._find_fonts_by_props = cache(find)  # of this object; the method of the class stays
    try:
        yield
    finally:
        del manager._find_fonts_by_props


def _refuse(*_: Any, **__: Any) -> None:
    raise _NeedsItsOwnPassError
