"""Triggers pass the trigger data on."""

from collections.abc import Callable

import pytest

from gorax_engine.nodes.api import Completed, Outcome

Run = Callable[..., Outcome]


@pytest.mark.parametrize(
    ("type_name", "config"),
    [
        ("webhook_trigger", {"path": "orders", "methods": ["POST", "PUT"], "auth_type": "none"}),
        ("schedule_trigger", {"cron": "*/5 * * * *", "timezone": "Europe/Berlin"}),
        ("manual_trigger", {}),
        ("event_trigger", {"event": "order.*", "filter": "trigger.body.total > 3"}),
    ],
)
def test_the_output_is_the_trigger_data(run: Run, type_name: str, config: dict[str, object]) -> None:
    assert run(type_name, config, {"body": {"a": 1}}) == Completed({"body": {"a": 1}})
