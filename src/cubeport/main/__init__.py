"""The only place where parts meet: settings to adapters, adapters to the catalog, all of it to commands and apps."""

from cubeport.main.catalog import Catalog, arm
from cubeport.main.command import run
from cubeport.main.connecting import connect, queries
from cubeport.main.service import DEMO, prepare, serve

__all__ = ["DEMO", "Catalog", "arm", "connect", "prepare", "queries", "run", "serve"]
