"""A short storm, every time; the long ones are `python -m tests.chaos`."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.chaos.storm import Options, default_postgres, storm

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(240)]

SEED = int(os.environ.get("CHAOS_SEED", "7"))


async def test_a_short_storm_breaks_no_promise(tmp_path: Path) -> None:
    options = Options(
        SEED, executions=250, faults=15, calmest=3.0, fiercest=0.3, quiet=45.0, postgres=default_postgres()
    )
    verdict = await storm(options, print, keep=tmp_path)
    print(verdict.report())
    assert verdict.holds, verdict.report()
