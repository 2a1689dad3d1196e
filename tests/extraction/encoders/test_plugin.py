"""One function in a file is an encoder; what is wrong with it is said with file and reason."""

from pathlib import Path

import pytest
import torch
from encoders_for_tests import find, tiles
from places import ROOT
from torch import nn

from milbench.errors import DataError, UsageError

HEAD = "import torch\nfrom torch import nn\nfrom milbench.extraction.encoders.plugin import register_encoder\n"

COLOURS = "@register_encoder('colours', mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5), pooling='mean of colours')\ndef colours(images):\n    return images.mean(dim=(2, 3))\n"

MODULE = """
@register_encoder('mine', size=32)
def mine():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 5, 4), nn.Dropout(0.5), nn.AdaptiveAvgPool2d(1), nn.Flatten())
"""


def plugin(folder: Path, code: str) -> Path:
    path = folder / "mine.py"
    path.write_text(HEAD + code)
    return path


def test_a_function_of_images_is_an_encoder(tmp_path: Path) -> None:
    encoder, batch = find("colours", plugin=plugin(tmp_path, COLOURS), pretrained=True), tiles(3)
    expected = (batch.double() / 255).mean(dim=(1, 2)) * 2 - 1
    torch.testing.assert_close(encoder.encode(batch).double(), expected, rtol=1e-4, atol=1e-5)
    assert (encoder.width, encoder.pooling, encoder.weights_sha256) == (3, "mean of colours", "")
    assert encoder.facts()["plugin"] == "mine.py"
    assert len(encoder.facts()["plugin_sha256"]) == 64


def test_a_function_that_makes_a_module_is_an_encoder_in_eval_mode(tmp_path: Path) -> None:
    encoder = find("mine", plugin=plugin(tmp_path, MODULE), pretrained=True)
    assert torch.equal(encoder.encode(tiles(2)), encoder.encode(tiles(2)))
    assert (encoder.width, encoder.transform.size) == (5, 32)
    assert len(encoder.weights_sha256) == 64


def test_the_example_of_the_docs_runs(tmp_path: Path) -> None:
    code = (ROOT / "docs" / "features.md").read_text().partition("# my_encoder.py\n")[2].partition("```")[0]
    network = nn.Sequential(nn.Conv2d(3, 64, 16, 16))
    torch.save(network.state_dict(), tmp_path / "mine.pt")
    code = code.replace("/data/mine.pt", str(tmp_path / "mine.pt")).replace('"mine"', '"of-the-docs"')
    encoder = find("of-the-docs", plugin=plugin(tmp_path, code), pretrained=True)
    images = encoder.transform(tiles(2))
    torch.testing.assert_close(
        encoder.encode(tiles(2)), network(images).mean(dim=(2, 3)).detach(), rtol=1e-4, atol=1e-5
    )
    assert (images.shape, len(code.strip().splitlines()) < 15) == ((2, 3, 224, 224), True)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("    return images.mean(dim=3)", r"returns torch.float32 \[2, 3, 64\], not floats \[B, D\]"),
        ("    return images.mean(dim=(2, 3)).long()", r"returns torch.int64 \[2, 3\]"),
        ("    return images.mean(dim=(2, 3))[:1]", r"returns \[1, 3\] for 2 tiles"),
        ("    return images.numpy()", "returns ndarray"),
        ("    return images.nothing", "fails: AttributeError: .*nothing.* Fix its file"),
    ],
)
def test_a_wrong_output_is_refused_with_file_and_function(tmp_path: Path, body: str, message: str) -> None:
    name = f"bad-{tmp_path.name}"
    path = plugin(tmp_path, f"@register_encoder('{name}')\ndef bad(images):\n{body}\n")
    with pytest.raises(DataError, match=f"encoder '{name}' .*mine.py, bad.* {message}"):
        find(name, plugin=path, pretrained=True)


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("def bad(:", "cannot be imported: SyntaxError"),
        ("@register_encoder('two')\ndef two(a, b):\n    return a\n", r"needs 2 arguments"),
        ("@register_encoder('a:b')\ndef two(a):\n    return a\n", r"no encoder can be called 'a:b'"),
        ("@register_encoder('retccl')\ndef two(a):\n    return a\n", r"'retccl' is an encoder of milbench"),
        ("", r"unknown encoder 'absent'"),
    ],
)
def test_a_plugin_that_registers_nothing_usable_is_refused(tmp_path: Path, code: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        find("absent", plugin=plugin(tmp_path, code), pretrained=True)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("    return 3", "returns a int. Return a torch.nn.Module"),
        ("    raise OSError('no weights.pth')", "fails: OSError: no weights.pth"),
    ],
)
def test_a_function_that_makes_no_module_is_refused(tmp_path: Path, body: str, message: str) -> None:
    name = f"none-{tmp_path.name}"
    with pytest.raises(DataError, match=message):
        find(name, plugin=plugin(tmp_path, f"@register_encoder('{name}')\ndef none():\n{body}\n"), pretrained=True)


def test_a_name_can_be_taken_once(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    code = "@register_encoder('taken')\ndef taken(images):\n    return images.mean(dim=(2, 3))\n"
    assert find("taken", plugin=plugin(tmp_path, code), pretrained=True).width == 3
    with pytest.raises(UsageError, match="two encoders are called 'taken'"):
        find("taken", plugin=plugin(tmp_path / "other", code), pretrained=True)


def test_a_plugin_loads_its_weights_itself(tmp_path: Path) -> None:
    path = plugin(tmp_path, COLOURS.replace("'colours'", "'own'"))
    with pytest.raises(UsageError, match="which loads its weights itself"):
        find("own", plugin=path, weights=tmp_path / "x.pth")


@pytest.mark.parametrize(
    "body",
    [
        "    return nn.Dropout(0.5)(images.flatten(1))",
        "    return nn.BatchNorm2d(3)(images).flatten(1)",
        "    return torch.randn(len(images), 4)",
        "    return (images - images.mean()).mean(dim=(2, 3))",
    ],
    ids=["dropout", "batch normalisation", "draws", "mean of the batch"],
)
def test_features_that_depend_on_chance_or_on_other_tiles_are_refused(tmp_path: Path, body: str) -> None:
    name = f"unsteady-{tmp_path.name}"
    path = plugin(tmp_path, f"@register_encoder('{name}')\ndef unsteady(images):\n{body}\n")
    with pytest.raises(DataError, match=r"unsteady\) gives one tile other features .* Call .eval\(\)"):
        find(name, plugin=path, pretrained=True)


def test_rounding_to_sixteen_bits_is_steady_enough(tmp_path: Path) -> None:
    path = plugin(
        tmp_path, "@register_encoder('sixteen')\ndef sixteen(images):\n    return images.bfloat16().mean(dim=(2, 3))\n"
    )
    assert find("sixteen", plugin=path, pretrained=True).encode(tiles(2)).dtype == torch.float32
