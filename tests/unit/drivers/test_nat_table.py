"""The table `inet dnet` as objects and text. The oracle is nft itself, in a network namespace made for the purpose."""

from __future__ import annotations

import functools
import json
import os
import re
import shutil
import subprocess
from ipaddress import IPv4Address, IPv6Interface, IPv6Network, ip_address
from typing import Any

import pytest

from dnet.drivers import nat_table
from dnet.model.published_port import PortMapping
from dnet.objects.host import NatElement, NftTable
from dnet.objects.routes import Address
from tests.support import samples

PATH = f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin"
BLUE = samples.network("blue", "10.1.0.0/16")
RED = samples.network("red", "10.2.0.0/16")
# An unprivileged user gets the namespace along with a user namespace.
UNSHARE = ["unshare", "--net"] if os.geteuid() == 0 else ["unshare", "--user", "--map-root-user", "--net"]
SEPARATOR = "---"


@functools.cache
def _obstacle() -> str:
    if not shutil.which("nft", path=PATH):
        return "nft is not installed"
    return _in_namespace("true").stderr.strip()


def _in_namespace(script: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PATH": PATH}
    command = [*UNSHARE, "sh", "-euc", script]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=30, env=environment)


def rulesets(*transactions: list[str]) -> list[list[dict[str, Any]]]:
    """Run transactions one after the other in an empty namespace; return nft's view of the ruleset after each.

    Each is one file of one `nft -f`, hence applied whole or not at all.
    """
    if _obstacle():
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(f"needs nf_tables: {_obstacle()}")
    steps = []
    for lines in transactions:
        text = "\n".join(lines)
        steps.append(f"nft -f - <<'END'\n{text}\nEND\nnft -j list ruleset; echo {SEPARATOR}")
    done = _in_namespace("\n".join(steps))
    assert done.returncode == 0, done.stderr
    return [json.loads(part)["nftables"] for part in done.stdout.split(SEPARATOR)[:-1] if part.strip()]


def of_kind(ruleset: list[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    """Return the tables, sets, chains or rules of a ruleset."""
    return [item[kind] for item in ruleset if kind in item]


def elements(ruleset: list[dict[str, Any]]) -> dict[str, set[str]]:
    """Return the elements of every set and map that has some, in nft's own notation."""
    found = {}
    for item in (*of_kind(ruleset, "set"), *of_kind(ruleset, "map")):
        texts = {word(element) for element in item.get("elem", [])}
        if texts:
            found[item["name"]] = texts
    return found


def word(value: Any) -> str:
    """Write an element of libnftables-json(5) as nft's language does, counters left out."""
    match value:
        case [key, target]:
            return f"{word(key)} : {word(target)}"
        case {"elem": {"val": inner}}:
            return word(inner)
        case {"concat": parts}:
            return " . ".join(map(word, parts))
        case {"prefix": {"addr": address, "len": length}}:
            return f"{address}/{length}"
    return str(value)


def setup(*networks) -> list[str]:
    """Return the commands that make the table and what these networks add to it."""
    items = [NftTable(), *(item for net in networks for item in nat_table.network_objects(net))]
    return nat_table.commands(items, "add")


def test_nft_takes_the_table():
    """The commands are accepted by nft, and the kernel then has one table of ours: inet dnet."""
    (ruleset,) = rulesets(setup())
    assert [(table["family"], table["name"]) for table in of_kind(ruleset, "table")] == [("inet", "dnet")]


def test_chains_and_sets_explain_themselves():
    """The table and every set, map and chain of it have a comment for the person who lists them."""
    lines = setup()
    rulesets(lines)
    text = "\n".join(lines)
    listing = _in_namespace(f"nft -f - <<'END'\n{text}\nEND\nnft list ruleset").stdout
    blocks = re.split(r"^\t?(?=(?:table|set|map|chain) )", listing, flags=re.MULTILINE)[1:]
    assert {block.split()[0] for block in blocks} >= {"table", "set", "chain"}
    assert not [block.splitlines()[0] for block in blocks if "comment" not in block]


def test_no_policy_but_accept():
    """No chain of ours drops what it does not know: other people's traffic passes."""
    (ruleset,) = rulesets(setup(BLUE))
    based = [chain for chain in of_kind(ruleset, "chain") if "hook" in chain]
    assert based
    assert {chain["policy"] for chain in based} == {"accept"}


def test_network_is_elements():
    """A network adds its device and its subnet to sets, and nothing but elements."""
    assert {type(item) for item in nat_table.network_objects(BLUE)} == {NatElement}
    empty, full = rulesets(setup(), nat_table.commands(nat_table.network_objects(BLUE), "add"))
    assert elements(empty) == {}
    found = elements(full)
    assert BLUE.device in found["bridges"]
    assert found["masquerade4"] == {"10.1.0.0/16"}
    assert found["subnets4"] == {f"{BLUE.device} . 10.1.0.0/16"}
    assert of_kind(empty, "rule") == of_kind(full, "rule")
    assert of_kind(empty, "chain") == of_kind(full, "chain")


@pytest.mark.parametrize("wish", [{"internal": True}, {"masquerade": False}], ids=str)
def test_unmasqueraded_network(wish):
    """The subnet of an internal network, or of one without masquerading, is not in the set of masqueraded subnets."""
    (ruleset,) = rulesets(setup(samples.network("blue", "10.1.0.0/16", **wish)))
    assert "masquerade4" not in elements(ruleset)
    assert elements(ruleset)["bridges"]


def test_masquerading_is_what_the_rule_does():
    """One rule masquerades sources in the set, and what goes to a bridge of containers has returned before it."""
    (ruleset,) = rulesets(setup(BLUE))
    chain = next(c["name"] for c in of_kind(ruleset, "chain") if c.get("type") == "nat" and c["hook"] == "postrouting")
    rules = [json.dumps(rule["expr"]) for rule in of_kind(ruleset, "rule") if rule["chain"] == chain]
    (masquerading,) = [index for index, text in enumerate(rules) if '"masquerade"' in text and "@masquerade4" in text]
    assert [text for text in rules[:masquerading] if "@enclosed" in text and '"oifname"' in text and '"return"' in text]


def test_making_the_table_again_changes_nothing():
    """Making the table a second time neither doubles a rule nor loses an element."""
    once, twice = rulesets(setup(BLUE), nat_table.commands([NftTable()], "add"))
    assert elements(twice) == elements(once) != {}
    rules = [[rule["expr"] for rule in of_kind(ruleset, "rule")] for ruleset in (once, twice)]
    assert rules[0] == rules[1] != []
    assert len(of_kind(once, "chain")) == len(of_kind(twice, "chain"))


def test_adding_elements_again_is_harmless():
    """Elements that exist may be added again, as after an interrupted repair."""
    once, twice = rulesets(setup(BLUE), nat_table.commands(nat_table.network_objects(BLUE), "add"))
    assert elements(twice) == elements(once)


def test_deleting_a_network_leaves_the_other():
    """The elements of a network go by key, and those of another stay."""
    both, one = rulesets(setup(BLUE, RED), nat_table.commands(nat_table.network_objects(BLUE), "delete"))
    assert elements(both)["masquerade4"] == {"10.1.0.0/16", "10.2.0.0/16"}
    assert elements(one)["masquerade4"] == {"10.2.0.0/16"}
    assert BLUE.device not in elements(one)["bridges"]
    assert RED.device in elements(one)["bridges"]


def test_deleting_everything_leaves_nothing():
    """Deleting the objects of the last network and the table, in one transaction, leaves no ruleset."""
    items = [NftTable(), *nat_table.network_objects(BLUE)]
    _, after = rulesets(nat_table.commands(items, "add"), nat_table.commands(items, "delete"))
    assert [item for item in after if "metainfo" not in item] == []


def test_many_networks_are_one_command_a_set():
    """Elements of one set are gathered into one command, whatever their number."""
    networks = [samples.network(f"n{number}", f"10.{number}.0.0/16") for number in range(200)]
    items = [item for net in networks for item in nat_table.network_objects(net)]
    lines = nat_table.commands(items, "add")
    assert len(lines) == len({item.set_name for item in items})
    (ruleset,) = rulesets([*nat_table.commands([NftTable()], "add"), *lines])
    assert elements(ruleset)["masquerade4"] == {str(net.subnet) for net in networks}
    assert len(elements(ruleset)["bridges"]) == 200


SIX = samples.network(
    "six", "10.6.0.0/24", subnet6=IPv6Network("fd00:6::/64"), gateway6=IPv6Network("fd00:6::/64")[1], icc=True
)
SIX_END = samples.endpoint(SIX, "10.6.0.2", address6=IPv6Interface("fd00:6::2/64"))
PUBLISHED = {
    ("0.0.0.0", 8080, 80, "tcp"): ("publish4", "tcp . 8080 : 10.6.0.2 . 80"),
    ("0.0.0.0", 53, 5300, "udp"): ("publish4", "udp . 53 : 10.6.0.2 . 5300"),
    ("127.0.0.1", 8080, 80, "tcp"): ("publish4_on", "127.0.0.1 . tcp . 8080 : 10.6.0.2 . 80"),
    ("::", 8080, 80, "tcp"): ("publish6", "tcp . 8080 : fd00:6::2 . 80"),
    ("::1", 9, 9, "sctp"): ("publish6_on", "::1 . sctp . 9 : fd00:6::2 . 9"),
}


def published(*ports: tuple[str, int, int, str], net=SIX, end=SIX_END) -> list[Any]:
    """Return the rules of a container with these ports: host address and port, container port, protocol."""
    mappings = tuple(PortMapping(ip_address(host), *rest) for host, *rest in ports)
    box = samples.container("web", [end], ports=mappings)
    return [item for item in nat_table.container_objects(box, {net.id: net}) if item.backend == "nft"]


@pytest.mark.parametrize(("port", "expected"), PUBLISHED.items(), ids=str)
def test_published_port(port, expected):
    """A published port is one element, in the map of its family and binding, which nft then has; it goes by its key."""
    items = published(port)
    before, after, again = rulesets(setup(SIX), nat_table.commands(items, "add"), nat_table.commands(items, "delete"))
    set_name, text = expected
    assert elements(after)[set_name] == {text}
    assert {**elements(after), set_name: None} == {**elements(before), set_name: None}
    assert elements(again) == elements(before)


def test_container_without_ports():
    """A container that publishes nothing adds nothing to the table."""
    assert published() == []


def test_routed_network_opens_what_is_published():
    """On a network without masquerading, a published port is also open at the container's own address, once."""
    net = samples.network("six", "10.6.0.0/24", subnet6=SIX.subnet6, gateway6=SIX.gateway6, masquerade=False)
    items = published(("0.0.0.0", 8080, 80, "tcp"), ("127.0.0.1", 8081, 80, "tcp"), ("::", 8080, 80, "tcp"), net=net)
    (ruleset,) = rulesets([*setup(net), *nat_table.commands(items, "add")])
    found = elements(ruleset)
    assert (found["open4"], found["open6"]) == ({"10.6.0.2 . tcp . 80"}, {"fd00:6::2 . tcp . 80"})
    assert found["routed"] == {net.device}


def test_container_of_several_networks():
    """Ports are published at the endpoint of each family's default route, the first one where there is none.

    Where it is on a routed network they are open at its own address too, whichever way the default route goes.
    """
    routed = samples.network("routed", "10.7.0.0/24", masquerade=False)
    ends = [
        samples.endpoint(routed, "10.7.0.2", gateway=None),
        samples.endpoint(
            SIX, "10.6.0.2", interface="eth1", address6=SIX_END.address6, gateway=None, gateway6=SIX.gateway6
        ),
        samples.endpoint(BLUE, "10.1.0.2", interface="eth2"),
    ]
    ports = tuple(PortMapping(ip_address(host), 8080, 80, "tcp") for host in ("0.0.0.0", "::", "127.0.0.1"))
    box = samples.container("web", ends, ports=ports)
    items = nat_table.container_objects(box, {net.id: net for net in (routed, SIX, BLUE)})
    assert [str(item.value) for item in items if isinstance(item, NatElement) and item.value] == [
        "10.1.0.2 . 80",
        "fd00:6::2 . 80",
        "10.1.0.2 . 80",
    ]
    assert [item.key for item in items if isinstance(item, NatElement) and not item.value] == ["10.7.0.2 . tcp . 80"]
    alone = samples.container("web", ends[:1], ports=ports)
    assert [item.value for _, item in nat_table.published(alone)] == ["10.7.0.2 . 80"] * 2


# Links


APART = samples.network(
    "apart", "10.3.0.0/24", icc=False, subnet6=IPv6Network("fd00:3::/64"), gateway6=IPv6Network("fd00:3::/64")[1]
)
NETWORKS = {net.id: net for net in (BLUE, APART)}


def member(name: str, number: int, *exposed: tuple[int, str], has_six: bool = True):
    """Return a container on network apart."""
    address6 = IPv6Interface(f"fd00:3::{number}/64") if has_six else None
    end = samples.endpoint(APART, f"10.3.0.{number}", index=number, address6=address6)
    return samples.container(name, [end], exposed=exposed)


def test_link_opens_the_exposed_ports():
    """A link is an element for each exposed port of the child and each family that both have, which nft then has."""
    db = member("db", 2, (53, "udp"), (80, "tcp"), (9, "sctp"))
    items = nat_table.link_objects(member("web", 3), db, NETWORKS)
    before, after, again = rulesets(setup(APART), nat_table.commands(items, "add"), nat_table.commands(items, "delete"))
    for version, web, child in ((4, "10.3.0.3", "10.3.0.2"), (6, "fd00:3::3", "fd00:3::2")):
        # nft writes the protocols that it knows by their names.
        assert elements(after)[f"links{version}"] == {
            f"{web} . {child} . {pair}" for pair in ("udp . 53", "tcp . 80", "sctp . 9")
        }
    assert elements(again) == elements(before)
    only4 = nat_table.link_objects(member("web", 3, has_six=False), db, NETWORKS)
    assert {item.set_name for item in only4} == {"links4"}


def test_link_that_opens_nothing():
    """A link opens nothing without exposed ports, nothing across networks, and nothing where all may talk."""
    web, db = member("web", 3), member("db", 2, (80, "tcp"))
    stranger = samples.container("x", [samples.endpoint(BLUE, "10.1.0.2")], exposed=((80, "tcp"),))
    assert nat_table.link_objects(db, web, NETWORKS) == ()
    assert nat_table.link_objects(web, stranger, NETWORKS) == ()
    assert nat_table.link_objects(web, samples.container("none"), NETWORKS) == ()
    other = samples.container("y", [samples.endpoint(BLUE, "10.1.0.3")])
    assert nat_table.linked_endpoints(other, stranger) == (other.endpoints[0], stranger.endpoints[0])
    assert nat_table.link_objects(other, stranger, NETWORKS) == ()


def test_link_goes_by_the_parents_first_network():
    """Of several networks that both are on, a link works through the parent's first."""
    ends = [samples.endpoint(BLUE, "10.1.0.3"), samples.endpoint(APART, "10.3.0.3", interface="eth1")]
    db = samples.container(
        "db", [samples.endpoint(APART, "10.3.0.2"), samples.endpoint(BLUE, "10.1.0.2", interface="eth1")]
    )
    for order, network in ((ends, BLUE), (ends[::-1], APART)):
        found = nat_table.linked_endpoints(samples.container("web", order), db)
        assert found is not None
        assert {end.network for end in found} == {network.name}


@pytest.mark.parametrize(
    ("set_name", "listed", "key"),
    [
        ("links4", ("10.3.0.3", "10.3.0.2", "6", "80"), "10.3.0.3 . 10.3.0.2 . tcp . 80"),
        ("links4", ("10.3.0.3", "10.3.0.2", "udp", "53"), "10.3.0.3 . 10.3.0.2 . udp . 53"),
        ("publish4", ("17", "53"), "udp . 53"),
        ("publish6_on", ("::1", "132", "9"), "::1 . sctp . 9"),
        ("masquerade4", ("10.6.0.0/24",), "10.6.0.0/24"),
    ],
)
def test_keys_as_nft_lists_them(set_name, listed, key):
    """An element is found again under its key whether nft writes protocols by name or by number."""
    assert nat_table.key_of(set_name, listed) == key


@pytest.mark.parametrize(
    ("wish", "set_name", "text"),
    [
        ({"icc": True}, "within_network", "{0} . {0}"),
        ({"internal": True}, "internal", "{0}"),
        ({"masquerade": False}, "routed", "{0}"),
        ({"masquerade": True}, "masquerade4", "10.9.0.0/24"),
        ({"snat": IPv4Address("192.0.2.7")}, "snat4", "10.9.0.0/24 : 192.0.2.7"),
    ],
    ids=str,
)
def test_settings_are_elements(wish, set_name, text):
    """Each setting of a network is an element of the set that is called so; without the setting it is not there."""
    net = samples.network("wish", "10.9.0.0/24", **({"icc": False} | wish))
    plain = samples.network("wish", "10.9.0.0/24", icc=False, snat=IPv4Address("192.0.2.8"))
    (wished,), (other,) = rulesets(setup(net)), rulesets(setup(plain))
    assert text.format(net.device) in elements(wished)[set_name]
    assert text.format(net.device) not in elements(other).get(set_name, set())


def test_table_comes_first_and_goes_last():
    """The table is made before its elements, and deleted after them, whatever the order of the objects."""
    items = [*nat_table.network_objects(BLUE), NftTable()]
    assert nat_table.commands(items, "add")[0].lstrip().startswith("add table")
    assert nat_table.commands(items, "delete")[-1].startswith("delete table")


def test_values_are_for_adding():
    """An element of a map is added with its value and deleted by its key alone, protocols by number."""
    item = NatElement("ports", "tcp . 8080", "10.1.0.2 . 80")
    assert nat_table.commands([item], "add") == ["add element inet dnet ports { 6 . 8080 : 10.1.0.2 . 80 }"]
    assert nat_table.commands([item], "delete") == ["delete element inet dnet ports { 6 . 8080 }"]


def test_nothing_is_no_command():
    """No objects are no commands."""
    assert nat_table.commands([], "add") == nat_table.commands([], "delete") == []


def test_foreign_object_is_a_bug():
    """An object of another backend is refused, not overlooked."""
    with pytest.raises(TypeError):
        nat_table.commands([Address("eth0", 5, "", interface=samples.endpoint(BLUE, "10.1.0.2").address)], "add")
