"""Settings: one frozen object; flag > environment > file > default; every problem at once, at its place."""

from __future__ import annotations

import string
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from cubeport import settings
from cubeport.catalog.forms import strictyaml
from cubeport.errors import InvalidConfiguration


@pytest.fixture
def instance(tmp_path: Path) -> Path:
    (tmp_path / "config").mkdir()
    return tmp_path


def write(instance: Path, text: str) -> Path:
    (instance / settings.FILE).write_text(text)
    return instance


def refusal(instance: Path, **flags: object) -> list[str]:
    with pytest.raises(InvalidConfiguration) as caught:
        settings.load(instance, **flags)
    assert str(caught.value) == "\n".join(problem.message for problem in caught.value.errors)
    return [problem.message for problem in caught.value.errors]


def test_an_empty_instance_has_the_defaults_of_the_specification(instance: Path) -> None:
    loaded = settings.load(instance)
    assert (loaded.id, loaded.title, loaded.public_url, loaded.engine, loaded.read_only) == (
        "cubeport",
        "cubeport",
        None,
        "zarr",
        False,
    )
    assert (loaded.server.host, loaded.server.port, loaded.server.workers) == ("127.0.0.1", 8000, 1)
    assert (loaded.server.max_connections, loaded.server.trusted_proxies) == (1_000, ())
    assert (loaded.auth.public_reads, loaded.auth.open_on_loopback) == (True, False)
    assert loaded.cors.origins == ("*",)
    assert (loaded.limits.upload_bytes, loaded.limits.source_bytes, loaded.limits.declared_bytes) == (10 << 30, 50 << 30, 50 << 30)
    assert (loaded.limits.expansion, loaded.limits.periods, loaded.limits.download_cells) == (1_000, 1_000_000, 64_000_000)
    assert (loaded.limits.json_cells, loaded.limits.binary_cells, loaded.limits.answer_bytes) == (1_000_000, 64_000_000, 256 << 20)
    assert (loaded.gate.memory_bytes, loaded.gate.base_s, loaded.gate.sandbox) == (3 << 30, 60, "prefer")
    assert (loaded.ingest.wait_s, loaded.ingest.lock_wait_s, loaded.ingest.keep_fetched_h) == (60, 30, 24)
    assert (loaded.jobs.executor, loaded.jobs.workers, loaded.jobs.queue, loaded.jobs.max_attempts) == ("local", 2, 100, 3)
    assert (loaded.retention.keep_last, loaded.retention.keep_days, loaded.retention.grace_min) == (5, 7, 15)
    assert (loaded.schedule.enabled, loaded.schedule.timezone, loaded.changes.keep_days) == (True, "UTC", 90)
    assert loaded.data_dir == instance / "data"


def test_a_flag_wins_over_the_environment_and_that_over_the_file(instance: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(instance, "server: {host: 127.0.0.2, port: 1, workers: 3}\ntitle: file\n")
    monkeypatch.setenv("CUBEPORT_SERVER__PORT", "2")
    monkeypatch.setenv("CUBEPORT_SERVER__HOST", "127.0.0.3")
    monkeypatch.setenv("CUBEPORT_CORS__ORIGINS", "https://a.example, https://b.example:8443")
    loaded = settings.load(instance, server__port=3, title=None)
    assert (loaded.server.host, loaded.server.port, loaded.server.workers) == ("127.0.0.3", 3, 3)
    assert loaded.title == "file"
    assert loaded.cors.origins == ("https://a.example", "https://b.example:8443")


def test_the_instance_comes_from_the_environment_and_paths_count_from_it(instance: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(instance, "data_dir: deep/er\nsources: {roots: [in, /srv]}\n")
    monkeypatch.setenv("CUBEPORT_INSTANCE", str(instance))
    loaded = settings.load()
    assert loaded.instance == instance
    assert loaded.data_dir == instance / "deep/er"
    assert loaded.sources.roots == (instance / "in", Path("/srv"))


def test_origins_of_sources_have_one_writing(instance: Path) -> None:
    write(instance, "sources: {origins: ['HTTPS://Data.Example:443/', 'http://10.0.0.5:8080', 'http://[0:0::1]:80']}\n")
    assert settings.load(instance).sources.origins == ("https://data.example", "http://10.0.0.5:8080", "http://[::1]")
    write(instance, "sources: {origins: ['ftp://a.example', 'https://u@a.example', 'http://127.1', 'https://a.example/x']}\n")
    assert [each.split(": ")[0] for each in refusal(instance)] == [f"config/service.yaml:1:{n}" for n in (21, 40, 63, 79)]


def test_it_is_frozen(instance: Path) -> None:
    loaded = settings.load(instance)
    with pytest.raises(ValidationError):
        loaded.title = "other"  # type: ignore[misc]
    with pytest.raises(ValidationError):
        loaded.server.port = 1  # type: ignore[misc]


def test_a_block_of_the_wrong_shape_or_with_an_odd_key_names_its_keys(instance: Path) -> None:
    write(instance, "webhooks: []\nschedule: {when: daily}\n")
    assert sorted(refusal(instance)) == [
        "config/service.yaml:1:1: webhooks: should be a mapping (key: value) with origins, targets",
        "config/service.yaml:2:12: schedule.when: is unknown; there are enabled, timezone",
    ]


def test_all_problems_are_told_at_once_each_at_its_place(instance: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(instance, "titel: x\nserver:\n  prot: 80\n  workers: 0\nengine: zar\nschedule: {timezone: Mars/Base}\n")
    monkeypatch.setenv("CUBEPORT_LIMITS__CHUNKS", "many")
    monkeypatch.setenv("CUBEPORT_GATE__MEMORY", "1")
    assert sorted(refusal(instance, log__level="loud")) == [
        "--log-level: log.level: 'loud' is not one of debug, info, warning, error",
        "CUBEPORT_GATE__MEMORY: gate.memory: is unknown; did you mean 'memory_bytes'?",
        "CUBEPORT_LIMITS__CHUNKS: limits.chunks: Input should be a valid integer, unable to parse string as an integer",
        "config/service.yaml:1:1: titel: is unknown; did you mean 'title'?",
        "config/service.yaml:3:3: server.prot: is unknown; did you mean 'port'?",
        "config/service.yaml:4:3: server.workers: Input should be greater than or equal to 1",
        "config/service.yaml:5:1: engine: 'zar' is not one of zarr, icechunk; did you mean 'zarr'?",
        "config/service.yaml:6:12: schedule.timezone: is not a time zone of the IANA database, for example Europe/Paris",
    ]


def test_a_variable_that_means_no_setting_is_refused(instance: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("CUBEPORT_RETENTON__KEEP_LAST", "CUBEPORT_TITEL"):
        monkeypatch.setenv(name, "5")
    for name in ("CUBEPORT_USER", "CUBEPORT_KEY", "CUBEPORT_PLUGINS", "CUBEPORT_PROFILES__S3__ROOT", "CUBEPORT_REALDATA"):
        monkeypatch.setenv(name, "x")
    assert refusal(instance) == [
        "CUBEPORT_RETENTON__KEEP_LAST: retenton: is not a section of settings; did you mean 'retention'?",
        "CUBEPORT_TITEL: titel: is unknown; did you mean 'title'?",
    ]


def test_equal_keys_tags_and_aliases_are_refused(instance: Path) -> None:
    write(instance, "id: a\nserver:\n  port: 1\n  port: 2\nid: b\n")
    assert refusal(instance) == [
        "config/service.yaml:4:3: server.port: appears twice, first in line 3",
        "config/service.yaml:5:1: id: appears twice, first in line 1",
    ]
    write(instance, "id: &a x\ntitle: *a\n")
    assert refusal(instance) == ["config/service.yaml:2:8: aliases are refused; write the value again"]
    write(instance, "title: !!python/object/apply:os.getcwd []\n")
    assert refusal(instance) == ["config/service.yaml:1:8: title: tags are refused"]
    write(instance, "title: [\n")
    assert refusal(instance)[0].startswith("config/service.yaml:2:1: ")
    write(instance, "- id\n")
    assert refusal(instance) == ["config/service.yaml:1:1: must be a mapping of settings"]


def test_variables_and_dates_stay_text(instance: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/planted")
    write(instance, "title: ${HOME}\ndescription: 2024-01-01\n")
    loaded = settings.load(instance)
    assert (loaded.title, loaded.description) == ("${HOME}", "2024-01-01")


@pytest.mark.parametrize("text", ["no", "yes", "off", "12:30", "0777", "1_000", "2024-01-01", "<<", "=", ".nan", "y"])
def test_yaml_1_1_surprises_are_text_or_decimal(text: str) -> None:
    value = strictyaml.parse(f"a: {text}", "x").value["a"]
    assert value == (777 if text == "0777" else text)


def test_core_scalars() -> None:
    parsed = strictyaml.parse("- ~\n- null\n- ''\n- true\n- False\n- 0o17\n- 0xff\n- -3\n- 1.5e3\n- .5\n- '1'\n", "x")
    assert parsed.value == [None, None, "", True, False, 15, 255, -3, 1500.0, 0.5, "1"]
    assert parsed.marks[(8,)] == (9, 3)


@given(
    st.dictionaries(
        st.text(string.ascii_lowercase, min_size=1, max_size=8),
        st.recursive(
            st.none() | st.booleans() | st.integers(-(10**12), 10**12) | st.text(string.printable, max_size=20),
            lambda inner: (
                st.lists(inner, max_size=3) | st.dictionaries(st.text(string.ascii_letters, min_size=1), inner, max_size=3)
            ),
            max_leaves=8,
        ),
    )
)
def test_what_a_safe_dumper_writes_reads_back(value: dict[str, object]) -> None:
    class Plain(yaml.SafeDumper):
        def ignore_aliases(self, data: object) -> bool:
            return True

    text = yaml.dump(value, Dumper=Plain, default_style='"')
    quoted_scalars = strictyaml.parse(text, "x").value
    assert quoted_scalars == _as_quoted(value)


def _as_quoted(value: object) -> object:
    """Quoted style writes every scalar as text; `!!int "1"` and the like carry tags of the core, which still read as text."""
    match value:
        case dict():
            return {key: _as_quoted(item) for key, item in value.items()}
        case list():
            return [_as_quoted(item) for item in value]
        case None:
            return "null"
        case bool():
            return str(value).lower()
        case int():
            return str(value)
    return value


def test_a_secret_comes_only_from_the_environment(instance: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(instance, "catalog_url: postgresql://u:hidden@h/db\n")
    [message] = refusal(instance)
    assert "CUBEPORT_CATALOG_URL" in message
    assert "hidden" not in message
    write(instance, "")
    monkeypatch.setenv("CUBEPORT_CATALOG_URL", "postgresql://u:hidden@h/db")
    given = settings.load(instance).catalog_url
    assert given is not None
    assert given.get_secret_value() == "postgresql://u:hidden@h/db"
    assert "hidden" not in repr(settings.load(instance))
    monkeypatch.setenv("CUBEPORT_CATALOG_URL", "mysql://u:hidden@h/db")
    [message] = refusal(instance)
    assert "postgresql://HOST/DATABASE" in message
    assert "hidden" not in message


def test_an_executor_and_its_address_come_together(instance: Path) -> None:
    write(instance, "jobs: {executor: dask}\n")
    assert "executor dask needs dask_address" in refusal(instance)[0]
    write(instance, "jobs: {dask_address: 'tcp://127.0.0.1:8786'}\n")
    assert "dask_address has no effect with executor local" in refusal(instance)[0]
    for address in ("127.0.0.1:8786", "gateway://host:80", "tcp://user@host:80", "tcp://host"):
        write(instance, f"jobs: {{executor: dask, dask_address: '{address}'}}\n")
        assert "jobs.dask_address" in refusal(instance)[0]
    write(instance, "jobs: {executor: dask, dask_address: 'tls://host.example:8786', unit_bytes: 1}\n")
    assert settings.load(instance).jobs.dask_address == "tls://host.example:8786"


def test_trusted_proxies_are_addresses_and_networks_wherever_they_are_written(
    instance: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(instance, "server: {trusted_proxies: [127.0.0.1, 10.1.2.3/8, '::1']}\n")
    assert settings.load(instance).server.trusted_proxies == ("127.0.0.1/32", "10.0.0.0/8", "::1/128")
    write(instance, "server:\n  trusted_proxies: [nginx]\n")
    words = "server.trusted_proxies.0: is no address or network, for example 127.0.0.1 or 10.0.0.0/8"
    assert refusal(instance) == [f"config/service.yaml:2:21: {words}"]
    write(instance, "")
    monkeypatch.setenv("CUBEPORT_SERVER__TRUSTED_PROXIES", "127.0.0.1, 172.30.0.0/24")
    assert settings.load(instance).server.trusted_proxies == ("127.0.0.1/32", "172.30.0.0/24")
    for every in ("0.0.0.0/0", "::/0"):
        monkeypatch.setenv("CUBEPORT_SERVER__TRUSTED_PROXIES", every)
        assert "is every address, so anybody could say who asks" in refusal(instance)[0]


@pytest.mark.parametrize(
    ("given_url", "kept"), [("https://a.example/cubes/", "https://a.example/cubes"), ("http://[::1]:8000", "http://[::1]:8000")]
)
def test_public_url_loses_its_last_slash(instance: Path, given_url: str, kept: str) -> None:
    assert settings.load(instance, public_url=given_url).public_url == kept


@pytest.mark.parametrize("bad", ["ftp://a", "a.example", "https://u@a.example", "https://a.example?x=1", "https://a.example#x"])
def test_public_url_is_refused(instance: Path, bad: str) -> None:
    assert refusal(instance, public_url=bad)[0].startswith("--public-url: public_url: must ")


def test_every_setting_is_named_once() -> None:
    names = settings.names()
    assert len(set(names)) == len(names)
    assert {"server.trusted_proxies", "zarr.offload_prefix", "catalog_url", "gate.sandbox", "limits.answer_bytes"} <= set(names)
