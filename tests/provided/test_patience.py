"""``ingestion.timeout_s`` and ``ingestion.retries``: a source that takes too long is ended, and one that fails is asked again."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.provided.places import Place, days, name_of, netcdf
from tests.provided.test_others import cube
from tests.provided.test_urls import big
from tests.provider import Provider

from cubeport.adapters.fetching.bringing import Bringer
from cubeport.adapters.fetching.kept import KeptFolder
from cubeport.adapters.fetching.urls import UrlSource
from cubeport.adapters.storage.fetching import KeepingFetcher
from cubeport.cubes.placeholders import Pattern
from cubeport.cubes.sources import Area, Fetched, Period
from cubeport.cubes.write_request import BringOrder
from cubeport.errors import Cancelled, CubeportError, SourceFailed, SourceRejected, SourceTimeout

pytestmark = pytest.mark.filterwarnings("ignore:Consolidated metadata is currently not part:zarr.errors.ZarrUserWarning")

DAY = Period.parse("2024-01-01", "daily")
PAUSE = "cubeport.adapters.fetching.patience.FIRST_PAUSE_S"


def gets(place: Place, name: str) -> list[str]:
    """Return the status of each answer to a GET of a file."""
    return [each[2] for each in place.provider.requests("GET") if each[1].endswith(name)]


def test_a_unit_that_fails_is_asked_again_as_often_as_the_template_says(rolling: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(PAUSE, 0.0)
    name = f"2024/{name_of(1)}"
    rolling.by_day(sync="ingestion: {retries: 1}\n")
    rolling.provider.temper(name, status=503, times=2)
    failed = rolling.ask("2024-01-01", "2024-01-03")
    assert failed.error is not None
    assert (failed.error["kind"], failed.error["upstream_status"]) == ("source-failed", 503)
    assert gets(rolling, name) == ["503", "503"]
    rolling.provider.forget()
    rolling.by_day(sync="ingestion: {retries: 2}\n")
    rolling.provider.temper(name, status=503, times=2)
    done = rolling.ask("2024-01-01", "2024-01-03")
    assert (done.status, done.attempt, rolling.held()) == ("completed", 1, days(0, 1, 2)), done.error
    assert gets(rolling, name) == ["503", "503", "200"]


def test_a_request_says_it_too_and_a_refusal_is_final(tmp_path: Path, place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(PAUSE, 0.0)
    place.provider.put("a.nc", netcdf(tmp_path, 0))
    for status, retries, kind in ((503, 0, "source-failed"), (403, 5, "source-rejected"), (404, 5, "no-data")):
        place.provider.forget()
        place.provider.temper("a.nc", status=status)
        refused = place.take("a.nc", template={"ingestion": {"retries": retries}})
        assert refused.error is not None
        assert (refused.error["kind"], gets(place, "a.nc")) == (kind, [str(status)])


def test_a_provider_that_drips_is_ended_and_what_came_is_not_asked_for_again(
    tmp_path: Path, place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(PAUSE, 0.0)
    data = big(tmp_path)
    place.provider.put("big.nc", data)
    place.provider.temper("big.nc", slow_s=0.035)  # a little more than two seconds in all, and never a second without a byte
    began = time.monotonic()
    ended = place.take("big.nc", template={"ingestion": {"timeout_s": 1, "retries": 0}})
    assert time.monotonic() - began < 2
    assert ended.error is not None
    assert (ended.error["kind"], ended.error["setting"], ended.error["limit"]) == ("source-timeout", "ingestion.timeout_s", 1)
    assert ended.error["detail"] == "big.nc: The source took longer than 1 s."
    place.provider.forget()
    done = place.take("big.nc", template={"ingestion": {"timeout_s": 1, "retries": 3}})
    assert done.status == "completed", done.error
    assert set(gets(place, "big.nc")) == {"206"}
    assert place.provider.sent() < 2 * len(data)


def test_a_chunk_of_a_store_is_a_unit(tmp_path: Path, place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(PAUSE, 0.0)
    cube(tmp_path).to_zarr(place.provider.root / "c.zarr", zarr_format=3, encoding={"t": {"chunks": (1, 3, 4)}})
    chunk = "c.zarr/t/c/1/0/0"
    for retries, status in ((1, "failed"), (2, "completed")):
        place.provider.forget()
        place.provider.temper(chunk, status=502, times=2)
        done = place.take("c.zarr", template={"ingestion": {"retries": retries}})
        assert done.status == status, done.error
        assert len(gets(place, chunk)) == retries + 1
    assert place.held() == days(0, 1, 2)


# --- sources that cubeport does not know ----------------------------------------------------------------------------------------


class Slow:
    """A plugin's source that does as it is told at each call: nothing for so long, or an error."""

    def __init__(self, *does: float | Exception) -> None:
        self.does = list(does)
        self.calls: list[Path] = []
        self.wrote = threading.Event()

    def periods(self, start: Period, end: Period) -> None:
        return None

    def fetch_period(self, period: Period | None, area: Area | None, into: Path) -> Fetched:
        self.calls.append(into)
        what = self.does.pop(0)
        if isinstance(what, Exception):
            raise what
        time.sleep(what)
        try:
            (into / "a.nc").write_text(f"call {len(self.calls)}")
        finally:
            self.wrote.set()
        return Fetched((into / "a.nc",), None)


def bring(root: Path, source: Any, progress: Callable[..., None] = lambda *_: None, **fields: Any) -> str:
    order = BringOrder(dataset_id="x", name="odd", source="odd", periods=(DAY,), job="job", **fields)
    with Bringer(KeptFolder(root, hours=1, max_bytes=1000)).bring(source, order, progress=progress) as brought:
        return brought.of((DAY,))[0].read_text()


@pytest.mark.parametrize(
    ("failure", "retries", "calls", "error"),
    [
        (OSError("connection lost"), 2, 3, None),
        (SourceFailed("502"), 2, 3, None),
        (OSError("connection lost"), 1, 2, SourceFailed),
        (SourceRejected("no", reason="unreadable"), 2, 1, SourceRejected),
    ],
)
def test_a_plugin_is_called_again(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    failure: Exception,
    retries: int,
    calls: int,
    error: type[CubeportError] | None,
) -> None:
    monkeypatch.setattr(PAUSE, 0.0)
    source = Slow(failure, failure, 0.0)
    if error is None:
        assert bring(tmp_path, source, retries=retries) == "call 3"
    else:
        with pytest.raises(error):
            bring(tmp_path, source, retries=retries)
    assert len(source.calls) == calls


def test_a_plugin_that_hangs_is_left_behind_and_never_writes_into_what_is_kept(tmp_path: Path) -> None:
    source = Slow(0.8, 0.0)
    with pytest.raises(SourceTimeout, match=r"took longer than 0\.1 s"):
        bring(tmp_path, source, timeout_s=0.1, retries=5)
    assert len(source.calls) == 1, "it is not called beside itself"
    assert bring(tmp_path, source, timeout_s=5) == "call 2"
    assert source.wrote.wait(5)
    time.sleep(0.8)
    assert [each.read_text() for each in tmp_path.rglob("a.nc")] == ["call 2"]


def test_a_job_is_cancelled_while_a_plugin_hangs_and_while_a_source_rests(
    tmp_path: Path, world: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(PAUSE, 60.0)
    provider: Provider = world.provider.below("rests")
    provider.put("a.nc", b"a")
    provider.temper("a.nc", status=503)
    origin = provider.url.removesuffix("/rests")
    web = UrlSource(Pattern.of(f"{provider.url}/a.nc", {}), KeepingFetcher([origin]))
    for source in (web, Slow(OSError("lost")), Slow(3.0)):
        until = time.monotonic() + 0.5

        def progress(*_: object, until: float = until) -> None:
            if time.monotonic() > until:
                raise Cancelled("cancelled")

        with pytest.raises(Cancelled):
            bring(tmp_path, source, progress)
        assert time.monotonic() - until < 1.5
