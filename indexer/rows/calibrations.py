"""Calibrations in the database, each made with one model.

Functions take a connection of Store.read, or of Store.write where they change something.
"""

import json
from typing import Any

from sqlalchemy import Connection, delete, func, insert, select

from indexer.database.tables import calibrations
from indexer.errors import CalibrationNotFoundError
from indexer.ids import new_id
from indexer.records import StoredCalibration
from indexer.times import microseconds, now, time_of
from models.evaluation.calibration import Calibration


def get(connection: Connection, id: str) -> StoredCalibration:
    """
    Raises:
        CalibrationNotFoundError: there is none.
    """
    row = connection.execute(select(calibrations).where(calibrations.c.id == id)).first()
    if row is None:
        raise CalibrationNotFoundError(f"there is no calibration {id}")
    return _calibration(row)


def of_model(connection: Connection, fingerprint: str, limit: int) -> list[StoredCalibration]:
    """At most limit calibrations made with a model, newest first."""
    own = select(calibrations).where(calibrations.c.model_fingerprint == fingerprint)
    newest = own.order_by(calibrations.c.id.desc()).limit(limit)
    return [_calibration(row) for row in connection.execute(newest)]


def newest_id(connection: Connection, fingerprint: str) -> str | None:
    """The id of the newest one made with a model; None when there is none."""
    own = calibrations.c.model_fingerprint == fingerprint
    newest: str | None = connection.scalar(select(func.max(calibrations.c.id)).where(own))
    return newest


def add(
    connection: Connection, fingerprint: str, labels_sha256: str, content: Calibration, most: int
) -> str:
    """Insert a calibration, and delete all but the newest `most` of its model.

    Returns:
        Its id.
    """
    id = new_id("cal_")
    connection.execute(
        insert(calibrations).values(
            id=id,
            model_fingerprint=fingerprint,
            labels_sha256=labels_sha256,
            created_at=microseconds(now()),
            content=json.dumps(content.as_json()),
        )
    )
    own = calibrations.c.model_fingerprint == fingerprint
    newest = select(calibrations.c.id).where(own).order_by(calibrations.c.id.desc()).limit(most)
    older = calibrations.c.id.not_in(newest.scalar_subquery())
    connection.execute(delete(calibrations).where(own, older))
    return id


def _calibration(row: Any) -> StoredCalibration:
    return StoredCalibration(
        id=row.id,
        model_fingerprint=row.model_fingerprint,
        labels_sha256=row.labels_sha256,
        created_at=time_of(row.created_at),
        content=Calibration.from_json(json.loads(row.content)),
    )
