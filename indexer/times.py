"""Times as the database holds them: microseconds since 1970, UTC."""

from datetime import UTC, datetime, timedelta

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def now() -> datetime:
    """With its zone."""
    return datetime.now(UTC)


def microseconds(time: datetime) -> int:
    """
    Raises:
        ValueError: the time has no zone.
    """
    if time.tzinfo is None:
        raise ValueError("expected a time with a time zone")
    return (time - EPOCH) // timedelta(microseconds=1)


def time_of(microseconds: int) -> datetime:
    """In UTC."""
    return EPOCH + timedelta(microseconds=microseconds)
