"""What requests and responses about labels, calibrations and evaluations hold."""

import json
from collections.abc import Iterator
from typing import Annotated, Literal, Self

from pydantic import Field, FiniteFloat, StringConstraints, model_validator

from indexer.evaluation.evaluation import Evaluation
from indexer.records import StoredCalibration
from models.evaluation.bootstrap import Estimate
from models.evaluation.figures import SearchFigures
from service.http.fields import LEAST_RATE, PRINTABLE, Box, Id, Schema, Time

MAX_TARGETS = 16
MAX_QUERIES = 10_000
MAX_PLACES = 10_000  # of one person
MAX_IMAGES = 200_000

LabelName = Annotated[str, StringConstraints(pattern=PRINTABLE, min_length=1, max_length=255)]
Rate = Annotated[FiniteFloat, Field(ge=LEAST_RATE, lt=1)]


# --- requests


class Label(Schema):
    """Who a detection is, in the caller's words; the same words mean the same person."""

    label: LabelName


class CalibrationRequest(Schema):
    """The false-match rates to find score thresholds for.

    Each rate needs at least 30 / rate pairs of differently labelled people in different scenes.
    """

    targets: list[Rate] | None = Field(
        None,
        min_length=1,
        max_length=MAX_TARGETS,
        description="Null means those of 0.01, 0.001, 0.0001 and 0.00001 for which there are "
        "enough pairs.",
    )


class KnownPlace(Schema):
    """Where a person is to be found; the box is in pixels of the upright image."""

    image_id: Id
    box: Box | None = None


class ProtocolQuery(Schema):
    """A person to look for, a stored detection or a box in a stored image, and where they are.

    The query's own image is not searched.
    """

    detection_id: Id | None = None
    image_id: Id | None = None
    box: Box | None = None
    person: LabelName | None = Field(
        None,
        description="Who it is: queries with the same name count as one person in the "
        "intervals. Null means a person of its own.",
    )
    holds: list[KnownPlace] = Field(
        min_length=1,
        max_length=MAX_PLACES,
        fail_fast=True,
        description="Every place where the person is.",
    )

    @model_validator(mode="after")
    def _names_one_person(self) -> Self:
        stored, shown = self.detection_id is not None, self.image_id is not None
        if stored == shown or shown != (self.box is not None):
            raise ValueError("give a detection_id, or an image_id and a box")
        return self


class EvaluationProtocol(Schema):
    """Queries, and where their people are.

    Give boxes for all places, or for none. With boxes, detections are ranked and the detector's
    recall is measured; without, images are ranked by their most similar detection.
    """

    queries: list[ProtocolQuery] = Field(min_length=1, max_length=MAX_QUERIES, fail_fast=True)
    images: Annotated[list[Id], Field(max_length=MAX_IMAGES, fail_fast=True)] | None = Field(
        None, min_length=1, description="The images to search; null means all."
    )

    @property
    def level(self) -> Literal["detection", "image"]:
        """What is ranked."""
        return "image" if self.queries[0].holds[0].box is None else "detection"

    def text(self) -> Iterator[bytes]:
        """As JSON, in pieces: one call for all of it would keep every thread waiting."""
        yield b'{"queries":['
        for number, query in enumerate(self.queries):
            yield (b"," if number else b"") + query.model_dump_json().encode()
        images = json.dumps(self.images, ensure_ascii=False, separators=(",", ":"))
        yield b'],"images":' + images.encode() + b"}"

    @model_validator(mode="after")
    def _has_boxes_or_not(self) -> Self:
        boxes = {place.box is None for query in self.queries for place in query.holds}
        if len(boxes) > 1:
            raise ValueError("either all places in holds have a box, or none has")
        return self


class EvaluationRequest(Schema):
    """What to measure the gallery on: its labels, or a protocol.

    With labels, each labelled detection is a query for its label in other images.
    """

    unlabelled: Literal["wrong", "left_out"] | None = Field(
        None,
        description="With labels. wrong: detections without a label count as wrong answers, "
        "which is right if labelled people are labelled wherever they appear. "
        "left_out: only labelled detections are searched. Null means wrong.",
    )
    protocol: EvaluationProtocol | None = None

    @model_validator(mode="after")
    def _is_one_kind(self) -> Self:
        if self.protocol is not None and self.unlabelled is not None:
            raise ValueError("unlabelled goes with labels, not with a protocol")
        return self


# --- responses


class Measured(Schema):
    """A measured figure and its 95 % interval; null if too little was measured for one."""

    value: float
    low: float | None
    high: float | None

    @classmethod
    def of(cls, measured: Estimate) -> Self:
        """From an estimate."""
        return cls(value=measured.value, low=measured.low, high=measured.high)

    @classmethod
    def of_some(cls, measured: Estimate | None) -> Self | None:
        """From an estimate, or None."""
        return None if measured is None else cls.of(measured)


class CalibratedRow(Schema):
    """The rates at a score, with Wilson's intervals; fnmr is null where no pair was genuine."""

    score: float
    fmr: Measured
    fnmr: Measured | None


class CalibratedThreshold(CalibratedRow):
    """The lowest score whose false-match rate is at most the target.

    Wilson's interval treats pairs as independent, so it is too narrow where one person is in many
    of them; `fmr_of_people` has an interval bootstrapped over people.
    """

    target: float
    fmr_of_people: Measured


class CalibrationSummary(Schema):
    """A calibration without its table.

    The score is detection_score × similarity of a stored detection to a query, as searches rank by
    it; every pair of labelled detections in different images was compared, each as the query once.
    """

    id: str
    in_use: bool
    created_at: Time
    model_sha256: str
    labels_sha256: str
    people: int
    detections: int
    impostor_pairs: int
    genuine_pairs: int
    least_target: float = Field(description="30 / impostor_pairs: `max_fmr` may not be smaller.")
    thresholds: list[CalibratedThreshold]


class CalibrationRecord(CalibrationSummary):
    """A calibration; its table has rising scores, from −1 on."""

    table: list[CalibratedRow]


class Calibrations(Schema):
    """Calibrations of the active model, newest first."""

    items: list[CalibrationSummary]


def calibration_summary(stored: StoredCalibration, *, in_use: bool) -> CalibrationSummary:
    """From a stored calibration, without its table."""
    content = stored.content
    return CalibrationSummary(
        id=stored.id,
        in_use=in_use,
        created_at=stored.created_at,
        model_sha256=stored.model_fingerprint,
        labels_sha256=stored.labels_sha256,
        people=content.people,
        detections=content.detections,
        impostor_pairs=content.impostor_pairs,
        genuine_pairs=content.genuine_pairs,
        least_target=content.least_target,
        thresholds=[
            CalibratedThreshold(
                target=one.target,
                score=one.score,
                fmr=Measured.of(one.fmr),
                fmr_of_people=Measured.of(one.fmr_of_people),
                fnmr=Measured.of_some(one.fnmr),
            )
            for one in content.thresholds
        ],
    )


def calibration_record(stored: StoredCalibration, *, in_use: bool) -> CalibrationRecord:
    """From a stored calibration, with its table."""
    return CalibrationRecord(
        **dict(calibration_summary(stored, in_use=in_use)),
        table=[
            CalibratedRow(
                score=row.score, fmr=Measured.of(row.fmr), fnmr=Measured.of_some(row.fnmr)
            )
            for row in stored.content.table
        ],
    )


class Figures(Schema):
    """How well people are found again, in [0, 1]; intervals are bootstrapped over people."""

    queries: int
    people: int
    map: Measured
    top_1: Measured
    top_5: Measured
    top_10: Measured

    @classmethod
    def of(cls, figures: SearchFigures) -> Self:
        """From measured figures."""
        shares = {
            name: Measured.of(getattr(figures, name))
            for name in ("map", "top_1", "top_5", "top_10")
        }
        return cls(queries=figures.queries, people=figures.people, **shares)


class CameraFigures(Schema):
    """The figures for the queries of one camera; null is images without a camera."""

    camera_id: str | None
    search: Figures


class DetectorFigures(Schema):
    """How many of the people in `holds` were detected; intervals are bootstrapped over images."""

    people: int
    recall: Measured


class EvaluationResult(Schema):
    """The result of an evaluation, and what it was measured on.

    `labels_sha256` or `protocol_sha256` is the hash of what was known: the sorted pairs of
    detection id and label, or the protocol, as JSON.
    """

    generation: str
    model: str
    model_sha256: str
    labels_sha256: str | None
    protocol_sha256: str | None
    unlabelled: Literal["wrong", "left_out"] | None
    level: Literal["detection", "image"]
    images: int = Field(description="How many were searched.")
    detections: int = Field(description="How many were searched.")
    search: Figures
    cameras: list[CameraFigures] = Field(description="Empty where all queries are of one camera.")
    detector: DetectorFigures | None = Field(description="Null where boxes are not known.")


def evaluation_fields(measured: Evaluation) -> dict[str, object]:
    """The figures of an EvaluationResult."""
    recall = measured.recall
    return {
        "search": Figures.of(measured.figures),
        "cameras": [
            CameraFigures(camera_id=name, search=Figures.of(figures))
            for name, figures in measured.cameras
        ],
        "detector": None
        if recall is None
        else DetectorFigures(people=measured.known_people, recall=Measured.of(recall)),
    }
