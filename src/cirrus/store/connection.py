"""How Cirrus opens SQLite: settings that are read back, and migrations, each in one transaction."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path
from typing import Final

import apsw

from cirrus.errors import SetupError

SETTINGS: Final[dict[str, tuple[str, object]]] = {
    "journal_mode": ("WAL", "wal"),
    "synchronous": ("FULL", 2),
    "foreign_keys": ("ON", 1),
    "cell_size_check": ("ON", 1),
    "mmap_size": ("0", 0),
    "trusted_schema": ("OFF", 0),
    "cache_size": ("-16000", -16000),
    "wal_autocheckpoint": ("8000", 8000),
}


@contextmanager
def opening(path: Path) -> Iterator[None]:
    """Whatever is wrong with the file becomes a SetupError of one line."""
    try:
        yield
    except apsw.NotADBError as error:
        raise SetupError(path, f"not a Cirrus store: {error}") from error
    except apsw.FullError as error:
        raise SetupError(path, "no room on the disk: free some space") from error
    except (apsw.CantOpenError, apsw.ReadOnlyError) as error:
        raise SetupError(path, f"cannot be opened for writing: {error}") from error
    except (apsw.BusyError, apsw.LockedError) as error:
        raise SetupError(path, "another process is writing it: stop that one first") from error
    except apsw.Error as error:
        raise SetupError(path, f"damaged, or not a Cirrus store: {error}") from error


def open_writer(path: Path, new_instance: str) -> apsw.Connection:
    """The one connection that writes: it alone checkpoints.

    `new_instance` becomes the instance of a store that is new.
    """
    connection = apsw.Connection(str(path))
    for name, (value, expected) in SETTINGS.items():
        connection.execute(f"PRAGMA {name} = {value}").fetchall()
        ((found,),) = connection.execute(f"PRAGMA {name}").fetchall() or ((0,),)
        assert found == expected or path.name == ":memory:", (name, found)
    _migrate(connection, path, new_instance)
    return connection


def open_reader(path: Path) -> apsw.Connection:
    """A connection that can only read, and that never checkpoints."""
    connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READWRITE)
    connection.execute("PRAGMA query_only = ON").fetchall()
    connection.execute("PRAGMA wal_autocheckpoint = 0").fetchall()
    connection.execute("PRAGMA trusted_schema = OFF").fetchall()
    connection.set_busy_timeout(2000)
    return connection


def _migrate(connection: apsw.Connection, path: Path, new_instance: str) -> None:
    steps = _migrations()
    ((done, tables),) = connection.execute(
        "SELECT user_version, (SELECT count(*) FROM sqlite_schema) FROM pragma_user_version"
    ).fetchall()
    assert isinstance(done, int), done
    if done > len(steps):
        raise SetupError(
            path,
            f"it has schema {done} and this Cirrus knows {len(steps)}: it was written by a newer"
            " version; install that one",
        )
    if not done and tables:
        raise SetupError(path, "not a Cirrus store: a database of something else")
    for version in range(done + 1, len(steps) + 1):
        with connection:
            connection.execute(steps[version - 1])
            if version == 1:
                connection.execute("INSERT INTO instance (id) VALUES (?)", (new_instance,))
            connection.execute(f"PRAGMA user_version = {version}")


def _migrations() -> Sequence[str]:
    folder = files("cirrus.store").joinpath("migrations")
    paths = sorted(
        (path for path in folder.iterdir() if path.name.endswith(".sqlite.sql")),
        key=lambda path: path.name,
    )
    return [path.read_text(encoding="utf-8") for path in paths]
