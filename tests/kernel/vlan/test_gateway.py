"""A network whose containers are in VLANs, its gateway in one of them: routing, NAT and publishing go on as before."""

from __future__ import annotations

import contextlib
import os

import pytest

from tests.support.dnet_commands import address, created, gateway, network, run, settled_snapshot
from tests.support.hosts import FakeHost, Neighbour
from tests.support.traffic import ANYWHERE, FAR, HOST, answering, filter_bridged, is_refused, reach

SUBNETS = ("--subnet", "10.1.0.0/24", "--ipv6", "--subnet", "fd01::/64")
# By what VLANs are kept apart: the tc programs, and, in `make test-vm`, the bridge's own filtering.
BACKENDS = ["bpf", "bridge"] if os.environ.get("DNET_TEST_VM") else ["bpf"]


@pytest.fixture(params=BACKENDS)
def backend(request: pytest.FixtureRequest) -> str:
    """Return what keeps VLANs apart."""
    return str(request.param)


@pytest.fixture
def office(host: FakeHost, lan: Neighbour, backend: str) -> Neighbour:
    """Make a network of both families with its gateway, `web` and `peer` in VLAN 100, and `other` in 200."""
    network(host, "blue", *SUBNETS, "--vlan", "100", "-o", f"vlan_backend={backend}")
    for name, options in {"web": ["-p", "8080:80"], "peer": [], "other": ["--vlan", "200"]}.items():
        created(host, "--network", "blue", *options, name)
    return lan


@pytest.mark.parametrize("bridged", [0, 1])
@pytest.mark.parametrize("family", [4, 6])
def test_gateway_in_a_vlan(host: FakeHost, office: Neighbour, bridged: int, family: int) -> None:
    """Containers in the gateway's VLAN reach host and world, masqueraded, and are published; others are cut off.

    Whether br_netfilter looks at bridged frames makes no difference.
    """
    filter_bridged(host, bridged)
    web, peer, other = (host.sandbox(name) for name in ("web", "peer", "other"))
    own, target = gateway(host, "web", family), address(host, "web", family)
    with contextlib.ExitStack() as stack:
        for space, port in ((web, 80), (host, 7000), (office, 7000)):
            stack.enter_context(space.serve(port, address=ANYWHERE[family]))
        assert reach(peer, target, 80) == address(host, "peer", family)
        assert reach(web, own, 7000) == target
        assert reach(host, target, 80) == own
        assert reach(web, FAR[family], 7000) == HOST[family]
        for asking in (office, peer, web):
            assert reach(asking, HOST[family], 8080)
        assert reach(host, "127.0.0.1", 8080)
        for place in (target, own, FAR[family]):
            assert not answering(other, place, 80, 7000, within_s=0.1)


def test_port_changes_its_vlan(host: FakeHost, office: Neighbour) -> None:
    """A container that is moved to the gateway's VLAN is served from then on, and one that leaves it no longer."""
    host.dnet("vlan", "set", "other", "--tag", "100")
    host.dnet("vlan", "set", "web", "--tag", "200")
    with office.serve(7000):
        assert reach(host.sandbox("other"), FAR[4], 7000) == HOST[4]
        assert is_refused(host.sandbox("web"), FAR[4], 7000)


@pytest.mark.skipif("bridge" in BACKENDS, reason="where bridges can filter VLANs themselves, they do")
def test_network_that_cannot_keep_vlans_apart(host: FakeHost) -> None:
    """When a network in use cannot be made to keep VLANs apart, it goes on as it was: no hook, no entry is left.

    Hooks of somebody else's, which are the reason here, stay where they are.
    """
    network(host, "blue", *SUBNETS)
    names = [created(host, "--network", "blue", name) for name in ("one", "two")]
    theirs = names[1]["NetworkSettings"]["Networks"]["blue"]["HostInterface"]
    host.run("tc", "qdisc", "add", "dev", theirs, "clsact")
    before = settled_snapshot(host)
    failed = run(host, "create", "--network", "blue", "--vlan", "100", "three", code=4)
    assert f"VLAN filter on {theirs}" in failed.stderr
    hooks = [line for line in host.run("tc qdisc show").stdout.splitlines() if "clsact" in line]
    assert [line.split()[4] for line in hooks] == [theirs]
    assert "sticky" not in host.run("bridge fdb show").stdout
    after = settled_snapshot(host)
    for key in ("links", "addresses", "nftables", "rows"):
        assert after[key] == before[key], key
    assert not [line for line in after["files"] if "ports-" in line or "into-" in line]
    for family in (4, 6):
        assert host.sandbox("one").can_ping(address(host, "two", family))
        assert host.sandbox("two").can_ping(gateway(host, "two", family))
