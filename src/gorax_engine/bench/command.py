"""`gorax bench`: measures the engine on this machine, each number beside its limit."""

from __future__ import annotations

import json
import os
import platform
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any
from urllib.parse import urlsplit

import anyio

from gorax_engine import __version__
from gorax_engine.bench.modes import MODES, Options
from gorax_engine.store import bench
from gorax_engine.store.embedded import EmbeddedPostgres
from gorax_engine.store.migrate import migrate


def main(
    *,
    mode: str,
    executions: int | None,
    steps: int | None,
    processes: int,
    runs: int,
    dsn: str | None,
    as_json: bool,
) -> int:
    """Run a mode `runs` times and print the median run (by its rate) as JSON, or as lines for people."""
    _, default_executions, default_steps = MODES[mode]
    options = Options(mode, executions or default_executions, steps or default_steps, processes)
    result = anyio.run(partial(_run, options, runs, dsn), backend_options={"use_uvloop": True})
    if as_json:
        print(json.dumps(result))
    else:
        for key, value in result.items():
            print(f"{key:26} {_readable(value)}")
    return 0


async def _run(options: Options, runs: int, dsn: str | None) -> dict[str, Any]:
    measure = MODES[options.mode][0]
    async with _database(dsn) as (owner_dsn, copy_dsn):
        await migrate(owner_dsn)
        results = [await measure(owner_dsn, replace(options, copy_dsn=copy_dsn)) for _ in range(runs)]
        durability = await bench.durability(owner_dsn)
    result = _median_run(results)
    limits = [each["limit_executions_per_s"] for each in results if "limit_executions_per_s" in each]
    if limits:
        # Limit and engine take turns; each pair gives a ratio, and the median pair decides.
        result["limit_executions_per_s"] = median(limits)
        result["ratio"] = median(each["executions_per_s"] / each["limit_executions_per_s"] for each in results)
    return {
        "mode": options.mode,
        "executions": options.executions,
        "steps": options.steps,
        **result,
        "runs": runs,
        "machine": _machine(),
        "postgres": durability.pop("version"),
        "durability": durability,
        "version": __version__,
    }


def _median_run(results: list[dict[str, Any]]) -> dict[str, Any]:
    ordered = sorted(results, key=lambda each: float(each.get("executions_per_s", each.get("claim_ratio", 0.0))))
    return dict(ordered[len(ordered) // 2])


@asynccontextmanager
async def _database(dsn: str | None) -> AsyncIterator[tuple[str, str | None]]:
    """The operator's database, or an embedded server with default durability for the time of the bench.

    With the embedded one comes a superuser's DSN: Postgres refuses COPY to whom row-level security binds.
    """
    if dsn is not None:
        yield dsn, None
        return
    with tempfile.TemporaryDirectory(prefix="gorax-bench-") as directory:
        # The server may run as another user, who must reach its own folder in here.
        folder = anyio.Path(directory)
        await folder.chmod(0o711)
        async with EmbeddedPostgres.start(Path(directory) / "postgres") as server:
            owner = await server.create_database("gorax_bench")
            yield owner, urlsplit(server.admin_dsn)._replace(path="/gorax_bench").geturl()


def _machine() -> str:
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return f"{platform.machine()}, {os.cpu_count()} cores, {memory:.0f} GiB, Python {platform.python_version()}"


def _readable(value: object) -> str:
    if isinstance(value, float):
        return f"{value:,.2f}"
    if isinstance(value, dict):
        return ", ".join(f"{key} {_readable(each)}" for key, each in value.items())
    return str(value)
