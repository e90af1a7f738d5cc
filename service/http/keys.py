"""API keys: those of the settings, and those that an admin made over HTTP.

The second kind lies in a file of the data directory, written whole or not at all. It holds no
secret, but the SHA-256 of each: secrets are random and long, so no slow hash is needed. Snapshots
leave it out, so that restoring one brings no deleted key back. Services of one data directory share
them: each checks with every request whether the file was replaced.
"""

import errno
import fcntl
import hashlib
import os
import secrets
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, StringConstraints, ValidationError

from indexer.errors import GalleryError, StorageFullError
from indexer.files.syncing import sync_directory
from indexer.ids import new_id
from indexer.times import now
from service.http.errors import RequestError
from service.settings import KEY_NAME, ApiKey, SettingsError, find_key

FILE = "keys.json"
MAX_KEYS = 256
SECRET_BYTES = 32
FILE_MAX_BYTES = 2**20  # more than MAX_KEYS need


@dataclass(frozen=True)
class StoredKey:
    """A key that was made over HTTP.

    Attributes:
        id: key_ and a ULID.
    """

    id: str
    key: ApiKey
    created_at: datetime


class _Entry(BaseModel):
    """A key, as the file has it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    id: Annotated[str, StringConstraints(pattern=r"^key_[0-9A-Z]{1,64}$")]
    name: Annotated[str, StringConstraints(pattern=f"^(?:{KEY_NAME.pattern})$")]
    scopes: list[Literal["search", "ingest", "admin", "metrics"]]
    sha256: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
    created_at: AwareDatetime


class _Document(BaseModel):
    """The file."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    keys: list[_Entry]


class Keys:
    """Who may do what. Any thread may call anything; a change counts from the next request on."""

    def __init__(self, given: Sequence[ApiKey], directory: Path) -> None:
        """
        Args:
            given: those of the settings.
            directory: holds the file of the others.

        Raises:
            SettingsError: the file is unreadable, or has a key with the name of a given one.
        """
        self.given = tuple(given)
        self._path = directory / FILE
        self._reading = threading.Lock()
        self._changing = threading.Lock()
        self._seen: tuple[int, ...] | None = None
        self._stored: tuple[StoredKey, ...] = ()
        self._all = self.given
        self._needed = False
        self._follow()
        names = {one.name for one in self.given}
        for each in self.stored:
            if each.key.name in names:
                raise SettingsError(
                    f"API keys: {each.key.name} is also the name of a key in {self._path}; "
                    "choose another one"
                )

    @property
    def stored(self) -> tuple[StoredKey, ...]:
        """Those that were made over HTTP, oldest first."""
        self._follow()
        return self._stored

    @property
    def needed(self) -> bool:
        """Whether requests need a key; without any key, everyone may do everything.

        Once there was a key, they do until the end of the process: to delete the last one, or
        its file, opens nothing. Nor does a file that cannot be read.
        """
        return self.problem() is not None or self._needed

    def problem(self) -> str | None:
        """Why the file cannot be read now; None if it can."""
        try:
            self._follow()
        except SettingsError as error:
            return str(error)
        return None

    def find(self, secret: str) -> ApiKey | None:
        """The key with this secret; takes as long for a wrong secret as for a right one."""
        self._follow()
        return find_key(self._all, secret)

    def make(self, id: str, name: str, scopes: Sequence[str]) -> tuple[StoredKey, str]:
        """A new key, on disk when this returns; and its secret, which is stored nowhere.

        Raises:
            RequestError: keys_off without a key of the settings; key_name_taken; too_many_keys.
            StorageFullError, GalleryError: there is no new key.
        """
        if not self.given:
            raise RequestError("keys_off", "The service was started without API keys.")
        secret = secrets.token_urlsafe(SECRET_BYTES)
        key = ApiKey(name, frozenset(scopes), hashlib.sha256(secret.encode()).digest(), id)
        made = StoredKey(id, key, now())
        with self._alone():
            if any(name == one.name for one in self._all):
                raise RequestError("key_name_taken", "Another API key has this name.")
            if len(self._stored) >= MAX_KEYS:
                raise RequestError(
                    "too_many_keys", f"There are {MAX_KEYS}.", limits={"max_keys": MAX_KEYS}
                )
            self._write((*self._stored, made))
        return made, secret

    def remove(self, id: str) -> None:
        """Delete a key: requests that come from now on cannot use it.

        Raises:
            RequestError: not_found; there is no such key, or it is of the settings.
            StorageFullError, GalleryError: it is still there.
        """
        with self._alone():
            left = tuple(one for one in self._stored if one.id != id)
            if len(left) == len(self._stored):
                raise RequestError("not_found", "There is no such key.")
            self._write(left)

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Hold off changes by other threads and services, and start from the file as it is."""
        with self._changing:
            directory = os.open(self._path.parent, os.O_RDONLY)
            try:
                fcntl.flock(directory, fcntl.LOCK_EX)
                self._follow()
                yield
            finally:
                os.close(directory)

    def _follow(self) -> None:
        """Read the file again if it was replaced since the last time.

        Raises:
            SettingsError: it cannot be read.
        """
        with self._reading:
            try:
                found = self._path.stat()
            except FileNotFoundError:
                seen = None
            except OSError as error:
                raise self._unreadable(error) from None
            else:
                seen = (found.st_dev, found.st_ino, found.st_mtime_ns, found.st_size)
            if seen != self._seen:
                self._stored = self._read()
                self._all = (*self.given, *(one.key for one in self._stored))
                self._seen = seen
            self._needed = self._needed or bool(self._all)

    def _read(self) -> tuple[StoredKey, ...]:
        try:
            with self._path.open("rb") as file:
                content = file.read(FILE_MAX_BYTES + 1)
            if len(content) > FILE_MAX_BYTES:
                raise OSError(errno.EFBIG, f"it has more than {FILE_MAX_BYTES} bytes")
            document = _Document.model_validate_json(content)
        except FileNotFoundError:
            return ()
        except (OSError, ValidationError) as error:
            raise self._unreadable(error) from None
        return tuple(
            StoredKey(
                one.id,
                ApiKey(one.name, frozenset(one.scopes), bytes.fromhex(one.sha256), one.id),
                one.created_at,
            )
            for one in document.keys
        )

    def _unreadable(self, error: OSError | ValidationError) -> SettingsError:
        if isinstance(error, OSError):
            reason = error.strerror
        else:
            first = error.errors(include_input=False, include_url=False)[0]
            where = "/".join(map(str, first["loc"]))
            said = first["msg"].removeprefix("Value error, ")
            reason = f"{where}: {said}".removeprefix(": ")
        return SettingsError(f"cannot read the API keys in {self._path}: {reason}")

    def _write(self, keys: tuple[StoredKey, ...]) -> None:
        document = _Document.model_validate(
            {
                "keys": [
                    {
                        "id": one.id,
                        "name": one.key.name,
                        "scopes": sorted(one.key.scopes),
                        "sha256": one.key.digest.hex(),
                        "created_at": one.created_at,
                    }
                    for one in keys
                ]
            }
        )
        passing = self._path.with_suffix(".new")
        try:
            passing.unlink(missing_ok=True)
            with os.fdopen(
                os.open(passing, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w"
            ) as file:
                file.write(document.model_dump_json(indent=1))
                file.flush()
                os.fsync(file.fileno())
            passing.replace(self._path)
            sync_directory(self._path.parent)
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise StorageFullError(f"no space is left for {self._path}") from error
            raise GalleryError(f"cannot write {self._path}: {error.strerror}") from error
        self._follow()


def new_key_id() -> str:
    """An id for `make`."""
    return new_id("key_")
