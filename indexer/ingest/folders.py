"""Which files of folders are pictures, by what is in them, and what each is called in a gallery."""

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from indexer.gallery.gallery import Gallery
from indexer.records import SceneFilter
from models.containers import kind_of_file

# What is thrown away, made by others, or hidden: of NAS, Windows, macOS and Linux.
EXCLUDED = (
    ".*",
    "@eaDir",
    "@Recycle",
    "@Recently-Snapshot",
    "#recycle",
    "#snapshot",
    "$RECYCLE.BIN",
    "System Volume Information",
    "Thumbs.db",
    "lost+found",
    "__MACOSX",
)
# What is called so and is no picture is not passed over but fails, for it was meant to be one.
SUFFIXES = frozenset({
    ".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".avif", ".heic", ".heif", ".hif", ".bmp",
    ".tif", ".tiff",
})  # fmt: skip


@dataclass(frozen=True)
class ImageFile:
    """A file to add, and what it is called: the camera, and the path below the folder named."""

    path: Path
    external_id: str


@dataclass(frozen=True)
class Found:
    """What is in folders.

    Attributes:
        files: the pictures, in the order of their paths.
        not_pictures, excluded, links: how many files are no pictures, files and folders excluded,
            links to folders not followed.
        unreadable: (path, why) of folders and files that cannot be opened.
    """

    files: tuple[ImageFile, ...]
    not_pictures: int = 0
    excluded: int = 0
    links: int = 0
    unreadable: tuple[tuple[Path, str], ...] = ()

    @property
    def left_out(self) -> str:
        """What is left out, in words."""
        return (
            f"{self.not_pictures} not pictures, {self.excluded} excluded, "
            f"{self.links} links to folders"
        )


def find_images(
    paths: Iterable[Path], *, camera_id: str | None = None, exclude: Sequence[str] = EXCLUDED
) -> Found:
    """The files named, and the pictures in the folders named.

    A file in a folder is a picture if it begins like one that is read, whatever its name, or if its
    name says so. A file that is named itself is taken as it is, also when it is not there.

    Args:
        camera_id: stands before the paths, as recorders name the pictures of all cameras alike.
        exclude: patterns of names that are left out, with all that is in such a folder.
    """
    counted: Counter[str] = Counter()
    unreadable: list[tuple[Path, str]] = []
    files: list[ImageFile] = []
    named = list(paths)
    folders = [path for path in named if path.is_dir()]
    for path in named:
        if not path.is_dir():
            files.append(ImageFile(path, _id(camera_id, Path(path.name))))
            continue
        above = _above(path, folders)
        inside = sorted(_walk(path, exclude, counted, unreadable))
        files += [
            ImageFile(file, _id(camera_id, above / file.relative_to(path))) for file in inside
        ]
    calls = Counter(file.external_id for file in files)
    return Found(
        tuple(
            file
            if calls[file.external_id] == 1
            else ImageFile(file.path, _id(camera_id, _whole(file.path)))
            for file in files
        ),
        counted["not pictures"],
        counted["excluded"],
        counted["links"],
        tuple(unreadable),
    )


def free_id(gallery: Gallery, wanted: str, sha256: str) -> str:
    """The external id of a file's content: the one wanted, or where another scene has it, as when
    the file was overwritten, the same with the beginning of the content's SHA-256."""
    page = gallery.scenes.page(SceneFilter(external_id=wanted), limit=1)
    if not page.scenes or page.scenes[0].sha256 == sha256:
        return wanted
    return f"{wanted}@{sha256[:12]}"


def take_place(gallery: Gallery, scene_id: str, wanted: str) -> None:
    """Remove the scene that has an external id, and give that to another scene, which is stored.

    Done again after a death in between, it goes on.
    """
    for before in gallery.scenes.page(SceneFilter(external_id=wanted), limit=1).scenes:
        if before.id == scene_id:
            return
        gallery.remove(before.id)
    gallery.scenes.patch(scene_id, {"external_id": wanted})


def _walk(
    top: Path,
    exclude: Sequence[str],
    counted: Counter[str],
    unreadable: list[tuple[Path, str]],
) -> Iterator[Path]:
    def failed(error: OSError) -> None:
        unreadable.append((Path(error.filename or top), error.strerror or "cannot be opened"))

    for folder, folders, names in os.walk(top, onerror=failed):
        kept = [name for name in folders if not _matches(name, exclude)]
        counted["excluded"] += len(folders) - len(kept)
        folders[:] = [name for name in kept if not Path(folder, name).is_symlink()]
        counted["links"] += len(kept) - len(folders)
        for name in names:
            path = Path(folder, name)
            if _matches(name, exclude):
                counted["excluded"] += 1
                continue
            try:
                is_picture = path.suffix.lower() in SUFFIXES or kind_of_file(path) is not None
            except OSError as error:
                unreadable.append((path, error.strerror or "cannot be opened"))
                continue
            if is_picture:
                yield path
            else:
                counted["not pictures"] += 1


def _matches(name: str, patterns: Sequence[str]) -> bool:
    return any(fnmatchcase(name.lower(), pattern.lower()) for pattern in patterns)


def _above(folder: Path, folders: Sequence[Path]) -> Path:
    """What stands before the paths in a folder: nothing, or where several were named, its name;
    where two of them have that name, all of its path."""
    if len(folders) == 1:
        return Path()
    name = folder.absolute().name
    alike = [each for each in folders if each.absolute().name == name]
    return Path(name) if len(alike) == 1 else _whole(folder)


def _whole(path: Path) -> Path:
    return path.absolute().relative_to(path.absolute().anchor)


def _id(camera_id: str | None, path: Path) -> str:
    """As text that can be stored, whatever bytes the name is made of."""
    whole = path.as_posix() if camera_id is None else f"{camera_id}/{path.as_posix()}"
    return os.fsencode(whole).decode("utf-8", "backslashreplace")
