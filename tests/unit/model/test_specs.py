"""What a caller asks for: what is accepted, and what is refused before anything is touched."""

from __future__ import annotations

import dataclasses
import re
from ipaddress import IPv4Address, IPv4Network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dnet.errors import InvalidRequest
from dnet.model.container_spec import ContainerSpec, EndpointSpec
from dnet.model.network_spec import NetworkSpec
from tests.support.spec_refusals import by_label, refused

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
