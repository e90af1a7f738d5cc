"""The route that adds images from the import directory."""

import anyio.to_thread
from fastapi import APIRouter, Depends, Request, Response

from service.http.auth import authorize, route_scope
from service.http.bodies import deadline_of, read_file, refuse_unknown_parameters
from service.http.errors import RequestError
from service.http.idempotency import (
    KEY_PARAMETER,
    JsonAnswer,
    KeyedRequest,
    digest_of,
    fingerprint_of,
)
from service.http.openapi import FILE, body, json_body
from service.images.jobs import MANIFEST, imports_off, manifest_lines
from service.jobs.accepting import accept
from service.jobs.schemas import AcceptedJob
from service.running.dependencies import PartsOf

MOST_LINES = 1_000_000
LINE_TYPES = ("application/jsonl", "application/x-ndjson")
FILE_TYPE = "application/octet-stream"  # for generated clients, most of which know no other
EXAMPLE = {"file": "gate/2026-11-20/0815.jpg", "camera_id": "gate", "tags": ["morning"]}

router = APIRouter(dependencies=[Depends(authorize), Depends(refuse_unknown_parameters)])


@router.post(
    "/gallery/imports",
    summary="Add images from the import directory",
    status_code=202,
    response_model=AcceptedJob,
    openapi_extra=route_scope("ingest")
    | body(
        *(json_body("ImportLine", media, EXAMPLE) for media in LINE_TYPES),
        {FILE_TYPE: {"schema": FILE}},
    )
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
    async with read_file(
        request,
        (*LINE_TYPES, FILE_TYPE),
        deadline_s=deadline_s,
        max_bytes=settings.request_max_bytes,
    ) as manifest:

        def count() -> int:
            return sum(1 for _ in manifest_lines(manifest, most=MOST_LINES))

        total = await anyio.to_thread.run_sync(count)
        if not total:
            raise RequestError("validation_failed", "The manifest names no file.")

        async def accept_import(keyed: KeyedRequest | None) -> JsonAnswer:
            parts.disk.check()
            files = {MANIFEST: manifest}
            return await accept(request, parts, keyed, "import", {"total": total}, files=files)

        def fingerprint() -> str:
            return fingerprint_of(request, [("manifest", digest_of(manifest))])

        return await parts.idempotency.answer_once(request, fingerprint, accept_import)
