"""Times as the database holds them: microseconds since 1970, UTC."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
DAY = 86_400 * 1_000_000


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


def time_of_day(microseconds: int | None, zone: str) -> int | None:
    """Microseconds since midnight that clocks in a zone of the IANA database show; None of None."""
    if microseconds is None:
        return None
    # No zone changes its offset on the calendar's first and last day, where a local time may lie
    # outside the calendar.
    inside = min(max(time_of(microseconds), _FIRST), _LAST)
    offset = inside.astimezone(ZoneInfo(zone)).utcoffset() or timedelta()
    return (microseconds + offset // timedelta(microseconds=1)) % DAY


_FIRST = datetime.min.replace(tzinfo=UTC) + timedelta(days=2)
_LAST = datetime.max.replace(tzinfo=UTC) - timedelta(days=2)
