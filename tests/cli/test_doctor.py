"""The doctor's judgement, as a table of facts and verdicts."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gorax_engine.cli.doctor import Verdict, check_vault, judge
from gorax_engine.settings import DatabaseSettings, VaultSettings
from gorax_engine.store.doctor import Facts
from gorax_engine.vault.local_key import new_key_text

HEALTHY = Facts(
    version=(18, 4),
    role="gorax_worker",
    login="gorax",
    unbound=(),
    standby=False,
    pooled=False,
    clock_offset=0.01,
    round_trip=0.002,
    fsync=True,
    full_page_writes=True,
    synchronous_commit="on",
    max_connections=100,
    schema_version=10,
    schema_problem=None,
    months_ahead=3,
)


def judged(facts: dict[str, Facts]) -> dict[str, Verdict]:
    return {check.name: check.verdict for check in judge(facts, DatabaseSettings())}


def test_all_is_well() -> None:
    found = judged(dict.fromkeys(("worker", "app", "listen", "migrate"), HEALTHY))
    assert set(found.values()) == {Verdict.OK}
    assert len(found) == 10


@pytest.mark.parametrize(
    ("change", "name", "verdict"),
    [
        ({"unbound": ("gorax_worker",)}, "connection.worker", Verdict.FAILED),
        ({"unbound": ("gorax",)}, "connection.worker", Verdict.WARNING),
        ({"standby": True}, "connection.worker", Verdict.FAILED),
        ({"pooled": True}, "connection.worker", Verdict.OK),
        ({"schema_problem": "Behind."}, "schema", Verdict.FAILED),
        ({"months_ahead": -1}, "partitions", Verdict.FAILED),
        ({"months_ahead": 1}, "partitions", Verdict.WARNING),
        ({"months_ahead": 2}, "partitions", Verdict.OK),
        ({"clock_offset": -1.5}, "clock", Verdict.WARNING),
        ({"clock_offset": 1.5, "round_trip": 1.2}, "clock", Verdict.OK),
        ({"fsync": False}, "durability", Verdict.FAILED),
        ({"full_page_writes": False}, "durability", Verdict.FAILED),
        ({"synchronous_commit": "off"}, "durability", Verdict.FAILED),
        ({"synchronous_commit": "local"}, "durability", Verdict.OK),
        ({"max_connections": 27}, "connections", Verdict.WARNING),
        ({"max_connections": 27, "pooled": True}, "connections", Verdict.OK),
    ],
)
def test_one_thing_is_wrong(change: dict[str, Any], name: str, verdict: Verdict) -> None:
    found = judged({"worker": replace(HEALTHY, **change)})
    assert found[name] is verdict
    assert {each for other, each in found.items() if other != name} == {Verdict.OK}


@pytest.mark.parametrize("purpose", ["listen", "migrate"])
def test_listen_and_migrate_need_a_direct_connection(purpose: str) -> None:
    assert judged({purpose: replace(HEALTHY, pooled=True)})[f"connection.{purpose}"] is Verdict.FAILED


def test_the_owner_may_be_a_superuser_and_nothing_is_said_of_what_was_not_seen() -> None:
    facts = {"migrate": replace(HEALTHY, unbound=("gorax_worker",), schema_problem="Behind.", months_ahead=None)}
    found = judged(facts)
    assert found["connection.migrate"] is Verdict.OK
    assert "partitions" not in found
    assert judged({}) == {}


def test_the_vault(tmp_path: Path) -> None:
    assert check_vault(VaultSettings()).verdict is Verdict.WARNING
    file = tmp_path / "key"
    file.write_text(new_key_text())
    file.chmod(0o644)
    refused = check_vault(VaultSettings(key_file=file))
    assert (refused.verdict, "chmod 600" in refused.sentence) == (Verdict.FAILED, True)
    file.chmod(0o600)
    found = check_vault(VaultSettings(key_file=file))
    assert (found.verdict, "under local:" in found.sentence) == (Verdict.OK, True)
