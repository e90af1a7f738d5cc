"""What Milvus holds of a scene beside each of its people, and filters in Milvus's words.

Names of cameras and tags are stored as 64-bit hashes. Milvus knows no time zones: hours of the day
in a zone become hours of UTC, separately for each time between two changes of the zone's clocks.
"""

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection

from indexer.records import SceneFilter, StoredScene, TimeOfDay
from indexer.rows import scenes
from indexer.times import DAY, microseconds, offsets, since_midnight

COLUMNS = ("camera", "captured", "clock")  # 64-bit numbers
MOST_TAGS = 1_024
NEVER = 1 - 2**63  # captured of a scene without
# Clock changes are known within these; scenes outside, if there are any, are listed one by one.
FIRST, LAST = datetime(1970, 1, 1, tzinfo=UTC), datetime(2100, 1, 1, tzinfo=UTC)


def columns_of(scene: StoredScene) -> dict[str, Any]:
    """What is stored of a scene beside its number."""
    at = NEVER if scene.captured_at is None else microseconds(scene.captured_at)
    return {
        "camera": _hash(scene.camera_id or ""),
        "captured": at,
        "clock": at % DAY,
        "tags": [_hash(tag) for tag in scene.tags],
    }


def expression(filter: SceneFilter, connection: Connection) -> str:
    """A filter as Milvus writes it; without external_id and scene_not_in."""
    conditions = []
    if filter.camera_in is not None:
        conditions.append(f"camera in {_hashes(filter.camera_in)}")
    if filter.camera_not_in:
        conditions.append(f"camera not in {_hashes(filter.camera_not_in)}")
    if filter.captured_from is not None:
        conditions.append(f"captured >= {microseconds(filter.captured_from)}")
    if filter.captured_to is not None:
        conditions.append(f"captured < {microseconds(filter.captured_to)}")
        conditions.append(f"captured > {NEVER}")
    if filter.time_of_day is not None:
        conditions.append(_at_time_of_day(filter.time_of_day, connection))
    if filter.tags_all:
        conditions.append(f"array_contains_all(tags, {_hashes(filter.tags_all)})")
    if filter.tags_any:
        conditions.append(f"array_contains_any(tags, {_hashes(filter.tags_any)})")
    if filter.tags_none:
        conditions.append(f"not array_contains_any(tags, {_hashes(filter.tags_none)})")
    return " and ".join(conditions)


def listed(numbers: Iterable[int]) -> str:
    return f"[{', '.join(map(str, numbers))}]"


def _at_time_of_day(wanted: TimeOfDay, connection: Connection) -> str:
    every = SceneFilter(time_of_day=wanted)
    outside = [
        *scenes.numbers(connection, replace(every, captured_to=FIRST)).tolist(),
        *scenes.numbers(connection, replace(every, captured_from=LAST)).tolist(),
    ]
    ways = [f"scene in {listed(outside)}"]
    years = scenes.years_captured(connection, FIRST, LAST)
    times = defaultdict(list)
    if years is not None:
        for start, end, offset in offsets(wanted.zone, *years):
            times[offset].append(f"(captured >= {start} and captured < {end})")
    for offset, some in times.items():
        start = (since_midnight(wanted.start) - offset) % DAY
        end = (since_midnight(wanted.end) - offset) % DAY
        hours = f"clock >= {start} {'and' if start <= end else 'or'} clock < {end}"
        ways.append(f"({_any(some)} and ({hours}))")
    return _any(ways)


def _any(ways: Sequence[str]) -> str:
    """One of them: as a tree, since a chain of a hundred is deeper than Milvus reads."""
    if len(ways) == 1:
        return ways[0]
    half = len(ways) // 2
    return f"({_any(ways[:half])} or {_any(ways[half:])})"


def _hash(name: str) -> int:
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big", signed=True)


def _hashes(names: Iterable[str]) -> str:
    return listed(_hash(name) for name in names)
