"""`gorax doctor`: examines the settings and the database, and says what stands in the way or will one day."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Final

import anyio
import click

from gorax_engine.cli import exits
from gorax_engine.cli.node import loaded_plugins
from gorax_engine.cli.output import print_json, print_table
from gorax_engine.cli.session import Command, Session, pass_session
from gorax_engine.errors import ConfigurationError, GoraxError
from gorax_engine.settings import DatabaseSettings, Settings, VaultSettings
from gorax_engine.store.doctor import Facts, examine
from gorax_engine.vault.local_key import open_key_provider

CLOCK_TOLERANCE: Final = 1.0
MONTHS_WANTED: Final = 2
CONNECTIONS_BESIDE_THE_POOLS: Final = 8
"""Dedicated connections of one process (listen, journal, claims, heartbeats) and some for people, generously."""


class Verdict(StrEnum):
    OK = "ok"
    WARNING = "warning"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Check:
    """One question, its verdict, and a sentence: what is, or what to mend."""

    name: str
    verdict: Verdict
    sentence: str


@click.command(cls=Command, name="doctor")
@pass_session
def command(session: Session) -> int:
    """Check the settings and the database; exit 1 if the daemon would refuse to start, or lose data."""
    checks = anyio.run(diagnose, session)
    if session.as_json:
        print_json([asdict(check) for check in checks])
    else:
        print_table(("check", "verdict", "what"), ([check.name, check.verdict, check.sentence] for check in checks))
    return exits.FAILED if any(check.verdict is Verdict.FAILED for check in checks) else exits.OK


async def diagnose(session: Session) -> list[Check]:
    """Run all checks; one that can't be made is a failed one."""
    try:
        database = session.settings().database
        targets = {
            "worker": database.for_worker(),
            "app": database.for_app(),
            "listen": database.for_listen(),
            "migrate": database.for_migrate(),
        }
    except ConfigurationError as error:
        return [Check("settings", Verdict.FAILED, error.message)]
    checks = [Check("settings", Verdict.OK, "The settings are well-formed."), *_plugins(session.settings())]
    checks.append(check_vault(session.settings().vault))
    facts: dict[str, Facts] = {}
    for purpose, (dsn, role) in targets.items():
        try:
            facts[purpose] = await examine(dsn, role)
        except GoraxError as error:
            checks.append(Check(f"connection.{purpose}", Verdict.FAILED, error.message))
    return checks + list(judge(facts, database))


def _plugins(settings: Settings) -> Iterator[Check]:
    """Load the plug-ins as the daemon would; a package that is installed and not allowed is only told of."""
    from gorax_engine.nodes.plugins import installed_plugins

    try:
        plugins = loaded_plugins(settings)
    except ConfigurationError as error:
        yield Check("plugins", Verdict.FAILED, error.message)
        return
    for plugin in plugins:
        names = ", ".join(node.spec.name for node in plugin.nodes)
        yield Check(f"plugin.{plugin.package}", Verdict.OK, f"Version {plugin.version} adds {names}.")
    for package in sorted(installed_plugins().keys() - {plugin.package for plugin in plugins}):
        yield Check(f"plugin.{package}", Verdict.OK, "Installed, but not in nodes.plugins: it is not loaded.")


def check_vault(vault: VaultSettings) -> Check:
    """Say whether credentials can be encrypted, and under which key."""
    try:
        provider = open_key_provider(vault.key_file)
    except ConfigurationError as error:
        return Check("vault", Verdict.FAILED, error.message)
    if vault.key_file is None:
        sentence = "vault.key_file is not set: no credential can be stored or used."
        return Check("vault", Verdict.WARNING, sentence)
    return Check("vault", Verdict.OK, f"Credentials are encrypted under {provider.key_id} of {vault.key_file}.")


def judge(facts: Mapping[str, Facts], database: DatabaseSettings) -> Iterator[Check]:
    """Judge what the connections found; a pure function, so that every verdict can be tested."""
    for purpose, fact in facts.items():
        yield from _connection(purpose, fact)
    if facts:
        # The server is the same for all; the worker's connection is asked first.
        yield from _server(next(iter(facts.values())), database)


def _connection(purpose: str, fact: Facts) -> Iterable[Check]:
    who = fact.role if fact.role == fact.login else f"{fact.login} as {fact.role}"
    name = f"connection.{purpose}"
    if fact.standby:
        return [Check(name, Verdict.FAILED, "This server is a read-only standby; use the primary.")]
    if purpose in ("listen", "migrate") and fact.pooled:
        sentence = f"A pooler stands between; set database.{purpose}_dsn to a direct connection."
        return [Check(name, Verdict.FAILED, sentence)]
    if purpose != "migrate" and fact.role in fact.unbound:
        sentence = f"{fact.role} is a superuser or has BYPASSRLS and would see every tenant; give it neither."
        return [Check(name, Verdict.FAILED, sentence)]
    if purpose != "migrate" and fact.unbound:
        sentence = f"Connected as {who}, but the login {fact.login} itself is not bound by row-level security."
        return [Check(name, Verdict.WARNING, sentence)]
    return [Check(name, Verdict.OK, f"Connected as {who}{' through a pooler' if fact.pooled else ''}.")]


def _server(fact: Facts, database: DatabaseSettings) -> Iterator[Check]:
    major, minor = fact.version
    yield Check("postgres", Verdict.OK, f"Postgres {major}.{minor}.")
    if fact.schema_problem is not None:
        yield Check("schema", Verdict.FAILED, fact.schema_problem)
    else:
        yield Check("schema", Verdict.OK, f"Migrated to {fact.schema_version:03d}.")
    yield from _partitions(fact.months_ahead)
    yield _clock(fact)
    yield _durability(fact)
    wanted = 2 * database.pool_size + CONNECTIONS_BESIDE_THE_POOLS
    if wanted > fact.max_connections and not fact.pooled:
        yield Check(
            "connections",
            Verdict.WARNING,
            f"One process may open {wanted} connections, and max_connections is {fact.max_connections}; "
            "lower database.pool_size or raise max_connections.",
        )
    else:
        yield Check("connections", Verdict.OK, f"{wanted} at most per process, of {fact.max_connections}.")


def _partitions(months: int | None) -> Iterator[Check]:
    if months is None:
        return
    if months < 0:
        yield Check("partitions", Verdict.FAILED, "This month has no partitions; start a maintenance role at once.")
    elif months < MONTHS_WANTED:
        sentence = f"Partitions reach only {months} months ahead; is a daemon with the role maintenance running?"
        yield Check("partitions", Verdict.WARNING, sentence)
    else:
        yield Check("partitions", Verdict.OK, f"{months} months ahead.")


def _clock(fact: Facts) -> Check:
    # Half of the round trip is unknown: only what goes beyond it counts.
    skew = max(0.0, abs(fact.clock_offset) - fact.round_trip / 2)
    if skew > CLOCK_TOLERANCE:
        sentence = f"This clock and the database's differ by {skew:.1f} s; run NTP on both."
        return Check("clock", Verdict.WARNING, sentence)
    return Check("clock", Verdict.OK, f"Within {CLOCK_TOLERANCE:g} s of the database's.")


def _durability(fact: Facts) -> Check:
    if not fact.fsync or not fact.full_page_writes:
        off = "fsync" if not fact.fsync else "full_page_writes"
        return Check("durability", Verdict.FAILED, f"{off} is off: a power cut can destroy the database; turn it on.")
    if fact.synchronous_commit == "off":
        sentence = "synchronous_commit is off: a power cut can lose what was accepted; turn it on."
        return Check("durability", Verdict.FAILED, sentence)
    sentence = f"fsync and full_page_writes are on, synchronous_commit is {fact.synchronous_commit}."
    return Check("durability", Verdict.OK, sentence)
