"""Heatmaps: what a run's models look at, drawn, compared with the truth, and exported.

In: a finished run with its weights, and slides. Out: pictures, GeoJSON, HDF5 and tables. Open `stored.py` first (a run's
models), then `attention.py` (a pass over a slide) and `maps.py` (plain arrays). `canvas`, `render`, `geojson` and `slide`
make pictures without torch; `evaluate`, `faithfulness`, `experts` and `export` make numbers.
"""
