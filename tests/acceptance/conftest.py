"""One `gorax dev` for the tests that don't harm it, and folders in which servers can live."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from .harness import Api, Dev, run_dev
from .sink import Sink


@contextmanager
def empty_folder() -> Iterator[Path]:
    """An empty folder that Postgres's own user can reach, too, unlike those of pytest."""
    path = Path(tempfile.mkdtemp(prefix="gorax-acc-"))
    path.chmod(0o711)
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


@pytest.fixture(scope="session")
def dev() -> Iterator[Dev]:
    """A daemon for many tests. Don't stop it; use names of your own (`fresh`)."""
    with empty_folder() as folder, run_dev(folder) as running:
        yield running


@pytest.fixture(scope="session")
def api(dev: Dev) -> Api:
    """The client of `dev`."""
    return dev.api


@pytest.fixture(scope="session")
def sink() -> Iterator[Sink]:
    """The outside world."""
    listening = Sink()
    yield listening
    listening.close()


@pytest.fixture
def folder() -> Iterator[Path]:
    """An empty folder."""
    with empty_folder() as made:
        yield made
