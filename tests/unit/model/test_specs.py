"""What a caller asks for: what is accepted, and what is refused before anything is touched."""

from __future__ import annotations

import dataclasses
import re
from ipaddress import IPv4Address, IPv4Network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dnet.errors import InvalidRequest
from dnet.specs import ContainerSpec, EndpointSpec, NetworkSpec, parse_endpoint, parse_link

# The command line's contract.
NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]*")

BAD_NAMES = {
    "leading dash": "-web",
    "leading dot": ".web",
    "leading underscore": "_web",
    "parent directory": "..",
    "space": "a b",
    "slash": "a/b",
    "colon": "a:b",
    "newline at the end": "web\n",
    "NUL": "a\0b",
    "letter beyond ASCII": "wéb",
    "digit beyond ASCII": "٣",
    "quote": 'a"b',
    "shell": "$(id)",
    "too long": "a" * 129,
}
BAD_MACS = {
    "five bytes": "02:42:ac:12:00",
    "seven bytes": "02:42:ac:12:00:05:06",
    "not hexadecimal": "02:42:ac:12:00:0g",
    "no separators": "0242ac120005",
    "one digit": "2:42:ac:12:0:5",
    "dots": "0242.ac12.0005",
    "newline at the end": "02:42:ac:12:00:05\n",
    "space before": " 02:42:ac:12:00:05",
    "word": "random",
    "multicast": "01:00:5e:00:00:01",
    "broadcast": "ff:ff:ff:ff:ff:ff",
    "odd first byte": "03:42:ac:12:00:05",
    "all zero": "00:00:00:00:00:00",
}
BAD_ADDRESSES = {
    "three bytes": "10.1.0",
    "five bytes": "10.1.0.5.6",
    "above 255": "10.1.0.256",
    "negative": "10.1.0.-1",
    "leading zero": "10.1.0.05",
    "prefix length": "10.1.0.5/16",
    "port": "10.1.0.5:80",
    "space": "10.1.0.5 ",
    "newline": "10.1.0.5\n",
    "hexadecimal": "0x0a010005",
    "integer": "167837701",
    "IPv6": "fd00::5",
    "name": "localhost",
    "digits beyond ASCII": "\u0661\u0660.1.0.5",
}
BAD_CIDRS = {
    "no prefix length": "10.1.0.0",
    "empty prefix length": "10.1.0.0/",
    "host bits": "10.1.0.1/16",
    "prefix length above 32": "10.1.0.0/33",
    "negative prefix length": "10.1.0.0/-1",
    "word as prefix length": "10.1.0.0/x",
    "two prefix lengths": "10.1.0.0/16/16",
    "three bytes": "10.1.0/16",
    "above 255": "10.256.0.0/16",
    "space": "10.1.0.0 /16",
    "word": "blue",
    "netmask": "10.1.0.0/255.255.0.0",
    "host mask": "10.1.0.0/0.0.255.255",
}
# What ends up in files, word for word: nothing of it may become another word, or another line.
BAD_SETTINGS = {
    "host name that begins with a dash": {"hostname": "-web"},
    "host name that ends with a dot": {"hostname": "web."},
    "host name with a space": {"hostname": "a b"},
    "host name with a newline": {"hostname": "web\n"},
    "host name with an empty label": {"hostname": "a..b"},
    "host name of 65": {"hostname": "a" * 32 + "." + "b" * 32},
    "host name beyond ASCII": {"hostname": "wéb"},
    "domain with a newline": {"domainname": "example.org\nnameserver"},
    "domain that begins with a dot": {"domainname": ".example.org"},
    "server that is a name": {"dns": ["localhost"]},
    "server with a port": {"dns": ["192.0.2.53:53"]},
    "server with a prefix length": {"dns": ["192.0.2.53/32"]},
    "server with a zone": {"dns": ["fe80::1%eth0"]},
    "server with a newline in its zone": {"dns": ["fe80::1%a\nnameserver 203.0.113.1"]},
    "one bad server of two": {"dns": ["192.0.2.53", ""]},
    "search domain with a space": {"dns_search": ["a b"]},
    "search domain that is empty": {"dns_search": [""]},
    "search domain with an empty label": {"dns_search": ["a..b"]},
    "search domain of 254": {"dns_search": [".".join(["a" * 49] * 5) + ".abcd"]},
    "option that is empty": {"dns_options": [""]},
    "option with a space": {"dns_options": ["ndots:2 rotate"]},
    "option with a newline": {"dns_options": ["ndots:2\nnameserver 203.0.113.1"]},
    "host without an address": {"add_hosts": ["db"]},
    "host with an empty address": {"add_hosts": ["db:"]},
    "host without a name": {"add_hosts": [":10.0.0.5"]},
    "host at half an address": {"add_hosts": ["db:10.0"]},
    "host at a name": {"add_hosts": ["db:cache"]},
    "host with a space in its name": {"add_hosts": ["a b:10.0.0.5"]},
    "host with a newline in its name": {"add_hosts": ["a\n:10.0.0.5"]},
    "host with a newline in its zone": {"add_hosts": ["db:fe80::1%a\n10.0.0.5 evil"]},
    "host with a space in its zone": {"add_hosts": ["db=fe80::1%a b"]},
}
BAD_MTUS = {"negative": -1, "below RFC 791": 67, "above IPv4": 65536, "huge": 10**12}


def by_label(table):
    """Parametrize by a table of labelled values."""
    return [pytest.param(value, id=label) for label, value in table.items()]


def refused(call, **arguments) -> InvalidRequest:
    """Return the error of a call that has to be refused, which has to have a sentence of one line."""
    with pytest.raises(InvalidRequest) as caught:
        call(**arguments)
    assert str(caught.value)
    assert "\n" not in str(caught.value) + caught.value.hint
    return caught.value


def first(**wishes) -> EndpointSpec:
    """Return the first endpoint of a container with these wishes."""
    return ContainerSpec(**wishes).endpoints[0]


@pytest.mark.parametrize("name", by_label(BAD_NAMES))
def test_bad_container_name(name):
    """A malformed container name is refused."""
    assert "container name" in str(refused(ContainerSpec, name=name))


@pytest.mark.parametrize("name", [*by_label(BAD_NAMES), pytest.param("", id="empty")])
def test_bad_network_name(name):
    """A malformed network name is refused, for a network and in a container's wish."""
    refused(NetworkSpec, name=name)
    refused(ContainerSpec, network=name)


@given(st.text(min_size=1, max_size=12) | st.from_regex(r"[a-zA-Z0-9_.-]{1,12}", fullmatch=True))
def test_names_are_those_of_the_contract(text):
    """Whatever the text, it is a name exactly if the contract's pattern says so."""
    if NAME.fullmatch(text):
        assert ContainerSpec(name=text).name == text
    else:
        refused(ContainerSpec, name=text)


def test_longest_name():
    """A name of 128 characters is accepted."""
    assert ContainerSpec(name="a" * 128).name == "a" * 128


@pytest.mark.parametrize("name", ["host", "none", "container", "default"])
def test_modes_are_no_networks(name):
    """No network can be called like a mode of containers."""
    assert name in str(refused(NetworkSpec, name=name))


@pytest.mark.parametrize("mac", by_label(BAD_MACS))
def test_bad_mac(mac):
    """A malformed MAC address, and one that no interface may have, is refused."""
    assert "MAC" in str(refused(ContainerSpec, mac=mac))


@pytest.mark.parametrize("text", ["02:42:ac:12:00:05", "02:42:AC:12:00:05", "02-42-ac-12-00-05"])
def test_mac_spellings(text):
    """Upper case and dashes are read; what comes out is lower case with colons."""
    assert first(mac=text).mac == "02:42:ac:12:00:05"


@given(st.binary(min_size=6, max_size=6))
def test_macs_are_unicast(data):
    """Of all six-byte addresses those are accepted that are unicast and not all zero."""
    text = data.hex(":")
    if data[0] & 1 or not any(data):
        refused(ContainerSpec, mac=text)
    else:
        assert first(mac=text).mac == text


@pytest.mark.parametrize("mtu", by_label(BAD_MTUS))
def test_bad_mtu(mtu):
    """An MTU that no IPv4 link can have is refused, for a container, a network and as a driver option."""
    assert "MTU" in str(refused(ContainerSpec, mtu=mtu))
    assert "MTU" in str(refused(NetworkSpec, name="blue", mtu=mtu))
    refused(NetworkSpec, name="blue", options={"com.docker.network.driver.mtu": str(mtu)})


@pytest.mark.parametrize("mtu", [0, 68, 1500, 9000, 65535])
def test_good_mtu(mtu):
    """The extremes of RFC 791 are accepted, and 0 for the kernel's default."""
    assert ContainerSpec(mtu=mtu).mtu == mtu
    assert NetworkSpec(name="blue", mtu=mtu).mtu == mtu


@pytest.mark.parametrize("text", by_label(BAD_ADDRESSES))
def test_bad_address(text):
    """A malformed address is refused wherever one is given, by the name of what it was meant for."""
    assert "address" in str(refused(ContainerSpec, ip=text))
    assert "gateway" in str(refused(NetworkSpec, name="blue", subnet="10.1.0.0/16", gateway=text))
    if ":" not in text.replace(":80", ""):
        error = refused(NetworkSpec, name="blue", subnet="10.1.0.0/16", aux_addresses={"router": text})
        assert "aux-address router" in str(error)


@given(st.ip_addresses(v=4))
def test_addresses_are_read(address):
    """Every IPv4 address is read, from text and as a value."""
    assert first(ip=str(address)).ip == address
    assert first(ip=address).ip == address


@pytest.mark.parametrize("text", by_label(BAD_CIDRS))
def test_bad_cidr(text):
    """A malformed subnet or range is refused: it is address/prefix-length, as with Docker, the host bits zero."""
    assert "subnet" in str(refused(NetworkSpec, name="blue", subnet=text))
    assert "ip-range" in str(refused(NetworkSpec, name="blue", subnet="10.1.0.0/16", ip_range=text))


@given(st.ip_addresses(v=4), st.integers(min_value=0, max_value=32))
def test_cidrs_are_read(address, length):
    """A CIDR is read if its host bits are zero, and refused otherwise."""
    network = IPv4Network((address, length), strict=False)
    assert NetworkSpec(name="blue", subnet=str(network)).subnet == network
    assert NetworkSpec(name="blue", subnet=network).subnet == network
    if address != network.network_address:
        refused(NetworkSpec, name="blue", subnet=f"{address}/{length}")


@pytest.mark.parametrize(
    "wish",
    [{"gateway": "10.1.0.1"}, {"ip_range": "10.1.1.0/24"}, {"aux_addresses": {"router": "10.1.0.9"}}],
    ids=["gateway", "ip-range", "aux-address"],
)
def test_parts_of_a_subnet_need_one(wish):
    """A gateway, a range or an auxiliary address without a subnet is refused."""
    assert "subnet" in str(refused(NetworkSpec, name="blue", **wish))


@pytest.mark.parametrize("wish", [{"ip": "10.1.0.5"}, {"mac": "02:42:ac:12:00:05"}], ids=["ip", "mac"])
def test_mode_none_has_no_interface(wish):
    """An address for a container that has no interface is refused."""
    assert "none" in str(refused(ContainerSpec, network="none", **wish))


def test_docker_options_become_settings():
    """Driver options by their Docker names set what the options of dnet's own name set."""
    options = {"com.docker.network.driver.mtu": "1400", "com.docker.network.bridge.enable_ip_masquerade": "false"}
    spec = NetworkSpec(name="blue", options=options)
    assert (spec.mtu, spec.masquerade) == (1400, False)
    assert dict(spec.options) == options


@pytest.mark.parametrize(
    "options",
    [
        {"com.docker.network.driver.mtu": "large"},
        {"com.docker.network.driver.mtu": ""},
        {"com.docker.network.driver.mtu": "1500.0"},
        {"com.docker.network.bridge.enable_ip_masquerade": "perhaps"},
        {"com.docker.network.bridge.enable_ip_masquerade": ""},
        {"com.docker.network.bridge.enable_everything": "true"},
        {"": ""},
    ],
    ids=str,
)
def test_bad_option(options):
    """An unknown driver option, or one with a value that cannot be read, is refused by its name."""
    error = refused(NetworkSpec, name="blue", options=options)
    assert next(iter(options)) in str(error)


@pytest.mark.parametrize("wish", BAD_SETTINGS.values(), ids=BAD_SETTINGS)
def test_bad_setting(wish):
    """Nothing is accepted that would be another word, or another line, in the files made of it."""
    with pytest.raises(InvalidRequest) as caught:
        ContainerSpec(**wish)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "pair"),
    [
        ("db:10.0.0.5", ("db", "10.0.0.5")),
        ("db=10.0.0.5", ("db", "10.0.0.5")),
        ("db:fd00::5", ("db", "fd00::5")),
        ("db:[fd00::5]", ("db", "fd00::5")),
        ("db=[FD00:0::5]", ("db", "fd00::5")),
        ("db:::1", ("db", "::1")),
        ("db.example.org:10.0.0.5", ("db.example.org", "10.0.0.5")),
        ("host:host-gateway", ("host", "host-gateway")),
        ("host=host-gateway", ("host", "host-gateway")),
    ],
)
def test_added_hosts(text, pair):
    """A host is added in each of Docker's spellings."""
    assert ContainerSpec(add_hosts=[text]).settings.extra_hosts == (pair,)


@pytest.mark.parametrize("domain", ["example.org", "a", "x_y.example", "1.2", ".".join(["a" * 49] * 5)])
def test_domains(domain):
    """A domain to search and a host that is added may be as long as DNS allows, 253 characters (RFC 1035)."""
    spec = ContainerSpec(dns_search=[domain], add_hosts=[f"{domain}:10.0.0.5"])
    assert spec.settings.dns_search == (domain,)
    assert spec.settings.extra_hosts == ((domain, "10.0.0.5"),)


def test_longest_host_name():
    """A host name has at most 64 characters, the kernel's HOST_NAME_MAX."""
    name = "a" * 32 + "." + "b" * 31
    assert ContainerSpec(hostname=name).settings.hostname == name


@pytest.mark.parametrize("option", ["ndots:5", "edns0", "trust-ad", "single-request-reopen", "timeout:1"])
def test_resolver_options(option):
    """The options of resolv.conf(5) are taken."""
    assert ContainerSpec(dns_options=[option]).settings.dns_options == (option,)


VALUES = [ContainerSpec(name="web"), EndpointSpec(network="blue"), NetworkSpec(name="blue")]


@pytest.mark.parametrize("value", VALUES, ids=lambda value: type(value).__name__)
def test_values_are_frozen(value):
    """No field of a value can be changed."""
    for field in dataclasses.fields(value):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(value, field.name, "other")
    with pytest.raises(dataclasses.FrozenInstanceError):
        value.unknown = "other"


def test_labels_are_the_values_own():
    """A specification stays what it is when the dictionary that it was made from changes."""
    labels, options = {"tier": "front"}, {"com.docker.network.driver.mtu": "1400"}
    container, network = ContainerSpec(labels=labels), NetworkSpec(name="blue", labels=labels, options=options)
    labels["tier"] = "back"
    options.clear()
    assert dict(container.labels) == {"tier": "front"}
    assert dict(network.labels) == {"tier": "front"}
    assert len(network.options) == 1


def test_equal_wishes_are_equal():
    """Two specifications of the same wishes are equal, however the wishes were spelled."""
    spelled = ContainerSpec(name="web", ip="10.1.0.5", mac="02-42-AC-12-00-05")
    assert spelled == ContainerSpec(name="web", ip=IPv4Address("10.1.0.5"), mac="02:42:ac:12:00:05")
    assert spelled != ContainerSpec(name="web", ip="10.1.0.6", mac="02:42:ac:12:00:05")


def test_defaults_are_dockers():
    """Without wishes a container goes to the network `bridge`, and a network is a masqueraded bridge."""
    spec = ContainerSpec()
    assert (spec.mode, spec.endpoints) == ("bridge", (EndpointSpec(network="bridge"),))
    spec = NetworkSpec(name="blue")
    assert (spec.driver, spec.masquerade, spec.internal) == ("bridge", True, False)


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
