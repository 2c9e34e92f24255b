"""The command line: what it is given of the catalog and of the service."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cubeport.main.catalog import Catalog, plugins_of
from cubeport.main.checking import check_configuration
from cubeport.main.service import DEMO, connect, prepare, serve

if TYPE_CHECKING:
    from cubeport.adapters.sources.own import Found
    from cubeport.cli._session import Session, Wiring
    from cubeport.service.service import Service


def run(arguments: Sequence[str] | None = None) -> int:
    """Run one command line (default: this process's) and return its exit code: the console script ``cubeport``."""
    from cubeport.cli import _app

    return _app.run(wiring(), arguments)


def wiring() -> Wiring:
    """Return what the command line of this process is made of."""
    from cubeport.cli import configuration, datasets, derive, ingest, jobs, keys, mirrors, serving, sources, sync, webhooks, zones
    from cubeport.cli._session import Options, ServiceParts, Wiring

    environment = Options(
        instance=Path(instance) if (instance := os.environ.get("CUBEPORT_INSTANCE")) else None,
        user=os.environ.get("CUBEPORT_USER"),
        plugins=os.environ.get("CUBEPORT_PLUGINS") != "off",
    )

    def init_service(_: Session, root: Path, *, catalog: str, allow_roots: Sequence[Path], allow_origins: Sequence[str]) -> Any:
        prepare(root, catalog, allow_roots=[str(each.absolute()) for each in allow_roots], allow_origins=allow_origins)
        return {"configuration": "config/service.yaml"}

    def of_service(session: Session) -> Service:
        return connect(session.root, user_id=session.options.user)

    def find(names: Iterable[str]) -> Found:
        from cubeport.adapters.sources.own import find

        return find(names)

    return Wiring(
        open_catalog=Catalog.open,
        create_catalog=Catalog.create,
        migrate=Catalog.migrate,
        service=ServiceParts(serve=serve, prepare=partial(prepare, samples=True), demo=DEMO, find=find, check=check_configuration),
        registers=tuple(
            module.register
            for module in (serving, ingest, sync, datasets, jobs, configuration, keys, webhooks, mirrors, derive, sources, zones)
        ),
        plugins=plugins_of,
        connect=of_service,
        init_service=init_service,
        environment=environment,
    )
