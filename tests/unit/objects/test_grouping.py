"""Objects of groups, sorted by kind."""

from __future__ import annotations

from dnet.model.vlan import PortVlans
from dnet.objects import grouping
from dnet.objects.host import Directory, File, NatElement
from dnet.objects.links import LinkUp
from dnet.objects.sandbox import HostSandbox, Sandbox
from dnet.objects.vlans import VlanMapEntry

ENTRY = VlanMapEntry("veth1", 1, PortVlans(access=5))
SANDBOX, HOST = Sandbox("web", "/run/web", ""), HostSandbox("db", "/run/db", "")
BOX, HOSTS = Directory("/box"), File("/box/hosts", "")
GROUPS = [(BOX, HOSTS, SANDBOX), (), (HOST, LinkUp("veth1", 1, ""), SANDBOX)]


def test_of_kind():
    """Those of a kind come in the order of the groups, more special ones included."""
    found = grouping.by_kind(GROUPS)
    assert grouping.of_kind(Sandbox, found) == [SANDBOX, SANDBOX, HOST]
    assert grouping.of_kind(HostSandbox, found) == [HOST]
    assert grouping.of_kind(NatElement, found) == []


def test_of_backend():
    """Those of a backend come together."""
    found = grouping.by_kind(GROUPS)
    assert grouping.of_backend("files", found) == [BOX, HOSTS]
    assert grouping.of_backend("nft", found) == []


def test_runs():
    """What follows each other and is of one backend is one run."""
    assert grouping.runs([BOX, HOSTS, ENTRY, BOX]) == [("files", [BOX, HOSTS]), ("bpf", [ENTRY]), ("files", [BOX])]
