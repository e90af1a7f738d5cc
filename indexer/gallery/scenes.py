"""The scenes of a gallery: listed, counted, read, described anew; Gallery adds and removes them."""

from collections.abc import Mapping

from indexer.cursor import read_cursor, write_cursor
from indexer.errors import GalleryDamagedError
from indexer.gallery.writer import Writer
from indexer.records import EVERY_SCENE, SceneFilter, ScenePage, StoredScene
from indexer.rows import scenes
from indexer.rows.overview import Overview, overview
from models.image import DecodedImage, ImageLimits, read_image


class Scenes:
    """The scenes, as gallery.scenes."""

    def __init__(self, writer: Writer) -> None:
        self._writer = writer
        self._store = writer.store

    def find(self, sha256: str) -> StoredScene | None:
        """The scene whose original has this SHA-256 (hex), if it is stored."""
        with self._store.read() as connection:
            return scenes.find(connection, sha256)

    def page(
        self,
        filter: SceneFilter = EVERY_SCENE,
        *,
        limit: int = 50,
        cursor: str | None = None,
        newest_first: bool = False,
    ) -> ScenePage:
        """Scenes by rising id, which is the order in which they were added, or newest first.

        Args:
            cursor: a page's next_cursor, to go on after that page. Scenes that come and go in
                between disturb nothing: none is given twice, none that stayed is left out.

        Raises:
            InvalidCursorError: the cursor is not one of ours.
        """
        after = None if cursor is None else read_cursor(cursor)
        with self._store.read() as connection:
            found = scenes.page(connection, filter, limit + 1, after, newest_first=newest_first)
        page = tuple(found[:limit])
        return ScenePage(page, write_cursor(page[-1].id) if len(found) > limit else None)

    def count(self, filter: SceneFilter = EVERY_SCENE) -> int:
        """How many scenes there are."""
        with self._store.read() as connection:
            return scenes.count(connection, filter)

    def overview(self) -> Overview:
        """Cameras, tags and labels, in numbers."""
        with self._store.read() as connection:
            return overview(connection)

    def content(self, scene_id: str) -> bytes:
        """The original file of a scene.

        Raises:
            SceneNotFoundError: there is none.
            GalleryDamagedError: the file is gone or has changed.
        """
        with self._store.read() as connection:
            scene = scenes.get(connection, scene_id)
        try:
            return self._writer.originals.read(scene.sha256)
        except GalleryDamagedError:
            with self._store.read() as connection:
                scenes.get(connection, scene_id)  # a scene removed meanwhile is not damage
            raise

    def mend(self, sha256: str, content: bytes) -> bool:
        """Store the original of a scene anew where it is gone or damaged; whether it was.

        Args:
            content: the file, whose SHA-256 it is.

        Raises:
            StorageFullError, GalleryError: nothing was changed.
        """
        try:
            self._writer.originals.read(sha256)
        except GalleryDamagedError:
            with self._writer.changing():
                if self.find(sha256) is None:
                    return False
                self._writer.originals.put(sha256, content, self._writer.on_step)
            return True
        return False

    def picture(self, scene_id: str) -> DecodedImage:
        """The original of a scene, decoded, whatever the limits were when it came.

        Raises:
            SceneNotFoundError, GalleryDamagedError: as content does.
            ImageError: it can no longer be read.
        """
        content = self.content(scene_id)
        with self._store.read() as connection:
            scene = scenes.get(connection, scene_id)
        return read_image(content, ImageLimits().admitting(scene.width, scene.height, len(content)))

    def patch(self, scene_id: str, values: Mapping[str, object]) -> StoredScene:
        """Replace some of external_id, camera_id, captured_at (None clears), tags, attributes.

        Raises:
            SceneNotFoundError, ExternalIdConflictError, StorageFullError: nothing was changed.
            ValueError: a key is none of these, or a value has the wrong type.
        """
        with self._writer.changing(), self._writer.writing() as connection:
            scenes.patch(connection, scene_id, values)
            return scenes.get(connection, scene_id)
