"""The catalog in a SQL database, by one SQLAlchemy Core description: SQLite now. Importing it costs SQLAlchemy (0.4 s)."""

from cubeport.adapters.backends.sql.backend import SqlBackend

__all__ = ["SqlBackend"]
