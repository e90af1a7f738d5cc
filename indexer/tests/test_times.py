"""Times as the database holds them, and what clocks show."""

from datetime import UTC, datetime

import numpy as np
import pytest

from indexer.times import DAY, microseconds, offsets, time_of_day

ZONES = ["UTC", "Europe/Berlin", "America/St_Johns", "Africa/Casablanca", "Australia/Lord_Howe",
         "Pacific/Apia", "Asia/Kathmandu"]  # fmt: skip


@pytest.mark.parametrize("zone", ZONES)
def test_between_two_changes_of_its_clocks_a_zone_keeps_its_offset(zone):
    spans = offsets(zone, 1970, 2030)

    assert spans[0][0] == 0
    assert spans[-1][1] == microseconds(datetime(2031, 1, 1, tzinfo=UTC))
    chance = np.random.default_rng(5)
    for number, (start, end, offset) in enumerate(spans):
        assert number == 0 or offset != spans[number - 1][2]
        assert number == 0 or start == spans[number - 1][1]
        for at in [start, end - 1, *chance.integers(start, end, 20).tolist()]:
            assert (at + offset) % DAY == time_of_day(at, zone)
