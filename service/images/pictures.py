"""Pictures as routes send them, without metadata: upright JPEG, and PNG of attention."""

import io
import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from starlette.responses import Response

from models.image import encode_jpeg
from service.running.parts import Parts

Pixels = NDArray[np.uint8]
PALE, STRONG = (255, 226, 90), (214, 20, 60)  # of little and of full attention
MOST_OPAQUE = 190
PICTURE_HEADERS = {
    "Cache-Control": "private, no-cache",
    "Content-Security-Policy": "sandbox; default-src 'none'",
    "Content-Disposition": "inline",
}


def upright_jpeg(pixels: Pixels) -> bytes:
    """The whole picture."""
    return encode_jpeg(pixels)


def thumbnail_jpeg(pixels: Pixels, *, size: int) -> bytes:
    """Scaled down to fit into size × size pixels; never enlarged."""
    picture = Image.fromarray(pixels)
    picture.thumbnail((size, size))
    return encode_jpeg(np.asarray(picture))


def crop_jpeg(pixels: Pixels, *, box: tuple[float, float, float, float]) -> bytes:
    """The pixels of a box, rounded outwards, at least one."""
    left, top, right, bottom = _whole(box, pixels.shape[:2])
    return encode_jpeg(pixels[top:bottom, left:right])


def attention_png(
    attention: NDArray[np.float32],
    size: tuple[int, ...],
    *,
    box: tuple[float, float, float, float],
) -> bytes:
    """Attention [h, w] in [0, 1] of a box, as a picture to lay over its crop.

    Args:
        size: height and width of the scene.
    """
    left, top, right, bottom = _whole(box, size)
    smooth = Image.fromarray(attention.astype(np.float32)).resize(
        (right - left, bottom - top), Image.Resampling.BICUBIC
    )
    share = np.clip(np.asarray(smooth), 0, 1)[..., None]
    colour = np.array(PALE) * (1 - share) + np.array(STRONG) * share
    pixels = np.concatenate([colour, share * MOST_OPAQUE], axis=2).round().astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def picture(parts: Parts, scene_id: str, draw: Callable[[NDArray[np.uint8]], bytes]) -> Response:
    """A JPEG drawn from a stored scene, as a response."""
    with parts.decoding:
        jpeg = draw(parts.gallery.scenes.picture(scene_id).pixels)
    return Response(jpeg, media_type="image/jpeg", headers=PICTURE_HEADERS)


def _whole(
    box: tuple[float, float, float, float], size: tuple[int, ...]
) -> tuple[int, int, int, int]:
    """A box rounded outwards to whole pixels of a picture, at least one."""
    height, width = size
    x1, y1, x2, y2 = box
    left, top = min(int(x1), width - 1), min(int(y1), height - 1)
    return left, top, max(math.ceil(x2), left + 1), max(math.ceil(y2), top + 1)
