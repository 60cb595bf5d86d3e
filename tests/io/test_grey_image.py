"""Grey pictures as images of a stack."""

import numpy as np
import pytest

from afmid.errors import DataError
from afmid.io.grey_image import read_grey


def test_columns_run_along_x_and_rows_against_y(pictures) -> None:
    pixels = np.arange(12, dtype=np.uint8).reshape(3, 4)  # rows, columns
    image = read_grey(pictures.encoded(pixels, "png"))
    assert image.shape == (4, 3)
    assert image.dtype == np.float32
    assert (image[0, 2], image[3, 2], image[0, 0]) == (0, 3, 8)


def test_a_grey_picture_in_three_channels_is_read_and_a_coloured_one_refused(pictures) -> None:
    pixels = np.repeat(np.arange(12, dtype=np.uint8).reshape(3, 4, 1), 3, axis=2)
    assert read_grey(pictures.encoded(pixels, "png")).shape == (4, 3)
    pixels[0, 0, 0] = 99
    with pytest.raises(DataError, match="has colours"):
        read_grey(pictures.encoded(pixels, "png"))


@pytest.mark.parametrize("content", [b"", b"GIF89a", b"\x89PNG\r\n\x1a\n" + bytes(50)])
def test_what_is_no_picture_is_refused(content: bytes) -> None:
    with pytest.raises(DataError, match="cannot be read"):
        read_grey(content)
