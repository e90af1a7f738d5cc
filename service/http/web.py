"""The files of the pages for people, and the headers that go with them."""

from pathlib import Path

from starlette.responses import FileResponse

from service.http.errors import RequestError

WEB = Path(__file__).parent.parent / "web"
MEDIA_TYPES = {".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml"}
ASSETS = {
    file.name: MEDIA_TYPES[file.suffix] for file in WEB.iterdir() if file.suffix in MEDIA_TYPES
}
# Own scripts and styles only, no other host, nothing inline. Pictures that need a key are fetched
# with it and shown as blobs.
PAGE_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
        "img-src 'self' blob: data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "Cache-Control": "no-cache",
}


def page_file(name: str) -> FileResponse:
    """A page of its own, by the name of its file."""
    return FileResponse(WEB / name, media_type="text/html", headers=PAGE_HEADERS)


def asset_file(name: str) -> FileResponse:
    """A script, style or picture of the pages.

    Raises:
        RequestError: not_found.
    """
    if name not in ASSETS:
        raise RequestError("not_found", "There is no such file.")
    return FileResponse(WEB / name, media_type=ASSETS[name], headers={"Cache-Control": "no-cache"})
