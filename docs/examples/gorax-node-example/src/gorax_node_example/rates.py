"""The node type `example:exchange_rate`: asks a server for the rate between two currencies."""

import json
from collections.abc import Mapping
from typing import Final
from urllib.parse import quote

from gorax_engine.nodes.api import (
    OUTSIDE_RETRY,
    SECOND,
    Call,
    Classification,
    Completed,
    Failed,
    HttpClient,
    Json,
    NodeContext,
    NodeKind,
    NodeSpec,
    OutboundError,
    Outcome,
    PluginResources,
    StepError,
)

_CURRENCY: Final[Json] = {"type": "string", "pattern": "^[A-Z]{3}$"}


class ExchangeRate:
    """A task node: it talks to the outside, so it may be retried, and run again after a crash."""

    spec: Final = NodeSpec(
        name="example:exchange_rate",
        kind=NodeKind.TASK,
        aliases=("example:rate",),
        title="Exchange rate",
        description="Asks for the rate between two currencies; the output is {from, to, rate}.",
        retry=OUTSIDE_RETRY,
        has_effects=False,  # it only reads: nothing needs to be durable before it asks
        schema={
            "type": "object",
            "properties": {
                "server": {"type": "string", "x-gorax": "url", "description": "Where the rates are: https://…"},
                "from_currency": {**_CURRENCY, "description": "The currency to change, such as EUR."},
                "to_currency": {**_CURRENCY, "description": "The currency to change into."},
                "api_key": {
                    "type": "string",
                    "x-gorax-secrets": True,
                    "description": "Proof of identity; `{{ credentials.<name> }}` may be used here.",
                },
            },
            "required": ["server", "from_currency", "to_currency"],
            "additionalProperties": False,
        },
    )

    def __init__(self, http: HttpClient) -> None:
        self._http = http

    async def run(self, config: Mapping[str, Json], context: NodeContext) -> Outcome:
        currencies = (config["from_currency"], config["to_currency"])
        if not all(isinstance(currency, str) for currency in currencies):
            return Failed(StepError("type_error", "The currencies must be text."))
        headers = {"Accept": "application/json"}
        if "api_key" in config:
            headers["X-API-Key"] = str(config["api_key"])
        path = "/".join(quote(currency, safe="") for currency in currencies)
        call = Call("GET", f"{config['server']}/rates/{path}", headers, timeout=10 * SECOND)
        try:
            answer = await self._http.send(call)
        except OutboundError as error:
            return Failed(error.step_error())
        if answer.status != 200:
            return Failed(_refused(answer.status))
        try:
            rate = json.loads(answer.body)["rate"]
        except (ValueError, KeyError, TypeError):
            return Failed(StepError("invalid_response", "The server's answer has no `rate`."))
        return Completed({"from": currencies[0], "to": currencies[1], "rate": rate})


def make_rates(resources: PluginResources) -> list[ExchangeRate]:
    """The factory that the entry point names: it is called once, when the daemon starts."""
    return [ExchangeRate(resources.http)]


def _refused(status: int) -> StepError:
    transient = status in {408, 425, 429} or status >= 500
    return StepError(
        "http_status",
        f"The server of exchange rates answered {status}.",
        Classification.TRANSIENT if transient else Classification.PERMANENT,
        {"http_status_code": status},
    )
