"""What the page has to know to begin."""

from pydantic import Field

from indexer.rows.overview import Overview
from service.http.fields import Schema, Time


class Caller(Schema):
    """Who asks, and what they may do."""

    keys: bool = Field(
        description="Whether this service uses API keys. If not, everybody may do everything."
    )
    name: str | None = Field(description="Of the API key; null without one.")
    scopes: list[str] = Field(description="What it allows; admin allows everything.")


class Camera(Schema):
    """The images of one camera; null is images without one."""

    camera_id: str | None
    images: int
    first_captured_at: Time | None
    last_captured_at: Time | None


class TagCount(Schema):
    """How many images have a tag."""

    tag: str
    images: int


class GalleryRecord(Schema):
    """What the gallery holds. Lists have at most 1000 entries."""

    images: int
    detections: int = Field(description="How many people the active model found.")
    labelled: int = Field(description="How many of these detections have a label.")
    labels: int = Field(description="How many different labels they have.")
    cameras: list[Camera] = Field(description="By name.")
    tags: list[TagCount] = Field(description="Most used first.")

    @classmethod
    def of(cls, found: Overview) -> "GalleryRecord":
        """From the gallery's overview."""
        return cls(
            images=found.scenes,
            detections=found.detections,
            labelled=found.labelled,
            labels=found.people,
            cameras=[
                Camera(
                    camera_id=one.camera_id,
                    images=one.scenes,
                    first_captured_at=one.first_captured_at,
                    last_captured_at=one.last_captured_at,
                )
                for one in found.cameras
            ],
            tags=[TagCount(tag=tag, images=count) for tag, count in found.tags],
        )
