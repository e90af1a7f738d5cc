"""How the report calls things, and how it writes numbers."""

import shlex
from collections.abc import Sequence

import numpy as np

HEAD_NAMES = {
    "oim": "OIM",
    "nae": "NAE",
    "nae_plus": "NAE+",
    "nae_plus_res5": "NAE+ (res5 only)",
}
HEADS = ("oim", "nae", "nae_plus")
"""The heads of the published tables, in their order."""

GROUND_TRUTH = "ground_truth"
"""The detector that knows: the annotated boxes."""

NONE = "–"


def role_name(head: str) -> str:
    """A head, or who knows the boxes, for reading."""
    return "ground truth" if head == GROUND_TRUTH else HEAD_NAMES[head]


def percent(values: Sequence[float]) -> str:
    """Mean ± sample standard deviation in percent, of values in [0, 1]; "–" for none of them."""
    return _with_spread(f"{100 * np.mean(values):.1f}", values) if len(values) else NONE


def signed_percent(values: Sequence[float]) -> str:
    """As `percent`, of differences in [−1, 1]."""
    return _with_spread(points(float(np.mean(values))), values) if len(values) else NONE


def points(difference: float) -> str:
    """A difference in [−1, 1] in percentage points, with its sign."""
    return f"{100 * difference:+.1f}".replace("-", "−")


def count_of_seeds(count: int) -> str:
    return f"{count} seed{'' if count == 1 else 's'}"


def deviation(values: Sequence[float]) -> float:
    """The sample standard deviation; 0 for one value."""
    return float(np.std(values, ddof=1)) if len(values) > 1 else 0.0


def _with_spread(mean: str, values: Sequence[float]) -> str:
    return f"{mean} ± {100 * deviation(values):.1f}" if len(values) > 1 else mean


def command_line(module: str, *arguments: object) -> str:
    """A command line as it is typed."""
    return shlex.join(["python", "-m", module, *map(str, arguments)])


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [list(header), ["---"] * len(header), *map(list, rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def commands_cell(commands: Sequence[str]) -> str:
    """Commands for a table's cell, one a line."""
    return "<br>".join(f"`{line}`" for line in commands) or NONE
