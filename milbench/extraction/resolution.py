"""Resolution: from which level of a slide patches are read, and how large one is there.

Patches come straight from a level that is within 2 % of what is asked. Else they come from the coarsest level that is finer,
and are made smaller. Nothing is ever enlarged: there is no detail to gain.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from milbench.errors import DataError
from milbench.extraction.settings import Settings

if TYPE_CHECKING:
    from milbench.slides import Slide

TOLERANCE = 0.02
"""Share by which a level may differ from what is asked, and a pixel's width from its height."""

MICRONS_AT_ONE = 10.0
"""Microns per pixel times magnification, as scanners make them: 40x has 0.25."""

SAME_OBJECTIVE = 0.25
"""Share by which scanners of one magnification differ: 40x comes with 0.22 to 0.27 microns."""


class Microns(NamedTuple):
    """Microns per pixel of level 0, and what is to be said of them."""

    x: float
    y: float
    notes: tuple[str, ...] = ()

    @property
    def mean(self) -> float:
        """Of width and height, which differ by 2 % at most."""
        return (self.x + self.y) / 2


class Reading(NamedTuple):
    """How the patches of one slide are read.

    Attributes
    ----------
    level : from which they are read.
    downsample : level-0 pixels per pixel of it.
    edge, step : edge of a patch and distance of two, in pixels of the level; they may be fractions.
    mpp : of the patches, as they are read.
    magnification : the same as an objective's power; None = the slide does not tell.
    """

    level: int
    downsample: float
    edge: float
    step: float
    mpp: float
    magnification: float | None

    @property
    def patch_size_level0(self) -> float:
        """Edge of a patch in level-0 pixels."""
        return self.edge * self.downsample


def microns_of(slide: Slide, slide_id: str, told: float | None, settings: Settings) -> Microns:
    """Microns per pixel of level 0.

    Parameters
    ----------
    slide_id : for the message.
    told : by the user; it wins over the file.

    Raises
    ------
    DataError : nobody tells, or width and height of a pixel differ.
    """
    if told is not None:
        return Microns(told, told, _conflict(slide, told))
    if slide.microns_per_pixel is None:
        if settings.magnification is not None and slide.magnification is not None:
            microns = MICRONS_AT_ONE / slide.magnification
            return Microns(
                microns, microns, (f"tells {slide.magnification:g}x and no microns per pixel: {microns:g} is taken",)
            )
        raise DataError(f"it does not tell its microns per pixel. Give them: {mend_of(slide_id)}")
    x, y = slide.microns_per_pixel
    if _differ(x, y, TOLERANCE):
        raise DataError(
            f"its pixels are {x:g} µm wide and {y:g} µm high, which is no square. Find out which is right, and give it: "
            f"{mend_of(slide_id)}"
        )
    return Microns(x, y, _conflict(slide, (x + y) / 2))


def mend_of(slide_id: str) -> str:
    """The flag that gives the slide's resolution, with an example's value."""
    return f"--mpp-of {slide_id}=0.25"


def reading_of(slide: Slide, microns: Microns, settings: Settings) -> Reading:
    """Level, edge and step for the resolution that is asked.

    Raises
    ------
    DataError : the slide has no such detail.
    """
    power = slide.magnification or MICRONS_AT_ONE / microns.mean
    if settings.magnification is not None:
        wanted, flag = power / settings.magnification, f"--magnification {settings.magnification:g}"
        finest = f"{power:.3g}x"
    else:
        assert settings.mpp is not None  # noqa: S101 - `checked` has refused neither
        wanted, flag = settings.mpp / microns.mean, f"--mpp {settings.mpp:g}"
        finest = f"{microns.mean:.4g} microns per pixel"
    level = _level_for([each.downsample for each in slide.levels], wanted)
    if level is None:
        raise DataError(
            f"its finest level has {finest}, coarser than {flag}: there is no such detail. Ask for less, or leave it out."
        )
    downsample = slide.levels[level].downsample
    shrink = 1.0 if not _differ(wanted, downsample, TOLERANCE) else wanted / downsample
    total = downsample * shrink
    told = settings.magnification is not None or slide.magnification is not None
    return Reading(
        level, downsample, settings.patch_size * shrink, settings.step * shrink, microns.mean * total,
        power / total if told else None,
    )  # fmt: skip


def _level_for(downsamples: list[float], wanted: float) -> int | None:
    """The level nearest to `wanted` within 2 %, else the coarsest finer one; None if there is none."""
    near = [level for level, each in enumerate(downsamples) if not _differ(each, wanted, TOLERANCE)]
    if near:
        return min(near, key=lambda level: abs(downsamples[level] / wanted - 1))
    finer = [level for level, each in enumerate(downsamples) if each < wanted]
    return max(finer, key=lambda level: downsamples[level]) if finer else None


def _conflict(slide: Slide, microns: float) -> tuple[str, ...]:
    power = slide.magnification
    if power is None or not _differ(power * microns, MICRONS_AT_ONE, SAME_OBJECTIVE):
        return ()
    return (
        f"tells {power:g}x, but {microns:g} microns per pixel are usual at {MICRONS_AT_ONE / microns:.3g}x: "
        "--magnification goes by the former, --mpp by the latter",
    )


def _differ(one: float, other: float, share: float) -> bool:
    return abs(one / other - 1) > share
