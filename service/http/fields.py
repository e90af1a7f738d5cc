"""Fields that the bodies of several topics share, and the base of all bodies.

A name that a body does not list is refused: a typo in a filter must not widen a search.
"""

import math
from datetime import UTC, datetime
from typing import Annotated, Self

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    ConfigDict,
    FiniteFloat,
    PlainSerializer,
    StringConstraints,
    ValidationInfo,
    field_validator,
)

from indexer.index.live import View

MAX_TAGS = 32
LEAST_RATE = 1e-9  # no labels support a smaller one
PRINTABLE = r"^[^\x00-\x1f\x7f]*$"


def utc_text(value: datetime) -> str:
    """RFC 3339, in UTC."""
    return value.astimezone(UTC).isoformat().replace("+00:00", "Z")


def _in_range(value: datetime) -> datetime:
    try:
        return value.astimezone(UTC)
    except OverflowError:
        raise ValueError("the time lies outside the years 1 to 9999 in UTC") from None


Time = Annotated[AwareDatetime, AfterValidator(_in_range), PlainSerializer(utc_text)]
ExternalId = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_.:/-]{1,255}$")]
CameraId = Annotated[str, StringConstraints(pattern=PRINTABLE, min_length=1, max_length=255)]
Tag = Annotated[str, StringConstraints(pattern=PRINTABLE, min_length=1, max_length=64)]
Id = Annotated[str, StringConstraints(min_length=1, max_length=64)]


class Schema(BaseModel):
    """Base of all bodies."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Box(Schema):
    """Pixels of the upright image (after EXIF), origin top left; x2 and y2 are exclusive."""

    x1: FiniteFloat
    y1: FiniteFloat
    x2: FiniteFloat
    y2: FiniteFloat

    @field_validator("x2", "y2")
    @classmethod
    def _is_after(cls, value: float, info: ValidationInfo) -> float:
        first = {"x2": "x1", "y2": "y1"}[str(info.field_name)]
        if value <= info.data.get(first, -math.inf):
            raise ValueError(f"must be larger than {first}")
        return value

    @property
    def sides(self) -> tuple[float, float, float, float]:
        """x1, y1, x2, y2."""
        return self.x1, self.y1, self.x2, self.y2

    @classmethod
    def of(cls, box: tuple[float, float, float, float]) -> Self:
        """From x1, y1, x2, y2; to the hundredth of a pixel."""
        x1, y1, x2, y2 = (round(float(side), 2) for side in box)
        return cls(x1=x1, y1=y1, x2=x2, y2=y2)


class ModelOfIndex(Schema):
    """Where the embeddings come from: the generation of the index, and its model."""

    generation: str
    model: str
    model_sha256: str


def index_of(view: View) -> dict[str, str]:
    """A generation, as responses name it."""
    model = view.generation.model
    return {
        "generation": view.generation.id,
        "model": model.name,
        "model_sha256": model.fingerprint,
    }
