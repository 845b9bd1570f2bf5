"""What `gorax dev` does around the daemon: its folder, its port, and the commands that it prints."""

import os
from pathlib import Path

import pytest

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
