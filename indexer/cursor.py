"""Where a list of scenes goes on: an id that callers need not look into."""

import base64
import binascii
import re

from indexer.errors import InvalidCursorError

_ID = re.compile(r"img_[0-9A-HJKMNP-TV-Z]{26}")


def write_cursor(id: str) -> str:
    return base64.urlsafe_b64encode(id.encode()).decode()


def read_cursor(cursor: str) -> str:
    """
    Raises:
        InvalidCursorError: when write_cursor did not make it.
    """
    try:
        id = base64.b64decode(cursor, altchars=b"-_", validate=True).decode("ascii")
    except (ValueError, binascii.Error):
        id = ""
    if not _ID.fullmatch(id):
        raise InvalidCursorError("the cursor is not one that a list of scenes gave")
    return id
