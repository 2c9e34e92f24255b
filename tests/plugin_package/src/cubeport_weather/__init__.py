"""Weather stations for cubeport: what a domain adds, and nothing of it in the core."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer
from pydantic import BaseModel, ConfigDict

if TYPE_CHECKING:
    from cubeport.catalog.hooks import HookContext, HookResult
    from cubeport.catalog.plugins import PluginRegistry


class Station(BaseModel):
    """The metadata of a station's readings."""

    station: str
    height_m: float


class SynopExtractor:
    """``synop``: the first line of a ``.synop`` file is ``STATION HEIGHT``."""

    name = "synop"
    version = "1"

    def accepts(self, source: Path) -> bool:
        return source.suffix == ".synop"

    def extract(self, source: Path, limits: Any) -> Any:
        from cubeport.catalog.extraction import Extracted

        station, height = source.read_text().splitlines()[0].split()
        return Extracted({"station": station, "height_m": float(height)})


def stamp(context: HookContext, payload: Any) -> HookResult:
    """Every record says which operation of the network's archive it belongs to."""
    from cubeport.catalog.hooks import HookResult

    return HookResult(metadata_updates={"archive.step": context.step or "none"}, tags_add=("archived",))


class CalibrateOptions(BaseModel):
    model_config = ConfigDict(extra="forbid")
    offset: float = 0.0


class Calibrate:
    """A pipeline step: write down the offset that was applied."""

    stage = "record_validate"
    options = CalibrateOptions

    def run(self, draft: Any, options: CalibrateOptions, tools: Any) -> Any:
        from dataclasses import replace

        if options.offset < 0:
            raise ValueError("an offset cannot be negative")
        metadata = draft.record.metadata | {"offset": options.offset}
        return replace(draft, record=draft.record.replace(metadata=metadata))


class ShoutWriter:
    """A writer: the source in capitals."""

    target_kind = "file"

    def write(self, target: Path, source: Any) -> None:
        target.write_text(source.path.read_text().upper())


def shelf(name: str, settings: Any, root: Path) -> Any:
    """A type of storage profile: a folder of its own next to the instance's files."""
    from cubeport.adapters.storage.local import LocalProfile

    folder = root / "shelves" / name
    folder.mkdir(parents=True, exist_ok=True)
    return LocalProfile(name, folder)


def bulletins(records: Iterable[Any]) -> str:
    return "\n".join(f"BULLETIN {record.title}" for record in records)


def commands() -> Any:
    app = typer.Typer(help="Weather stations.")

    @app.command("stations")
    def stations(ctx: typer.Context) -> None:
        """List the stations."""
        catalog = ctx.obj.catalog(read_only=True)
        found = [each["value"] for each in catalog.values("synop.station")]
        ctx.obj.result(found, "\n".join(found))

    @app.command("network")
    def network(ctx: typer.Context) -> None:
        """Name the network."""
        ctx.obj.result("GSN", "GSN")

    return app


def forget(data: Mapping[str, Any]) -> None:
    Path(data["note"]).unlink(missing_ok=True)


def register(registry: PluginRegistry) -> None:
    registry.schema("station", Station)
    registry.extractor(SynopExtractor())
    registry.hook("before_record_commit", stamp, name="archive-stamp", required=False)
    registry.template_field("station_slug", lambda fields: "station-" + str(fields["kind"]))
    registry.operation("calibrate")
    registry.relation("calibrated_from")
    registry.step("calibrate", Calibrate())
    registry.writer("shout", ShoutWriter())
    registry.undo("forget-note", forget)
    registry.profile_type("shelf", shelf)
    registry.formatter("bulletin", bulletins)
    registry.cli("weather", commands())
