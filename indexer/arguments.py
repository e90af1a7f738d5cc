"""What the arguments of `python -m indexer` mean: which gallery, which model, which limits."""

import argparse
from pathlib import Path

from indexer.errors import GalleryError, SceneNotFoundError
from indexer.gallery.gallery import Gallery
from indexer.gallery.opening import remembered_model
from indexer.gallery.snapshots import SNAPSHOTS
from indexer.index.engines import MilvusServer
from indexer.ingest.folders import EXCLUDED
from indexer.records import GalleryModel, SceneFilter
from models.detector import DEFAULT_MODEL, model_directory
from models.image import ImageLimits
from models.model_card import ModelCard, load_card


def excluded(asked: argparse.Namespace) -> tuple[str, ...]:
    return (*(() if asked.no_default_excludes else EXCLUDED), *asked.exclude)


def limits_of(asked: argparse.Namespace) -> ImageLimits:
    return ImageLimits(
        max_bytes=asked.max_bytes,
        max_pixels=asked.max_pixels,
        max_side=asked.max_side,
        min_side=asked.min_side,
    )


def snapshots_of(asked: argparse.Namespace) -> Path:
    directory: Path = asked.snapshots or asked.gallery / SNAPSHOTS
    return directory


def model_of(asked: argparse.Namespace) -> Path | None:
    """The model asked for, or the one the gallery was made with; None is the default one."""
    remembered = remembered_model(asked.gallery, asked.database)
    if remembered is None and asked.command == "search":
        raise GalleryError(f"there is no gallery in {asked.gallery}")
    if asked.model is None and remembered is not None and remembered.path is not None:
        return Path(remembered.path)
    return None if asked.model is None else model_directory(asked.model)


def model_to_come(model: Path) -> GalleryModel:
    directory = model_directory(model)
    card = load_card(directory)
    path = None if directory == DEFAULT_MODEL else str(directory.absolute())
    return GalleryModel(card.name, card.fingerprint, card.embedding_dim, path)


def model_before(gallery: Gallery) -> GalleryModel:
    """The model that answered last, before the one that answers now."""
    before = [
        (one.generation.activated_at, one.generation.model)
        for one in gallery.generations.all()
        if one.generation.state != "active" and one.generation.activated_at is not None
    ]
    if not before:
        raise GalleryError("there is no model before to go back to")
    return max(before, key=lambda one: one[0])[1]


def open_gallery(asked: argparse.Namespace, model: Path | None, card: ModelCard) -> Gallery:
    return Gallery.open_(
        asked.gallery,
        model_name=card.name,
        model_fingerprint=card.fingerprint,
        embedding_dim=card.embedding_dim,
        model_path=model,
        engine=asked.engine,
        database=asked.database,
        originals=asked.originals,
        milvus=_milvus(asked),
    )


def reopen_gallery(asked: argparse.Namespace) -> Gallery:
    return Gallery.reopen(
        asked.gallery,
        engine=asked.engine,
        snapshots=getattr(asked, "snapshots", None),
        database=asked.database,
        originals=asked.originals,
        milvus=_milvus(asked),
    )


def _milvus(asked: argparse.Namespace) -> MilvusServer | None:
    return None if asked.milvus is None else MilvusServer(asked.milvus)


def scene_id(gallery: Gallery, name: str) -> str:
    """The scene with this id or, if there is none, with this external id."""
    try:
        return gallery.get(name).id
    except SceneNotFoundError:
        found = gallery.scenes.page(SceneFilter(external_id=name), limit=1).scenes
        if not found:
            raise SceneNotFoundError(f"there is no scene {name}") from None
        return found[0].id


def add_options(parser: argparse.ArgumentParser) -> None:
    """What add and bulk have in common, beside camera and tags."""
    exclude_help = f"leave out what is called so, beside {' '.join(EXCLUDED)}; may be repeated"
    parser.add_argument(
        "--exclude", action="append", default=[], metavar="PATTERN", help=exclude_help
    )
    parser.add_argument(
        "--no-default-excludes", action="store_true", help="leave out only what --exclude says"
    )
    parser.add_argument(
        "--replace",
        action="store_true",
        help="of a file that was overwritten, remove the scene before; by default both stay",
    )
    add_limits(parser)


def add_limits(parser: argparse.ArgumentParser) -> None:
    """What pictures may be."""
    limits = ImageLimits()
    for flag, least, help in (
        ("--max-bytes", limits.max_bytes, "largest file"),
        ("--max-pixels", limits.max_pixels, "most pixels of a picture"),
        ("--max-side", limits.max_side, "longest side of a picture"),
        ("--min-side", limits.min_side, "shortest side of a picture"),
    ):
        parser.add_argument(
            flag, type=positive, default=least, metavar="N", help=f"{help} ({least})"
        )


def positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("expected at least 1")
    return number
