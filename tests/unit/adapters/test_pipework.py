"""pipework's command lines. The oracle is what the script does with them, and md5sum for its MAC addresses."""

from __future__ import annotations

import contextlib
import subprocess
from ipaddress import IPv4Address, IPv4Interface, IPv6Address, IPv6Interface

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dnet.adapters.pipework import Attach, Dhcp, Kind, Static, Tool, Wait, check, host_interface, kind_of, parse
from dnet.errors import InvalidRequest
from dnet.model.attachment_spec import hashed_mac

NOTHING = Static(None, None, 4)


def attach(host: str, guest: str, addressing: Static | Dhcp, **more) -> Attach:
    """Return an attachment that is otherwise what pipework makes without a word."""
    fields = {"is_direct": False, "interface": "eth1", "host_end": "", "mac": "", "vlan": 0} | more
    return Attach(host_interface=host, guest=guest, addressing=addressing, **fields)


def static(address: str, gateway: str = "") -> Static:
    """Return a given IPv4 address."""
    return Static(IPv4Interface(address), IPv4Address(gateway) if gateway else None, 4)


def static6(address: str, gateway: str = "") -> Static:
    """Return a given IPv6 address."""
    return Static(IPv6Interface(address), IPv6Address(gateway) if gateway else None, 6)


ADDRESS = static("192.168.1.1/24")
GOOD = {
    "br1 web 192.168.1.1/24": attach("br1", "web", ADDRESS),
    "br1 web 192.168.4.25/20": attach("br1", "web", static("192.168.4.25/20")),
    "br1 web 192.168.1.1/255.255.255.0": attach("br1", "web", ADDRESS),
    "br1 4f2a9c0e1b7d 192.168.1.1/24": attach("br1", "4f2a9c0e1b7d", ADDRESS),
    "ovs0 web 192.168.1.1/24": attach("ovs0", "web", ADDRESS),
    "eth2 web 192.168.1.1/24": attach("eth2", "web", ADDRESS),
    "mac:26:2E:71:98:60:8F web 192.168.1.1/24": attach("mac:26:2e:71:98:60:8f", "web", ADDRESS),
    # The gateway
    "br1 web 192.168.4.25/20@192.168.4.1": attach("br1", "web", static("192.168.4.25/20", "192.168.4.1")),
    "br1 web 10.0.0.5/32@172.16.0.1": attach("br1", "web", static("10.0.0.5/32", "172.16.0.1")),
    "br1 -a 4 web 10.0.0.5/8@10.0.0.1": attach("br1", "web", static("10.0.0.5/8", "10.0.0.1")),
    "br1 -a 6 web fd00::5/64@fd00::1": attach("br1", "web", static6("fd00::5/64", "fd00::1")),
    "br1 -a 6 web fd00::5/64": attach("br1", "web", static6("fd00::5/64")),
    "br1 web fd00::5/64@fe80::1": attach("br1", "web", static6("fd00::5/64", "fe80::1")),
    # No address
    "br1 web 0/0": attach("br1", "web", NOTHING),
    "br1 web 0.0.0.0/0": attach("br1", "web", NOTHING),
    "br1 web ::/0": attach("br1", "web", NOTHING),
    "br1 -a 6 web 0/0": attach("br1", "web", Static(None, None, 6)),
    "br1 web 0/0@10.0.0.1": attach("br1", "web", Static(None, IPv4Address("10.0.0.1"), 4)),
    "br1 web 0/0@fe80::1": attach("br1", "web", Static(None, IPv6Address("fe80::1"), 6)),
    # Options: in pipework's order, and in others
    "br1 -i eth2 web 0/0": attach("br1", "web", NOTHING, interface="eth2"),
    "br1 -l hostapp1 web 0/0": attach("br1", "web", NOTHING, host_end="hostapp1"),
    "br1 -i eth2 -l hostapp1 web 0/0": attach("br1", "web", NOTHING, interface="eth2", host_end="hostapp1"),
    "br1 -i eth2 -l h1 -a 4 web 0/0": attach("br1", "web", NOTHING, interface="eth2", host_end="h1"),
    "br1 -a 4 -l h1 -i eth2 web 0/0": attach("br1", "web", NOTHING, interface="eth2", host_end="h1"),
    "br1 -l h1 -i eth2 web 0/0": attach("br1", "web", NOTHING, interface="eth2", host_end="h1"),
    "br1 -i exactly15chars0 web 0/0": attach("br1", "web", NOTHING, interface="exactly15chars0"),
    "--direct-phys eth3 web 0/0": attach("eth3", "web", NOTHING, is_direct=True),
    "--direct-phys eth3 -i lan web 0/0": attach("eth3", "web", NOTHING, is_direct=True, interface="lan"),
    "--direct-phys mac:00:f3:15:4a:42:c8 web 0/0": attach("mac:00:f3:15:4a:42:c8", "web", NOTHING, is_direct=True),
    # MAC address and VLAN
    "br1 web 0/0 26:2e:71:98:60:8f": attach("br1", "web", NOTHING, mac="26:2e:71:98:60:8f"),
    "br1 web 0/0 26-2E-71-98-60-8F": attach("br1", "web", NOTHING, mac="26:2e:71:98:60:8f"),
    "ovs0 web 0/0 26:2e:71:98:60:8f@10": attach("ovs0", "web", NOTHING, mac="26:2e:71:98:60:8f", vlan=10),
    "ovs0 web 0/0 @10": attach("ovs0", "web", NOTHING, vlan=10),
    "ovs0 web 0/0 @1": attach("ovs0", "web", NOTHING, vlan=1),
    "ovs0 web 0/0 @4094": attach("ovs0", "web", NOTHING, vlan=4094),
    "ovs0 web 0/0 26:2e:71:98:60:8f@": attach("ovs0", "web", NOTHING, mac="26:2e:71:98:60:8f"),
    "ovs0 web 0/0 @": attach("ovs0", "web", NOTHING),
    "br1 web 0/0 U:web": attach("br1", "web", NOTHING, mac="02:64:d4:20:24:f1"),
    "br1 web 0/0 U:web@7": attach("br1", "web", NOTHING, mac="02:64:d4:20:24:f1", vlan=7),
    # DHCP
    "br1 web dhcp": attach("br1", "web", Dhcp("dhcp", False, "", ())),
    "br1 web dhcp fa:de:b0:99:52:1c": attach("br1", "web", Dhcp("dhcp", False, "", ()), mac="fa:de:b0:99:52:1c"),
    "ovs0 web dhcp @10": attach("ovs0", "web", Dhcp("dhcp", False, "", ()), vlan=10),
    "br1 web dhcp:-f": attach("br1", "web", Dhcp("dhcp", True, "", ("-f",))),
    "br1 web dhcp:": attach("br1", "web", Dhcp("dhcp", False, "", ())),
    "eth1 web udhcpc": attach("eth1", "web", Dhcp("udhcpc", False, "", ())),
    "eth1 web udhcpc-f": attach("eth1", "web", Dhcp("udhcpc", True, "", ())),
    "eth1 web udhcpc:-f": attach("eth1", "web", Dhcp("udhcpc", True, "", ("-f",))),
    "eth1 web dhclient": attach("eth1", "web", Dhcp("dhclient", False, "", ())),
    "eth1 web dhclient-f": attach("eth1", "web", Dhcp("dhclient", True, "", ())),
    "eth1 web dhclient-f:-1": attach("eth1", "web", Dhcp("dhclient", True, "", ("-1",))),
    "eth1 web dhcpcd": attach("eth1", "web", Dhcp("dhcpcd", False, "", ())),
    "eth1 -a 4 web dhcpcd": attach("eth1", "web", Dhcp("dhcpcd", False, "", ())),
    # An interface like any other
    "dummy0 web 192.168.21.101/24@192.168.21.1": attach("dummy0", "web", static("192.168.21.101/24", "192.168.21.1")),
    "dummy web 0/0": attach("dummy", "web", NOTHING),
    "route2 web 0/0": attach("route2", "web", NOTHING),
    # Inside the container
    "--wait": Wait("eth1"),
    "--wait -i ib0": Wait("ib0"),
    "route web add 10.0.5.6/24 via 192.168.2.1": Tool("route", "web", ("add", "10.0.5.6/24", "via", "192.168.2.1")),
    "route web show": Tool("route", "web", ("show",)),
    "rule web add from 10.0.0.1 table 5": Tool("rule", "web", ("add", "from", "10.0.0.1", "table", "5")),
    "tc web qdisc add dev eth0 root netem loss 30%": Tool(
        "tc", "web", ("qdisc", "add", "dev", "eth0", "root", "netem", "loss", "30%")
    ),
    "tc web -s qdisc": Tool("tc", "web", ("-s", "qdisc")),
}

BAD = {
    "": "the host's interface is missing",
    "br1": "the container is missing",
    "br1 -i eth2": "the container is missing",
    "br1 web": "the address is missing",
    "--direct-phys": "the host's interface is missing",
    "eth1 --direct-phys web 0/0": "no such option here",
    "--save file br1 web 0/0": "no such option",
    "br1 -m 1400 web 0/0": "no such option here",
    "br1 -i eth2 -i eth3 web 0/0": "given twice",
    "br1 -i": "its value is missing",
    "br1 -a 5 web 0/0": "the family is 4 or 6",
    "br1 web 0/0 @10 more": "one word too many",
    # Names
    "br1 -i sixteenletters00 web 0/0": "too long, 16 characters",
    "br1 -l sixteenletters00 web 0/0": "too long, 16 characters",
    "sixteenletters00 web 0/0": "too long, 16 characters",
    "br1 -i a/b web 0/0": "cannot be the name",
    "br1 -i a:b web 0/0": "cannot be the name",
    "br1 -i .. web 0/0": "cannot be the name",
    "mac:26:2e web 0/0": "invalid MAC address",
    # Addresses
    "br1 web 192.168.1.1": "the prefix length is missing",
    "br1 web 192.168.1.1@192.168.1.254": "the prefix length is missing",
    "br1 web fd00::5": "the prefix length is missing",
    "br1 web web2": "neither an address with its prefix length nor a DHCP method",
    "br1 web dhcpcd-f": "nor a DHCP method",
    "br1 web DHCP": "nor a DHCP method",
    "br1 web 192.168.1.1/33": "not an address",
    "br1 web 192.168.1.1/": "not an address",
    "br1 web 192.168.1.256/24": "not an address",
    "br1 web 192.168.1.1/0.0.0.255": "not an address",
    "br1 web 192.168.1.1/255.0.255.0": "not an address",
    "br1 web fd00::1/ffff::": "not an address",
    "br1 web fe80::1%eth0/64": "not an address",
    "br1 web 224.0.0.1/24": "cannot have that address",
    "br1 web 0.0.0.0/24": "cannot have that address",
    "br1 web 10.0.0.2/24@": "not a gateway",
    "br1 web 10.0.0.2/24@10.0.0.1/24": "not a gateway",
    "br1 web 10.0.0.2/24@10.0.0.1@10": "not a gateway",
    "br1 web 10.0.0.2/24@0.0.0.0": "no gateway has that address",
    "br1 web 10.0.0.2/24@127.0.0.1": "no gateway has that address",
    "br1 web 10.0.0.2/24@fd00::1": "different families",
    "br1 -a 4 web fd00::2/64": "different families",
    "br1 -a 6 web 10.0.0.2/24": "different families",
    "br1 -a 6 web dhcp": "for an IPv4 address",
    "br1 web udhcpc:-x\thostname:a..b": "invalid hostname",
    # MAC addresses and VLANs
    "br1 web 0/0 web2": "invalid MAC address",
    "br1 web 0/0 01:00:5e:00:00:01": "multicast",
    "br1 web 0/0 U:": "is missing",
    "br1 web 0/0 10": "invalid MAC address",
    "ovs0 web 0/0 @0": "not a VLAN",
    "ovs0 web 0/0 @4095": "not a VLAN",
    "ovs0 web 0/0 @-1": "not a VLAN",
    "ovs0 web 0/0 @ten": "not a VLAN",
    "ovs0 web 0/0 @1x": "not a VLAN",
    "ovs0 web 0/0 @\u0661": "not a VLAN",
    "ovs0 web 0/0 @99999999999": "not a VLAN",
    "ovs0 web 0/0 @10@20": "not a VLAN",
    # Inside the container
    "--wait eth1": "takes only -i",
    "--wait -l eth1": "no such option here",
    "--wait -i": "its value is missing",
    "--wait -i sixteenletters00": "too long",
    "route": "the container is missing",
    "route web": "the argument is missing",
    "tc web": "the argument is missing",
    "rule -x add": "not a container",
}


def words(line: str) -> list[str]:
    """Split a line at spaces only."""
    return line.split(" ") if line else []


@pytest.mark.parametrize("line", GOOD)
def test_forms(line):
    """Every form of pipework's reads as what pipework does with it."""
    assert parse(words(line)) == GOOD[line]


@pytest.mark.parametrize("line", BAD)
def test_errors(line):
    """What pipework refuses, or would pass on to fail later, is refused with a reason and a remedy."""
    with pytest.raises(InvalidRequest, match=BAD[line]) as caught:
        parse(words(line))
    assert caught.value.hint
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("line", "meant"),
    [
        ("br1 web 192.168.1.1", "192.168.1.1/24?"),
        ("br1 web 10.0.0.2@10.0.0.1", "10.0.0.2/24@10.0.0.1?"),
        ("br1 web fd00::5", "fd00::5/64?"),
    ],
)
def test_missing_length_is_suggested(line, meant):
    """As pipework does, the error for an address without its prefix length says what may have been meant."""
    with pytest.raises(InvalidRequest) as caught:
        parse(words(line))
    assert caught.value.hint == f"did you mean {meant}"


def test_empty_words_are_as_good_as_none():
    """A script's variables that are empty, but quoted, are words all the same; pipework does not mind the last."""
    assert parse(["br1", "web", "0/0", ""]) == attach("br1", "web", NOTHING)
    for line in (["br1", "", "0/0"], ["br1", "web", ""], ["", "web", "0/0"]):
        with pytest.raises(InvalidRequest, match="is missing"):
            parse(line)


def test_hostname_among_dhcp_options():
    """The host's name that a client's own option asks for is sent instead of the container's."""
    for options in ("-x hostname:db -t 3", "-t 3 -h db", "-F db"):
        addressing = parse(["br1", "web", f"udhcpc:{options}"]).addressing
        assert addressing == Dhcp("udhcpc", False, "db", tuple(options.split()))


def test_tools_are_interfaces_where_the_host_has_them():
    """As with pipework, a host's interface called `route`, `rule` or `tc` goes first."""
    assert parse(words("tc web 0/0"), exists=True) == attach("tc", "web", NOTHING)
    assert parse(words("tc web 0/0")) == Tool("tc", "web", ("0/0",))


def test_infiniband():
    """With an InfiniBand interface the name inside is ib0, and what follows @ a partition key in hexadecimal."""
    plain = attach("ib1", "web", NOTHING, interface="ib0")
    assert parse(words("ib1 web 0/0"), exists=True, is_ipoib=True) == plain
    keyed = attach("ib1", "web", NOTHING, interface="ib7", vlan=0x8001)
    assert parse(words("ib1 -i ib7 web 0/0 @8001"), exists=True, is_ipoib=True) == keyed
    for line, why in (("@8000", "partition key"), ("@wrong", "partition key"), ("U:web", "cannot be chosen")):
        with pytest.raises(InvalidRequest, match=why):
            parse(["ib1", "web", "0/0", line], exists=True, is_ipoib=True)


@pytest.mark.parametrize(
    ("line", "name"),
    [
        ("br1 web 0/0", "br1"),
        ("--direct-phys eth3 web 0/0", "eth3"),
        ("mac:00:f3:15:4a:42:c8 web 0/0", "mac:00:f3:15:4a:42:c8"),
        ("route web show", "route"),
        ("--wait -i eth1", ""),
        ("--direct-phys", ""),
        ("", ""),
    ],
)
def test_host_interface(line, name):
    """The caller learns what to look for on the host before anything is read."""
    assert host_interface(words(line)) == name
    assert host_interface(tuple(words(line))) == name


@pytest.mark.parametrize(
    ("name", "facts", "kind"),
    [
        ("br1", {"exists": False}, Kind.BRIDGE),
        ("bridge", {"exists": False}, Kind.BRIDGE),
        ("ovsbr0", {"exists": False}, Kind.OVS),
        ("dummy0", {"exists": False}, Kind.DUMMY),
        ("lan", {"exists": True, "is_bridge": True}, Kind.BRIDGE),
        ("lan", {"exists": True, "is_ovs": True}, Kind.OVS),
        ("br1", {"exists": True}, Kind.PHYSICAL),
        ("ovs0", {"exists": True}, Kind.PHYSICAL),
        ("dummy0", {"exists": True}, Kind.PHYSICAL),
        ("ib1", {"exists": True, "is_ipoib": True}, Kind.IPOIB),
        ("mac:00:f3:15:4a:42:c8", {"exists": True}, Kind.PHYSICAL),
    ],
)
def test_kinds(name, facts, kind):
    """What is there is what it is, whatever its name; what is not is made by the beginning of its name."""
    assert kind_of(name, **facts) is kind


@pytest.mark.parametrize("name", ["eth7", "Br1", "lan", "route2", "mac:00:f3:15:4a:42:c8", "xbr1"])
def test_unknown_kinds(name):
    """A missing interface of no such name cannot be made, and the error names it."""
    with pytest.raises(InvalidRequest, match=name.removeprefix("mac:")) as caught:
        kind_of(name, exists=False)
    assert caught.value.hint


def test_dummy_has_no_vlan():
    """A VLAN that would not be there is refused; a Linux bridge has one, other than with pipework."""
    with pytest.raises(InvalidRequest, match="VLAN 7"):
        check(parse(words("dummy0 web 0/0 @7")), Kind.DUMMY)
    for kind in (Kind.BRIDGE, Kind.OVS, Kind.PHYSICAL):
        check(parse(words("br1 web 0/0 @7")), kind)


@pytest.mark.parametrize("text", ["web", "a", "two words", "  spaced   out ", "émile", "1", "x" * 300])
def test_mac_is_that_of_md5sum(text):
    """A string's MAC address is what pipework makes of it: echo, md5sum, the first ten digits behind 02."""
    script = """sum=$(echo $1 | md5sum); echo "02$(echo "$sum" | cut -c1-10 | sed 's/../:&/g')" """
    done = subprocess.run(["sh", "-c", script, "sh", text], capture_output=True, text=True, check=True)
    assert hashed_mac(text) == done.stdout.strip()


NAMES = st.from_regex(r"[a-zA-Z0-9][a-zA-Z0-9_.-]{0,14}", fullmatch=True)
GUESTS = st.from_regex(r"[a-zA-Z0-9][a-zA-Z0-9_.-]{0,63}", fullmatch=True)
MACS = st.integers(1, (1 << 40) - 1).map(
    lambda number: ":".join(f"{byte:02x}" for byte in b"\x02" + number.to_bytes(5))
)
INTERFACES = st.one_of(
    st.builds(
        lambda host, length: IPv4Interface((host, length)), st.integers(0x01000000, 0x7EFFFFFF), st.integers(0, 32)
    ),
    st.builds(
        lambda host, length: IPv6Interface((0xFD << 120 | host, length)), st.integers(1, 1 << 64), st.integers(0, 128)
    ),
)


@given(
    host=NAMES.filter(lambda name: name not in {"route", "rule", "tc"}),
    guest=GUESTS,
    options=st.dictionaries(st.sampled_from(["-i", "-l"]), NAMES),
    address=INTERFACES,
    has_gateway=st.booleans(),
    mac=st.one_of(st.just(""), MACS),
    vlan=st.integers(0, 4094),
    order=st.randoms(use_true_random=False),
)
def test_round_trip(host, guest, options, address, has_gateway, mac, vlan, order):
    """Whatever is written in pipework's grammar comes back as it was meant, in whichever order the options stand."""
    pairs = [*options.items(), ("-a", str(address.version))]
    order.shuffle(pairs)
    line = [host, *(word for pair in pairs for word in pair), guest]
    line.append(f"{address}@{address.ip}" if has_gateway else str(address))
    line.append(f"{mac}@{vlan}" if vlan else mac)
    assert parse(line) == attach(
        host,
        guest,
        Static(address, address.ip if has_gateway else None, address.version),
        interface=options.get("-i", "eth1"),
        host_end=options.get("-l", ""),
        mac=mac,
        vlan=vlan,
    )


@given(st.lists(st.one_of(st.text(max_size=20), st.sampled_from(["--wait", "-i", "br1", "web", "0/0", "tc", "dhcp:"]))))
def test_garbage(line):
    """Whatever the words are, they are read or refused as an invalid request, and nothing else happens."""
    with contextlib.suppress(InvalidRequest):
        assert isinstance(parse(line), Attach | Wait | Tool)
