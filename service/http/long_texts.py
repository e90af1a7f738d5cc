"""Pictures in JSON, taken out before the document is parsed, and decoded piece by piece.

One call in C keeps all threads waiting until it ends, those of other requests, too; to parse,
check and decode 26 MiB takes half a second in five such calls. Here no call sees more than PIECE
bytes, but for copies.
"""

import binascii
import json
import re
import secrets
from collections.abc import Mapping
from typing import Annotated

from pydantic import AfterValidator, ValidationInfo

PIECE = 256 * 2**10
LONG = 64 * 2**10  # shorter texts stay where they are

_NAMED = re.compile(rb'"image_base64"[ \t\r\n]*:[ \t\r\n]*\Z')
_NAMED_MOST = 64


def take_long_texts(body: bytes | bytearray) -> tuple[bytes | bytearray, dict[str, str]]:
    """A JSON document without the long values of `image_base64`, and these.

    Returns:
        The document, in which a name that nobody can guess stands for each; and what it stands
        for. An escape that is none makes a text that is no base64.
    """
    texts: dict[str, str] = {}
    parts: list[bytes | bytearray] = []
    kept = place = 0
    while (start := _quote(body, place)) >= 0:
        end = _end_of_text(body, start + 1)
        if end < 0:
            break
        if end - start > LONG and _NAMED.search(bytes(body[max(0, start - _NAMED_MOST) : start])):
            name = f"\ue000{secrets.token_hex(16)}"
            texts[name] = _text(body, start + 1, end)
            parts += [body[kept : start + 1], name.encode()]
            kept = end
        place = end + 1
    if not texts:
        return body, texts
    parts.append(body[kept:])
    return b"".join(parts), texts


def _whole(text: str, info: ValidationInfo) -> str:
    texts: Mapping[str, str] = info.context or {}
    return texts.get(text, text)


LongText = Annotated[str, AfterValidator(_whole)]
"""A text that take_long_texts may have taken out; its texts are the context of validation."""


def decode_base64(text: str) -> bytes:
    """What a text says in standard base64.

    Raises:
        ValueError: it is no standard base64.
    """
    if len(text) % 4:
        raise ValueError("its length is no multiple of four")
    decoded = bytearray()
    for start in range(0, len(text), PIECE):
        piece = text[start : start + PIECE]
        if "=" in piece and start + PIECE < len(text):
            raise ValueError("padding is not at the end")
        decoded += binascii.a2b_base64(piece, strict_mode=True)
    return bytes(decoded)


def _quote(body: bytes | bytearray, place: int) -> int:
    """The place of the next quotation mark; -1 when there is none."""
    while place < len(body):
        found = body.find(b'"', place, place + PIECE)
        if found >= 0:
            return found
        place += PIECE
    return -1


def _end_of_text(body: bytes | bytearray, place: int) -> int:
    """The quotation mark that ends a text; -1 when none does."""
    while (end := _quote(body, place)) >= 0:
        first = end
        while first > 0 and body[first - 1] == ord("\\"):
            first -= 1
        if (end - first) % 2 == 0:
            return end
        place = end + 1
    return -1


def _text(body: bytes | bytearray, start: int, end: int) -> str:
    """A text of JSON without quotation marks, unescaped."""
    pieces = []
    while start < end:
        cut = min(start + PIECE, end)
        if cut < end:  # not within an escape, which has 6 bytes at most
            escape = body.rfind(b"\\", cut - 6, cut)
            cut = cut if escape < 0 else escape
        piece = body[start:cut].decode("latin-1")
        if "\\" in piece:
            try:
                piece = json.loads(f'"{piece}"', strict=False)
            except ValueError:
                piece = "\\"  # no character of base64
        pieces.append(piece)
        start = cut
    return "".join(pieces)
