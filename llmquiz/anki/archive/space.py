"""What to say when the folder for temporary files has no room, or takes none: that is not the package's fault."""

from __future__ import annotations

import errno
import sqlite3
import tempfile

_FULL = (errno.ENOSPC, errno.EDQUOT)
_READING = (sqlite3.SQLITE_IOERR_READ, sqlite3.SQLITE_IOERR_SHORT_READ)
_WRITING = (sqlite3.SQLITE_FULL, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_IOERR)


def lacking(error: OSError) -> str:
    """The problem and its cure, for a file that could not be written."""
    return _told(error.errno in _FULL, error.strerror or str(error))


def lacking_database(error: sqlite3.Error) -> str:
    """The same for a database; empty if `error` is of another kind."""
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR)
    if code in _READING or code & 0xFF not in _WRITING:
        return ""
    return _told(code == sqlite3.SQLITE_FULL, str(error))


def _told(full: bool, problem: str) -> str:
    folder = tempfile.gettempdir() if tempfile.tempdir else "the folder for temporary files"
    if full:
        return f"{folder} is full; free some space or set TMPDIR to another folder"
    return f"{folder} cannot be written ({problem.lower()}); set TMPDIR to another folder"
