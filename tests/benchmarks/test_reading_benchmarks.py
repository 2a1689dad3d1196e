"""The benchmarks of reading: sixteen formats and more, all of the same numbers, read by a process of their own."""

import os
from pathlib import Path

import numpy as np
import pack_speed
import pytest
import read_speed

from milbench.cohorts.cohort import folder_cohort
from milbench.formats import open_features

CAN_FORGET = pytest.mark.skipif(not hasattr(os, "posix_fadvise"), reason="this system forgets no files on demand")


def test_every_layout_holds_the_numbers_of_the_plain_array(tmp_path: Path) -> None:
    layouts = read_speed.write_layouts(tmp_path, 12, 8)
    assert len(read_speed.FORMATS) == 16
    assert len(layouts) == 16 + 1 + len(read_speed.FILTERED) + 2
    for name, layout in layouts.items():
        features = open_features(layout.folder).load("slide").features.numpy()
        np.testing.assert_array_equal(features, np.load(layout.plain), err_msg=name)
        assert features.dtype == np.load(layout.plain).dtype


@CAN_FORGET
@pytest.mark.slow
def test_a_builds_process_reads_cold_and_warm_and_says_what_it_cannot_read(tmp_path: Path) -> None:
    layouts = read_speed.write_layouts(tmp_path, 12, 8)
    some = {name: layouts[name] for name in ("CLAM .h5", "milbench pack, float16")}
    (tmp_path / "empty").mkdir()
    some["none"] = read_speed.Layout(tmp_path / "empty", layouts["CLAM .h5"].plain)
    found = read_speed.measure(some, {"": read_speed.HERE}, repeats=9, threads=1, until=0)
    assert found["none", read_speed.COLD, ""] == [None]
    assert all(reading for (name, _, reader), (reading,) in found.items() if (name, reader) != ("none", ""))
    assert "not read" in read_speed.ratios(found["none", "warm", ""], found["none", "warm", read_speed.NUMPY])


@CAN_FORGET
def test_a_copy_is_whole_and_a_pack_is_timed(tmp_path: Path) -> None:
    n_bytes = pack_speed.write_source(tmp_path / "source", 2, 6, 4)
    assert pack_speed.copied(tmp_path / "source" / "features", tmp_path / "copy").wall > 0
    assert sum(path.stat().st_size for path in (tmp_path / "copy").iterdir()) == n_bytes
    assert len(folder_cohort(tmp_path / "source").slides) == 2
