"""The route about the audit trail."""

from typing import Annotated

from fastapi import APIRouter, Depends, Query

from indexer.cursor import read_cursor, write_cursor
from indexer.errors import InvalidCursorError
from service.http.auth import authorize, route_scope
from service.http.bodies import refuse_unknown_parameters
from service.running.dependencies import PartsOf, check_limit
from service.upkeep.schemas import AuditPage, AuditQuery, AuditRecord

router = APIRouter(dependencies=[Depends(authorize), Depends(refuse_unknown_parameters)])


@router.get(
    "/audit",
    summary="List who did what",
    response_model=AuditPage,
    openapi_extra=route_scope("admin"),
)
def get_audit(query: Annotated[AuditQuery, Query()], parts: PartsOf) -> AuditPage:
    """Newest first: every change, and what admins did and read. Each entry is written in the same
    transaction as its change. It holds ids, field names and counts, never the values.
    """
    check_limit(query.limit, parts)
    entries = parts.gallery.trail.entries(
        limit=query.limit + 1,
        before=None if query.cursor is None else _read_number(query.cursor),
        action=query.action,
        subject=query.subject,
    )
    page = entries[: query.limit]
    more = len(entries) > query.limit
    return AuditPage(
        items=[AuditRecord.of(entry) for entry in page],
        next_cursor=write_cursor(f"aud_{page[-1].number:026}") if more else None,
    )


def _read_number(cursor: str) -> int:
    digits = read_cursor(cursor, "aud_").removeprefix("aud_")
    if not digits.isdigit() or int(digits) >= 2**63:
        raise InvalidCursorError("the cursor is not one that this list gave")
    return int(digits)
