"""Which images are meant: conditions on what is known about them."""

from datetime import time
from typing import Annotated, Self
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import AfterValidator, Field, StringConstraints, model_validator

from indexer.records import SceneFilter, TimeOfDay
from service.http.fields import CameraId, Id, Schema, Tag, Time

MOST_VALUES = 10_000
"""What PERSON_SEARCH_FILTER_MAX_VALUES may be at most."""
MANY = Field(max_length=MOST_VALUES, fail_fast=True)


class CameraFilter(Schema):
    """Which cameras to search; images without a camera pass `not_in`."""

    in_: Annotated[list[CameraId], MANY] | None = Field(None, alias="in")
    not_in: Annotated[list[CameraId], MANY] = Field([])


class TimeFilter(Schema):
    """from ≤ captured_at < to; images without captured_at do not pass."""

    from_: Time | None = Field(None, alias="from")
    to: Time | None = None


def _clock_time(value: str) -> str:
    time.fromisoformat(value)  # the pattern lets 29:00 pass
    return value


def _known_zone(value: str) -> str:
    try:
        ZoneInfo(value)
    except (ZoneInfoNotFoundError, ValueError, OSError):  # OSError: the name of a folder of zones
        raise ValueError("no time zone of the IANA database") from None
    return value


ClockTime = Annotated[
    str,
    StringConstraints(pattern=r"^[0-2][0-9]:[0-5][0-9](:[0-5][0-9])?$"),
    AfterValidator(_clock_time),
]
Zone = Annotated[
    str, StringConstraints(pattern=r"^[A-Za-z0-9_+/-]{1,64}$"), AfterValidator(_known_zone)
]


class TimeOfDayFilter(Schema):
    """from ≤ captured_at < to, in the local time of a time zone, on any day. It may run past
    midnight: 20:00 to 06:00. Images without captured_at do not pass.
    """

    from_: ClockTime = Field(alias="from", examples=["20:00"])
    to: ClockTime = Field(examples=["06:00"])
    tz: Zone = Field(
        description="A name from the IANA database, such as Europe/Berlin.",
        examples=["Europe/Berlin"],
    )

    @model_validator(mode="after")
    def _is_some_time(self) -> Self:
        if time.fromisoformat(self.from_) == time.fromisoformat(self.to):
            raise ValueError("from and to are the same time")
        return self

    def as_gallery(self) -> TimeOfDay:
        """As a filter of the gallery."""
        return TimeOfDay(time.fromisoformat(self.from_), time.fromisoformat(self.to), self.tz)


class TagFilter(Schema):
    """Images with all of, at least one of, none of these tags."""

    all: Annotated[list[Tag], MANY] = Field([])
    any: Annotated[list[Tag], MANY] = Field([])
    none: Annotated[list[Tag], MANY] = Field([])


class ImageFilter(Schema):
    """Images that are left out."""

    not_in: Annotated[list[Id], MANY] = Field([])


class SearchFilter(Schema):
    """Which images are searched. Filters apply before ranking, so they never shorten the list of
    hits.
    """

    camera_id: CameraFilter = CameraFilter.model_construct(in_=None, not_in=[])
    captured_at: TimeFilter = TimeFilter.model_construct(from_=None, to=None)
    time_of_day: TimeOfDayFilter | None = None
    tags: TagFilter = TagFilter()
    image_id: ImageFilter = ImageFilter()

    def lists(self) -> dict[str, int]:
        """The length of each list, by its JSON pointer without the first slash."""
        return {
            "camera_id/in": len(self.camera_id.in_ or ()),
            "camera_id/not_in": len(self.camera_id.not_in),
            "tags/all": len(self.tags.all),
            "tags/any": len(self.tags.any),
            "tags/none": len(self.tags.none),
            "image_id/not_in": len(self.image_id.not_in),
        }

    def scene_filter(self) -> SceneFilter:
        """As a filter of the gallery."""
        cameras = self.camera_id.in_
        return SceneFilter(
            camera_in=None if cameras is None else tuple(cameras),
            camera_not_in=tuple(self.camera_id.not_in),
            captured_from=self.captured_at.from_,
            captured_to=self.captured_at.to,
            time_of_day=None if self.time_of_day is None else self.time_of_day.as_gallery(),
            tags_all=tuple(self.tags.all),
            tags_any=tuple(self.tags.any),
            tags_none=tuple(self.tags.none),
            scene_not_in=tuple(self.image_id.not_in),
        )
