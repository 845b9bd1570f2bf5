"""Decisions on a real database: who may, who is first, what the run is told, and handing on."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from gorax_engine.errors import Conflict, Forbidden, InvalidInput, NotFound
from gorax_engine.people import decisions
from gorax_engine.people.decisions import Assignee, Decision, Verb

from .office import Office, Task, make_office

if TYPE_CHECKING:
    from gorax_engine.store.database import Database
    from gorax_engine.store.rows import Row

pytestmark = pytest.mark.anyio

APPROVE = Decision(Verb.APPROVE)


async def decide(pools: Database, office: Office, who: str, task: Task, decision: Decision = APPROVE) -> Row:
    principal = office.principal(who)
    async with pools.tenant(principal.tenant_id, principal.user_id) as connection:
        return await decisions.decide(connection, principal, task.id, decision)


async def delegate(pools: Database, office: Office, who: str, task: Task, to: str, comment: str | None = None) -> Row:
    principal = office.principal(who)
    target = Assignee.read(str(office.users.get(to, to)))
    async with pools.tenant(principal.tenant_id, principal.user_id) as connection:
        return await decisions.delegate(connection, principal, task.id, target, comment)


async def test_opening_tells_every_assignee_once_and_is_idempotent(office: Office) -> None:
    task = await office.open("ann", "approvers", "nobody", due_date="2040-01-01T10:00:00Z")
    row = await office.row(task)
    assert (row["status"], row["node_id"], row["task_type"]) == ("pending", "ask", "approval")
    assert row["config"] == {}
    assert [await office.told(name) for name in ("ann", "bob", "carl")] == [["task_assigned"], ["task_assigned"], []]
    message = await office.owner.fetchval("SELECT message FROM notifications LIMIT 1")
    assert message == "Your approval is asked for. It is due by 2040-01-01 10:00 UTC."
    again = {
        "tenant_id": str(office.tenant), "execution_id": str(task.execution_id), "step_id": str(task.step_id),
        "node_id": "ask", "content": {"title": "Another", "assignees": [{"type": "role", "name": "ops"}]},
    }  # fmt: skip
    assert await office.open_rows([again]) == 0
    assert await office.owner.fetchval("SELECT count(*) FROM human_tasks") == 1
    assert await office.told("dora") == []
    assert await office.open_rows([]) == 0


@pytest.mark.parametrize(
    ("decision", "status", "response"),
    [
        (Decision(Verb.APPROVE, "fine", {"n": 1}), "approved", {"comment": "fine", "n": 1}),
        (Decision(Verb.APPROVE), "approved", {}),
        (Decision(Verb.REJECT, "too early", {"n": 2}), "rejected", {"reason": "too early", "n": 2}),
        (Decision(Verb.SUBMIT, None, {"n": 3}), "approved", {"n": 3}),
    ],
)
async def test_a_decision_ends_the_task_and_tells_the_run(
    pools: Database, office: Office, decision: Decision, status: str, response: Any
) -> None:
    task = await office.open("ann")
    shown = await decide(pools, office, "ann", task, decision)
    assert (shown["status"], shown["response_data"], shown["completed_by"]) == (status, response, office.users["ann"])
    signal = await office.signal(task)
    at = signal["output"].pop("at")
    assert signal == {
        "status": "completed", "outcome": status,
        "output": {"outcome": status, "by": str(office.users["ann"]), "response": response},
    }  # fmt: skip
    assert shown["completed_at"].isoformat().replace("+00:00", "Z") == at
    assert await office.open_for("ann") == set()
    queue = await office.owner.fetchrow("SELECT ready_at, wake_seq FROM execution_queue")
    assert queue is not None
    assert (queue["ready_at"] is not None, queue["wake_seq"]) == (True, 1)


async def test_members_of_a_role_and_admins_may_decide_and_others_may_not(pools: Database, office: Office) -> None:
    first, second, third = await office.open("approvers"), await office.open("carl"), await office.open("ops")
    assert (await decide(pools, office, "bob", first))["status"] == "approved"
    with pytest.raises(Forbidden) as caught:
        await decide(pools, office, "ann", second)
    assert caught.value.code == "not_assigned"
    assert (await office.row(second))["status"] == "pending"
    assert (await decide(pools, office, "the boss", third))["status"] == "approved"


async def test_a_task_of_another_tenant_is_not_there(pools: Database, office: Office, owner: Any) -> None:
    rival = await make_office(owner, "rival")
    task = await office.open("ann")
    with pytest.raises(NotFound) as caught:
        await decide(pools, rival, "the boss", task)
    assert caught.value.code == "task_not_found"
    with pytest.raises(NotFound):
        await decide(pools, office, "ann", Task(uuid.uuid4(), task.execution_id, task.step_id))


async def test_the_function_serves_only_the_tenant_of_the_transaction(pools: Database, office: Office) -> None:
    task = await office.open("ann")
    async with pools.tenant(uuid.uuid4()) as connection:
        with pytest.raises(Exception, match="another tenant"):
            await connection.fetch(
                "SELECT * FROM gorax_decide_task($1, $2, 'approved', $3, '{}')",
                office.tenant, task.id, office.users["ann"],
            )  # fmt: skip


async def test_of_two_who_decide_at_once_one_wins(pools: Database, office: Office) -> None:
    for _ in range(5):
        task = await office.open("approvers")
        outcomes = await both_decide(pools, office, task)
        (winner,) = [name for name, outcome in outcomes.items() if isinstance(outcome, str)]
        (conflict,) = [outcome for outcome in outcomes.values() if isinstance(outcome, Conflict)]
        row = await office.row(task)
        assert row["completed_by"] == office.users[winner]
        assert conflict.code == "task_already_decided"
        assert f"{row['status']} already by {office.users[winner]}" in conflict.message
        assert (await office.signal(task))["outcome"] == row["status"]


async def both_decide(pools: Database, office: Office, task: Task) -> dict[str, Any]:
    outcomes: dict[str, Any] = {}

    async def one(name: str, decision: Decision) -> None:
        try:
            outcomes[name] = (await decide(pools, office, name, task, decision))["status"]
        except Conflict as conflict:
            outcomes[name] = conflict

    async with anyio.create_task_group() as group:
        group.start_soon(one, "ann", Decision(Verb.APPROVE))
        group.start_soon(one, "bob", Decision(Verb.REJECT))
    return outcomes


async def test_a_loser_that_has_looked_before_the_winner_committed_loses_in_the_function(
    pools: Database, office: Office
) -> None:
    """Both have read a pending task; the second waits for the first's lock on the run, and judges again."""
    task = await office.open("approvers")
    outcome: list[Any] = []

    async def second() -> None:
        try:
            await decide(pools, office, "bob", task)
        except Conflict as conflict:
            outcome.append(conflict.code)

    async with anyio.create_task_group() as group:
        ann = office.principal("ann")
        async with pools.tenant(ann.tenant_id, ann.user_id) as connection:
            await decisions.decide(connection, ann, task.id, APPROVE)
            group.start_soon(second)
            while not await office.owner.fetchval("SELECT count(*) FROM pg_locks WHERE NOT granted"):
                await anyio.sleep(0.005)
    assert outcome == ["task_already_decided"]


async def test_deciding_again_is_a_conflict_even_for_the_same_user(pools: Database, office: Office) -> None:
    task = await office.open("ann")
    await decide(pools, office, "ann", task)
    with pytest.raises(Conflict) as caught:
        await decide(pools, office, "ann", task)
    assert caught.value.code == "task_already_decided"


async def test_a_task_that_is_closed_with_its_run_is_cancelled(pools: Database, office: Office) -> None:
    task, other = await office.open("ann"), await office.open("ann")
    assert await office.close(task.step_id, uuid.uuid4()) == 1
    assert await office.close(task.step_id) == 0
    assert (await office.row(task))["status"] == "cancelled"
    assert await office.open_for("ann") == {other.id}
    with pytest.raises(Conflict, match="cancelled already"):
        await decide(pools, office, "ann", task)
    assert await office.signal(task) is None


@pytest.mark.parametrize("gone", ["waits", "execution_queue"])
async def test_a_task_whose_run_waits_no_longer_becomes_cancelled(pools: Database, office: Office, gone: str) -> None:
    task = await office.open("ann")
    await office.owner.execute(f"DELETE FROM {gone}")
    with pytest.raises(Conflict, match="cancelled already"):
        await decide(pools, office, "ann", task)


FORM = [
    {"name": "env", "type": "select", "label": "Where?", "required": True, "options": ["staging", "live"]},
    {"name": "n", "type": "number", "label": "n", "required": False, "options": [], "default": 3},
]


async def test_a_form_is_validated_for_approval_and_submission_with_every_fault(
    pools: Database, office: Office
) -> None:
    task = await office.open("ann", form_fields=FORM)
    for verb in (Verb.APPROVE, Verb.SUBMIT):
        with pytest.raises(InvalidInput) as caught:
            await decide(pools, office, "ann", task, Decision(verb, None, {"n": "3", "x/y": 1}))
        assert caught.value.code == "invalid_response"
        assert [(each.code, each.pointer) for each in caught.value.problems] == [
            ("required_field", "/data/env"), ("wrong_value", "/data/n"), ("unknown_field", "/data/x~1y"),
        ]  # fmt: skip
    assert (await office.row(task))["status"] == "pending"
    shown = await decide(pools, office, "ann", task, Decision(Verb.SUBMIT, None, {"env": "live"}))
    assert shown["response_data"] == {"env": "live", "n": 3}


async def test_a_rejection_needs_no_form(pools: Database, office: Office) -> None:
    task = await office.open("ann", form_fields=FORM)
    shown = await decide(pools, office, "ann", task, Decision(Verb.REJECT, "no", {"tests": ["load"]}))
    assert shown["response_data"] == {"reason": "no", "tests": ["load"]}


async def test_handing_on_replaces_the_one_who_does_it(pools: Database, office: Office) -> None:
    task = await office.open("ann", "ops")
    shown = await delegate(pools, office, "ann", task, "carl", "I am away.")
    carl = {"type": "user", "id": str(office.users["carl"])}
    assert shown["assignees"] == [{"type": "role", "name": "ops"}, carl]
    (entry,) = shown["history"]
    assert entry.pop("at")
    assert entry == {
        "event": "delegated", "by": str(office.users["ann"]), "to": carl, "comment": "I am away.",
    }  # fmt: skip
    assert await office.told("carl") == ["task_delegated"]
    assert await office.open_for("ann") == set()
    assert await office.open_for("carl") == {task.id}
    with pytest.raises(Forbidden):
        await decide(pools, office, "ann", task)
    assert (await decide(pools, office, "carl", task))["status"] == "approved"


async def test_a_role_stays_when_a_member_hands_on(pools: Database, office: Office) -> None:
    task = await office.open("approvers")
    shown = await delegate(pools, office, "ann", task, "ops")
    assert shown["assignees"] == [{"type": "role", "name": "approvers"}, {"type": "role", "name": "ops"}]
    assert await office.told("dora") == ["task_delegated"]
    assert (await decide(pools, office, "dora", task))["status"] == "approved"


async def test_what_can_not_be_handed_on(pools: Database, office: Office) -> None:
    task = await office.open("ann")
    for to in ("no such role", str(uuid.uuid4())):
        with pytest.raises(InvalidInput) as caught:
            await delegate(pools, office, "ann", task, to)
        assert caught.value.code == "unknown_assignee"
    with pytest.raises(Forbidden):
        await delegate(pools, office, "carl", task, "ann")
    await decide(pools, office, "ann", task)
    with pytest.raises(Conflict):
        await delegate(pools, office, "ann", task, "carl")


async def test_mail_is_written_down_for_real_addresses_only(office: Office) -> None:
    await office.open("approvers", "admin", mail={"credential": "smtp", "from": None})
    await office.open("approvers", mail=None)
    rows = await office.owner.fetch("SELECT recipients, subject FROM task_mails")
    assert [(sorted(row["recipients"]), row["subject"]) for row in rows] == [
        (["ann@example.com", "bob@example.com"], "Release?")
    ]
