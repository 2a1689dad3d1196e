"""Heatmaps: what a run's models look at, drawn, compared with the truth, and exported.

Data flows `stored` (a run's models) -> `attention` (one pass over a slide) -> `maps` (plain arrays) ->
`canvas`, `render`, `geojson`, `slide` (pictures; no torch) or `evaluate`, `faithfulness`, `experts`, `export` (numbers).
"""
