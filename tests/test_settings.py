"""Settings: sources and their order, refusals, secrets, and the documented file."""

import os
import re
import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr, ValidationError

from gorax_engine import settings as module
from gorax_engine.errors import ConfigurationError
from gorax_engine.settings import Settings, known_keys, load_settings, parse_duration, secret_keys

DOCUMENTED = Path(__file__).parents[1] / "config" / "gorax.toml"
DSN = "postgresql://gorax:hunter2@db/gorax"


@pytest.fixture(autouse=True)
def _bare_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in os.environ:
        if name.startswith("GORAX_"):
            monkeypatch.delenv(name)
    monkeypatch.setattr(module, "DEFAULT_CONFIG_FILE", tmp_path / "absent.toml")


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "gorax.toml"
    path.write_text(text)
    return path


def test_without_sources_there_are_defaults() -> None:
    settings = load_settings()
    assert settings == Settings()
    assert (settings.server.host, settings.server.port, settings.server.max_body_bytes) == ("127.0.0.1", 8080, 1 << 20)
    assert (settings.worker.lease, settings.worker.heartbeat, settings.worker.poll) == (15, 5, 1)
    assert settings.management.port == 9464


def test_the_documented_file_holds_the_defaults() -> None:
    assert load_settings(DOCUMENTED) == Settings()


def test_every_key_is_documented_and_every_documented_key_exists() -> None:
    text = DOCUMENTED.read_text()
    # Only secrets, and the file of one, have no default to show: they stand in the file as comments.
    uncommented = re.sub(r"(?m)^# (?=\w*dsn = |key_file = )", "", text)
    tree = tomllib.loads(uncommented)
    documented = {
        f"{name}.{key}" if isinstance(value, dict) else name
        for name, value in tree.items()
        for key in (value if isinstance(value, dict) else [""])
    }
    assert documented == set(known_keys())
    without_default = {key for key in known_keys() if key not in _flat(tomllib.loads(text))}
    assert without_default == secret_keys() | {"vault.key_file"}


def _flat(tree: dict[str, object]) -> set[str]:
    return {
        f"{name}.{key}" if isinstance(value, dict) else name
        for name, value in tree.items()
        for key in (value if isinstance(value, dict) else [""])
    }


def test_each_source_wins_over_the_next(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path, '[server]\nport = 1\nhost = "file"\n[database]\ndsn = "in the file"\n')
    assert load_settings(path).server.port == 1
    monkeypatch.setenv("GORAX_SERVER__PORT", "2")
    assert load_settings(path).server.port == 2
    assert load_settings(path, server={"port": 3}).server.port == 3
    assert load_settings(path, server={"port": 3}).server.host == "file"

    secret = tmp_path / "dsn"
    secret.write_text(DSN + "\n")
    monkeypatch.setenv("GORAX_DATABASE__DSN_FILE", str(secret))
    assert load_settings(path).database.dsn == SecretStr(DSN)
    monkeypatch.setenv("GORAX_DATABASE__DSN", "in the environment")
    assert load_settings(path).database.dsn == SecretStr("in the environment")


def test_the_file_is_found_by_variable_and_by_default(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path, "[worker]\nslots = 7\n")
    monkeypatch.setattr(module, "DEFAULT_CONFIG_FILE", path)
    assert load_settings().worker.slots == 7
    other = tmp_path / "other.toml"
    other.write_text("[worker]\nslots = 8\n")
    monkeypatch.setenv("GORAX_CONFIG", str(other))
    assert load_settings().worker.slots == 8


def test_lists_and_durations_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GORAX_OUTBOUND__ALLOW", "127.0.0.0/8, localhost,::1/128")
    monkeypatch.setenv("GORAX_WORKER__DRAIN_TIMEOUT", "1m30s")
    monkeypatch.setenv("GORAX_STATE_DIR", "/var/lib/gorax")
    settings = load_settings()
    assert settings.outbound.allow == ("127.0.0.0/8", "localhost", "::1/128")
    assert settings.worker.drain_timeout == 90
    assert settings.state_dir == Path("/var/lib/gorax")


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("[worker]\nslotz = 1\n", ["worker.slotz", "worker.slots"]),
        ("[wroker]\nslots = 1\n", ["wroker.slots", "worker.slots"]),
        ("statedir = 'x'\n", ["statedir", "state_dir"]),
        ("[log.deeper]\nlevel = 'info'\n", ["log.deeper"]),
    ],
)
def test_an_unknown_key_in_the_file_is_refused(tmp_path: Path, text: str, named: list[str]) -> None:
    path = write(tmp_path, text)
    with pytest.raises(ConfigurationError) as refusal:
        load_settings(path)
    assert all(name in refusal.value.message for name in [*named, str(path)])
    assert refusal.value.code == "unknown_setting"


@pytest.mark.parametrize(
    ("variable", "nearest"),
    [
        ("GORAX_WORKER__SLOT", "GORAX_WORKER__SLOTS"),
        ("GORAX_DATABASE_DSN", "GORAX_DATABASE__DSN"),
        ("GORAX_SERVER__PORT_FILE", "GORAX_SERVER__PORT"),
    ],
)
def test_an_unknown_variable_is_refused(monkeypatch: pytest.MonkeyPatch, variable: str, nearest: str) -> None:
    monkeypatch.setenv(variable, "1")
    with pytest.raises(ConfigurationError) as refusal:
        load_settings()
    assert f"{variable} (" in refusal.value.message
    assert refusal.value.message.endswith(f"the nearest is {nearest}.")


def test_service_links_of_kubernetes_are_no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("GORAX_PORT", "GORAX_SERVICE_HOST", "GORAX_SERVICE_PORT_HTTP", "GORAX_API_PORT_8080_TCP_ADDR"):
        monkeypatch.setenv(name, "x")
    assert load_settings() == Settings()


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("[server]\nport = 70000\n", "server.port"),
        ("[worker]\nlease = 'soon'\n", "worker.lease"),
        ("[worker]\nlease = '0s'\n", "worker.lease"),
        ("[worker]\nlease = nan\n", "worker.lease"),
        ("[worker]\nlease = '6s'\nheartbeat = '4s'\n", "worker"),
        ("[outbound]\nallow = ['10.0.0.1/8']\n", "outbound.allow"),
        ("[outbound]\ndeny = ['http://x']\n", "outbound.deny"),
        ("[log]\nformat = 'xml'\n", "log.format"),
    ],
)
def test_a_bad_value_is_refused_in_one_sentence(tmp_path: Path, text: str, key: str) -> None:
    with pytest.raises(ConfigurationError) as refusal:
        load_settings(write(tmp_path, text))
    assert key in refusal.value.message
    assert refusal.value.message.endswith(".")
    assert "\n" not in refusal.value.message


@pytest.mark.parametrize("content", [b"[server", b"\xff\xfe"])
def test_a_file_that_is_not_toml_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "gorax.toml"
    path.write_bytes(content)
    with pytest.raises(ConfigurationError, match="not valid TOML"):
        load_settings(path)


def test_a_named_file_must_exist(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigurationError, match="can't be read"):
        load_settings(tmp_path / "nowhere.toml")
    monkeypatch.setenv("GORAX_DATABASE__DSN_FILE", str(tmp_path / "nowhere"))
    with pytest.raises(ConfigurationError, match="GORAX_DATABASE__DSN_FILE"):
        load_settings()


def test_secrets_never_show(tmp_path: Path) -> None:
    settings = load_settings(database={"dsn": DSN})
    assert "hunter2" not in f"{settings!r} {settings} {settings.model_dump_json()}"
    with pytest.raises(ConfigurationError) as refusal:
        load_settings(database={"dsn": [DSN], "pool_size": DSN})
    assert "hunter2" not in str(refusal.value)


def test_settings_are_frozen() -> None:
    with pytest.raises(ValidationError):
        load_settings().server.port = 1


def test_a_plain_dsn_switches_to_the_engines_roles() -> None:
    database = load_settings(database={"dsn": DSN}).database
    assert database.for_app() == (DSN, "gorax_app")
    assert database.for_worker() == (DSN, "gorax_worker")
    assert database.for_listen() == (DSN, "gorax_worker")
    assert database.for_migrate() == (DSN, None)


def test_an_explicit_dsn_is_used_as_it_is() -> None:
    database = load_settings(
        database={"dsn": DSN, "app_dsn": "a", "worker_dsn": "w", "listen_dsn": "l", "migrate_dsn": "m"}
    ).database
    assert database.for_app() == ("a", None)
    assert database.for_worker() == ("w", None)
    assert database.for_listen() == ("l", None)
    assert database.for_migrate() == ("m", None)


def test_without_a_dsn_the_refusal_says_what_to_set() -> None:
    for choose in (Settings().database.for_app, Settings().database.for_listen, Settings().database.for_migrate):
        with pytest.raises(ConfigurationError, match="GORAX_DATABASE__DSN"):
            choose()


@given(st.integers(0, 99), st.integers(0, 99), st.integers(0, 99), st.integers(0, 999))
def test_durations_add_up(hours: int, minutes: int, seconds: int, millis: int) -> None:
    assert parse_duration(f"{hours}h{minutes}m{seconds}s{millis}ms") == pytest.approx(
        hours * 3600 + minutes * 60 + seconds + millis / 1000
    )


@pytest.mark.parametrize("text", ["", " ", "s", "5 m", "-5s", "1d", "15s5m", "\u0665s", True, None])
def test_other_text_is_no_duration(text: object) -> None:
    with pytest.raises(ValueError, match="duration"):
        parse_duration(text)
