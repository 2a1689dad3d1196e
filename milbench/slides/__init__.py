"""Slides: the one way to open a whole-slide image, whatever container it comes in.

In: a path. Out: a `Slide` with its levels, its microns per pixel and its pixels. Open `slide.py` first.
"""
