"""What goes wrong, as HTTP says it: one table, one shape (RFC 9457 problem details)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fastapi.exceptions import RequestValidationError
from pydantic_core import ErrorDetails
from starlette.responses import JSONResponse

from models.errors import PersonSearchError

TYPE_PREFIX = "urn:person-search:problem:"
MAX_LISTED_ERRORS = 20


@dataclass(frozen=True)
class ProblemKind:
    """What all problems with one code have in common.

    Attributes:
        status: of the response.
        title: a short sentence.
        help: what the caller can do, for the page about the problem.
        retryable: whether the same request may succeed later.
        told: whether callers get the error's own message; not when it is about files and faults of
            this machine, or repeats what was sent.
    """

    status: int
    title: str
    help: str
    retryable: bool = False
    told: bool = True


PROBLEMS: dict[str, ProblemKind] = {
    "malformed_request": ProblemKind(
        400, "Request is not HTTP", "Send HTTP/1.1 with one Host header; a client library does."
    ),
    "malformed_body": ProblemKind(
        400, "Body is not readable", "Send one JSON document in UTF-8, each name once."
    ),
    "malformed_multipart": ProblemKind(
        400, "Multipart body is not readable", "Send multipart/form-data as curl -F does."
    ),
    "invalid_cursor": ProblemKind(
        400, "Cursor is not valid", "Use next_cursor of the previous page, with the same filters."
    ),
    "unauthenticated": ProblemKind(
        401, "An API key is needed", "Send the header Authorization: Bearer with your secret."
    ),
    "insufficient_scope": ProblemKind(
        403, "The API key does not allow this", "Use a key that has the scope for this."
    ),
    "foreign_origin": ProblemKind(
        403,
        "Request comes from another site",
        "Without API keys, only requests for this machine's own address are answered.",
    ),
    "not_found": ProblemKind(404, "Not found", "Check the path and the id."),
    "method_not_allowed": ProblemKind(
        405, "Method is not allowed here", "The Allow header lists the methods."
    ),
    "duplicate_image": ProblemKind(
        409, "Image is stored already", "Leave on_duplicate out to get the stored record."
    ),
    "external_id_conflict": ProblemKind(
        409,
        "External id is taken",
        "Another image has this external_id; choose another.",
        told=False,
    ),
    "idempotency_in_progress": ProblemKind(
        409,
        "A request with this Idempotency-Key is still running",
        "Send it again after Retry-After seconds to get its answer.",
        retryable=True,
    ),
    "job_conflict": ProblemKind(
        409, "Job has ended", "It can no longer be cancelled; its record says what it did."
    ),
    "imports_off": ProblemKind(
        409,
        "Imports are not set up",
        "Start the service with PERSON_SEARCH_IMPORT_DIR, or upload the images.",
    ),
    "keys_off": ProblemKind(
        409,
        "The service has no API keys",
        "Start it with PERSON_SEARCH_API_KEYS=name:admin:secret; that key can make others.",
    ),
    "key_name_taken": ProblemKind(
        409, "Another API key has this name", "Choose another, or delete that key first."
    ),
    "too_many_keys": ProblemKind(
        409, "No more API keys can be made", "Delete one that is no longer used."
    ),
    "snapshot_busy": ProblemKind(
        409,
        "Snapshots are being changed",
        "Another snapshot is being made or deleted: try again when that is done.",
        retryable=True,
        told=False,
    ),
    "erasure_changed": ProblemKind(
        409,
        "What would be erased has changed",
        "Nothing was erased. Make a new preview, check it and execute it.",
    ),
    "erasure_token": ProblemKind(
        410, "Preview cannot be executed", "Make a new preview and execute it within 15 minutes."
    ),
    "generation_building": ProblemKind(
        409, "Another model is being indexed", "Wait for that job, or cancel it."
    ),
    "generation_active": ProblemKind(
        409, "Model is in use already", "The active generation stays active: activate another one."
    ),
    "reindex_incomplete": ProblemKind(
        409,
        "Some images could not be indexed again",
        "The job's errors name them: add the files again, delete them, or skip_unreadable=true.",
    ),
    "too_few_labels": ProblemKind(
        409,
        "Too few people are labelled to compare models",
        "Label more people who appear in several images, or leave min_map_ratio out.",
    ),
    "generation_worse": ProblemKind(
        409,
        "The new model finds people less well than required",
        "It was kept but not activated; activate its generation to use it anyway.",
    ),
    "detection_gone": ProblemKind(
        410,
        "Detection belongs to another model",
        "Fetch the image that the message names: its people have new ids now.",
    ),
    "generation_gone": ProblemKind(
        410, "The index of the old model was deleted", "Search again, with the picture."
    ),
    "no_attention": ProblemKind(
        409,
        "The model cannot show where it looks",
        "Only models with an NAE+ head can; GET /models lists the heads.",
    ),
    "head_timeout": ProblemKind(
        408, "Headers did not arrive in time", "Send all headers of a request at once.", True
    ),
    "precondition_failed": ProblemKind(
        412, "Image has changed meanwhile", "Fetch it again and send the new ETag as If-Match."
    ),
    "body_too_large": ProblemKind(
        413, "Body is too large", "Send less in one request; GET /version lists the limits."
    ),
    "image_too_large": ProblemKind(413, "Image file is too large", "Compress the image."),
    "image_too_many_pixels": ProblemKind(
        413, "Image has too many pixels", "Make the image smaller."
    ),
    "too_many_files": ProblemKind(
        413, "Too many files", "Send the files in several requests."
    ),
    "unsupported_media_type": ProblemKind(
        415, "Media type is not supported", "Send one of the media types in the message."
    ),
    "unsupported_image_format": ProblemKind(
        415, "Image format is not supported", "Send JPEG, PNG, WebP, AVIF, HEIC, BMP or TIFF."
    ),
    "validation_failed": ProblemKind(
        422, "Request is not valid", "Each entry of `errors` says where and what is wrong."
    ),
    "image_corrupt": ProblemKind(422, "Image is corrupt", "Check that it opens in a viewer."),
    "image_truncated": ProblemKind(
        422, "Image ends too early", "The file was cut off; copy it again."
    ),
    "image_too_small": ProblemKind(
        422, "Image is too small", "Send a larger picture, or a wider part of this one."
    ),
    "image_too_complex": ProblemKind(
        422,
        "Image is too complex to decode",
        "Save it again as a plain JPEG or PNG, without text, frames or extra scans.",
    ),
    "box_outside_image": ProblemKind(
        422,
        "Box does not fit the image",
        "Boxes are pixels of the upright picture: x1 < x2, y1 < y2, inside it.",
    ),
    "no_person_in_query": ProblemKind(
        422, "No person was found in the query", "Send a box around the person."
    ),
    "all_items_failed": ProblemKind(
        422, "None of the files could be added", "Each entry of `results` says why."
    ),
    "idempotency_key_reused": ProblemKind(
        422,
        "Idempotency-Key belongs to another request",
        "Use a new key for each new request.",
    ),
    "path_not_allowed": ProblemKind(
        422,
        "File lies outside the import directory",
        "Name files by their path below the import directory.",
    ),
    "file_unreadable": ProblemKind(
        422, "File cannot be read", "Name a file that exists and that the service may read."
    ),
    "not_calibrated": ProblemKind(
        422,
        "There is no calibration",
        "Label people, then POST /calibrations; or leave max_fmr out.",
    ),
    "calibration_unsupported": ProblemKind(
        422,
        "Too few labels for this rate",
        "Label more people in more scenes, or ask for a larger false-match rate.",
    ),
    "nothing_to_evaluate": ProblemKind(
        422,
        "There is nothing to evaluate",
        "Label people who appear in at least two scenes, or send a protocol.",
    ),
    "too_many_people": ProblemKind(
        422, "Too many people at once", "Name fewer scenes, or set unlabelled to left_out."
    ),
    "head_too_large": ProblemKind(
        431, "The request's headers are too large", "Send fewer or shorter headers and parameters."
    ),
    "internal": ProblemKind(
        500,
        "Internal error",
        "An error in the service; its log has details under the request id.",
        told=False,
    ),
    "job_abandoned": ProblemKind(
        500,
        "Job was abandoned",
        "The service stopped several times while running this job; its log may say why.",
    ),
    "dataset": ProblemKind(500, "Dataset cannot be read", "See the service's log.", told=False),
    "gallery": ProblemKind(500, "Gallery failed", "See the service's log.", told=False),
    "gallery_damaged": ProblemKind(
        500, "Gallery is damaged", "See the service's log; restore a copy.", told=False
    ),
    "model_file": ProblemKind(
        503, "Model file cannot be used", "See the service's log.", told=False
    ),
    "settings": ProblemKind(503, "Settings are wrong", "See the service's log.", told=False),
    "gallery_locked": ProblemKind(
        503, "Gallery is used by another program", "Stop the other program.", True, told=False
    ),
    "gallery_mismatch": ProblemKind(
        503,
        "Gallery belongs to another model",
        "Use the model that made the gallery, or a new data directory.",
        told=False,
    ),
    "database_unavailable": ProblemKind(
        503,
        "A server of the gallery cannot be reached",
        "Try again soon: the same request again does no harm.",
        retryable=True,
        told=False,
    ),
    "not_ready": ProblemKind(503, "Service is not ready", "Try again soon.", retryable=True),
    "overloaded": ProblemKind(
        503, "Too much work is waiting", "Try again after Retry-After seconds.", retryable=True
    ),
    "shutting_down": ProblemKind(
        503, "Service is shutting down", "Try again soon.", retryable=True
    ),
    "deadline_exceeded": ProblemKind(
        504, "Request took too long", "Try again, or with less in one request.", retryable=True
    ),
    "insufficient_storage": ProblemKind(
        507, "Disk is full", "Free space; search and delete go on meanwhile.", retryable=True
    ),
}  # fmt: skip
RETRY_AFTER_S = {
    "idempotency_in_progress": 1,
    "overloaded": 1,
    "not_ready": 1,
    "shutting_down": 5,
    "deadline_exceeded": 1,
}


class RequestError(PersonSearchError):
    """A request that cannot be answered; its code is one of PROBLEMS.

    Attributes:
        headers: to send with the answer.
        errors: places and reasons, as `validation_failed` lists them.
    """

    def __init__(
        self,
        code: str,
        message: str,
        *,
        limits: Mapping[str, int] | None = None,
        headers: Mapping[str, str] | None = None,
        errors: Sequence[Mapping[str, str]] = (),
    ) -> None:
        super().__init__(message, limits=limits)
        self.code = code
        self.headers = dict(headers or {})
        self.errors = [dict(error) for error in errors]


class AllItemsFailedError(RequestError):
    """Every item of a request failed.

    Attributes:
        results: the reason for each, as JSON; part of the problem document.
    """

    def __init__(self, message: str, results: Sequence[Mapping[str, Any]] = ()) -> None:
        super().__init__("all_items_failed", message)
        self.results = [dict(result) for result in results]


class OverloadedError(PersonSearchError):
    """The queue is full."""

    code = "overloaded"


class DeadlineError(PersonSearchError):
    """The work was not done in time."""

    code = "deadline_exceeded"


class ShuttingDownError(PersonSearchError):
    """The service takes no more work."""

    code = "shutting_down"


def problem(error: PersonSearchError, *, instance: str, request_id: str) -> dict[str, Any]:
    """The problem document of an error. It never repeats what the caller sent."""
    kind = PROBLEMS[error.code]
    content: dict[str, Any] = {
        "type": TYPE_PREFIX + error.code.replace("_", "-"),
        "title": kind.title,
        "status": kind.status,
        "detail": str(error) if kind.told else kind.help,
        "instance": instance,
        "code": error.code,
        "retryable": kind.retryable,
        "request_id": request_id,
    }
    if isinstance(error, RequestError) and error.errors:
        content["errors"] = error.errors
    if error.limits:
        content["limits"] = error.limits
    if isinstance(error, AllItemsFailedError) and error.results:
        content["results"] = error.results
    return content


def problem_response(
    content: Mapping[str, Any], headers: Mapping[str, str] | None = None
) -> JSONResponse:
    """A problem document as a response, with the headers that its code asks for."""
    all_headers = dict(headers or {})
    if content["code"] in RETRY_AFTER_S:
        all_headers.setdefault("Retry-After", str(RETRY_AFTER_S[content["code"]]))
    if content["status"] == 401:
        all_headers["WWW-Authenticate"] = 'Bearer realm="person-search"'
    return JSONResponse(
        _encodable(content),
        status_code=content["status"],
        headers=all_headers,
        media_type="application/problem+json",
    )


def invalid_at(
    pointer: str, code: str, message: str, *, limits: Mapping[str, int] | None = None
) -> RequestError:
    """One place of a request is wrong."""
    return RequestError(
        "validation_failed",
        f"{pointer}: {message}",
        limits=limits,
        errors=[{"pointer": pointer, "code": code, "message": message}],
    )


def too_many(pointer: str, limit: int) -> RequestError:
    """A number or a list is larger than a setting allows."""
    return invalid_at(pointer, "less_than_equal", f"at most {limit}", limits={"max": limit})


def validation_error(errors: Sequence[ErrorDetails | Mapping[str, Any]]) -> RequestError:
    """Pydantic's list of errors as one RequestError: places and reasons, no values."""
    if any(error["type"] == "json_invalid" for error in errors):
        return RequestError("malformed_body", "The body is not one valid JSON document.")
    listed = [
        {
            "pointer": _pointer(error["loc"]),
            "code": str(error["type"]),
            "message": str(error["msg"]).removeprefix("Value error, ")[:300],
        }
        for error in errors[:MAX_LISTED_ERRORS]
    ]
    first = listed[0]
    more = f" (and {len(errors) - 1} more)" if len(errors) > 1 else ""
    return RequestError(
        "validation_failed", f"{first['pointer']}: {first['message']}{more}", errors=listed
    )


def parameter_error(error: RequestValidationError) -> RequestError:
    """Like validation_error, for query and path parameters."""
    return validation_error(error.errors())


def _pointer(location: Sequence[int | str]) -> str:
    """A JSON pointer (RFC 6901)."""
    steps = (str(step).replace("~", "~0").replace("/", "~1")[:100] for step in location)
    return "".join(f"/{step}" for step in steps)


def _encodable(value: Any) -> Any:
    """Text that UTF-8 can hold: no lone surrogates."""
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode()
    if isinstance(value, Mapping):
        return {_encodable(k): _encodable(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_encodable(item) for item in value]
    return value
