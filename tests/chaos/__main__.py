"""`python -m tests.chaos --seed 1 --executions 2000 --faults 100`: long storms, one per seed."""

from __future__ import annotations

import argparse
import sys
from functools import partial
from pathlib import Path

import anyio

from tests.chaos.storm import Options, default_postgres, storm


def main() -> int:
    """Run the storms that the command line asks for; exit 1 unless all held."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--seed", type=int, nargs="+", default=[1], help="one storm for each")
    parser.add_argument("--executions", type=int, default=2000)
    parser.add_argument("--faults", type=int, default=100, help="at least so many that hit runs in flight")
    parser.add_argument("--daemons", type=int, default=3)
    parser.add_argument("--postgres", default=default_postgres(), help="major version: 18, or one of Debian's")
    parser.add_argument("--logs", type=Path, default=Path("build/chaos"), help="where logs and timelines are kept")
    parser.add_argument("--quiet", action="store_true", help="don't print the faults as they happen")
    options = parser.parse_args()
    good = True
    for seed in options.seed:
        wanted = Options(seed, options.executions, options.faults, options.daemons, postgres=options.postgres)
        say = (lambda _: None) if options.quiet else partial(print, flush=True)
        keep = options.logs / f"seed-{seed}"
        verdict = anyio.run(storm, wanted, say, keep, backend_options={"use_uvloop": True})
        print(verdict.report(), f"  logs: {keep}", sep="\n", flush=True)
        good = good and verdict.holds
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
