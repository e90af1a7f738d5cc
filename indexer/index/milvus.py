"""A gallery's vectors in a Milvus server: for more than fits into the memory of one process.

It stays a cache. The table indexes says up to which change a collection is filled, and the database
which scenes changed since. Whoever finds it behind, a writer or a search, brings it up to date
under a lock of the database. Doing so twice does no harm: ids are the rows of the database, and
rows are upserted; removals are deleted by these ids.

Milvus shows an upsert to others a moment later, unless a search waits for it ("Strong"): searches
do so for STRONG_S after the last change, and are quick after that ("Bounded"). Milvus may show a
removed person a moment longer: the gallery leaves out whom the database no longer has.

Filters are applied by Milvus, before the nearest are chosen (milvus_filter.py).
"""

import secrets
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from functools import partial
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from pymilvus import DataType, MilvusClient
from pymilvus.exceptions import MilvusException
from sqlalchemy import Connection, delete, insert, select, update

from indexer.database.store import Store
from indexer.database.tables import indexes
from indexer.errors import DatabaseUnavailableError
from indexer.index.engines import OUTSIDE, MilvusServer
from indexer.index.live import Nearest
from indexer.index.milvus_filter import COLUMNS, MOST_TAGS, columns_of, expression, listed
from indexer.records import EVERY_SCENE, Generation, SceneFilter
from indexer.rows import change_log, people, scenes
from indexer.rows.people import StoredPeople
from indexer.times import microseconds, now
from models.similarity import gallery_vectors

STRONG_S = 15.0  # Bounded shows what is older than 5 s; clocks may differ by some seconds
MOST_HITS = 16_384  # that Milvus gives at once
ROWS_AT_ONCE = 1_000
LOADING_S = 60.0  # how long to wait for a collection that the server is loading, after its start
NOT_LOADED, NOT_THERE = 101, 100
HNSW = {"M": 16, "efConstruction": 200}
T = TypeVar("T")


class MilvusIndex:
    """The people of one generation in a collection of their own. A PeopleIndex.

    Raises:
        DatabaseUnavailableError: here and below, Milvus cannot be reached, or does not get ready.
    """

    outside = True
    gone = 0
    nbytes = 0  # of this process

    def __init__(
        self, engine: str, generation: Generation, store: Store, server: MilvusServer
    ) -> None:
        self._engine = engine
        self.generation = generation
        self._store = store
        self._server = server.uri
        self._change = 0
        self._changed_at = 0.0
        self._name = ""
        self._client = self._ask(
            lambda: MilvusClient(uri=server.uri, token=server.token or "", timeout=10)
        )

    def open(self) -> None:
        """Find the collection, or fill one when there is none."""
        with self.alone():
            with self._store.read() as connection:
                self.look(connection)
            if self._fits():
                self._ask(lambda: self._client.load_collection(self._name))
            else:
                self.rebuild()

    def rebuild(self) -> None:
        """Fill a new collection from the database, checking every row, and take it."""
        before = self._name
        fresh = f"people_{self.generation.id}_{secrets.token_hex(4)}"
        self._create(fresh)
        with self._store.read() as connection:
            change = change_log.last(connection)
            for some in people.everybody(connection, self.generation.number):
                self._upsert(fresh, connection, some)
        at = microseconds(now())
        own = {"generation": self.generation.number, "engine": self._engine}
        with self._store.write() as connection:
            connection.execute(delete(indexes).where(self._own()))
            values = {"name": fresh, "change": change, "at": at, **own}
            connection.execute(insert(indexes).values(values))
        self._name, self._change, self._changed_at = fresh, change, at / 1e6
        if before:
            self._ask(lambda: self._client.drop_collection(before))

    def _fits(self) -> bool:
        """Whether there is a collection, with all that filters ask for."""
        if not self._name or not self._ask(lambda: self._client.has_collection(self._name)):
            return False
        about = self._ask(lambda: self._client.describe_collection(self._name))
        return set(COLUMNS) <= {field["name"] for field in about["fields"]}

    def drop(self) -> None:
        """Delete the collection; that of a generation that is gone."""
        if self._name:
            self._ask(lambda: self._client.drop_collection(self._name))

    def close(self) -> None:
        self._client.close()

    # What has come

    @property
    def change(self) -> int:
        """The number of the newest change that it holds, as far as this process knows."""
        return self._change

    @change.setter
    def change(self, number: int) -> None:
        at = microseconds(now())
        with self._store.write() as connection:
            values = {"change": number, "at": at}
            connection.execute(update(indexes).where(self._own()).values(values))
        self._change, self._changed_at = number, at / 1e6

    def look(self, connection: Connection) -> int:
        """The number of the newest change that it holds, as a connection of Store.read shows it."""
        row = connection.execute(select(indexes).where(self._own())).first()
        if row is not None:
            self._name, self._change, self._changed_at = row.name, row.change, row.at / 1e6
        return self._change

    def alone(self) -> AbstractContextManager[None]:
        """While open, nobody else brings an index up."""
        return self._store.indexing()

    def add(self, found: StoredPeople, change: int) -> None:
        """Hold these people, too."""
        with self._store.read() as connection:
            self._upsert(self._name, connection, found)
        self.change = change

    def remove(self, rows: NDArray[np.int64], change: int) -> None:
        """Hold these rows no longer."""
        self._delete(rows.tolist())
        self.change = change

    def replace(self, scenes: Sequence[int], found: StoredPeople | None, *, fewer: bool) -> None:
        """Hold, of some scenes, exactly these people, with what is known about the scenes."""
        if fewer:
            held = {int(one["row"]) for one in self._query(f"scene in {listed(scenes)}")}
            wanted = set() if found is None else set(found.rows.tolist())
            self._delete(sorted(held - wanted))
        if found is not None:
            with self._store.read() as connection:
                self._upsert(self._name, connection, found)

    # Asking

    def __len__(self) -> int:
        counted = self._ask(
            lambda: self._client.query(
                self._name, filter="", output_fields=["count(*)"], consistency_level="Strong"
            )
        )
        return int(counted[0]["count(*)"])

    def rows(self) -> NDArray[np.int64]:
        """The rows held, ascending."""
        found: list[int] = []
        while True:
            after = found[-1] if found else -1
            some = sorted(int(one["row"]) for one in self._query(f"row > {after}", MOST_HITS))
            found += some
            if len(some) < MOST_HITS:
                return np.array(found, np.int64)

    def meant(self, connection: Connection, filter: SceneFilter) -> str | None:
        """What search is given to search the scenes that a filter means: an expression."""
        if filter == EVERY_SCENE:
            return None
        if filter.external_id is not None:  # at most one scene
            return f"scene in {listed(scenes.numbers(connection, filter).tolist())}"
        return expression(filter, connection)

    def search(
        self,
        query: NDArray[np.float32],
        k: int,
        *,
        scenes: str | None,
        not_scenes: NDArray[np.int64],
        min_score: float | None,
        not_rows: NDArray[np.int64],
    ) -> Nearest:
        """As LiveIndex.search; scenes is what meant says."""
        conditions = [] if scenes is None else [scenes]
        if len(not_scenes):
            conditions.append(f"scene not in {listed(not_scenes.tolist())}")
        if min_score is not None:
            conditions.append(f"score >= {float(np.float32(min_score))!r}")
        recently = abs(time.time() - self._changed_at) < STRONG_S
        level = "Strong" if recently else "Bounded"
        hits: list[Any] = []
        left_out = not_rows.tolist()
        while True:
            wanted = min(k - len(hits), MOST_HITS)
            excluding = [f"row not in {listed(left_out)}"] if left_out else []
            some = self._search(query, wanted, " and ".join([*conditions, *excluding]), level)
            hits += some
            if len(some) < wanted or len(hits) >= k:
                break
            left_out = [*left_out, *(one["row"] for one in some)]
        hits.sort(key=lambda one: (-one["distance"], one["row"]))
        return Nearest(
            rows=np.array([one["row"] for one in hits], np.int64),
            scenes=np.array([one["entity"]["scene"] for one in hits], np.int64),
            similarities=np.array([one["distance"] for one in hits], np.float32),
            all_found=len(hits) < k,
        )

    # Within

    def _own(self) -> Any:
        own_generation = indexes.c.generation == self.generation.number
        return own_generation & (indexes.c.engine == self._engine)

    def _create(self, name: str) -> None:
        schema = MilvusClient.create_schema(auto_id=False, enable_dynamic_field=False)
        schema.add_field("row", DataType.INT64, is_primary=True)
        for field in ("scene", *COLUMNS):
            schema.add_field(field, DataType.INT64)
        schema.add_field("score", DataType.FLOAT)
        schema.add_field(
            "tags", DataType.ARRAY, element_type=DataType.INT64, max_capacity=MOST_TAGS
        )
        dim = self.generation.model.embedding_dim
        schema.add_field("vector", DataType.FLOAT_VECTOR, dim=dim)
        index = MilvusClient.prepare_index_params()
        kind = OUTSIDE[self._engine]
        params = HNSW if kind == "HNSW" else {}
        index.add_index("vector", index_type=kind, metric_type="IP", params=params)
        self._ask(
            lambda: self._client.create_collection(
                name, schema=schema, index_params=index, consistency_level="Bounded"
            )
        )

    def _upsert(self, name: str, connection: Connection, found: StoredPeople) -> None:
        about = scenes.numbered(connection, set(found.scenes.tolist()))
        columns = zip(
            found.rows.tolist(),
            found.scenes.tolist(),
            found.detections.scores.tolist(),
            gallery_vectors(found.detections),
            strict=True,
        )
        rows = []
        for row, number, score, vector in columns:
            scene = about.get(number)
            if scene is None:  # removed meanwhile: a later change says so
                continue
            rows.append(
                {
                    "row": row,
                    "scene": number,
                    "score": score,
                    "vector": vector,
                    **columns_of(scene),
                }
            )
        for start in range(0, len(rows), ROWS_AT_ONCE):
            some = rows[start : start + ROWS_AT_ONCE]
            self._ask(partial(self._client.upsert, name, some))

    def _delete(self, rows: Sequence[int]) -> None:
        for start in range(0, len(rows), ROWS_AT_ONCE):
            some = list(rows[start : start + ROWS_AT_ONCE])
            self._ask(partial(self._client.delete, self._name, ids=some))

    def _query(self, expression: str, limit: int | None = None) -> list[Any]:
        options = {} if limit is None else {"limit": limit}
        found: list[Any] = self._ask(
            lambda: self._client.query(
                self._name,
                filter=expression,
                output_fields=["row"],
                consistency_level="Strong",
                **options,
            )
        )
        return found

    def _search(self, query: NDArray[np.float32], k: int, expression: str, level: str) -> list[Any]:
        width = {"ef": min(max(128, 2 * k), 2 * MOST_HITS)} if self._engine == "milvus-hnsw" else {}
        (found,) = self._ask(
            lambda: self._client.search(
                self._name,
                data=[query],
                limit=k,
                filter=expression,
                output_fields=["row", "scene"],
                search_params={"metric_type": "IP", "params": width},
                consistency_level=level,
            )
        )
        return [
            {"row": int(one["entity"]["row"]), "distance": one["distance"], "entity": one["entity"]}
            for one in found
        ]

    def _ask(self, ask: Callable[[], T]) -> T:
        """Ask Milvus, and again while it is loading the collection."""
        ends = time.monotonic() + LOADING_S
        while True:
            try:
                return ask()
            except MilvusException as error:
                if error.code == NOT_LOADED and time.monotonic() < ends:
                    time.sleep(0.2)
                    continue
                hint = (
                    "; python -m indexer rebuild fills it anew" if error.code == NOT_THERE else ""
                )
                said = " ".join(str(error.message).split())
                raise DatabaseUnavailableError(
                    f"Milvus at {self._server} fails: {said}{hint}"
                ) from error
