"""`dnet doctor`: what it says of a host, and that it changes nothing."""

from __future__ import annotations


def _by_subject(host, *, code: int = 0) -> dict[str, dict[str, str]]:
    return {item["about"]: item for item in host.dnet("doctor", "--json", code=code).json}


def test_healthy_host(host):
    """On a host without dnet's networks nothing is in the way, and nothing is changed."""
    host.dnet("ps")  # makes the state directory
    before = host.snapshot()
    found = _by_subject(host)
    assert {"nftables", "VLANs", "descriptors", "forwarding"} <= found.keys()
    assert "blocks" not in {item["level"] for item in found.values()}
    assert not host.changes(before)


def test_what_is_in_the_way(host):
    """Forwarding that somebody has switched off, and a table that drops, are named with commands that help."""
    host.dnet("create", "--network", "bridge", "web")
    host.run("sh", "-c", "echo 0 >/proc/sys/net/ipv4/ip_forward")
    host.run(
        "nft", "add table inet other; add chain inet other f { type filter hook forward priority 0; policy drop; }"
    )
    before = host.snapshot()
    found = _by_subject(host, code=6)
    assert not host.changes(before)
    assert {name for name, item in found.items() if item["level"] == "blocks"} == {"forwarding", "firewall"}
    assert "dnet0" in found["firewall"]["sentence"]
    for name in ("forwarding", "firewall"):
        for command in found[name]["remedy"].split("; "):
            host.run(command.replace("sysctl ", "sysctl -w "))
    _by_subject(host)


def test_full_bridge(host):
    """A bridge that is nearly full is named."""
    host.dnet("bulk-create", "--count", "930", "-q")
    found = _by_subject(host)
    assert found["bridge ports"]["level"] == "note"
    assert "930 of the 1023" in found["bridge ports"]["sentence"]


def test_text(host):
    """As text each finding is a line, its remedy below."""
    lines = host.dnet("doctor").stdout.splitlines()
    assert any(line.startswith("ok      nftables: ") for line in lines)
