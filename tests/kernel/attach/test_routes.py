"""Routes of containers that the user asks for, as `ip route` in the container and ping see them."""

from __future__ import annotations

import re

import pytest

from tests.support.attachment_lan import namespace, routes
from tests.support.dnet_commands import run
from tests.support.hosts import FakeHost

WORDS = {
    4: ("10.50.0.0/16", "172.17.0.9"),
    6: ("fd00:50::/64", "fd00:1::9"),
}


def shown(host: FakeHost, target: str) -> list[tuple[str, str, str, int]]:
    """Return what `route ls` marks as dnet's, and what it says is missing."""
    found = run(host, "route", "ls", "--json", target).json
    return [(one["destination"], one["gateway"], one["origin"], one["metric"]) for one in found if one["origin"]]


@pytest.mark.parametrize("family", [4, 6])
def test_route(host: FakeHost, family: int) -> None:
    """A route is in the container as soon as it is added, listed beside the kernel's, and gone when it is deleted."""
    run(host, "network", "create", "--subnet", "172.17.0.0/24", "--subnet", "fd00:1::/64", "--ipv6", "blue")
    run(host, "create", "--network", "blue", "web")
    web = host.sandbox("web")
    before = routes(web, family)
    destination, gateway = WORDS[family]
    run(host, "route", "add", "web", destination, "via", gateway)
    assert (destination, gateway, "eth0") in routes(web, family)
    assert shown(host, "web") == [(destination, gateway, "dnet", 1024 if family == 6 else 0)]
    kernels = [one for one in run(host, "route", "ls", "--json", "web").json if not one["origin"]]
    assert {"default"} <= {one["destination"] for one in kernels}
    header, *lines = run(host, "route", "ls", "web").stdout.splitlines()
    assert re.split(r"\s{2,}", header) == ["DESTINATION", "GATEWAY", "INTERFACE", "METRIC", "ORIGIN"]
    assert [line.split()[:3] for line in lines if line.endswith("dnet")] == [[destination, gateway, "eth0"]]
    run(host, "route", "add", "web", destination, "dev", "eth0", "metric", "50")
    run(host, "route", "del", "web", destination, "via", gateway)
    assert (destination, "", "eth0") in routes(web, family)
    run(host, "route", "del", "web", destination)
    assert routes(web, family) == before


def test_refused(host: FakeHost) -> None:
    """What cannot be, or is there already, or is not, is refused in a sentence; nothing changes."""
    run(host, "create", "web")
    run(host, "route", "add", "web", "10.50.0.0/16", "via", "172.17.0.9")
    before = host.snapshot()
    for code, words, sentence in (
        (4, ("add", "web", "10.50.0.0/16", "via", "172.17.0.8"), "has a route 10.50.0.0/16 via 172.17.0.9"),
        (4, ("add", "web", "default", "via", "172.17.0.8"), "has a route default via 172.17.0.1 dev eth0 already"),
        (2, ("add", "web", "10.60.0.0/16", "via", "10.99.0.1"), "gateway 10.99.0.1 is not on a network of"),
        (3, ("add", "web", "10.60.0.0/16", "dev", "eth7"), "container web has no interface eth7"),
        (2, ("add", "web", "10.60.0.1/16", "dev", "eth0"), "invalid destination '10.60.0.1/16'"),
        (2, ("add", "web", "10.60.0.0/16"), "the way to 10.60.0.0/16 is missing"),
        (2, ("add", "web", "10.60.0.0/16", "via", "fd00::1"), "are of different families"),
        (2, ("add", "web", "10.60.0.0/16", "dev", "eth0", "metric", "x"), "invalid metric 'x'"),
        (2, ("add", "web", "10.60.0.0/16", "table", "7"), "cannot read 'table' in a route"),
        (2, ("add", "web", "fd00:5::/64", "via", "fe80::1"), "gateway fe80::1 is on every link"),
        (3, ("add", "nobody", "10.60.0.0/16", "dev", "eth0"), "no container nobody was found"),
        (3, ("del", "web", "10.61.0.0/16"), "container web has no route 10.61.0.0/16"),
        (2, ("del", "web", "default"), "was not added by `dnet route`"),
    ):  # fmt: skip
        result = run(host, "route", *words, code=None)
        assert (words, result.code) == (words, code), result.stderr
        assert sentence in result.stderr
    assert host.changes(before) == ""


def test_kept(host: FakeHost) -> None:
    """A route that somebody removed is listed as missing, and made again by a refresh; a default can be one."""
    run(host, "network", "create", "--internal", "inner")
    run(host, "create", "--network", "inner", "web")
    web = host.sandbox("web")
    gateway = run(host, "network", "inspect", "inner").json[0]["IPAM"]["Config"][0]["Gateway"]
    run(host, "route", "add", "web", "default", "via", gateway, "metric", "9")
    web.run("ip route delete default")
    assert shown(host, "web") == [("default", gateway, "missing", 9)]
    assert host.call(refresh, host.directories) == [f"route default via {gateway} dev eth0 metric 9 of container web"]
    assert shown(host, "web") == [("default", gateway, "dnet", 9)]
    run(host, "network", "disconnect", "inner", "web")
    run(host, "rm", "web")
    assert host.rows("SELECT * FROM route") == []


def refresh(directories: tuple[str, str]) -> list[str]:
    """Refresh attachments; return what was made again."""
    import dnet
    from dnet.operations import reattach

    with dnet.open(*directories) as engine:
        return [item.what for item in reattach.refresh(engine._context)]


def test_of_others(host: FakeHost) -> None:
    """Somebody else's namespace gets routes through an interface of its own; with the last one it is forgotten."""
    space = namespace(host, "x")
    before = routes(space)
    run(host, "route", "add", "/run/netns/x", "10.50.0.0/16", "via", "10.9.0.7")
    run(host, "route", "add", "/run/netns/x", "10.51.0.0/16", "dev", "up0")
    assert {("10.50.0.0/16", "10.9.0.7", "up0"), ("10.51.0.0/16", "", "up0")} <= set(routes(space))
    assert [name for (name,) in host.rows("SELECT name FROM container")] == ["path:/run/netns/x"]
    run(host, "route", "del", "/run/netns/x", "10.50.0.0/16")
    run(host, "route", "del", "/run/netns/x", "10.51.0.0/16")
    assert routes(space) == before
    assert host.rows("SELECT * FROM container") == []


def test_routes_go_with_their_interface(host: FakeHost) -> None:
    """Detaching an interface takes the routes through it along, and forgets them."""
    run(host, "create", "web")
    run(host, "attach", "--bridge", "br5", "--ip", "10.5.0.1/24", "web")
    run(host, "route", "add", "web", "10.50.0.0/16", "via", "10.5.0.9")
    run(host, "detach", "web")
    assert shown(host, "web") == []
    assert host.rows("SELECT * FROM route") == []
