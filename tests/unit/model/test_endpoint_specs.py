"""The networks, modes and links that a container is asked to have: what is accepted, and what is refused."""

from __future__ import annotations

import pytest

from dnet.errors import InvalidRequest
from dnet.model.container_spec import ContainerSpec, EndpointSpec, parse_endpoint, parse_link
from tests.support.spec_refusals import by_label, refused

# Modes


@pytest.mark.parametrize(
    ("text", "mode", "shares"), [("host", "host", ""), ("none", "none", ""), ("container:web", "container:web", "web")]
)
def test_modes_without_endpoints(text, mode, shares):
    """In modes host, none and container:NAME there is no endpoint; the last one knows whose sandbox it is."""
    spec = ContainerSpec(network=text)
    assert (spec.mode, spec.endpoints, spec.shares) == (mode, (), shares)


@pytest.mark.parametrize("networks", [["host", "blue"], ["blue", "none"], ["container:web", "blue"], ["host", "none"]])
def test_mode_beside_others(networks):
    """A mode is the only one, as with Docker."""
    assert "beside others" in str(refused(ContainerSpec, network=networks))


@pytest.mark.parametrize("mode", ["container:", "container:a b", "container:-x", "container:a/b", "container:a:b"])
def test_container_that_cannot_be_one(mode):
    """What follows `container:` is a container's name or id."""
    assert "container name" in str(refused(ContainerSpec, network=mode))


# The option that is named in the error, and the wish.
OF_AN_ENDPOINT = {
    "--ip": {"ip": "10.1.0.5"},
    "--ip ": {"ip6": "fd00::5"},
    "--mac-address": {"mac": "02:42:ac:12:00:05"},
    "--network-alias": {"aliases": ["front"]},
    "--mtu": {"mtu": 1400},
}


OF_THE_OTHER_CONTAINER = {
    "-p": {"publish": ["80"]},
    "-p ": {"publish_all": True},
    "--expose": {"expose": [80]},
    "--hostname": {"hostname": "web"},
    "--hostname ": {"domainname": "example.org"},
    "--dns": {"dns": ["192.0.2.53"]},
    "--dns ": {"dns_search": ["example.org"]},
    "--dns  ": {"dns_options": ["ndots:2"]},
    "--add-host": {"add_hosts": ["db:10.0.0.5"]},
    "--link": {"links": ["db"]},
}


@pytest.mark.parametrize("mode", ["host", "none", "container:web"])
@pytest.mark.parametrize("option", OF_AN_ENDPOINT)
def test_options_of_an_endpoint(mode, option):
    """What is about an interface is refused where there is none, by the option's name and the mode's."""
    sentence = str(refused(ContainerSpec, network=mode, **OF_AN_ENDPOINT[option]))
    assert option.strip() in sentence
    assert mode in sentence


@pytest.mark.parametrize("option", OF_THE_OTHER_CONTAINER)
def test_options_of_the_other_container(option):
    """What is the other container's in mode container:NAME is refused, by the option's name, as by Docker."""
    sentence = str(refused(ContainerSpec, network="container:web", **OF_THE_OTHER_CONTAINER[option]))
    assert option.strip() in sentence
    assert "container:web" in sentence


@pytest.mark.parametrize("mode", ["host", "none"])
def test_options_that_go_with_modes(mode):
    """In modes host and none only links make no sense; ports are but useless, and the files take all there is."""
    assert "--link" in str(refused(ContainerSpec, network=mode, links=["db"]))
    wishes = {key: value for wish in OF_THE_OTHER_CONTAINER.values() for key, value in wish.items() if key != "links"}
    assert ContainerSpec(network=mode, **wishes).settings.hostname == "web"


# Networks of a container


def test_several_networks():
    """The endpoints come in the order given; the first network is the mode, and its endpoint has what is said alone."""
    spec = ContainerSpec(network=["red", "name=blue,gw-priority=5", EndpointSpec(network="green")], ip="10.1.0.5")
    assert [end.network for end in spec.endpoints] == ["red", "blue", "green"]
    assert [str(end.ip) for end in spec.endpoints] == ["10.1.0.5", "None", "None"]
    assert (spec.mode, spec.endpoints[1].gateway_priority) == ("red", 5)


def test_default_is_the_bridge():
    """The mode `default` is the network `bridge`, and no network at all is it too."""
    assert ContainerSpec(network="default") == ContainerSpec() == ContainerSpec(network=[])


@pytest.mark.parametrize("networks", [["blue", "blue"], ["blue", "name=blue,ip=10.1.0.5"], ["bridge", "default"]])
def test_network_given_twice(networks):
    """A container joins a network once."""
    assert "given twice" in str(refused(ContainerSpec, network=networks))


@pytest.mark.parametrize(
    ("network", "wish"),
    [
        ("name=blue,ip=10.1.0.5", {"ip": "10.1.0.6"}),
        ("name=blue,mac-address=02:00:00:00:00:01", {"mac": "02:00:00:00:00:02"}),
        ("name=blue,alias=a", {"aliases": ["b"]}),
    ],
)
def test_wish_given_twice(network, wish):
    """What the long form says of the first network is not said again by an option."""
    assert "given twice" in str(refused(ContainerSpec, network=network, **wish))


def test_long_form():
    """Docker's long form of --network says all that there is to say of an endpoint."""
    text = "name=blue,ip=10.1.0.5,ip6=fd00::5,mac-address=02-00-00-00-00-09,alias=a,alias=b.c,alias=a,gw-priority=-7"
    assert parse_endpoint(f"{text},driver-opt=com.docker.network.endpoint.ifname=front0") == EndpointSpec(
        network="blue",
        ip="10.1.0.5",
        ip6="fd00::5",
        mac="02:00:00:00:00:09",
        aliases=["a", "b.c"],
        interface="front0",
        gateway_priority=-7,
    )
    assert parse_endpoint("blue") == parse_endpoint("name=blue") == EndpointSpec(network="blue")


BAD_LONG_FORMS = {
    "no name": "ip=10.1.0.5",
    "empty name": "name=,ip=10.1.0.5",
    "bad name": "name=a b",
    "unknown field": "name=blue,color=red",
    "field of another spelling": "Name=blue",
    "driver option that is another": "name=blue,driver-opt=com.docker.network.endpoint.sysctls=x",
    "driver option without a value": "name=blue,driver-opt=com.docker.network.endpoint.ifname",
    "bad address": "name=blue,ip=10.1.0",
    "IPv6 address for ip": "name=blue,ip=fd00::5",
    "IPv4 address for ip6": "name=blue,ip6=10.1.0.5",
    "bad MAC": "name=blue,mac-address=02:42",
    "bad alias": "name=blue,alias=a b",
    "empty alias": "name=blue,alias=",
    "alias on the default network": "name=bridge,alias=a",
    "priority that is no number": "name=blue,gw-priority=high",
    "empty priority": "name=blue,gw-priority=",
    "priority with a fraction": "name=blue,gw-priority=1.5",
    "priority beyond reason": f"name=blue,gw-priority={'9' * 20}",
    "two minus signs": "name=blue,gw-priority=--1",
    "interface with a slash": "name=blue,driver-opt=com.docker.network.endpoint.ifname=a/b",
    "interface too long": f"name=blue,driver-opt=com.docker.network.endpoint.ifname={'a' * 16}",
    "interface called lo": "name=blue,driver-opt=com.docker.network.endpoint.ifname=lo",
    "comma at the end": "name=blue,",
}


@pytest.mark.parametrize("text", by_label(BAD_LONG_FORMS))
def test_bad_long_form(text):
    """A long form that cannot be read is refused."""
    refused(ContainerSpec, network=text)


# "all" and "default" are directories of sysctls; the second byte of "à" in UTF-8 is a space to the kernel's isspace.
BAD_INTERFACES = [
    ".",
    "..",
    "lo",
    "all",
    "default",
    "a b",
    "a/b",
    "a:b",
    "a" * 16,
    "é" * 8,
    "à",
    "a\n",
    "\t",
    "a\0b",
    "eth%d",
]


@pytest.mark.parametrize("name", ["eth1", "front0", "a", "a" * 15, "wan.100", "7", "A-b_c~!"])
def test_interface_names(name):
    """An interface may have any name that the kernel allows, of characters that can be typed."""
    assert EndpointSpec(network="blue", interface=name).interface == name


@pytest.mark.parametrize("name", BAD_INTERFACES)
def test_bad_interface_name(name):
    """An interface name that the kernel would refuse, or fill in, is refused: dev_valid_name, dev_alloc_name."""
    refused(EndpointSpec, network="blue", interface=name)


# Links


@pytest.mark.parametrize(
    ("text", "pair"), [("db", ("db", "db")), ("db:database", ("db", "database")), ("a_1.b:c.d", ("a_1.b", "c.d"))]
)
def test_link(text, pair):
    """A link is NAME:ALIAS, the alias being the name where it is left out."""
    assert parse_link(text) == pair
    assert ContainerSpec(links=[text]).links == (pair,)


@pytest.mark.parametrize(
    "text", ["", ":", ":a", "a:", "a:b:c", "a b", "a:b c", "-a", "a:-b", "a:b\n", "a\n:b", "a/b", "/a", "a:b..c"]
)
def test_bad_link(text):
    """A link without a name, or with one that would be another word or line in a hosts file, is refused."""
    refused(ContainerSpec, links=[text])


def test_link_to_itself():
    """A container is not linked to itself, under whatever alias."""
    assert "itself" in str(refused(ContainerSpec, name="web", links=["web:other"]))


@pytest.mark.parametrize("links", [["db", "db"], ["db:x", "cache:x"], ["db", "cache:db"]])
def test_link_alias_given_twice(links):
    """Two links of a container have two aliases; the same container may be linked under several."""
    assert "given twice" in str(refused(ContainerSpec, links=links))
    assert ContainerSpec(links=["db:x", "db:y"]).links == (("db", "x"), ("db", "y"))


@pytest.mark.parametrize("priority", ["high", None, 1.5, 1 << 40])
def test_gateway_priority_is_a_number(priority):
    """A gateway priority that the database could not keep is refused before anything is touched."""
    with pytest.raises(InvalidRequest, match="gateway priority"):
        EndpointSpec(network="blue", gateway_priority=priority)


def test_named():
    """Of a specification for one container come those of others: the same but for the name, which is checked."""
    options = {"network": "blue", "publish": ["80"], "links": ["db:database"], "labels": {"a": "b"}}
    assert ContainerSpec(name="c-1", **options).named("c-2") == ContainerSpec(name="c-2", **options)
    for name, sentence in (("a b", "'a b'"), ("db", "linked to itself")):
        with pytest.raises(InvalidRequest, match=sentence):
            ContainerSpec(name="c-1", **options).named(name)
