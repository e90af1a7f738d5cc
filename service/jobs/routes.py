"""The routes about jobs: list, look at, cancel, follow."""

import asyncio
import time
from collections.abc import AsyncIterator
from functools import partial
from typing import Annotated

import anyio.to_thread
from fastapi import APIRouter, Depends, Query, Request, Response
from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from indexer.errors import JobNotFoundError
from service.http.auth import authorize, own_jobs_of, route_scope
from service.http.bodies import refuse_unknown_parameters
from service.http.errors import OverloadedError
from service.jobs.schemas import FailedItem, Job, JobPage, JobsQuery, JobWithErrors
from service.running.dependencies import PartsOf, check_limit
from service.running.parts import Parts

EVENT_STREAM = "text/event-stream"
EVENT = {  # OpenAPI 3.1 has no word for streams: by custom, the schema is that of each event
    "type": "object",
    "properties": {
        "event": {"enum": ["progress", "end"]},
        "data": {
            "type": "string",
            "contentMediaType": "application/json",
            "contentSchema": {"$ref": "#/components/schemas/Job"},
        },
    },
    "required": ["event", "data"],
}
LOOK_S = 0.5
KEEP_ALIVE_S = 15.0
MAX_STREAMS = 100

router = APIRouter(dependencies=[Depends(authorize), Depends(refuse_unknown_parameters)])


@router.get(
    "/jobs",
    summary="List jobs",
    response_model=JobPage,
    openapi_extra=route_scope("ingest"),
)
def list_jobs(request: Request, query: Annotated[JobsQuery, Query()], parts: PartsOf) -> JobPage:
    """Newest first. A key without the scope admin sees only its own jobs."""
    check_limit(query.limit, parts)
    page = parts.gallery.jobs.page(
        limit=query.limit,
        cursor=query.cursor,
        states=query.state,
        kinds=query.kind,
        key=own_jobs_of(request),
    )
    return JobPage(items=[Job.of(job) for job in page.jobs], next_cursor=page.next_cursor)


@router.get(
    "/jobs/{job_id}",
    summary="Get a job",
    response_model=JobWithErrors,
    openapi_extra=route_scope("ingest"),
)
def get_job(job_id: str, request: Request, parts: PartsOf) -> JobWithErrors:
    """Its progress, and which items failed. Jobs are kept for 30 days after they end."""
    record = parts.gallery.jobs.get(job_id, key=own_jobs_of(request))
    errors = [FailedItem.of(error) for error in parts.gallery.jobs.errors(job_id)]
    return JobWithErrors.of(record, errors=errors)


@router.post(
    "/jobs/{job_id}/cancel",
    summary="Cancel a job",
    response_model=Job,
    openapi_extra=route_scope("ingest"),
)
def cancel_job(job_id: str, request: Request, parts: PartsOf) -> Job:
    """A waiting job is cancelled at once, a running one within 2 seconds or after the current
    picture. What it has added stays. Cancelling twice does no harm.
    """
    return Job.of(parts.jobs.cancel(job_id, key=own_jobs_of(request)))


@router.get(
    "/jobs/{job_id}/events",
    summary="Follow a job",
    response_class=StreamingResponse,
    responses={
        200: {
            "description": "Server-sent events",
            "content": {EVENT_STREAM: {"schema": EVENT}},
        }
    },
    openapi_extra=route_scope("ingest"),
)
async def follow_job(job_id: str, request: Request, parts: PartsOf) -> Response:
    """Server-sent events: `progress` with the job each time it changes, then `end` with the
    finished job. A stream that stops without `end` was cut off, for example by a restart: open it
    again.
    """
    key = own_jobs_of(request)
    await anyio.to_thread.run_sync(partial(parts.gallery.jobs.get, job_id, key=key))
    return _Events(parts, job_id)


class _Events(StreamingResponse):
    """The stream; while it is sent, it holds one of few places."""

    def __init__(self, parts: Parts, job_id: str) -> None:
        headers = {"X-Accel-Buffering": "no"}  # proxies must pass events on at once
        super().__init__(_events(parts, job_id), headers=headers, media_type=EVENT_STREAM)
        self._parts = parts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """
        Raises:
            OverloadedError: there is no place.
        """
        if self._parts.jobs.streams >= MAX_STREAMS:
            raise OverloadedError(f"{MAX_STREAMS} clients follow jobs already.")
        self._parts.jobs.streams += 1
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._parts.jobs.streams -= 1


async def _events(parts: Parts, job_id: str) -> AsyncIterator[str]:
    sent, sent_at = "", time.monotonic()
    try:
        while not parts.jobs.stopping:
            record = await anyio.to_thread.run_sync(parts.gallery.jobs.get, job_id)
            job = Job.of(record).model_dump_json()
            if record.ended:
                yield _event("end", job)
                return
            if job != sent:
                sent, sent_at = job, time.monotonic()
                yield _event("progress", job)
            elif time.monotonic() - sent_at >= KEEP_ALIVE_S:
                sent_at = time.monotonic()
                yield ": still there\n\n"
            await asyncio.sleep(LOOK_S)
    except JobNotFoundError:
        return


def _event(name: str, data: str) -> str:
    return f"event: {name}\ndata: {data}\n\n"
