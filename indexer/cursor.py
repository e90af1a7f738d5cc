"""Cursors: where a list goes on, as text that callers need not understand."""

import base64
import binascii
import re

from indexer.errors import InvalidCursorError

_ULID = re.compile(r"[0-9A-HJKMNP-TV-Z]{26}")


def write_cursor(id: str) -> str:
    return base64.urlsafe_b64encode(id.encode()).decode()


def read_cursor(cursor: str, prefix: str = "img_") -> str:
    """The id, which begins with prefix.

    Raises:
        InvalidCursorError: when write_cursor did not make it of such an id.
    """
    try:
        id = base64.b64decode(cursor, altchars=b"-_", validate=True).decode("ascii")
    except (ValueError, binascii.Error):
        id = ""
    if not (id.startswith(prefix) and _ULID.fullmatch(id.removeprefix(prefix))):
        raise InvalidCursorError("the cursor is not one that this list gave")
    return id
