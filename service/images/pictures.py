"""Pictures as routes send them, without metadata: upright JPEG, and PNG of attention."""

import io
import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from models.image import encode_jpeg
from service.http.bodies import deadline_of, while_connected
from service.running.parts import Parts
from service.running.turns import Turns

Pixels = NDArray[np.uint8]
PALE, STRONG = (255, 226, 90), (214, 20, 60)  # of little and of full attention
MOST_OPAQUE = 190
SENT_AT_ONCE = 64 * 2**10
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


async def picture(
    request: Request, parts: Parts, scene_id: str, draw: Callable[[NDArray[np.uint8]], bytes]
) -> Response:
    """A JPEG drawn from a stored scene, as a response.

    Raises:
        OverloadedError, DeadlineError: too many want pictures.
        Whatever reading and drawing it raises.
    """

    def work() -> bytes:
        return draw(parts.gallery.scenes.picture(scene_id).pixels)

    return await made(request, parts, work, "image/jpeg")


async def made(
    request: Request, parts: Parts, work: Callable[[], bytes], media_type: str
) -> Response:
    """A picture that takes its turn, as a response that holds a place until it is sent.

    Raises:
        OverloadedError, DeadlineError: too many want pictures.
        Whatever the work raises.
    """
    turns = parts.pictures
    turns.enter()
    try:
        deadline_s = deadline_of(request, parts.settings.search_deadline_s)
        content = await while_connected(request, turns.run(work, deadline_s=deadline_s))
    except BaseException:
        turns.leave()
        raise
    return _Held(content, turns, media_type)


class _Held(Response):
    """Sent as fast as it is read: a server keeps what was given to it all at once."""

    def __init__(self, content: bytes, turns: Turns, media_type: str) -> None:
        super().__init__(content, media_type=media_type, headers=PICTURE_HEADERS)
        self._turns = turns

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await send(
                {
                    "type": "http.response.start",
                    "status": self.status_code,
                    "headers": self.raw_headers,
                }
            )
            content = bytes(self.body)
            for start in range(0, max(1, len(content)), SENT_AT_ONCE):
                more = start + SENT_AT_ONCE < len(content)
                part = content[start : start + SENT_AT_ONCE]
                await send({"type": "http.response.body", "body": part, "more_body": more})
        finally:
            self._turns.leave()


def _whole(
    box: tuple[float, float, float, float], size: tuple[int, ...]
) -> tuple[int, int, int, int]:
    """A box rounded outwards to whole pixels of a picture, at least one."""
    height, width = size
    x1, y1, x2, y2 = box
    left, top = min(int(x1), width - 1), min(int(y1), height - 1)
    return left, top, max(math.ceil(x2), left + 1), max(math.ceil(y2), top + 1)
