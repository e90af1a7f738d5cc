"""Answering a request with a job: 202, once the job is on disk."""

from collections.abc import Mapping
from typing import Any, BinaryIO

import anyio.to_thread
from fastapi import Request

from indexer.ids import new_id
from service.http.auth import key_name
from service.http.idempotency import Answer, Asked
from service.jobs.schemas import AcceptedJob
from service.running.jobs import submit
from service.running.parts import Parts


async def accept(
    request: Request,
    parts: Parts,
    asked: Asked | None,
    kind: str,
    arguments: Mapping[str, Any],
    *,
    files: Mapping[str, BinaryIO] | None = None,
    more: Mapping[str, str] | None = None,
) -> Answer:
    """Queue a job for a request.

    Args:
        asked: the answer is kept under this Idempotency-Key, in the transaction of the job.
        arguments: JSON.
        files: by name, spooled for the job.
        more: what the answer says besides.

    Raises:
        TooManyJobsError, StorageFullError, GalleryError: there is no job.
    """
    job_id = new_id("job_")
    answer = Answer(
        202,
        AcceptedJob(job_id=job_id, state="queued").model_dump(mode="json") | dict(more or {}),
        {"Location": f"/jobs/{job_id}"},
        kept=True,
    )
    reply = None if asked is None else asked.reply(answer.response())
    key = key_name(request)

    def keep() -> None:
        if files is not None:
            parts.jobs.spool.keep(job_id, files)
        submit(parts, kind, arguments, key=key, id=job_id, reply=reply)

    await anyio.to_thread.run_sync(keep)
    return answer
