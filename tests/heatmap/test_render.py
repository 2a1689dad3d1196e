"""The panel: one scale for all maps, and patches that show themselves."""

import numpy as np
import pytest

from milbench.heatmap.maps import Map, Scale, SlideMaps, scaled
from milbench.heatmap.places import Places
from milbench.heatmap.render import LEAST_SHARE, MOST_SHARE, Drawing, panel

N = 100
PLACES = Places(np.array([[x * 8.0, y * 8.0] for y in range(10) for x in range(10)]), 8)
ONE = np.full(N, 1e-6)
ONE[37] = 1 - 99e-6
EVEN = np.full(N, 1 / N) * (1 + 1e-3 * np.arange(N) / N)
LOGITS = np.linspace(-3, 5, N)


def slide(**more: object) -> SlideMaps:
    maps = (
        Map("one", "One", "attention", "softmax attention", ONE, True),
        Map("even", "Even", "attention", "softmax attention", EVEN, True),
        Map("max", "Max", "attention", "instance logits", LOGITS, False),
    )
    known = {"one": "p = 0.90", "even": "p = 0.10", "max": "p = 0.50"}
    return SlideMaps("s1", "digits", "has_0", 0, "test", 1.0, "1", PLACES, maps, known, **more)  # type: ignore[arg-type]


def colours(scale: Scale) -> list[np.ndarray]:
    """Position on the colour bar of every pixel of each map, 0 to 1."""
    axes = panel([Drawing(slide())], scale).axes[1:4]
    return [np.asarray(image.norm(image.get_array())) for image in (place.images[0] for place in axes)]


def test_attention_on_one_patch_and_even_attention_look_like_what_they_are() -> None:
    one, even, _ = colours("share")
    assert (one > 0.9).mean() == pytest.approx(1 / N), "one patch is bright"
    assert np.sort(one.ravel())[: int(0.98 * one.size)].max() == 0, "the others are as dark as can be"
    assert np.ptp(even) < 0.01, "even attention has one colour"


def test_ranks_hide_both_which_is_why_they_are_not_the_default() -> None:
    _, even, _ = colours("rank")
    assert np.ptp(even) == pytest.approx(1)


def test_all_maps_share_one_scale_except_logits() -> None:
    axes = panel([Drawing(slide())], "share").axes
    ends = [place.images[0].get_clim() for place in axes[1:4]]
    assert ends[0] == ends[1] == (LEAST_SHARE, MOST_SHARE)
    assert ends[2] == (-3, 5)


def test_an_even_share_is_one() -> None:
    np.testing.assert_allclose(scaled(np.full(4, 0.25), "share"), 1)


def test_patches_show_their_pixels_with_the_evidence_framed() -> None:
    pixels = np.random.default_rng(0).random((N, 8, 8))
    truth = np.zeros(N, dtype=bool)
    truth[[3, 4]] = True
    axes = panel([Drawing(slide(pixels=pixels, truth=truth))], "share").axes[0]
    assert len(axes.images) == N
    np.testing.assert_array_equal(axes.images[3].get_array(), pixels[3])
    assert sum(frame.get_linewidth() > 1 for frame in axes.patches) == 2
