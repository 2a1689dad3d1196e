"""Sizes in bytes: what people write is understood exactly, or refused."""

import pytest

from milbench.errors import UsageError
from milbench.machine.sizes import bytes_text, parse_bytes


@pytest.mark.parametrize(
    ("text", "n_bytes"),
    [
        ("2GB", 2_000_000_000),
        ("512 MiB", 536_870_912),
        ("1.5e9", 1_500_000_000),
        ("0", 0),
        ("4096", 4096),
        (" 16 gb ", 16_000_000_000),
        ("16G", 16_000_000_000),
        (".5 GiB", 536_870_912),
        ("100kB", 100_000),
        ("7 B", 7),
        ("1TiB", 1_099_511_627_776),
        ("1e3MB", 1_000_000_000),
    ],
)
def test_a_size_is_understood(text: str, n_bytes: int) -> None:
    assert parse_bytes(text) == n_bytes


@pytest.mark.parametrize(
    "text", ["", "much", "-1GB", "2 GBs", "1,5GB", "nan", "inf", "GB", "2i", "1e999", "1_000", "3 PB"]
)
def test_what_is_no_size_is_refused_with_the_mend(text: str) -> None:
    with pytest.raises(UsageError, match=r"is no size\. Write .* 16GB, 512 MiB, 1\.5e9"):
        parse_bytes(text)


@pytest.mark.parametrize(
    ("n_bytes", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.0 kB"),
        (3_200_000_000, "3.2 GB"),
        (999_960_000, "1.0 GB"),
        (41e9, "41.0 GB"),
        (2.5e12, "2.5 TB"),
        (7e15, "7000.0 TB"),
    ],
)
def test_a_size_is_read_at_a_glance(n_bytes: float, text: str) -> None:
    assert bytes_text(n_bytes) == text


@pytest.mark.parametrize("text", ["3.2 GB", "1.0 kB", "17 B", "999.9 MB"])
def test_a_size_that_was_printed_can_be_given(text: str) -> None:
    assert bytes_text(parse_bytes(text)) == text
