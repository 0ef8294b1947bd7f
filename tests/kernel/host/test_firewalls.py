"""Other firewalls on the host: dnet's containers get through, or dnet says which chain stops them and what to add.

The rules are laid out as Docker, an administrator with nftables, ufw and firewalld lay them out. Frames between the
ports of a bridge go through them too, since br_netfilter is on in a new namespace (bridge-nf-call-iptables=1).
"""

from __future__ import annotations

import re
import subprocess

import pytest

from tests.support.container_processes import require
from tests.support.dnet_commands import address, network, run, settled_snapshot
from tests.support.hosts import FakeHost, Namespace, Neighbour
from tests.support.nft_listing import as_text, plain
from tests.support.traffic import HOST, PEER, answering, is_refused, reach, serving

# As `nft list ruleset` shows what Docker 20.10 does by iptables-nft, for one container with -p 8090:80.
DOCKER_20 = """
table ip nat {
  chain DOCKER {
    iifname "docker0" counter return
    iifname != "docker0" tcp dport 8090 counter dnat to 172.17.0.2:80
  }
  chain PREROUTING {
    type nat hook prerouting priority dstnat; policy accept;
    fib daddr type local counter jump DOCKER
  }
  chain OUTPUT {
    type nat hook output priority -100; policy accept;
    ip daddr != 127.0.0.0/8 fib daddr type local counter jump DOCKER
  }
  chain POSTROUTING {
    type nat hook postrouting priority srcnat; policy accept;
    oifname != "docker0" ip saddr 172.17.0.0/16 counter masquerade
  }
}
table ip filter {
  chain DOCKER { iifname != "docker0" oifname "docker0" ip daddr 172.17.0.2 tcp dport 80 counter accept; }
  chain DOCKER-ISOLATION-STAGE-2 { oifname "docker0" counter drop; counter return; }
  chain DOCKER-ISOLATION-STAGE-1 {
    iifname "docker0" oifname != "docker0" counter jump DOCKER-ISOLATION-STAGE-2
    counter return
  }
  chain DOCKER-USER { counter return; }
  chain INPUT { type filter hook input priority filter; policy accept; }
  chain OUTPUT { type filter hook output priority filter; policy accept; }
  chain FORWARD {
    type filter hook forward priority filter; policy drop;
    counter jump DOCKER-USER
    counter jump DOCKER-ISOLATION-STAGE-1
    oifname "docker0" ct state related,established counter accept
    oifname "docker0" counter jump DOCKER
    iifname "docker0" oifname != "docker0" counter accept
    iifname "docker0" oifname "docker0" counter accept
  }
}
"""
# Docker 28: other chains, the same in ip6, and direct access to containers dropped in the raw table.
_DOCKER_28_FILTER = """
table FAMILY filter {
  chain DOCKER { RULE iifname != "docker0" oifname "docker0" counter drop; }
  chain DOCKER-BRIDGE { oifname "docker0" counter jump DOCKER; }
  chain DOCKER-CT { oifname "docker0" ct state related,established counter accept; }
  chain DOCKER-INTERNAL { }
  chain DOCKER-FORWARD {
    counter jump DOCKER-CT
    counter jump DOCKER-INTERNAL
    counter jump DOCKER-BRIDGE
    iifname "docker0" counter accept
  }
  chain DOCKER-USER { }
  chain FORWARD {
    type filter hook forward priority filter; policy drop;
    counter jump DOCKER-USER
    counter jump DOCKER-FORWARD
  }
}
"""
DOCKER_28 = (
    DOCKER_20[: DOCKER_20.index("table ip filter")]
    + _DOCKER_28_FILTER.replace("FAMILY", "ip").replace(
        "RULE", 'iifname != "docker0" oifname "docker0" ip daddr 172.17.0.2 tcp dport 80 counter accept;'
    )
    + _DOCKER_28_FILTER.replace("FAMILY", "ip6").replace("RULE", "")
    + """
table ip raw {
  chain PREROUTING {
    type filter hook prerouting priority raw; policy accept;
    ip daddr 172.17.0.2 iifname != "docker0" counter drop
  }
}
"""
)
LAYOUTS = pytest.mark.parametrize("layout", [DOCKER_20, DOCKER_28], ids=["docker-20.10", "docker-28"])
DEFAULT_DROP = """
table inet filter {
  chain input { type filter hook input priority filter; policy accept; }
  chain forward {
    type filter hook forward priority filter; policy drop;
    ct state established,related accept
    iifname "lan" oifname "lan2" accept
  }
}
"""
# As ufw lays it out by iptables-nft, with its default of not routing; shortened to the chains that matter.
UFW = """
table ip filter {
  chain ufw-before-forward { ct state related,established counter accept; }
  chain ufw-user-forward { }
  chain ufw-after-forward { }
  chain ufw-reject-forward { }
  chain FORWARD {
    type filter hook forward priority filter; policy drop;
    counter jump ufw-before-forward
    counter jump ufw-user-forward
    counter jump ufw-after-forward
    counter jump ufw-reject-forward
  }
}
"""
# As firewalld ends its forward chain: no policy, but a rule that refuses what no zone has let through.
FIREWALLD = """
table inet firewalld {
  chain filter_FORWARD_POLICIES { }
  chain filter_FORWARD {
    type filter hook forward priority filter + 10; policy accept;
    ct state { established, related } accept
    ct status dnat accept
    iifname "lo" accept
    jump filter_FORWARD_POLICIES
    ct state { invalid } drop
    reject with icmpx type admin-prohibited
  }
}
"""
LAST_RULE_DROPS = """
table ip filter {
  chain FORWARD {
    type filter hook forward priority filter; policy accept;
    ct state established,related accept
    counter drop
  }
}
"""


def load(host: FakeHost, rules: str) -> None:
    """Load rules."""
    host.run("nft", "-f", "-", stdin=rules)


def lay_out_docker(host: FakeHost, rules: str) -> Namespace:
    """Make docker0 with a container behind it, and Docker's rules; return the container."""
    docker = host.neighbour("vethdocker", "172.17.0.0/16")
    script = (
        "ip link add docker0 type bridge; ip link set docker0 up; ip link set vethdocker master docker0; "
        "ip address delete 172.17.0.1/16 dev vethdocker; ip address add 172.17.0.1/16 dev docker0; "
        "echo 1 >/proc/sys/net/ipv4/ip_forward"
    )
    host.run("sh", "-c", script)
    docker.run("ip route add default via 172.17.0.1")
    load(host, rules)
    return docker


def check(host: FakeHost, lan: Neighbour, one: Namespace, two: Namespace) -> None:
    """Assert that two containers reach each other and the outside, and that the second is reached at port 8080."""
    with serving(two, 80), serving(lan, 4000):
        works = {
            "neighbour": answers(one, address(host, two.name), 80),
            "outside": answers(one, PEER[4], 4000),
            "published": answers(lan, HOST[4], 8080),
            "hairpin": answers(one, HOST[4], 8080),
            "host": answers(host, "127.0.0.1", 8080),
        }
    assert all(works.values()), works


def answers(space: Namespace, target: str, port: int) -> bool:
    """Whether a server of `serving` answers over tcp."""
    script = "import socket, sys; socket.create_connection((sys.argv[1], int(sys.argv[2])), 1).recv(100)"
    return bool(space.python(script, target, str(port), exit_code=None).code == 0)


def pair(host: FakeHost) -> tuple[Namespace, Namespace]:
    """Create containers one and two on network bridge; the second publishes port 8080."""
    run(host, "create", "one")
    run(host, "create", "-p", "8080:80", "two")
    return host.sandbox("one"), host.sandbox("two")


# Docker


@LAYOUTS
def test_containers_work_beside_docker(host: FakeHost, lan: Neighbour, layout: str) -> None:
    """Where Docker's FORWARD drops, containers reach each other and the outside, and published ports are reached."""
    lay_out_docker(host, layout)
    check(host, lan, *pair(host))


@LAYOUTS
def test_docker_works_beside_dnet(host: FakeHost, lan: Neighbour, layout: str) -> None:
    """Docker's containers reach the outside, and their published ports are reached, by dnet's containers too."""
    docker = lay_out_docker(host, layout)
    one, _ = pair(host)
    with serving(docker, 80), serving(lan, 4000):
        works = {
            "outside": answers(docker, PEER[4], 4000),
            "published": answers(lan, HOST[4], 8090),
            "host": answers(host, HOST[4], 8090),
            "from dnet": answers(one, HOST[4], 8090),
        }
    assert all(works.values()), works


@LAYOUTS
def test_docker_and_dnet_are_isolated(host: FakeHost, lan: Neighbour, layout: str) -> None:
    """Docker's containers and dnet's do not reach each other directly; published ports are what they have."""
    assert lan
    docker = lay_out_docker(host, layout)
    one, two = pair(host)
    with docker.serve(81), docker.serve(80):
        assert is_refused(one, docker_address(docker), 81)
        assert is_refused(one, docker_address(docker), 80)
    with two.serve(80), two.serve(81):
        assert is_refused(docker, address(host, "two"), 81)
        assert is_refused(docker, address(host, "two"), 80)
        assert reach(docker, HOST[4], 8080)


def docker_address(docker: Namespace) -> str:
    """Return the address of Docker's container."""
    [device] = docker.json("ip -j -4 address show dev eth0")
    return str(device["addr_info"][0]["local"])


def rules_in(host: FakeHost, *chain: str) -> list[str]:
    """Return the rules of a chain as nft lists them, without counters."""
    listing = host.run("nft", "list", "chain", *chain).stdout
    lines = [line.strip() for line in listing.splitlines()[2:-2]]
    return [re.sub(r"counter packets \d+ bytes \d+ ?", "", line).strip() for line in lines]


def foreign(host: FakeHost) -> str:
    """Return all of the ruleset but dnet's table and the rules that carry its mark."""
    items = host.json("nft", "-j", "list", "ruleset")["nftables"]
    kept = [
        item
        for item in plain(items)
        for value in item.values()
        if not (isinstance(value, dict) and ("dnet" in (value.get("table"), value.get("name"))))
        and "dnet" not in str(isinstance(value, dict) and value.get("comment", ""))
    ]
    return as_text(kept)


@LAYOUTS
def test_only_marked_rules_are_added(host: FakeHost, layout: str) -> None:
    """Docker's rules stay; what dnet adds is in DOCKER-USER, says whose it is, and goes with the network."""
    lay_out_docker(host, layout)
    before = plain(host.json("nft", "-j", "list", "ruleset")["nftables"])
    run(host, "create", "web")
    added = [line for line in rules_in(host, "ip", "filter", "DOCKER-USER") if "dnet" in line]
    assert added
    assert all('comment "made by dnet' in line for line in added)
    assert foreign(host) == as_text([item for item in before if item])
    run(host, "rm", "web")
    run(host, "network", "rm", "bridge")
    assert plain(host.json("nft", "-j", "list", "ruleset")["nftables"]) == before


def test_rules_are_added_once(host: FakeHost) -> None:
    """Further commands add no rule a second time, and each further network adds its own."""
    lay_out_docker(host, DOCKER_20)
    run(host, "create", "web")
    before = rules_in(host, "ip", "filter", "DOCKER-USER")
    run(host, "create", "db")
    run(host, "bulk-create", "--count", "3")
    assert rules_in(host, "ip", "filter", "DOCKER-USER") == before
    network(host, "blue", "--subnet", "10.2.0.0/24")
    after = rules_in(host, "ip", "filter", "DOCKER-USER")
    assert len(after) > len(before)
    run(host, "network", "rm", "blue")
    assert rules_in(host, "ip", "filter", "DOCKER-USER") == before


def test_docker_that_comes_later(host: FakeHost, lan: Neighbour) -> None:
    """When Docker is started after dnet, the next command of dnet's makes way, for earlier containers too."""
    one, two = pair(host)
    lay_out_docker(host, DOCKER_20.replace("172.17.", "172.31.").replace("docker0", "docker1"))
    with serving(two, 80):
        assert answering(one, address(host, "two"), 80) == []
    run(host, "create", "three")
    check(host, lan, one, two)


def test_rules_of_the_users(host: FakeHost, lan: Neighbour) -> None:
    """What the user drops in DOCKER-USER stays dropped: dnet's accept does not come before the user's own rules."""
    lay_out_docker(host, DOCKER_20)
    host.run("nft", "insert rule ip filter DOCKER-USER ip saddr 192.0.2.2 tcp dport 80 counter drop")
    _, two = pair(host)
    with two.serve(80):
        assert is_refused(lan, HOST[4], 8080)
        assert reach(host, HOST[4], 8080)


def test_an_internal_network_beside_docker(host: FakeHost, lan: Neighbour) -> None:
    """Way is made for what dnet allows only: an --internal network stays closed."""
    lay_out_docker(host, DOCKER_20)
    network(host, "inner", "--internal", "--subnet", "10.5.0.0/24")
    run(host, "bulk-create", "--count", "2", "--network", "inner")
    one, two = host.sandbox("c-1"), host.sandbox("c-2")
    one.run("ip route add default via 10.5.0.1")
    with lan.serve(4000), two.serve(80):
        assert is_refused(one, PEER[4], 4000)
        assert reach(one, address(host, "c-2"), 80)


@pytest.mark.parametrize("program", ["iptables-nft"])
def test_iptables_itself(host: FakeHost, lan: Neighbour, program: str) -> None:
    """With rules made by iptables itself the same holds, and iptables can list what dnet has added."""
    require(**{program: "iptables"})
    host.run("sh", "-c", IPTABLES.replace("iptables", program))
    before = host.run(program, "-S").stdout.splitlines()
    check(host, lan, *pair(host))
    listed = host.run(program, "-S").stdout.splitlines()
    assert [line for line in before if line not in listed] == []
    added = [line for line in listed if line not in before]
    assert added
    assert all(line.startswith("-A DOCKER-USER") and "dnet" in line for line in added), added


IPTABLES = """
set -e
iptables -P FORWARD DROP
iptables -N DOCKER
iptables -N DOCKER-USER
iptables -N DOCKER-ISOLATION-STAGE-1
iptables -A DOCKER-ISOLATION-STAGE-1 -j RETURN
iptables -A DOCKER-USER -j RETURN
iptables -A FORWARD -j DOCKER-USER
iptables -A FORWARD -j DOCKER-ISOLATION-STAGE-1
iptables -A FORWARD -o docker0 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
iptables -A FORWARD -o docker0 -j DOCKER
iptables -A FORWARD -i docker0 ! -o docker0 -j ACCEPT
iptables -A FORWARD -i docker0 -o docker0 -j ACCEPT
"""


def test_legacy_iptables(host: FakeHost) -> None:
    """Rules of iptables-legacy, which nftables does not show, are reported where they are in use."""
    require(**{"iptables-legacy": "iptables"})
    if host.run("iptables-legacy -P FORWARD DROP", code=None).code:
        pytest.skip("this kernel has no legacy ip_tables (CONFIG_IP_NF_IPTABLES_LEGACY)")
    assert "legacy" in run(host, "create", "web").stderr


def test_a_real_docker(host: FakeHost, lan: Neighbour) -> None:
    """Beside a real dockerd, with the rules that it makes itself, containers work; with their network the marks go."""
    require(dockerd="docker.io")
    place = host.directory
    directories = (f"--data-root={place}/data", f"--exec-root={place}/exec", f"--pidfile={place}/docker.pid")
    options = ("--storage-driver=vfs", *directories, f"--host=unix://{place}/docker.sock")
    daemon = host.start("dockerd", *options, stderr=subprocess.PIPE)
    try:
        assert daemon.stderr is not None
        assert any("API listen on" in line for line in daemon.stderr), "dockerd did not start"
        before = host.run("nft -s list ruleset").stdout
        assert "DOCKER-USER" in before
        check(host, lan, *pair(host))
        run(host, "bulk-delete", "--all")
        run(host, "network", "rm", "bridge")
        assert host.run("nft -s list ruleset").stdout == before
    finally:
        daemon.terminate()  # so that it ends its own children
        daemon.wait(30)


# Others


def names_of(host: FakeHost, name: str) -> str:
    """Return the bridge of a network."""
    return str(run(host, "network", "inspect", name).json[0]["Segments"][0]["Device"])


def remedy_of(stderr: str) -> list[str]:
    """Return the commands that a notice says to run."""
    [line] = [line for line in stderr.splitlines() if "to let it through: " in line]
    return line.partition("to let it through: ")[2].split("; ")


def test_default_drop(host: FakeHost, lan: Neighbour) -> None:
    """A default-drop `inet filter` is reported by name; what the notice says to run makes all of it work."""
    load(host, DEFAULT_DROP)
    first = run(host, "create", "one")
    assert "inet filter forward" in first.stderr
    assert "dnet0" in first.stderr
    for command in remedy_of(first.stderr):
        host.run(command)
    second = run(host, "create", "-p", "8080:80", "two")
    assert "filter" not in second.stderr
    check(host, lan, host.sandbox("one"), host.sandbox("two"))


def test_default_drop_is_not_changed(host: FakeHost) -> None:
    """It is not touched by creating and removing."""
    load(host, DEFAULT_DROP)
    before = host.run("nft -s list ruleset").stdout
    run(host, "create", "-p", "8080:80", "web")
    assert foreign(host).count('"rule"') == before.count("accept\n")
    run(host, "rm", "web")
    run(host, "network", "rm", "bridge")
    assert host.run("nft -s list ruleset").stdout == before


def test_default_drop_really_stops(host: FakeHost, lan: Neighbour) -> None:
    """The notice is true: without the remedy traffic does not pass."""
    load(host, DEFAULT_DROP)
    one, two = pair(host)
    with serving(two, 80), serving(lan, 4000):
        assert answering(one, address(host, "two"), 80) == []
        assert answering(one, PEER[4], 4000) == []
        assert "8080/tcp" not in answering(lan, HOST[4], 8080)


def test_each_network_is_reported(host: FakeHost) -> None:
    """Every network that the chain stops is named, those that it lets through are not."""
    load(host, DEFAULT_DROP)
    for command in remedy_of(run(host, "create", "one").stderr):
        host.run(command)
    said = run(host, "network", "create", "--subnet", "10.2.0.0/24", "blue").stderr
    assert names_of(host, "blue") in said
    assert "dnet0" not in said


ACCEPTING = [
    'iifname { "dnet0", "eth7" } accept; oifname { "dnet0", "eth7" } accept',
    'iifname "dnet*" accept; oifname "dnet*" accept',
    "accept",
    'iifname "dnet0" counter accept; oifname "dnet0" counter accept comment "dnet"',
]


@pytest.mark.parametrize("rules", ACCEPTING)
def test_no_false_alarm(host: FakeHost, lan: Neighbour, rules: str) -> None:
    """A chain that lets a network through, in whichever way of writing it, is not reported."""
    load(host, DEFAULT_DROP.replace('iifname "lan" oifname "lan2" accept', rules))
    said = run(host, "create", "one").stderr
    run(host, "create", "-p", "8080:80", "two")
    check(host, lan, host.sandbox("one"), host.sandbox("two"))
    assert "inet filter forward" not in said


NOT_ACCEPTING = [
    'iifname "dnet0" tcp dport 22 accept; oifname "dnet0" tcp dport 22 accept',
    'iifname "dnet0" ip daddr 203.0.113.0/24 accept; oifname "dnet0" ip saddr 203.0.113.0/24 accept',
]


@pytest.mark.parametrize("rules", NOT_ACCEPTING)
def test_limited_accepts(host: FakeHost, rules: str) -> None:
    """A chain that lets through only some of a network's traffic is reported."""
    load(host, DEFAULT_DROP.replace('iifname "lan" oifname "lan2" accept', rules))
    assert "inet filter forward" in run(host, "create", "one").stderr


def test_accepts_of_another_chain(host: FakeHost) -> None:
    """What another chain of the same table accepts does not count: input is not forward."""
    accepting = 'iifname "dnet0" accept; oifname "dnet0" accept;'
    load(host, DEFAULT_DROP.replace("priority filter; policy accept;", f"priority filter; policy accept; {accepting}"))
    assert "inet filter forward" in run(host, "create", "one").stderr


def test_ufw(host: FakeHost, lan: Neighbour) -> None:
    """With ufw's chains the remedy is in ufw's words, and the rules that those make let everything through."""
    load(host, UFW)
    first = run(host, "create", "one")
    assert "ip filter FORWARD" in first.stderr
    words = [f"ufw route allow {way} on dnet0" for way in ("in", "out")]
    assert sorted(remedy_of(first.stderr)) == sorted(words)
    # What ufw makes of these.
    host.run("nft", 'add rule ip filter ufw-user-forward iifname "dnet0" counter accept')
    host.run("nft", 'add rule ip filter ufw-user-forward oifname "dnet0" counter accept')
    second = run(host, "create", "-p", "8080:80", "two")
    assert "FORWARD" not in second.stderr
    check(host, lan, host.sandbox("one"), host.sandbox("two"))


def test_docker_and_ufw_together(host: FakeHost, lan: Neighbour) -> None:
    """With Docker and ufw in one table, Docker's chain is enough."""
    ufw = UFW.replace("policy drop;", "policy drop; counter jump DOCKER-USER;").replace(
        "chain ufw-user-forward", "chain DOCKER-USER { counter return; }\n  chain ufw-user-forward"
    )
    load(host, ufw)
    check(host, lan, *pair(host))


@pytest.mark.parametrize(
    ("rules", "chain"),
    [(FIREWALLD, "inet firewalld filter_FORWARD"), (LAST_RULE_DROPS, "ip filter FORWARD")],
    ids=["firewalld", "last-rule"],
)
def test_a_last_rule_that_drops(host: FakeHost, lan: Neighbour, rules: str, chain: str) -> None:
    """A chain whose last rule refuses everything is reported like one whose policy does."""
    load(host, rules)
    said = run(host, "create", "one").stderr
    with serving(lan, 4000):
        assert answering(host.sandbox("one"), PEER[4], 4000) == []
    assert chain in said


def test_ipv6_tables_do_not_stop_an_ipv4_network(host: FakeHost) -> None:
    """A chain of family ip6 is not reported for a network without IPv6, and is for one with."""
    load(host, UFW.replace("table ip filter", "table ip6 filter").replace("ufw-", "x-"))
    assert "ip6 filter" not in run(host, "network", "create", "--subnet", "10.1.0.0/24", "blue").stderr
    assert "ip6 filter" in run(host, "network", "create", "--ipv6", "six").stderr


def test_accepting_chains_are_no_news(host: FakeHost) -> None:
    """Firewalls that do not stop anything, or stop it elsewhere than forwarding, are not mentioned."""
    load(host, DEFAULT_DROP.replace("policy drop", "policy accept"))
    host.run("nft", "add table inet fw2; add chain inet fw2 in { type filter hook input priority 0; policy drop; }")
    host.run("sh", "-c", "echo 1 >/proc/sys/net/ipv4/ip_forward")
    assert run(host, "create", "web").stderr == ""


def test_a_reading_command_looks_at_nothing(host: FakeHost) -> None:
    """`ps`, `port` and `inspect` neither mention nor change other firewalls."""
    load(host, DEFAULT_DROP)
    run(host, "create", "-p", "8080:80", "web")
    before = settled_snapshot(host)
    for command in (("ps",), ("port", "web"), ("inspect", "web"), ("network", "ls"), ("nat", "show")):
        assert run(host, *command).stderr == ""
    assert host.changes(before) == ""


def loads_nftables(host: FakeHost, name: str) -> bool:
    """Create a container; return whether the dynamic linker has been asked for libnftables."""
    return "libnftables" in host.dnet("create", name, env={"LD_DEBUG": "files"}).stderr


def test_looked_at_once(host: FakeHost) -> None:
    """Rules that have not changed are not looked at again; those that have, are, and a table that is gone is made."""
    run(host, "create", "one")
    run(host, "create", "two")
    assert not loads_nftables(host, "three")
    load(host, DEFAULT_DROP)
    for name in ("four", "five"):
        assert "inet filter forward" in run(host, "create", name).stderr
    host.run("nft", "delete table inet filter")
    assert loads_nftables(host, "six")
    assert not loads_nftables(host, "seven")
    host.run("nft", "delete table inet dnet")
    run(host, "create", "eight")
    assert "masquerade" in host.run("nft", "list table inet dnet").stdout
    host.run("nft", "add table inet another")
    host.run("nft", "delete table inet another")
    assert loads_nftables(host, "nine")
