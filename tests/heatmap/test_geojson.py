"""GeoJSON: polygons where the viewer looks for them."""

import json
from pathlib import Path

import numpy as np
from names_for_tests import WILD

from milbench.heatmap.geojson import write_geojson
from milbench.heatmap.maps import Map, SlideMaps
from milbench.heatmap.places import Places
from milbench.visible import is_hidden, visible


def maps(places: Places, task: str = "A") -> SlideMaps:
    drawn = Map("amil", "AMIL", "attention", "softmax attention", np.array([0.25, 0.75]), is_distribution=True)
    return SlideMaps("s", "toy", task, 0, "test", 1.0, "1", places, (drawn,), {"amil": "p = 0.50"})


def corners(path: Path) -> list[list[float]]:
    return [feature["geometry"]["coordinates"][0][0] for feature in json.loads(path.read_text())["features"]]


def test_a_cropped_slide_is_counted_from_its_bounds(tmp_path: Path) -> None:
    places = Places(np.array([[5000.0, 7000.0], [5256.0, 7000.0]]), 256)
    for name, origin, first in (("whole", (0, 0), [5000, 7000]), ("cropped", (4000, 6500), [1000, 500])):
        path = write_geojson(maps(places), tmp_path / f"{name}.geojson", origin)
        assert path is not None
        assert corners(path) == [first, [first[0] + 256, first[1]]]


def test_nothing_is_written_where_no_polygon_is_sure(tmp_path: Path) -> None:
    places = Places(np.array([[0.0, 0.0], [300.0, 10.0]]), 10, is_guessed=True, agreement=0.0)
    assert write_geojson(maps(places), tmp_path / "a.geojson") is None
    assert not list(tmp_path.iterdir())


def test_the_names_of_measurements_hide_no_control_character(tmp_path: Path) -> None:
    path = write_geojson(maps(Places(np.array([[0.0, 0.0], [256.0, 0.0]]), 256), WILD), tmp_path / "a.geojson")
    assert path is not None
    first = json.loads(path.read_text())["features"][0]["properties"]["measurements"]
    assert f"{visible(WILD)}: AMIL attention" in first
    assert not [name for name in first if any(map(is_hidden, name))]
