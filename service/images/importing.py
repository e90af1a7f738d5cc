"""The route that adds images from the import directory."""

import io
from hashlib import sha256

import anyio.to_thread
from fastapi import APIRouter, Depends, Request, Response

from service.http.auth import authorize, route_scope
from service.http.bodies import deadline_of, read_body, refuse_unknown_parameters
from service.http.errors import RequestError
from service.http.idempotency import KEY_PARAMETER, JsonAnswer, KeyedRequest, fingerprint_of
from service.http.openapi import body, json_body
from service.images.jobs import MANIFEST, imports_off, manifest_lines
from service.jobs.accepting import accept
from service.jobs.schemas import AcceptedJob
from service.running.dependencies import PartsOf

MOST_LINES = 1_000_000
MANIFEST_TYPES = ("application/jsonl", "application/x-ndjson")

router = APIRouter(dependencies=[Depends(authorize), Depends(refuse_unknown_parameters)])


@router.post(
    "/gallery/imports",
    summary="Add images from the import directory",
    status_code=202,
    response_model=AcceptedJob,
    openapi_extra=route_scope("ingest")
    | body(*(json_body("ImportLine", media) for media in MANIFEST_TYPES))
    | {"parameters": [KEY_PARAMETER]},
)
async def import_images(request: Request, parts: PartsOf) -> Response:
    """The body is JSON Lines: one object per line, like the one shown. The answer is a job that
    adds the files one by one; if a line or a file cannot be used, the others are still added. Files
    must lie in the import directory of the settings; links that lead out of it are not followed.
    """
    settings = parts.settings
    if settings.import_dir is None:
        raise imports_off()
    deadline_s = deadline_of(request, settings.ingest_deadline_s)
    manifest = await read_body(
        request, MANIFEST_TYPES, deadline_s=deadline_s, max_bytes=settings.request_max_bytes
    )
    if manifest.count(b"\n") > MOST_LINES:
        raise RequestError(
            "body_too_large",
            f"A manifest has at most {MOST_LINES} lines.",
            limits={"max_lines": MOST_LINES},
        )
    total = await anyio.to_thread.run_sync(lambda: sum(1 for _ in manifest_lines(manifest)))
    if not total:
        raise RequestError("validation_failed", "The manifest names no file.")

    async def accept_import(keyed: KeyedRequest | None) -> JsonAnswer:
        parts.disk.check()
        files = {MANIFEST: io.BytesIO(manifest)}
        return await accept(request, parts, keyed, "import", {"total": total}, files=files)

    def fingerprint() -> str:
        return fingerprint_of(request, [("manifest", sha256(manifest).digest())])

    return await parts.idempotency.answer_once(request, fingerprint, accept_import)
