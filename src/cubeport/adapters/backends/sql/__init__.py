"""The catalog in a SQL database, described once with SQLAlchemy Core. Importing it costs SQLAlchemy (0.4 s)."""

from cubeport.adapters.backends.sql.backend import SqlBackend

__all__ = ["SqlBackend"]
