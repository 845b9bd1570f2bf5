"""sd_notify against a real datagram socket."""

import socket
from pathlib import Path

import pytest

from gorax_engine.ops.sd_notify import notify


@pytest.mark.parametrize("kind", ["path", "abstract"])
def test_sends_one_datagram(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, kind: str) -> None:
    name = str(tmp_path / "notify") if kind == "path" else f"@gorax-test-{tmp_path.name}-{id(tmp_path)}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(name.replace("@", "\0", 1) if kind == "abstract" else name)
        systemd.settimeout(5)
        monkeypatch.setenv("NOTIFY_SOCKET", name)
        assert notify("READY=1\nSTATUS=up")
        assert systemd.recv(100) == b"READY=1\nSTATUS=up"


def test_says_nothing_where_nobody_listens(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    assert not notify("READY=1")
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "absent"))
    assert not notify("READY=1")
