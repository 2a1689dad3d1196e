"""OME-XML: sizes in every unit, and nothing where it tells nothing."""

from pathlib import Path

import pytest
from made_slides import Pixels, ome_tiff_slide

from milbench.slides import open_slide
from milbench.slides.ome import OmeImage, ome_image


def described(attributes: str) -> str:
    return (
        '<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06"><Image ID="Image:0"><Pixels ID="Pixels:0" '
        f'SizeX="40" SizeY="30" {attributes}/></Image></OME>'
    )


@pytest.mark.parametrize(
    ("size", "unit"),
    [("0.25", "µm"), ("0.25", "μm"), ("250", "nm"), ("0.00025", "mm"), ("0.000025", "cm"), ("2500", "Å"), ("2.5e-7", "m")],
)  # fmt: skip
def test_a_size_in_any_unit_becomes_microns(size: str, unit: str) -> None:
    text = described(" ".join(f'PhysicalSize{axis}="{size}" PhysicalSize{axis}Unit="{unit}"' for axis in "XY"))
    assert ome_image(text, 40, 30).microns_per_pixel == pytest.approx((0.25, 0.25))


def test_a_size_without_a_unit_is_in_microns() -> None:
    assert ome_image(described('PhysicalSizeX="0.5" PhysicalSizeY="0.25"'), 40, 30).microns_per_pixel == (0.5, 0.25)


@pytest.mark.parametrize(
    "attributes",
    ["", 'PhysicalSizeX="0.5"', 'PhysicalSizeX="0" PhysicalSizeY="0"', 'PhysicalSizeX="x" PhysicalSizeY="x"',
     'PhysicalSizeX="1" PhysicalSizeXUnit="pixel" PhysicalSizeY="1" PhysicalSizeYUnit="pixel"'],
)  # fmt: skip
def test_a_size_that_is_none_is_not_told(attributes: str) -> None:
    assert ome_image(described(attributes), 40, 30).microns_per_pixel is None


@pytest.mark.parametrize("text", ["", "no XML", "<OME>", "<OME/>", "<OME><Image/></OME>"])
def test_a_text_that_describes_no_image_tells_nothing(text: str) -> None:
    assert ome_image(text, 40, 30) == OmeImage()


def test_the_image_of_another_size_is_not_meant() -> None:
    assert ome_image(described('PhysicalSizeX="0.5" PhysicalSizeY="0.5"'), 41, 30) == OmeImage()


def test_a_slide_in_nanometres_has_microns(tmp_path: Path, pixels: Pixels) -> None:
    with open_slide(ome_tiff_slide(tmp_path / "S1.ome.tif", pixels, 250, unit="nm")) as slide:
        assert slide.microns_per_pixel == pytest.approx((0.25, 0.25))
