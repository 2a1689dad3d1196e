"""Slides: the one way to open a whole-slide image, whatever container it comes in.

In: a path. Out: a `Slide` with its levels, its microns per pixel and its pixels. Open `slide.py` first.

Needs the extra `wsi`: OpenSlide reads most containers, tifffile reads OME-TIFF, pydicom tells DICOM series apart.
"""

from milbench.slides.folder import SUFFIXES, find_slides, slide_id_of, slides_below
from milbench.slides.opening import open_slide
from milbench.slides.slide import Level, Slide

__all__ = ["SUFFIXES", "Level", "Slide", "find_slides", "open_slide", "slide_id_of", "slides_below"]
