"""What galleries of several sizes need: arithmetic on figures that can be measured anew.

    python -m indexer.bench.sizing [--detections 1e6 1e8 1e9] [--store-ms 10 …]

Each figure below is an argument; beside it stands the command that measured the default, or that it
is assumed. Prints the tables of service/SIZING.md.
"""

if __name__ == "__main__":
    from models.command import run

    run("indexer.bench.sizing")

import argparse
from collections.abc import Callable, Mapping, Sequence

from models.command import command

GB = 1e9
HOUR, DAY = 3600.0, 86400.0

Units = Mapping[str, float]

UNITS = {  # name: default, unit, source
    "people_per_scene": (10, "", "assumed"),
    "scene_bytes": (300e3, "B", "assumed: a JPEG of 1280×720"),
    "database_bytes": (1576, "B a detection", "indexer.bench, disk_bytes_each at 100,000"),
    "open_bytes": (1132, "B a detection", "indexer.bench, open_bytes_each at 1,000,000"),
    "open_us": (25.2, "µs a detection", "indexer.bench, gallery_open_s at 1,000,000"),
    "flat_ns": (28.8, "ns a detection", "indexer.bench, single_ms at 1,000,000"),
    "detect_s": (2 / 5.01, "core-s a scene", "models.bench, 5.01 scenes a second on 2 cores"),
    "store_ms": (10, "ms a scene", "assumed; indexer.bench prints it: 23 on a busy disk"),
    "graph_bytes": (1170, "B a detection", "256 float32, and an HNSW's 2 × 16 links of 4 bytes"),
    "code_bytes": (400, "B a detection", "the same with 8-bit numbers (SQ8)"),
    "gpu_scenes": (100, "scenes a GPU-s", "assumed: measure models.bench --device cuda"),
    "cores": (64, "cores that index", "assumed"),
    "memory_price": (4, "$ a GB and month", "assumed, its share of cores included"),
    "disk_price": (0.1, "$ a GB and month", "assumed"),
    "object_price": (0.023, "$ a GB and month", "assumed"),
    "core_price": (0.04, "$ an hour", "assumed"),
}

Row = tuple[str, str, Callable[[float, Units], float], Callable[[float], str]]


def scenes(n: float, u: Units) -> float:
    """How many scenes n detections are from."""
    return n / u["people_per_scene"]


def pictures_gb(n: float, u: Units) -> float:
    """Originals on disk or in object storage."""
    return scenes(n, u) * u["scene_bytes"] / GB


def database_gb(n: float, u: Units) -> float:
    """Scenes, boxes and vectors."""
    return n * u["database_bytes"] / GB


def memory_gb(n: float, u: Units) -> float:
    """What the one process of the embedded gallery holds."""
    return n * u["open_bytes"] / GB


def embedded_dollars(n: float, u: Units) -> float:
    """A month of one machine: memory, and a disk half full."""
    disk = 2 * (database_gb(n, u) + pictures_gb(n, u))
    return u["memory_price"] * (2 + memory_gb(n, u)) + u["disk_price"] * disk


def engines_dollars(n: float, u: Units) -> float:
    """A month: vectors in memory and a third more, three services of 4 GB, PostgreSQL with a
    tenth of its size in memory; disks half full for both engines; pictures in object storage."""
    vectors = n * u["graph_bytes"] / GB
    memory = 1.3 * vectors + 3 * 4 + max(4, database_gb(n, u) / 10)
    disk = 2 * (database_gb(n, u) + vectors)
    return (
        u["memory_price"] * memory + u["disk_price"] * disk + u["object_price"] * pictures_gb(n, u)
    )


def size(value: float) -> str:
    """Gigabytes, as a person says it."""
    return f"{value / 1000:,.2f} TB" if value >= 1000 else f"{value:,.3g} GB"


def span(seconds: float) -> str:
    """A time, as a person says it."""
    for unit, length in (("days", DAY), ("h", HOUR), ("min", 60.0), ("s", 1.0)):
        if seconds >= 2 * length:
            return f"{seconds / length:.3g} {unit}"
    return f"{seconds * 1000:.3g} ms"


def dollars(value: float) -> str:
    """Money, to two digits."""
    return f"${float(f'{value:.2g}'):,.0f}" if value >= 10 else f"${value:.2f}"


ROWS: list[Row] = [
    ("scenes", "N / people_per_scene", scenes, lambda x: f"{x:,.0f}"),
    ("pictures", "scenes × scene_bytes", pictures_gb, size),
    ("database", "N × database_bytes", database_gb, size),
    ("embedded: memory of the process", "N × open_bytes", memory_gb, size),
    ("embedded: start", "N × open_us", lambda n, u: n * u["open_us"] / 1e6, span),
    ("embedded: a search", "N × flat_ns", lambda n, u: n * u["flat_ns"] / 1e9, span),
    ("embedded: a month", "memory + disks", embedded_dollars, dollars),
    ("Milvus: memory, HNSW", "N × graph_bytes", lambda n, u: n * u["graph_bytes"] / GB, size),
    ("Milvus: memory, SQ8", "N × code_bytes", lambda n, u: n * u["code_bytes"] / GB, size),
    ("engines: a month", "memory + disks + objects", engines_dollars, dollars),
    (
        "indexing: finding, on the cores",
        "scenes × detect_s / cores",
        lambda n, u: scenes(n, u) * u["detect_s"] / u["cores"],
        span,
    ),
    (
        "indexing: finding, on one GPU",
        "scenes / gpu_scenes",
        lambda n, u: scenes(n, u) / u["gpu_scenes"],
        span,
    ),
    (
        "indexing: storing, one loader",
        "scenes × store_ms",
        lambda n, u: scenes(n, u) * u["store_ms"] / 1000,
        span,
    ),
    (
        "indexing: cores, in all",
        "scenes × detect_s × core_price",
        lambda n, u: scenes(n, u) * u["detect_s"] / HOUR * u["core_price"],
        dollars,
    ),
]


def table(detections: Sequence[float], units: Units) -> str:
    """A row for each need, a column for each size, in Markdown."""
    lines = ["| what | how | " + " | ".join(f"N = {n:,.0f}" for n in detections) + " |"]
    lines.append("| --- | --- |" + " ---: |" * len(detections))
    for what, how, value, told in ROWS:
        cells = " | ".join(told(value(n, units)) for n in detections)
        lines.append(f"| {what} | {how} | {cells} |")
    return "\n".join(lines)


@command
def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m indexer.bench.sizing", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--detections", type=float, nargs="+", default=[1e6, 1e8, 1e9])
    for name, (default, unit, source) in UNITS.items():
        told = f"{unit or 'number'} ({default:g}; {source})"
        parser.add_argument(f"--{name.replace('_', '-')}", type=float, default=default, help=told)
    asked = vars(parser.parse_args(arguments))
    print("| figure | | from |\n| --- | ---: | --- |")
    for name, (_, unit, source) in UNITS.items():
        print(f"| {name} | {asked[name]:,.4g} {unit} | {source} |")
    print("\n" + table(asked["detections"], asked))
