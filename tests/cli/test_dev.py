"""What `gorax dev` does around the daemon: its folder, its port, and the commands that it prints."""

import os
import shlex
import socket
import sys
from pathlib import Path

import pytest

from gorax_engine.cli.dev import is_free, next_steps, program, require_free, settings_of_dev
from gorax_engine.cli.session import DEFAULT_SERVER, STATE_DIR
from gorax_engine.cli.state_dir import StateDir, hold
from gorax_engine.errors import ConfigurationError


def test_the_folder_is_private_and_held_by_one(tmp_path: Path) -> None:
    with hold(tmp_path / "deep" / "state") as state:
        assert state.path.stat().st_mode & 0o777 == 0o700
        with (
            pytest.raises(ConfigurationError, match=rf"process {os.getpid()}\) uses .*state") as caught,
            hold(state.path),
        ):
            pass
        assert caught.value.code == "state_dir_in_use"
    with hold(state.path):
        pass


def test_a_folder_of_somebody_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(ConfigurationError, match="not made by gorax"), hold(tmp_path):
        pass
    assert (tmp_path / "thesis.tex").exists()
    with pytest.raises(ConfigurationError, match="can't be used"), hold(tmp_path / "thesis.tex"):
        pass


def test_reset_deletes_what_is_kept_but_not_the_lock_nor_what_links_lead_to(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "kept").touch()
    with hold(tmp_path / "state") as state:
        state.postgres.mkdir()
        (state.postgres / "data").touch()
        state.write_private(state.api_key_file, "key")
        (state.path / "link").symlink_to(outside)
        state.reset()
        assert [entry.name for entry in state.path.iterdir()] == ["dev.lock"]
        with pytest.raises(ConfigurationError), hold(state.path):
            pass
    assert (outside / "kept").exists()


def test_the_key_is_readable_by_its_owner_only_and_replaced_whole(tmp_path: Path) -> None:
    state = StateDir(tmp_path)
    assert state.read(state.api_key_file) is None
    for key in ("first", "second"):
        state.write_private(state.api_key_file, key)
        assert state.read(state.api_key_file) == key
        assert state.api_key_file.stat().st_mode & 0o777 == 0o600
    assert [entry.name for entry in tmp_path.iterdir()] == ["api-key"]


def test_a_port_that_is_taken_is_seen_though_it_could_be_shared() -> None:
    with socket.socket() as neighbour:
        neighbour.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        neighbour.bind(("127.0.0.1", 0))
        port = neighbour.getsockname()[1]
        neighbour.listen()
        assert not is_free("127.0.0.1", port)
        with pytest.raises(ConfigurationError, match=f"Port {port} of 127.0.0.1 is in use") as caught:
            require_free("127.0.0.1", port)
        assert caught.value.code == "port_in_use"
    require_free("127.0.0.1", port)


def test_settings_of_this_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GORAX_DATABASE__APP_DSN", "postgresql://elsewhere/production")
    monkeypatch.setenv("GORAX_SERVER__HOST", "0.0.0.0")
    monkeypatch.setenv("GORAX_OUTBOUND__ALLOW", "10.0.0.0/8")
    monkeypatch.setenv("GORAX_WORKER__SLOTS", "7")
    with socket.socket() as neighbour:
        neighbour.bind(("127.0.0.1", 0))
        neighbour.listen()
        monkeypatch.setenv("GORAX_MANAGEMENT__PORT", str(neighbour.getsockname()[1]))
        settings = settings_of_dev(None, StateDir(tmp_path), "postgresql://u@127.0.0.1/d", 4711)
    # Whatever the environment says, this database and this machine; all else is the user's to set.
    assert settings.database.for_app() == ("postgresql://u@127.0.0.1/d", "gorax_app")
    assert (settings.server.host, settings.server.port, settings.management.port) == ("127.0.0.1", 4711, 0)
    assert settings.outbound.allow == ("10.0.0.0/8", "127.0.0.0/8", "::1/128")
    assert settings.worker.slots == 7
    assert settings.vault.key_file == tmp_path / "vault-key"
    monkeypatch.setenv("GORAX_VAULT__KEY_FILE", "/etc/gorax/vault-key")
    settings = settings_of_dev(None, StateDir(tmp_path), "postgresql://u@127.0.0.1/d", 4711)
    assert settings.vault.key_file == Path("/etc/gorax/vault-key")


def test_the_program_is_named_as_it_was_called(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = tmp_path / "my venv" / "bin" / "gorax"
    script.parent.mkdir(parents=True)
    script.write_text("#!/bin/sh\n")
    script.chmod(0o755)
    monkeypatch.setenv("PATH", os.defpath)
    monkeypatch.chdir(tmp_path)
    for argument in (str(script), "my venv/bin/gorax", "./my venv/bin/gorax"):
        assert program(argument) == "'my venv/bin/gorax'"
    monkeypatch.chdir("/")
    assert program(str(script)) == shlex.quote(str(script).removeprefix("/"))
    monkeypatch.setenv("PATH", str(script.parent))
    assert program(str(script)) == "gorax"
    assert program("/somewhere/cli/__main__.py") == f"{sys.executable} -m gorax_engine.cli"


def test_what_to_do_next_fits_where_it_runs(tmp_path: Path) -> None:
    settings = settings_of_dev(None, StateDir(STATE_DIR), "postgresql://u@127.0.0.1/d", 8080)
    plain = next_steps(".venv/bin/gorax", StateDir(STATE_DIR), settings, DEFAULT_SERVER)
    assert '  .venv/bin/gorax run hello --input \'{"name": "Ada"}\' --wait\n' in plain
    assert "--server" not in plain
    assert "--api-key" not in plain
    other = next_steps("gorax", StateDir(tmp_path / "o p"), settings, "http://127.0.0.1:4711")
    options = f"""--server http://127.0.0.1:4711 --api-key "$(cat '{tmp_path}/o p/api-key')\""""
    assert f"  gorax {options} execution list\n" in other
    assert "http://127.0.0.1:4711/webhooks/orders" in other
