"""The routes about labels and what is measured on them: translate, call, translate back."""

import io
from hashlib import sha256
from typing import BinaryIO

import anyio.to_thread
from fastapi import APIRouter, Depends, Request, Response

from service.http.auth import authorize, route_scope
from service.http.bodies import deadline_of, read_json, refuse_unknown_parameters
from service.http.idempotency import KEY_PARAMETER, JsonAnswer, KeyedRequest, fingerprint_of
from service.http.openapi import body, json_body
from service.images.schemas import DetectionRecord, ImageDetection
from service.jobs.accepting import accept
from service.jobs.schemas import AcceptedJob
from service.labels.evaluations import PROTOCOL
from service.labels.schemas import (
    CalibrationRecord,
    CalibrationRequest,
    Calibrations,
    EvaluationRequest,
    EvaluationResult,
    Label,
    calibration_record,
    calibration_summary,
)
from service.running.dependencies import PartsOf

PROTOCOL_MAX_BYTES = 16 * 2**20
PROTOCOL_MAX_VALUES = 1_000_000
BODIES = (CalibrationRequest, EvaluationRequest, EvaluationResult, Label)

EVALUATION_EXAMPLE = {
    "protocol": {
        "queries": [
            {
                "image_id": "img_01JD5T6Q0Z8W3V7X9Y2K4M6N8P",
                "box": {"x1": 40, "y1": 40, "x2": 80, "y2": 160},
                "holds": [{"image_id": "img_01JD5T6Q0Z8W3V7X9Y2K4M6N8Q"}],
            }
        ]
    }
}

router = APIRouter(dependencies=[Depends(authorize), Depends(refuse_unknown_parameters)])


@router.put(
    "/gallery/detections/{detection_id}/label",
    summary="Label a detection",
    response_model=DetectionRecord,
    openapi_extra=route_scope("ingest") | body(json_body("Label", example={"label": "person-17"})),
)
async def put_label(detection_id: str, request: Request, parts: PartsOf) -> DetectionRecord:
    """Says who this is, and replaces an earlier label. Evaluations and calibrations use labels;
    search results never depend on them.
    """
    wanted = await read_json(
        request, Label, deadline_s=deadline_of(request, parts.settings.ingest_deadline_s)
    )
    parts.disk.check()
    found = await anyio.to_thread.run_sync(parts.gallery.people.label, detection_id, wanted.label)
    return DetectionRecord(**dict(ImageDetection.of(found)), image_id=found.scene_id)


@router.delete(
    "/gallery/detections/{detection_id}/label",
    summary="Remove a detection's label",
    status_code=204,
    openapi_extra=route_scope("ingest"),
)
def delete_label(detection_id: str, parts: PartsOf) -> None:
    """404 when it has none."""
    parts.gallery.people.remove_label(detection_id)


@router.post(
    "/evaluations",
    summary="Measure how well people are found again",
    status_code=202,
    response_model=AcceptedJob,
    openapi_extra=route_scope("admin")
    | body(json_body("EvaluationRequest", example=EVALUATION_EXAMPLE))
    | {"parameters": [KEY_PARAMETER]},
)
async def evaluate(request: Request, parts: PartsOf) -> Response:
    """Uses your labels, or a protocol that you send. Measures mAP, top-1, top-5 and top-10 of
    searches, overall and by camera, and the detector's recall if the protocol has boxes. The answer
    is a job; its `result` is an EvaluationResult.
    """
    wanted = await read_json(
        request,
        EvaluationRequest,
        deadline_s=deadline_of(request, parts.settings.ingest_deadline_s),
        max_bytes=PROTOCOL_MAX_BYTES,
        max_values=PROTOCOL_MAX_VALUES,
    )

    def protocol_file() -> BinaryIO:
        assert wanted.protocol is not None
        file = io.BytesIO()
        file.writelines(wanted.protocol.text())
        return file

    async def accept_evaluation(keyed: KeyedRequest | None) -> JsonAnswer:
        parts.disk.check()
        if wanted.protocol is None:
            arguments = {"protocol": False, "request": wanted.model_dump(mode="json")}
            return await accept(request, parts, keyed, "evaluate", arguments)
        files = {PROTOCOL: await anyio.to_thread.run_sync(protocol_file)}
        return await accept(request, parts, keyed, "evaluate", {"protocol": True}, files=files)

    def fingerprint() -> str:
        digest = sha256()
        for piece in () if wanted.protocol is None else wanted.protocol.text():
            digest.update(piece)
        digest.update(wanted.model_copy(update={"protocol": None}).model_dump_json().encode())
        return fingerprint_of(request, [("request", digest.digest())])

    return await parts.idempotency.answer_once(request, fingerprint, accept_evaluation)


@router.post(
    "/calibrations",
    summary="Measure what scores are worth",
    status_code=201,
    response_model=CalibrationRecord,
    openapi_extra=route_scope("admin")
    | body(json_body("CalibrationRequest", example={"targets": [0.01]})),
)
async def calibrate(request: Request, response: Response, parts: PartsOf) -> CalibrationRecord:
    """Compares all labelled detections in different images, as a search would, and measures how
    often two different people reach each score. From then on hits have an `fmr`, and searches may
    set a `max_fmr`. A false-match rate needs at least 30 / rate pairs (the rule of 30) and 20
    people; with fewer it is refused.
    """
    wanted = await read_json(
        request,
        CalibrationRequest,
        deadline_s=deadline_of(request, parts.settings.ingest_deadline_s),
    )
    parts.disk.check()
    made = await anyio.to_thread.run_sync(parts.gallery.calibrations.make, wanted.targets)
    response.headers["Location"] = f"/calibrations/{made.id}"
    return calibration_record(made, in_use=True)


@router.get(
    "/calibrations",
    summary="List calibrations",
    response_model=Calibrations,
    openapi_extra=route_scope("search"),
)
def list_calibrations(parts: PartsOf) -> Calibrations:
    """The newest 100 of the active model, newest first. The first one is in use."""
    listed = parts.gallery.calibrations.all()
    return Calibrations(
        items=[calibration_summary(one, in_use=number == 0) for number, one in enumerate(listed)]
    )


@router.get(
    "/calibrations/{calibration_id}",
    summary="Get a calibration",
    response_model=CalibrationRecord,
    openapi_extra=route_scope("search"),
)
def get_calibration(calibration_id: str, parts: PartsOf) -> CalibrationRecord:
    """With its table of scores and rates."""
    found = parts.gallery.calibrations.get(calibration_id)
    used = parts.gallery.calibrations.in_use()
    return calibration_record(found, in_use=used is not None and used.id == found.id)
