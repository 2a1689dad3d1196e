"""Extraction: features of whole-slide images.

In: a folder of slides and the name of an encoder. Out: one HDF5 file of features and coordinates per slide. Open `features.py` first.
"""
