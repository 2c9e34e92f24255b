"""A list of sources becomes datasets; a checksum is filled in once and holds from then on."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from tests.provided.places import Place, netcdf

from cubeport.catalog.forms.datamanifest import fill, read, text_of
from cubeport.errors import InvalidRequest

LIST = """\
# what we mirror
[_META]
schema = 1

[_FUTURE]
notes = "kept"

[_LANG.python.loaders]
nc = "xarray:open_dataset"

[{name}]   # the ice
format = "nc"
uri = "{url}/ice.nc"
description = "Ice"

[{name}._LANG.python]
loader = "m:load"

[{name}._CUBEPORT]
template = {{ title = "Ice of all days" }}

[made_elsewhere]
fetcher = "m:make"
"""


def test_a_checksum_is_filled_in_at_the_first_fetch_and_holds_from_then_on(tmp_path: Path, place: Place) -> None:
    data = netcdf(tmp_path, 0, 1)
    place.provider.put("ice.nc", data)
    file = tmp_path / "sources.toml"
    text = LIST.format(name=place.id, url=place.provider.url)
    file.write_text(text)
    planned = place.service.apply(file, dry_run=True)
    assert [(each.outcome, each.detail) for each in planned] == [("planned", "create"), ("skipped", planned[1].detail)]
    assert file.read_text() == text
    sha256 = hashlib.sha256(data).hexdigest()
    done = place.service.apply(file)
    assert [each.outcome for each in done] == ["created", "skipped"], done
    assert file.read_text() == text.replace("   # the ice\n", f'   # the ice\nsha256 = "{sha256}"\n'), (
        "one line more, all else as it was"
    )
    assert place.service.shown(place.id).texts.title == "Ice of all days"
    place.provider.forget()
    again = place.service.apply(file)
    assert [each.outcome for each in again] == ["unchanged", "skipped"], again
    assert len(place.service.versions(place.id)) == 1
    assert place.provider.requests() == [], "the file with that checksum is held"
    # Another file at that address is not what is meant by a checksum that nobody has.
    place.provider.put("ice.nc", netcdf(tmp_path, 0, 1, add=0.5))
    file.write_text(file.read_text().replace(sha256, "0" * 64))
    [refused, _] = place.service.apply(file)
    assert refused.outcome == "failed"
    assert "sha256" in refused.detail
    assert place.held() == {0: 0.0, 1: 1.0}


def test_lock_fills_in_what_is_known_without_fetching(tmp_path: Path, place: Place) -> None:
    data = netcdf(tmp_path, 0)
    place.provider.put("ice.nc", data)
    assert place.take("ice.nc").status == "completed"
    file = tmp_path / "sources.toml"
    file.write_text(LIST.format(name=place.id, url=place.provider.url))
    place.provider.forget()
    assert place.service.lock_sources(file) == {place.id: hashlib.sha256(data).hexdigest()}
    assert place.provider.requests() == []
    assert read(file.read_text())[0].sha256 == hashlib.sha256(data).hexdigest()
    assert place.service.lock_sources(file) == {}


def test_lock_takes_no_checksum_of_another_file(tmp_path: Path, place: Place) -> None:
    place.provider.put("ice.nc", netcdf(tmp_path, 0))
    place.provider.put("old/ice.nc", netcdf(tmp_path, 0))
    place.provider.put("more.nc", netcdf(tmp_path, 1))
    file = tmp_path / "sources.toml"
    file.write_text(text := LIST.format(name=place.id, url=place.provider.url))
    assert place.take("old/ice.nc").status == "completed"
    assert place.service.lock_sources(file) == {}, "the file of that name at another address is another file"
    assert place.take("ice.nc", mode="replace").status == "completed"
    assert place.take("more.nc", mode="update").status == "completed"
    assert place.service.lock_sources(file) == {}, "the newest version was made of what was added"
    assert file.read_text() == text


def test_entries_that_make_one_dataset_are_refused_together(tmp_path: Path, place: Place) -> None:
    place.provider.put("a.nc", netcdf(tmp_path, 0))
    place.provider.put("b.nc", netcdf(tmp_path, 1))
    entry = '[{name}]\nuri = "{url}/{name}.nc"\n[{name}._CUBEPORT]\ndataset_id = "{id}"\n'
    file = tmp_path / "sources.toml"
    text = "[_META]\nschema = 1\n" + "".join(entry.format(name=name, url=place.provider.url, id=place.id) for name in "ab")
    file.write_text(text)
    for dry_run in (True, False):
        found = place.service.apply(file, dry_run=dry_run)
        assert [each.outcome for each in found] == ["failed", "failed"]
        assert all("'a', 'b' make the same dataset" in each.detail for each in found)
    assert place.provider.requests() == [], "nothing is fetched"
    # The next step of the refusal.
    file.write_text(text + 'mode = "update"\n')
    assert [each.outcome for each in place.service.apply(file)] == ["created", "created"]
    assert place.held() == {0: 0.0, 1: 1.0}


def test_one_entry_that_fails_does_not_keep_the_others(tmp_path: Path, place: Place) -> None:
    place.provider.put("good.nc", netcdf(tmp_path, 0))
    file = tmp_path / "sources.toml"
    url = place.provider.url
    file.write_text(
        f'[_META]\nschema = 1\n[{place.id}-a]\nuri = "{url}/nosuch.nc"\n[{place.id}-b]\nuri = "{url}/good.nc"\n'
        f'[{place.id}-c]\nuri = "https://elsewhere.example/x.nc"\n'
        f'[{place.id}-d]\nuri = "{tmp_path}/good.nc"\n'
    )
    applied = place.service.apply(file)
    assert [each.outcome for each in applied] == ["failed", "created", "failed", "failed"]
    assert "write one that begins with http:// or https://" in applied[3].next_step
    assert "add https://elsewhere.example to sources.origins" in applied[2].next_step, "and what helps is told"


def test_what_a_list_means_by_uris_and_skip_download(tmp_path: Path, place: Place) -> None:
    """An entry with uris was skipped as if it had no address, and one that nobody may fetch was fetched."""
    place.provider.put("x.nc", netcdf(tmp_path, 0))
    file = tmp_path / "sources.toml"
    url = place.provider.url
    file.write_text(
        f'[_META]\nschema = 1\n[{place.id}-a]\nuris = ["{url}/x.nc", "{url}/y.nc"]\nuri = ""\n'
        f'[{place.id}-b]\nuri = "{url}/x.nc"\nskip_download = true\n'
    )
    place.provider.forget()
    for dry_run in (True, False):
        several, external = place.service.apply(file, dry_run=dry_run)
        assert (several.outcome, external.outcome) == ("failed", "skipped")
        assert "2 files" in several.detail
        assert 'mode = "update"' in several.next_step
        assert "skip_download" in external.detail
    assert place.service.lock_sources(file) == {}
    assert place.provider.requests() == []


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("[_META]\nschema = 1\n[a]\nuris = 'x'\n", "a.uris"),
        ("[_META]\nschema = 1\n[a]\nuris = ['x', 'y']\nuri = 'z'\n", "both"),
        ("[_META]\nschema = 1\n[a]\nuri = 'x'\nskip_download = 'yes'\n", "a.skip_download"),
        ("[_META\n", "TOML"),
        ("[a]\nuri = 'x'\n", "schema"),
        ("[_META]\nschema = 2\n", "schema"),
        ("[_META]\nschema = 1\n[a]\nuri = 3\n", "a.uri"),
        ("[_META]\nschema = 1\n[a]\nuri = 'x'\nsha256 = 'ABC'\n", "a.sha256"),
    ],
)
def test_a_list_that_cannot_be_read_says_why(text: str, word: str) -> None:
    with pytest.raises(InvalidRequest, match=word):
        read(text)


@pytest.mark.parametrize("head", ["\ufeff[_META]\r\nschema = 1\r\n", "\ufeff[a]\r\nuri = 'x'\r\n[_META]\r\nschema = 1\r\n"])
def test_a_list_of_an_editor_on_windows_stays_as_it_was(head: str) -> None:
    """The byte order mark was refused, and the ends of all lines were changed."""
    text = text_of(head.encode() + b"[b]\r\nuri = 'y'")
    names = [each.name for each in read(text)]
    filled = fill(text, dict.fromkeys(names, "0" * 64))
    assert filled.replace(f'sha256 = "{"0" * 64}"\r\n', "") == text
    assert [each.sha256 for each in read(filled)] == ["0" * 64] * len(names)
    with pytest.raises(InvalidRequest, match="byte 1 is 0xff"):
        text_of(b"[\xff")


def test_a_table_without_a_header_of_its_own_is_left_alone() -> None:
    for text in ('a = { uri = "x" }\n[_META]\nschema = 1\n', '[_META]\nschema = 1\n[b]\na.uri = "x"\n'):
        with pytest.raises(InvalidRequest, match="header"):
            fill(text, {"a": "0" * 64})
    quoted = '[_META]\nschema = 1\n["a b"]\nuri = "x"'
    assert read(fill(quoted, {"a b": "0" * 64}))[0].sha256 == "0" * 64
