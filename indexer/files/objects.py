"""Files in object storage (S3 and what speaks like it, Google Cloud, Azure), by obstore."""

from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from indexer.errors import DatabaseUnavailableError, GalleryError
from models.packages import how_to_install

if TYPE_CHECKING:
    from obstore.store import ObjectStore

TIMEOUT_S = 30
DELETED_AT_ONCE = 1_000


class Objects:
    """The files below one place: s3://bucket/prefix.

    Credentials, region and endpoint come from where S3 clients look for them, AWS_… variables say.

    Raises:
        GalleryError: the URL cannot be used, or obstore is not installed.
        DatabaseUnavailableError: of every method: the store cannot be reached, or refuses.
    """

    def __init__(self, url: str) -> None:
        try:
            from obstore.exceptions import BaseError
            from obstore.store import from_url
        except ImportError:
            raise GalleryError(
                f"object storage needs obstore: {how_to_install('obstore')}"
            ) from None
        self.url = url
        wait = timedelta(seconds=TIMEOUT_S)
        try:
            self._store: ObjectStore = from_url(
                url,
                client_options={"timeout": wait, "allow_http": True},
                retry_config={"max_retries": 3, "retry_timeout": wait},
            )
        except (BaseError, ValueError) as error:
            raise GalleryError(f"cannot use {url}: {error}") from error

    def put(self, name: str, content: bytes) -> None:
        """Store a file, whole; it is stored when this returns."""
        import obstore

        with self._translated():
            obstore.put(self._store, name, content)

    def get(self, name: str) -> bytes | None:
        """A file's content; None when it is not there."""
        import obstore

        try:
            with self._translated():
                return bytes(obstore.get(self._store, name).bytes())
        except FileNotFoundError:
            return None

    def has(self, name: str) -> bool:
        """Whether a file is there."""
        import obstore

        try:
            with self._translated():
                obstore.head(self._store, name)
        except FileNotFoundError:
            return False
        return True

    def described(self, folder: str) -> Iterator[tuple[str, datetime, int]]:
        """The files below a folder: name, when it was stored, bytes; listed as it goes on."""
        import obstore

        with self._translated():
            for some in obstore.list(self._store, folder):
                yield from ((each["path"], each["last_modified"], each["size"]) for each in some)

    def names(self, folder: str) -> Iterator[str]:
        """The names of the files below a folder."""
        return (name for name, _, _ in self.described(folder))

    def move(self, source: str, target: str) -> None:
        """Give a file another name, if it is there: a copy, and the old one is deleted."""
        import obstore

        with suppress(FileNotFoundError), self._translated():
            obstore.copy(self._store, source, target)
            obstore.delete(self._store, source)

    def remove(self, names: Collection[str]) -> None:
        """Delete those that are there."""
        import obstore

        listed = list(names)
        for start in range(0, len(listed), DELETED_AT_ONCE):
            with self._translated():
                try:
                    obstore.delete(self._store, listed[start : start + DELETED_AT_ONCE])
                except FileNotFoundError:  # some stores say so
                    continue

    @contextmanager
    def _translated(self) -> Iterator[None]:
        from obstore.exceptions import BaseError

        try:
            yield
        except FileNotFoundError:
            raise
        except (BaseError, OSError) as error:
            said = " ".join(str(error).split())[:300]
            raise DatabaseUnavailableError(f"{self.url} fails: {said}") from error
