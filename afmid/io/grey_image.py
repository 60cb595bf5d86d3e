"""Grey pictures, png or jpg, as images of a stack."""

import io
import warnings

import numpy as np
from numpy.typing import NDArray

from afmid.errors import DataError

MOST_PIXELS = 2048  # along a side
MAX_BYTES = 2**24


def read_grey(content: bytes) -> NDArray[np.float32]:
    """Return a grey picture as an image (X, Y), 0 to 255: its columns run along x, its rows from the largest y down.

    Raises:
        DataError: no picture, damaged, in colour, too large, or of a single grey.
    """
    from PIL import Image

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(content), formats=("PNG", "JPEG")) as picture:
                if max(picture.size) > MOST_PIXELS:
                    raise DataError(f"{picture.size[0]} × {picture.size[1]} pixels; afmid reads up to {MOST_PIXELS}")
                if picture.mode not in ("L", "RGB"):
                    raise DataError(f"the picture is of mode {picture.mode!r}, not grey")
                pixels = np.asarray(picture)
    except DataError:
        raise
    except Exception as error:  # Pillow raises whatever its decoders meet
        raise DataError(f"the picture cannot be read ({str(error)[:80]!r}); copy it again") from error
    if pixels.ndim == 3:
        if (pixels != pixels[..., :1]).any():
            raise DataError("the picture has colours; a scan's are grey")
        pixels = pixels[..., 0]
    if np.ptp(pixels) == 0:
        raise DataError("the picture is of a single grey")
    return np.ascontiguousarray(pixels[::-1].T, np.float32)
