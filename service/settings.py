"""Settings of the service: every environment variable, with the unit in its name."""

import hashlib
import hmac
import ipaddress
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import (
    Field,
    FiniteFloat,
    SecretStr,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from indexer.index.engines import MilvusServer
from indexer.rows.retention import parse_retention
from models.detector import DEFAULT_MODEL, model_directory
from models.errors import PersonSearchError
from models.image import ImageLimits

SCOPES = ("search", "ingest", "admin", "metrics")
SECRET_MIN_CHARACTERS = 16
KEY_NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}")
SECRET = re.compile(r"[!-~]+")  # what a header can carry
KEYS_FILE_MAX_BYTES = 2**20

PREFIX = "PERSON_SEARCH_"
# Read elsewhere: by clients and tools, compose files and tests.
CLIENT_KEY = PREFIX + "KEY"
OTHER_VARIABLES = frozenset(
    (
        CLIENT_KEY,
        *(PREFIX + name for name in ("CHROMIUM", "PUBLISHED_PORT", "TRAINING_DATA", "REAL")),
    )
)
TESTS_PREFIX = PREFIX + "TESTS_"
# Kubernetes puts these into every container of a namespace for each of its Services, here for one
# named person-search or person-search-…; Docker did so for links.
INJECTED_NAME = re.compile(
    r"PERSON_SEARCH_(\w+_)?"
    r"(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?|ENV_\w+)"
)
INJECTED_VALUE = {
    re.compile(r"PERSON_SEARCH_(\w+_)?PORT"): re.compile(r"(tcp|udp|sctp)://\S+:\d+"),
    re.compile(r"PERSON_SEARCH_(\w+_)?NAME"): re.compile(r"/\S+/\S+"),
}
ROOT_PATH = re.compile(r"(/[A-Za-z0-9_~-][A-Za-z0-9._~-]*)*")
ORIGIN = re.compile(r"https?://([a-z0-9._-]+|\[[0-9a-f:.]+\])(:[0-9]{1,5})?")
NEAR = 0.85  # of a name that differs in one or two letters


class SettingsError(PersonSearchError):
    """The settings contradict each other; the service does not start."""

    code = "settings"


@dataclass(frozen=True)
class ApiKey:
    """A key: its name and scopes; the secret itself is not stored.

    Attributes:
        name: for the audit trail.
        scopes: of SCOPES; "admin" allows everything.
        digest: sha256 of the secret. Secrets are random and long, so no slow hash is needed.
        id: of a key that was made over HTTP; None for one of the settings.
    """

    name: str
    scopes: frozenset[str]
    digest: bytes
    id: str | None = None

    @property
    def owner(self) -> str:
        """What jobs and kept answers belong to: the next key of the same name is somebody else."""
        return self.name if self.id is None else f"{self.name} {self.id}"

    def allows(self, scope: str) -> bool:
        """Whether the key may use routes of a scope."""
        return scope in self.scopes or "admin" in self.scopes


class _Variables(EnvSettingsSource):
    """The environment, in which no name may be misspelt."""

    def __call__(self) -> dict[str, Any]:
        """
        Raises:
            SettingsError: a variable is named like a setting, and is none.
        """
        known = [PREFIX + name.upper() for name in self.settings_cls.model_fields]
        check_variables(known, os.environ)
        values = super().__call__()
        if is_injected(PREFIX + "PORT", str(values.get("port", ""))):
            del values["port"]
        return values


class Settings(BaseSettings):
    """Read from `PERSON_SEARCH_…` environment variables; the command line overrides a few."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        extra="forbid",
        frozen=True,
        hide_input_in_errors=True,
        env_ignore_empty=True,
    )

    host: str = Field("127.0.0.1", description="Address to listen on; others need an API key.")
    port: int = Field(8000, ge=1, le=65535, description="Port to listen on.")
    data_dir: Path = Field(Path("data"), description="Where the gallery is kept.")
    model: Path = Field(
        DEFAULT_MODEL,
        description="Model of a new gallery: its directory (card.json and two graphs), or the name "
        "of one that ships. A gallery with images keeps its own until it is changed.",
    )
    models_dir: Path | None = Field(
        None, description="Directory of model directories that the gallery can be changed to."
    )
    device: Literal["cpu", "cuda"] = Field("cpu", description="Where the model runs.")
    threads: int = Field(
        0,
        ge=0,
        description="Threads of one inference; 0 is one per core, or CPU of a container's quota.",
    )
    engine: str = Field(
        "faiss-flat",
        description="Index engine of the gallery: faiss-flat in memory; in a Milvus server "
        "milvus-flat, exact as well, or milvus-hnsw, nearly so.",
    )
    database_url: SecretStr | None = Field(
        None,
        description="PostgreSQL database of the gallery, `postgresql://user:password@host/name`, "
        "which several services may share; by default a SQLite file in the data directory.",
    )
    originals_url: str | None = Field(
        None,
        description="Object storage of pictures, `s3://bucket/prefix`, with credentials from the "
        "`AWS_…` variables; by default files in the data directory.",
    )
    milvus_uri: str | None = Field(
        None,
        description="Milvus server of the engines milvus-flat and milvus-hnsw: `http://host:19530`.",
    )
    milvus_token: SecretStr | None = Field(
        None, description="What the Milvus server asks for: `user:password`, or a token."
    )
    import_dir: Path | None = Field(
        None, description="Directory whose files imports may name; it is only read."
    )
    snapshot_dir: Path | None = Field(
        None, description="Where snapshots are kept; by default snapshots, in the data directory."
    )
    retention_days: str = Field(
        "",
        description="Days that images are kept, by camera: `gate=30,*=365`; * is every other one.",
    )
    audit_days: int = Field(
        0, ge=0, le=36_500, description="Days that the audit trail is kept; 0 is for ever."
    )

    root_path: str = Field(
        "", description="Path below which a proxy publishes the service: `/people`, say."
    )
    trusted_proxies: str = Field(
        "",
        description="Addresses and networks, comma between them, whose X-Forwarded-Proto and "
        "X-Forwarded-For are believed; * is everybody.",
    )
    frame_ancestors: str = Field(
        "",
        description="Sites that may show the page in a frame: `'self',https://portal.example`.",
    )
    cors_origins: str = Field(
        "",
        description="Sites whose pages may use the service from the browser: "
        "`https://portal.example`; * is every site and needs API keys.",
    )
    connections_max: int = Field(
        0,
        ge=0,
        description="Most connections at once; 0 is half as many as files may be open, at most "
        "1000.",
    )

    api_keys: SecretStr | None = Field(
        None, description="`name:scopes:secret`, comma between keys, plus between scopes."
    )
    api_keys_file: Path | None = Field(
        None, description="File with one `name:scopes:secret` a line; lines with # are skipped."
    )

    image_max_bytes: int = Field(20 * 2**20, ge=1024, description="Largest image file.")
    image_max_pixels: int = Field(50_000_000, ge=1024, description="Most pixels of an image.")
    image_max_side_px: int = Field(16_384, ge=32, description="Longest side of an image.")
    image_min_side_px: int = Field(32, ge=1, description="Shortest side of an image.")
    image_decode_s: float = Field(
        5, gt=0, description="Seconds of one core that decoding an image may take."
    )
    request_max_bytes: int = Field(64 * 2**20, ge=1024, description="Largest request body.")
    request_max_files: int = Field(32, ge=1, le=1000, description="Most files in one request.")
    search_max_queries: int = Field(16, ge=1, le=256, description="Most queries in one search.")
    search_max_hits: int = Field(1000, ge=1, le=2048, description="Largest `limit` of a search.")
    filter_max_values: int = Field(
        256, ge=1, le=10_000, description="Most values in one filter list."
    )
    metadata_max_bytes: int = Field(4096, ge=64, description="Most metadata of one image.")
    page_max_items: int = Field(500, ge=1, le=10_000, description="Largest page of a list.")
    search_queue_max: int = Field(64, ge=1, description="Searches that may wait.")
    ingest_queue_max: int = Field(256, ge=1, description="Images that may wait to be added.")
    job_queue_max: int = Field(1000, ge=1, description="Jobs that may wait.")
    search_deadline_s: FiniteFloat = Field(30, gt=0, description="Longest a search may take.")
    ingest_deadline_s: FiniteFloat = Field(120, gt=0, description="Longest adding images may take.")
    drain_s: FiniteFloat = Field(
        25, gt=0, le=30, description="Time for running work after SIGTERM."
    )
    disk_floor_mib: int = Field(
        1024, ge=0, description="Free space (or 5 % of the disk, if less) kept from writes."
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="What is logged."
    )

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Arguments, then the environment; no files."""
        return init_settings, _Variables(settings_cls)

    @field_validator(
        "data_dir", "model", "models_dir", "import_dir", "snapshot_dir", "api_keys_file"
    )
    @classmethod
    def _home_is_meant(cls, value: Path | None) -> Path | None:
        try:
            return None if value is None else value.expanduser()
        except RuntimeError:  # of a user that is not there
            raise ValueError(f"there is no home directory for {value}") from None

    @field_validator("model", mode="after")
    @classmethod
    def _model_by_name(cls, value: Path) -> Path:
        return model_directory(value)

    @field_validator("root_path", mode="after")
    @classmethod
    def _root_path_is_one(cls, value: str) -> str:
        path = value.rstrip("/")
        if not ROOT_PATH.fullmatch(path):
            raise ValueError("expected a path like /people or /apps/people")
        return path

    @field_validator("trusted_proxies", mode="after")
    @classmethod
    def _proxies_are_addresses(cls, value: str) -> str:
        listed = _listed(value)
        for each in listed:
            try:
                if each != "*":
                    ipaddress.ip_network(each)
            except ValueError:
                raise ValueError(
                    f"expected addresses like 10.0.0.7 or 10.0.0.0/8: {each}"
                ) from None
        if "*" in listed and len(listed) > 1:
            raise ValueError("* stands alone")
        return ",".join(listed)

    @field_validator("frame_ancestors", "cors_origins", mode="after")
    @classmethod
    def _sites_are_origins(cls, value: str, info: ValidationInfo) -> str:
        more = {"frame_ancestors": "'self'", "cors_origins": "*"}[str(info.field_name)]
        sites = [site.rstrip("/").lower() for site in _listed(value)]
        for site in sites:
            if site != more and not ORIGIN.fullmatch(site):
                raise ValueError(f"expected sites like https://portal.example:8443, or {more}")
        if "*" in sites and len(sites) > 1:
            raise ValueError("* stands alone")
        return ",".join(sites)

    @field_validator("retention_days", mode="after")
    @classmethod
    def _retention_is_readable(cls, value: str) -> str:
        parse_retention(value)
        return value

    @field_validator("api_keys", mode="after")
    @classmethod
    def _keys_are_readable(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None:
            _parse_keys(value.get_secret_value().split(","))
        return value

    @model_validator(mode="after")
    def _limits_fit(self) -> Self:
        if self.image_max_bytes > self.request_max_bytes:
            raise ValueError("image_max_bytes must not be larger than request_max_bytes")
        return self

    @property
    def image_limits(self) -> ImageLimits:
        """The limits as read_image takes them."""
        return ImageLimits(
            max_bytes=self.image_max_bytes,
            max_pixels=self.image_max_pixels,
            max_side=self.image_max_side_px,
            min_side=self.image_min_side_px,
            max_decode_s=self.image_decode_s,
        )

    @property
    def database(self) -> str | None:
        """The URL of the database, with its password."""
        return None if self.database_url is None else self.database_url.get_secret_value()

    @property
    def milvus(self) -> MilvusServer | None:
        """Address and token of Milvus."""
        if self.milvus_uri is None:
            return None
        token = None if self.milvus_token is None else self.milvus_token.get_secret_value()
        return MilvusServer(self.milvus_uri, token)

    @property
    def retention(self) -> dict[str, int]:
        """Days that images stay, by camera; "*" is every other one."""
        return parse_retention(self.retention_days)

    @property
    def cors(self) -> list[str]:
        """Origins whose pages may use the service; ["*"] is every one."""
        return _listed(self.cors_origins)

    @property
    def is_loopback(self) -> bool:
        """Whether only programs on this machine can reach the service."""
        try:
            return ipaddress.ip_address(self.host.strip("[]")).is_loopback
        except ValueError:
            return self.host == "localhost"

    def read_keys(self) -> tuple[ApiKey, ...]:
        """Keys of the variable and of the file together; none where neither is set.

        Raises:
            SettingsError: the file cannot be read, a key is malformed, there is no key where keys
                were to be, or the service would listen on more than loopback without any.
        """
        sources: list[str] = []
        entries: list[str] = []
        if self.api_keys is not None:
            sources.append(f"{PREFIX}API_KEYS")
            entries += self.api_keys.get_secret_value().split(",")
        if self.api_keys_file is not None:
            sources.append(str(self.api_keys_file))
            lines = _read_text(self.api_keys_file, KEYS_FILE_MAX_BYTES).splitlines()
            entries += [line for line in lines if not line.lstrip().startswith("#")]
        try:
            keys = _parse_keys(entries)
        except ValueError as error:
            raise SettingsError(str(error)) from None
        if sources and not keys:
            raise SettingsError(
                f"no API key in {' nor in '.join(sources)}: expected name:scopes:secret; without "
                "a key everyone may do everything, so unset what names none if that is meant"
            )
        if not keys and os.environ.get(CLIENT_KEY):
            raise SettingsError(
                f"{CLIENT_KEY} is what clients send, and this service has no keys: those that it "
                f"accepts are in {PREFIX}API_KEYS"
            )
        if not keys and self.cors_origins == "*":
            raise SettingsError("cors_origins: without an API key, name the sites that may ask")
        if not keys and not self.is_loopback:
            raise SettingsError(
                f"refusing to listen on {self.host} without an API key: set "
                "PERSON_SEARCH_API_KEYS=name:admin:secret, or listen on 127.0.0.1"
            )
        return keys


def check_variables(known: Iterable[str], environment: Mapping[str, str]) -> None:
    """Let the variables of an environment pass when each that looks like a setting is one.

    Args:
        known: names of settings; upper and lower case are the same.
        environment: names and values; those that others set by themselves are passed over.

    Raises:
        SettingsError: naming each that is none, with the nearest that is, and no value.
    """
    names = {*known}
    wrong: list[str] = []
    for name in sorted(environment):
        upper = name.upper()
        if upper in names or upper in OTHER_VARIABLES or upper.startswith(TESTS_PREFIX):
            continue
        near = get_close_matches(upper, sorted(names), n=1, cutoff=NEAR)
        ours = re.sub(r"[^A-Z0-9]", "", upper).startswith("PERSONSEARCH")
        if (near or ours) and not is_injected(upper, environment[name]):
            likely = near or get_close_matches(upper, sorted(names), n=1, cutoff=0)
            wrong.append(f"{name!r} is no setting; did you mean {likely[0]}?")
    if wrong:
        raise SettingsError("; ".join(wrong))


def is_injected(name: str, value: str) -> bool:
    """Whether Kubernetes or Docker set a variable, by its name, or its name and value."""
    return INJECTED_NAME.fullmatch(name) is not None or any(
        names.fullmatch(name) and values.fullmatch(value)
        for names, values in INJECTED_VALUE.items()
    )


def _read_text(path: Path, max_bytes: int) -> str:
    """UTF-8, with or without a byte order mark.

    Raises:
        SettingsError
    """
    try:
        with path.open("rb") as file:
            content = file.read(max_bytes + 1)
        if len(content) > max_bytes:
            raise SettingsError(f"cannot read {path}: it has more than {max_bytes} bytes")
        return content.decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not UTF-8 text"
        raise SettingsError(f"cannot read {path}: {reason}") from None


def _listed(value: str) -> list[str]:
    """What stands between commas."""
    return [each.strip() for each in value.split(",") if each.strip()]


def find_key(keys: tuple[ApiKey, ...], secret: str) -> ApiKey | None:
    """The key with this secret; takes as long for a wrong secret as for a right one."""
    digest = hashlib.sha256(secret.encode("utf-8", "replace")).digest()
    found: ApiKey | None = None
    for key in keys:
        if hmac.compare_digest(key.digest, digest):
            found = key
    return found


def _parse_keys(entries: list[str]) -> tuple[ApiKey, ...]:
    """Keys of `name:scopes:secret` entries; messages never hold a secret."""
    keys: list[ApiKey] = []
    for number, entry in enumerate((e.strip() for e in entries if e.strip()), 1):
        parts = entry.split(":", 2)
        if len(parts) != 3:
            raise ValueError(f"API key {number}: expected name:scopes:secret")
        name, scopes, secret = parts[0], frozenset(parts[1].split("+")), parts[2]
        if not KEY_NAME.fullmatch(name):
            raise ValueError(f"API key {number}: the name may hold letters, digits, _ . and -")
        if not scopes <= set(SCOPES):
            raise ValueError(f"API key {number}: scopes are {', '.join(SCOPES)}, + between them")
        if len(secret) < SECRET_MIN_CHARACTERS:
            raise ValueError(
                f"API key {number}: the secret needs at least {SECRET_MIN_CHARACTERS} characters"
            )
        if not SECRET.fullmatch(secret):
            raise ValueError(
                f"API key {number}: the secret may hold ASCII letters, digits and signs, no space"
            )
        keys.append(ApiKey(name, scopes, hashlib.sha256(secret.encode()).digest()))
    if len({key.name for key in keys}) < len(keys) or len({key.digest for key in keys}) < len(keys):
        raise ValueError("API keys: each name and each secret may stand only once")
    return tuple(keys)
