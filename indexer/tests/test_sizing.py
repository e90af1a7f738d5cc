from pathlib import Path

import pytest

from indexer.bench import sizing
from indexer.bench.sizing import UNITS, main, table

PAGE = Path(__file__).parent.parent.parent / "service" / "SIZING.md"
DEFAULTS = {name: default for name, (default, _, _) in UNITS.items()}


def test_the_page_has_what_the_command_prints(capsys):
    main([])

    printed = capsys.readouterr().out.split("\n\n")
    assert len(printed) == 2
    for part in printed:
        assert part.strip() in PAGE.read_text(encoding="utf-8")


def test_the_arithmetic_is_what_a_person_would_do():
    # 10⁸ detections of 10 a scene: 10⁷ scenes of 300 kB are 3 TB; 1,576 B each are 157.6 GB.
    assert sizing.pictures_gb(1e8, DEFAULTS) == 3000
    assert sizing.database_gb(1e8, DEFAULTS) == pytest.approx(157.6)
    # 2 GB + 113.2 GB at $4; twice (157.6 + 3,000) GB at $0.10
    assert sizing.embedded_dollars(1e8, DEFAULTS) == pytest.approx(115.2 * 4 + 6315.2 * 0.1)
    # 1.3 × 117 GB, 12 GB and 15.76 GB at $4; twice (157.6 + 117) GB at $0.10; 3,000 GB at $0.023
    assert sizing.engines_dollars(1e8, DEFAULTS) == pytest.approx(
        (152.1 + 12 + 15.76) * 4 + 549.2 * 0.1 + 69
    )


@pytest.mark.parametrize(
    ("seconds", "told"),
    [(0.0288, "28.8 ms"), (2.88, "2.88 s"), (180, "3 min"), (7200, "2 h"), (172_800, "2 days")],
)
def test_times_are_told_in_the_unit_a_person_takes(seconds, told):
    assert sizing.span(seconds) == told


def test_a_figure_of_ones_own_takes_the_place_of_the_default(capsys):
    main(["--detections", "1e6", "--people-per-scene", "5", "--store-ms", "3.6"])

    told = capsys.readouterr().out
    assert "| people_per_scene | 5 " in told
    assert "| scenes | N / people_per_scene | 200,000 |" in told
    assert "| indexing: storing, one loader | scenes × store_ms | 12 min |" in told
    assert table([1e6], DEFAULTS) not in told
