"""What the workspace knows, in one SQLite file: the only module with SQL.

A resource is a JSON body under its ARM id. The id is the URL path it is read from, so nested
resources (`.../models/iris/versions/3`) need no tables of their own.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from threading import RLock
from typing import Any, NamedTuple

Body = dict[str, Any]

MIGRATIONS = (
    """
    CREATE TABLE resources (
        sequence INTEGER PRIMARY KEY AUTOINCREMENT,
        id TEXT NOT NULL UNIQUE COLLATE NOCASE,
        parent TEXT NOT NULL COLLATE NOCASE,
        kind TEXT NOT NULL COLLATE NOCASE,
        body TEXT NOT NULL,
        archived INTEGER NOT NULL,
        created_at TEXT NOT NULL,
        modified_at TEXT NOT NULL
    );
    CREATE INDEX resources_of_parent ON resources (parent, kind, sequence);
    CREATE TABLE notes (
        id TEXT NOT NULL COLLATE NOCASE,
        key TEXT NOT NULL,
        value TEXT NOT NULL,
        PRIMARY KEY (id, key)
    ) WITHOUT ROWID;
    """,
)

VIEWS = {"activeonly": "archived = 0", "archivedonly": "archived = 1", "all": "1"}


class Resource(NamedTuple):
    """One stored resource; `body` is what ARM shows without id, name, type and systemData."""

    sequence: int
    id: str
    parent: str
    kind: str
    body: Body
    archived: bool
    created_at: str
    modified_at: str

    @property
    def name(self) -> str:
        return self.id.rpartition("/")[2]

    @property
    def etag(self) -> str:
        """Changes with every write of the resource."""
        return f'"{self.sequence:x}-{self.modified_at}"'

    @property
    def properties(self) -> Body:
        properties: Body = self.body["properties"]
        return properties


def now() -> str:
    """The present in the form ARM writes times: ISO 8601, UTC, microseconds."""
    return datetime.now(UTC).isoformat()


class Store:
    """Resources and the controllers' notes about them.

    One connection behind a lock: SQLite writes one at a time anyway, and a commit is on disk
    (WAL, synchronous FULL) before the request that made it is answered.
    """

    def __init__(self, path: Path) -> None:
        self._lock = RLock()
        self._db = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute("PRAGMA synchronous = FULL")
        self._migrate()

    def close(self) -> None:
        with self._lock:
            self._db.close()

    def _migrate(self) -> None:
        (version,) = self._db.execute("PRAGMA user_version").fetchone()
        for number, script in enumerate(MIGRATIONS[version:], version + 1):
            self._db.executescript(f"BEGIN; {script} PRAGMA user_version = {number}; COMMIT;")

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Make the reads and writes inside one step: all of them happen, or none."""
        with self._lock:
            if self._db.in_transaction:
                yield
                return
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._db.execute("COMMIT")
            except BaseException:
                if self._db.in_transaction:  # a full disk has ended some by itself
                    self._db.execute("ROLLBACK")
                raise

    def get(self, id: str) -> Resource | None:  # noqa: A002 (ARM's word)
        with self._lock:
            row = self._db.execute("SELECT * FROM resources WHERE id = ?", (id,)).fetchone()
        return _resource(row) if row else None

    def put(
        self,
        id: str,  # noqa: A002 (ARM's word)
        kind: str,
        body: Body,
        parent: str = "",
    ) -> tuple[Resource, bool]:
        """Write a resource whole.

        Args: parent: id of what a new one belongs to, if that is not what its id says.
        Returns: the resource as stored, and whether it is new.
        """
        time, archived = now(), bool(body.get("properties", {}).get("isArchived"))
        with self.transaction():
            old = self.get(id)
            self._db.execute(
                "INSERT INTO resources (id, parent, kind, body, archived, created_at, modified_at)"
                " VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (id) DO UPDATE SET"
                " body = excluded.body, archived = excluded.archived,"
                " modified_at = excluded.modified_at",
                (id, parent or parent_of(id), kind, json.dumps(body), archived, time, time),
            )
            stored = self.get(id)
        assert stored is not None  # noqa: S101 (just written, under the lock)
        return stored, old is None

    def update(self, id: str, change: Callable[[Body], None]) -> Resource | None:  # noqa: A002
        """Let `change` edit the properties of a resource in place, as one step."""
        with self.transaction():
            old = self.get(id)
            if old is None:
                return None
            change(old.properties)
            return self.put(old.id, old.kind, old.body)[0]

    def delete(self, id: str) -> bool:  # noqa: A002
        """Remove a resource, all below it, and what was noted about them."""
        with self.transaction():
            for table in ("notes", "resources"):
                cursor = self._db.execute(
                    f"DELETE FROM {table} WHERE id = ? OR (id > ? AND id < ?)",  # noqa: S608
                    (id, f"{id}/", f"{id}0"),  # "0" comes after "/"
                )
            return cursor.rowcount > 0

    def children(
        self, parent: str, kind: str, *, view: str = "All", before: int | None = None, top: int = -1
    ) -> list[Resource]:
        """Children of one kind, newest first.

        Args: before: only what was made before this sequence number; top: at most so many.
        """
        with self._lock:
            rows = self._db.execute(
                "SELECT * FROM resources WHERE parent = ? AND kind = ? AND sequence < ?"  # noqa: S608
                f" AND {VIEWS.get(view.lower(), '1')} ORDER BY sequence DESC LIMIT ?",
                (parent, kind, before if before is not None else 2**62, top),
            ).fetchall()
        return [_resource(row) for row in rows]

    def walk(
        self, parent: str, kind: str, *, view: str = "All", before: int | None = None, piece: int
    ) -> Iterator[Resource]:
        """As `children`, but read `piece` of them at a time, as they are asked for."""
        while rows := self.children(parent, kind, view=view, before=before, top=piece):
            yield from rows
            before = rows[-1].sequence

    def names(self, parent: str, kind: str) -> list[tuple[str, bool]]:
        """Names of the children of one kind and whether they are archived, newest first."""
        with self._lock:
            rows = self._db.execute(
                "SELECT id, archived FROM resources WHERE parent = ? AND kind = ?"
                " ORDER BY sequence DESC",
                (parent, kind),
            ).fetchall()
        return [(id_.rpartition("/")[2], bool(archived)) for id_, archived in rows]

    def of_kind(self, kind: str) -> list[Resource]:
        """Every resource of a kind in every workspace, oldest first: what a controller resumes."""
        with self._lock:
            rows = self._db.execute(
                "SELECT * FROM resources WHERE kind = ? ORDER BY sequence", (kind,)
            ).fetchall()
        return [_resource(row) for row in rows]

    def changes(self) -> int:
        """A number that grows with every change."""
        return self._db.total_changes

    def note(self, id: str, key: str, value: Any) -> None:  # noqa: A002
        """Remember a JSON value about a resource that is nobody's business on the wire."""
        with self.transaction():
            self._db.execute(
                "INSERT OR REPLACE INTO notes VALUES (?, ?, ?)", (id, key, json.dumps(value))
            )

    def noted(self, id: str, key: str) -> Any:  # noqa: A002
        with self._lock:
            row = self._db.execute(
                "SELECT value FROM notes WHERE id = ? AND key = ?", (id, key)
            ).fetchone()
        return json.loads(row[0]) if row else None

    def forget(self, id: str, key: str) -> None:  # noqa: A002
        with self.transaction():
            self._db.execute("DELETE FROM notes WHERE id = ? AND key = ?", (id, key))


def parent_of(id: str) -> str:  # noqa: A002
    """`/a/models/x/versions/1` → `/a/models/x`: the id without its last type and name."""
    return id.rsplit("/", 2)[0]


def _resource(row: tuple[Any, ...]) -> Resource:
    sequence, id_, parent, kind, body, archived, created_at, modified_at = row
    return Resource(
        sequence, id_, parent, kind, json.loads(body), bool(archived), created_at, modified_at
    )
