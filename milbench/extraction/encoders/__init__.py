"""Encoders: networks that make features of tiles, one file per kind.

In: the name of an encoder. Out: a `Network`, whose weights are loaded. `milbench/extraction/encoder.py` finds them.
"""
