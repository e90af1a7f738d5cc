"""Times as the database holds them: microseconds since 1970, UTC."""

from bisect import bisect_left
from datetime import UTC, datetime, time, timedelta
from functools import lru_cache
from itertools import pairwise
from zoneinfo import ZoneInfo

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
DAY = 86_400 * 1_000_000


def now() -> datetime:
    """The time now, with its zone."""
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
    """The time, in UTC."""
    return EPOCH + timedelta(microseconds=microseconds)


def time_of_day(microseconds: int | None, zone: str) -> int | None:
    """Microseconds since midnight on the clocks of an IANA time zone; None for None."""
    if microseconds is None:
        return None
    return (microseconds + _offset(microseconds, zone)) % DAY


def since_midnight(shown: time) -> int:
    """Microseconds from midnight to a time of day."""
    seconds = (shown.hour * 60 + shown.minute) * 60 + shown.second
    return seconds * 1_000_000 + shown.microsecond


@lru_cache(maxsize=128)
def offsets(zone: str, first_year: int, last_year: int) -> tuple[tuple[int, int, int], ...]:
    """The times between changes of a zone's clocks, in some years of UTC.

    Each is (start, end, offset), in microseconds: at start ≤ time < end the clocks show
    time + offset. Two changes within a day are not told apart; no zone had any since 1970.
    """
    years = (datetime(first_year, 1, 1, tzinfo=UTC), datetime(last_year + 1, 1, 1, tzinfo=UTC))
    start, end = map(microseconds, years)
    found = []
    for before, after in pairwise([*range(start, end, DAY), end]):
        offset = _offset(before, zone)
        if _offset(after, zone) != offset:
            day = range(before, after)
            change = before + bisect_left(day, True, key=lambda at: _offset(at, zone) != offset)
            found.append((start, change, offset))
            start = change
    found.append((start, end, _offset(start, zone)))
    return tuple(found)


def _offset(microseconds: int, zone: str) -> int:
    # No zone changes its offset on the calendar's first and last day, where a local time may lie
    # outside the calendar.
    inside = min(max(time_of(microseconds), _FIRST), _LAST)
    offset = inside.astimezone(ZoneInfo(zone)).utcoffset() or timedelta()
    return offset // timedelta(microseconds=1)


_FIRST = datetime.min.replace(tzinfo=UTC) + timedelta(days=2)
_LAST = datetime.max.replace(tzinfo=UTC) - timedelta(days=2)
