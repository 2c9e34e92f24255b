"""Connect the command line with the catalog and the service."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cubeport.adapters.sources.own import Found
    from cubeport.catalog.backend import Finding
    from cubeport.catalog.plugins import Plugins
    from cubeport.cli._session import ServiceParts, Session, Wiring
    from cubeport.cli._verbs import Verbs
    from cubeport.main.catalog import Catalog
    from cubeport.service.service import Service


def run(arguments: Sequence[str] | None = None) -> int:
    """Run one command line (default: this process's) and return its exit code: the console script ``cubeport``."""
    from cubeport.cli import _app

    return _app.run(wiring(), arguments)


def wiring() -> Wiring:
    """Return the parts of the command line of this process."""
    from cubeport.cli import configuration, datasets, derive, ingest, jobs, keys, mirrors, serving, sources, sync, webhooks, zones
    from cubeport.cli._session import Options, Wiring

    return Wiring(
        open_catalog=_open,
        create_catalog=_create,
        migrate=_migrate,
        service=_parts,
        registers=tuple(
            module.register
            for module in (serving, ingest, sync, datasets, jobs, configuration, keys, webhooks, mirrors, derive, sources, zones)
        ),
        plugins=_plugins,
        connect=_connect,
        reach=_reach,
        init_service=_init,
        stores=_stores,
        environment=Options(
            instance=Path(instance) if (instance := os.environ.get("CUBEPORT_INSTANCE")) else None,
            user=os.environ.get("CUBEPORT_USER"),
            plugins=os.environ.get("CUBEPORT_PLUGINS") != "off",
        ),
    )


# Each part is imported when a command needs it: half of the time that `--help` took was the catalog's import.


def _open(root: Path, **how: Any) -> Catalog:
    from cubeport.main.catalog import Catalog

    return Catalog.open(root, **how)


def _create(root: Path, **how: Any) -> Catalog:
    from cubeport.main.catalog import Catalog

    return Catalog.create(root, **how)


def _migrate(root: Path) -> Any:
    from cubeport.main.catalog import Catalog

    return Catalog.migrate(root)


def _plugins(root: Path | None) -> Plugins:
    from cubeport.main.installed import plugins_of

    return plugins_of(root)


def _connect(session: Session) -> Service:
    from cubeport.main.service import connect

    return connect(session.root, user_id=session.options.user)


def _reach(url: str) -> Verbs:
    from cubeport.client.verbs import PortVerbs
    from cubeport.main.connecting import connect

    return PortVerbs(connect(url))


def _init(_: Session, root: Path, *, catalog: str, allow_roots: Sequence[Path], allow_origins: Sequence[str]) -> Any:
    from cubeport.main.service import prepare

    prepare(root, catalog, allow_roots=[str(each.absolute()) for each in allow_roots], allow_origins=allow_origins)
    return {"configuration": "config/service.yaml"}


def _stores(root: Path, *, trial: bool) -> Iterable[Finding]:
    from cubeport.main.stores import store_findings

    return store_findings(root, trial=trial)


def _parts() -> ServiceParts:
    from cubeport.cli._session import ServiceParts
    from cubeport.main.checking import check_configuration
    from cubeport.main.scaled import scaled
    from cubeport.main.service import DEMO, prepare, serve

    def work(root: Path, **how: Any) -> int:
        from cubeport.main.worker import work

        return work(root, **how)

    def find(names: Iterable[str]) -> Found:
        from cubeport.adapters.sources.own import find

        return find(names)

    return ServiceParts(
        serve=serve,
        work=work,
        prepare=partial(prepare, samples=True),
        scaled=scaled,
        demo=DEMO,
        find=find,
        check=check_configuration,
    )
