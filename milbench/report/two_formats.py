"""Two formats of one drawing: pixels and a PDF page, laid out once.

::

    figure ── draws itself on ── Both ─┬─ pixels, as matplotlib's PNG has them
                                       └─ PDF, the same calls scaled to points

Most of the time of a figure goes into the layout of its texts and ticks. `Figure.savefig` does that anew for each format.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import matplotlib.backends.backend_pdf as pdf
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg, RendererAgg
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


class _NeedsItsOwnPassError(Exception):
    """The figure holds what is drawn otherwise in a PDF, such as pictures, whose pixels are not resampled there."""


def draw_both(figure: Figure, path: Path, dpi: int) -> NDArray[np.uint8]:
    """Pixels [height, width, 4] of `figure`, whose PDF is in `path`; the same as `Figure.savefig` draws.

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


def _in_one_pass(figure: Figure, path: Path, dpi: int) -> NDArray[np.uint8]:
    inches = figure.get_size_inches()
    file: Any = pdf.PdfFile(path, metadata=NO_DATE)
    try:
        file.newPage(*inches)
        page = pdf.RendererPdf(file, dpi, inches[1], inches[0])
        width, height = map(int, figure.bbox.size)
        both = Both(width, height, dpi, page)
        figure.draw(both)
        page.finalize()
        file.finalize()
    finally:
        file.close()
    return np.asarray(both.buffer_rgba())


def _in_two_passes(figure: Figure, path: Path) -> NDArray[np.uint8]:
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    figure.savefig(path, metadata=NO_DATE)
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


def _refuse(*_: Any, **__: Any) -> None:
    raise _NeedsItsOwnPassError
