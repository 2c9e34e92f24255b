"""The servers of the other suites, attacked."""

from tests.server.conftest import engine, live, service, store

__all__ = ["engine", "live", "service", "store"]
