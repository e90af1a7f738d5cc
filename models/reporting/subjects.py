"""The datasets of a report, and the galleries that their queries are asked in."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from models.datasets.cuhk_sysu import GALLERY_SIZES, cuhk_sysu_queries
from models.datasets.read import read_dataset
from models.datasets.scene import Query, SceneDataset
from models.errors import DatasetError
from models.reporting.cited import CUHK_SYSU, GALLERY_SIZE, PRW
from models.reporting.galleries import SEED, gallery_sizes, with_galleries_of

PUBLISHED_SETS = {"CUHK-SYSU test": (CUHK_SYSU, 6978, 2900), "PRW test": (PRW, 6112, 2057)}
"""What readers call the test sets of the published figures: name there, scenes and queries."""


@dataclass(frozen=True)
class Subject:
    """A dataset as it is reported on.

    Attributes:
        arguments: of models.evaluate, that read it.
        title: how it is called in headers.
        published_as: "CUHK-SYSU" or "PRW", where ours may stand in one column with published
            figures; else None.
        by_size: the same scenes, with the queries of each gallery size.
        sizes_told: how those galleries were made.
        sizes_arguments: of models.evaluate, that score them, if it can.
    """

    dataset: SceneDataset
    arguments: tuple[object, ...]
    title: str
    published_as: str | None
    by_size: dict[int, SceneDataset]
    sizes_told: str
    sizes_arguments: tuple[object, ...] = ()

    @property
    def queries(self) -> list[Query]:
        """All that are asked, at any gallery size."""
        every = [self.dataset, *self.by_size.values()]
        return [query for dataset in every for query in dataset.queries]


def read_subjects(directories: Sequence[Path], limit: int | None) -> list[Subject]:
    """The datasets in directories, each of which must have a name of its own.

    Raises:
        DatasetError: one cannot be read, or two have one name.
    """
    subjects = [read_subject(directory, limit) for directory in directories]
    titles: dict[str, Path] = {}
    for directory, subject in zip(directories, subjects, strict=True):
        if subject.title in titles:
            raise DatasetError(
                f"{directory} and {titles[subject.title]} are both called {subject.title!r}: "
                "expected datasets of different names"
            )
        titles[subject.title] = directory
    return subjects


def read_subject(directory: Path, limit: int | None = None) -> Subject:
    """A dataset, whole or its first scenes.

    Raises:
        DatasetError: it cannot be read, or has no scenes.
    """
    dataset = read_dataset(directory, gallery_size=GALLERY_SIZE)
    if not dataset.scenes:
        raise DatasetError(f"{directory}: expected scenes to report on, got none")
    known = PUBLISHED_SETS if dataset.protocol == "published" else {}
    name, *whole = known.get(dataset.name, (dataset.name,))
    title = f"{name} (gallery {GALLERY_SIZE})" if name == CUHK_SYSU else name
    arguments: tuple[object, ...] = ("--data", directory)
    if limit is not None and limit < len(dataset.scenes):
        dataset = dataset.first(limit)
        arguments = (*arguments, "--limit", limit)
        title = f"{name}, first {limit} scenes"
    elif whole and whole != [len(dataset.scenes), len(dataset.queries)]:
        title = f"{name}, {len(dataset.scenes)} of its {whole[0]} scenes"
    published_as = name if whole == [len(dataset.scenes), len(dataset.queries)] else None
    if name == CUHK_SYSU and "--limit" not in arguments:
        return Subject(
            dataset,
            arguments,
            title,
            published_as,
            {
                size: replace(dataset, queries=cuhk_sysu_queries(directory, dataset.scenes, size))
                for size in GALLERY_SIZES
            },
            "The galleries are those of the dataset's own lists.",
            ("--gallery-size", *GALLERY_SIZES),
        )
    return Subject(
        dataset,
        arguments,
        title,
        published_as,
        {size: with_galleries_of(dataset, size) for size in gallery_sizes(dataset)},
        "This dataset has no galleries of several sizes of its own. Each query got random ones "
        f"(seed {SEED}), each a part of the next, that always have every scene with the person, "
        "even where those are more than the size says.",
    )
