"""The rule on addresses: what is out of reach by default, and what the operator's lists change."""

import pytest

from gorax_engine.nodes.egress import OutboundPolicy

DEFAULT = OutboundPolicy.read()


@pytest.mark.parametrize(
    "address",
    [
        "0.0.0.0", "0.1.2.3", "10.0.0.1", "100.64.0.1", "100.100.100.200", "127.0.0.1", "127.255.255.255",
        "168.63.129.16", "169.254.169.254", "172.16.0.1", "172.31.255.255", "192.0.0.192", "192.0.2.1", "192.88.99.1",
        "192.168.0.1", "198.18.0.1", "198.19.255.255", "198.51.100.1", "203.0.113.1", "224.0.0.1", "239.255.255.255",
        "240.0.0.1", "255.255.255.255",
        "::", "::1", "::7f00:1", "::ffff:127.0.0.1", "::ffff:8.8.8.8", "64:ff9b::7f00:1", "64:ff9b::808:808",
        "64:ff9b:1::1", "100::1", "2001::1", "2001:db8::1", "2002:7f00:1::1", "2002:808:808::1", "3fff::1",
        "fc00::1", "fd00:ec2::254", "fe80::1", "fe80::1%eth0", "2606:4700::1%eth0", "fec0::1", "ff02::1", "5f00::1",
    ],
)  # fmt: skip
def test_not_public(address: str) -> None:
    assert DEFAULT.refusal("any.test", address)


@pytest.mark.parametrize(
    "address",
    ["8.8.8.8", "1.1.1.1", "100.63.255.255", "100.128.0.0", "172.15.0.1", "172.32.0.1", "168.63.129.17",
     "192.169.0.1", "223.255.255.255", "2606:4700::1111", "2a00:1450::1", "2001:4860:4860::8888"],
)  # fmt: skip
def test_public(address: str) -> None:
    assert DEFAULT.refusal("any.test", address) is None


def test_allowed_networks_and_names() -> None:
    policy = OutboundPolicy.read(allow=["10.1.0.0/16", "::1", "crm.internal", "*.lab.internal"])
    assert policy.refusal("x", "10.1.2.3") is None
    assert policy.refusal("x", "10.2.2.3")
    assert policy.refusal("x", "::1") is None
    assert policy.refusal("CRM.internal.", "10.9.9.9") is None
    assert policy.refusal("a.b.lab.internal", "10.9.9.9") is None
    assert policy.refusal("lab.internal", "10.9.9.9")
    assert policy.refusal("evilcrm.internal", "10.9.9.9")


def test_denied_beats_allowed() -> None:
    policy = OutboundPolicy.read(
        allow=["10.0.0.0/8", "crm.internal"], deny=["10.1.0.0/16", "8.8.8.0/24", "bad.test", "*.bad.test"]
    )
    assert policy.refusal("x", "10.2.0.1") is None
    assert policy.refusal("x", "10.1.0.1")
    assert policy.refusal("crm.internal", "10.1.0.1")
    assert policy.refusal("x", "8.8.8.8")
    assert policy.refusal("bad.test", "1.1.1.1")
    assert policy.refusal("www.bad.test.", "1.1.1.1")


def test_an_embedded_address_is_judged_too() -> None:
    policy = OutboundPolicy.read(allow=["64:ff9b::/96", "::ffff:0:0/96"], deny=["8.8.4.4"])
    assert policy.refusal("x", "64:ff9b::808:808") is None
    assert policy.refusal("x", "64:ff9b::7f00:1")
    assert policy.refusal("x", "::ffff:10.0.0.1")
    assert policy.refusal("x", "::ffff:8.8.4.4")


@pytest.mark.parametrize("entry", ["10.0.0.0/33", "http://x", "a b", "", "*", "x:80", "a..b", "10.0.0.0/8/8"])
def test_entries_that_are_neither_network_nor_name(entry: str) -> None:
    with pytest.raises(ValueError):
        OutboundPolicy.read(allow=[entry])
