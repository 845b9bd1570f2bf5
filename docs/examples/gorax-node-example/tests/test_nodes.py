"""The node types by themselves: no engine, no database, no network."""

import json
from dataclasses import dataclass, field

import anyio
from gorax_node_example.iban import Iban
from gorax_node_example.rates import ExchangeRate

from gorax_engine.nodes.api import Call, Completed, NodeContext

CONTEXT = NodeContext("e1", "t1", "w1", "node", "", 1, 0, "e1:node:", b"seed", {})


@dataclass
class Server:
    """Stands for the outside."""

    status: int
    body: bytes
    headers: tuple[tuple[str, str], ...] = ()
    url: str = ""
    asked: list[Call] = field(default_factory=list)

    async def send(self, call: Call) -> "Server":
        self.asked.append(call)
        return self


def test_an_iban() -> None:
    outcome = Iban().evaluate({"iban": "de89 3704 0044 0532 0130 00"}, CONTEXT)
    assert outcome == Completed({"iban": "DE89370400440532013000", "country": "DE"}, outcome="valid")


def test_a_rate() -> None:
    server = Server(200, json.dumps({"rate": 1.5}).encode())
    config = {"server": "https://rates.example.com", "from_currency": "EUR", "to_currency": "USD", "api_key": "k"}
    outcome = anyio.run(ExchangeRate(server).run, config, CONTEXT)
    assert outcome == Completed({"from": "EUR", "to": "USD", "rate": 1.5})
    assert server.asked[0].url == "https://rates.example.com/rates/EUR/USD"
