"""The grammar of -p and --expose. The oracle is the text that each specification was written from."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dnet.errors import InvalidRequest
from dnet.model.published_port import PROTOCOLS, PortMapping, Publish, parse_expose, parse_publish

CHOSEN = range(0)


def one(port: int) -> range:
    """Return a range of one port."""
    return range(port, port + 1)


GOOD = {
    "80": Publish(None, CHOSEN, one(80), "tcp"),
    ":80": Publish(None, CHOSEN, one(80), "tcp"),
    "::80": Publish(None, CHOSEN, one(80), "tcp"),
    "0:80": Publish(None, CHOSEN, one(80), "tcp"),
    "8080:80": Publish(None, one(8080), one(80), "tcp"),
    "8080:80/tcp": Publish(None, one(8080), one(80), "tcp"),
    "8080:80/udp": Publish(None, one(8080), one(80), "udp"),
    "8080:80/sctp": Publish(None, one(8080), one(80), "sctp"),
    "8080:80/UDP": Publish(None, one(8080), one(80), "udp"),
    "53/udp": Publish(None, CHOSEN, one(53), "udp"),
    "127.0.0.1:8080:80": Publish(IPv4Address("127.0.0.1"), one(8080), one(80), "tcp"),
    "127.0.0.1::80": Publish(IPv4Address("127.0.0.1"), CHOSEN, one(80), "tcp"),
    "127.0.0.1:0:80": Publish(IPv4Address("127.0.0.1"), CHOSEN, one(80), "tcp"),
    "127.0.0.1::53/udp": Publish(IPv4Address("127.0.0.1"), CHOSEN, one(53), "udp"),
    "0.0.0.0:8080:80": Publish(IPv4Address("0.0.0.0"), one(8080), one(80), "tcp"),
    "[::1]:8080:80": Publish(IPv6Address("::1"), one(8080), one(80), "tcp"),
    "[::1]::80": Publish(IPv6Address("::1"), CHOSEN, one(80), "tcp"),
    "[::]:8080:80/sctp": Publish(IPv6Address("::"), one(8080), one(80), "sctp"),
    "[2001:DB8::1]:8080:80": Publish(IPv6Address("2001:db8::1"), one(8080), one(80), "tcp"),
    "8000-8010:9000-9010": Publish(None, range(8000, 8011), range(9000, 9011), "tcp"),
    "127.0.0.1:8000-8010:9000-9010/udp": Publish(IPv4Address("127.0.0.1"), range(8000, 8011), range(9000, 9011), "udp"),
    "8000-9000:80": Publish(None, range(8000, 9001), one(80), "tcp"),
    "9000-9010": Publish(None, CHOSEN, range(9000, 9011), "tcp"),
    "0:9000-9010": Publish(None, CHOSEN, range(9000, 9011), "tcp"),
    "8000-8000:80": Publish(None, one(8000), one(80), "tcp"),
    "8000:80-80": Publish(None, one(8000), one(80), "tcp"),
    "1:1": Publish(None, one(1), one(1), "tcp"),
    "65535:65535": Publish(None, one(65535), one(65535), "tcp"),
    "1-65535:1-65535": Publish(None, range(1, 65536), range(1, 65536), "tcp"),
    "08080:080": Publish(None, one(8080), one(80), "tcp"),
}

BAD = {
    "": "the container port is missing",
    "/tcp": "the container port is missing",
    "8080:": "the container port is missing",
    "127.0.0.1:8080:": "the container port is missing",
    "127.0.0.1::": "the container port is missing",
    "[::1]:8080:": "the container port is missing",
    "-": "the container port is missing",
    "80-": "the container port is missing",
    "-80": "the container port is missing",
    "8000-:80": "the host port is missing",
    "-8000:80": "the host port is missing",
    "0": "the container port is 0",
    "8080:0": "the container port is 0",
    "0-10": "the container port is 0",
    "00:80": "begins with 0",
    "0-10:80": "begins with 0",
    "65536": "above 65535",
    "70000": "above 65535",
    "70000:80": "above 65535",
    "8080:70000": "above 65535",
    "65530-65540:80": "above 65535",
    "9" * 5000: "above 65535",
    "90-80": "the container port range 90-80 is reversed",
    "9000-8000:80": "the host port range 9000-8000 is reversed",
    "8000-8010:9000-9009": "11 host ports do not pair up with 10 container ports",
    "8000:9000-9001": "1 host ports do not pair up with 2 container ports",
    "8000-8001:9000-9002": "2 host ports do not pair up with 3 container ports",
    "80/icmp": "unknown protocol 'icmp'",
    "80/": "unknown protocol ''",
    "80/tcp/udp": "unknown protocol 'tcp/udp'",
    "80/ tcp": "unknown protocol ' tcp'",
    "8080/tcp:80": "unknown protocol 'tcp:80'",
    "http": "'http' is not a number",
    "8080:http": "'http' is not a number",
    "http:80": "'http' is not a number",
    "80 ": "'80 ' is not a number",
    " 80": "' 80' is not a number",
    "+80": "'+80' is not a number",
    "8_0": "'8_0' is not a number",
    "0x50": "'0x50' is not a number",
    "8.0": "'8.0' is not a number",
    "８０": "is not a number",
    "80-90-100": "'90-100' is not a number",
    "80,81": "'80,81' is not a number",
    "localhost:8080:80": "'localhost' is not an address",
    "eth0:8080:80": "'eth0' is not an address",
    "127.0.0.256:8080:80": "'127.0.0.256' is not an address",
    "127.0.1:8080:80": "'127.0.1' is not an address",
    "192.0.2.0/24:8080:80": "unknown protocol",
    "127.0.0.1:80:80:80": "is not an address",
    "[]:8080:80": "'[]' is not an address",
    "[::1:8080:80": "an address is followed by",
    "[::1]": "an address is followed by",
    "[::1]:80": "an address is followed by",
    "[::1]80:80": "an address is followed by",
    "[::1]:80:80:80": "an address is followed by",
    "[fe80::1%eth0]:8080:80": "has a zone",
    "[fe80::1%25eth0]:8080:80": "has a zone",
    "::1:8080:80": "in brackets",
    "2001:db8::1:8080:80": "in brackets",
    "[127.0.0.1]:8080:80": "in brackets",
    "[[::1]]:8080:80": "an address is followed by",
}


@pytest.mark.parametrize("text", GOOD)
def test_good_publish(text):
    """Every form of Docker's -p is read as Docker reads it."""
    assert parse_publish(text) == GOOD[text]


@pytest.mark.parametrize("text", BAD, ids=lambda text: text[:30] or "empty")
def test_bad_publish(text):
    """A malformed -p is refused in a sentence that quotes it and says what is wrong, with the grammar as a hint."""
    with pytest.raises(InvalidRequest) as caught:
        parse_publish(text)
    assert str(caught.value).startswith(f"invalid port {text!r}: ")
    assert BAD[text] in str(caught.value)
    assert "containerPort" in caught.value.hint


@pytest.mark.parametrize(
    ("text", "pairs"),
    [
        ("80", ((80, "tcp"),)),
        ("80/tcp", ((80, "tcp"),)),
        ("53/udp", ((53, "udp"),)),
        ("5000/SCTP", ((5000, "sctp"),)),
        ("8000-8002", ((8000, "tcp"), (8001, "tcp"), (8002, "tcp"))),
        ("8000-8001/udp", ((8000, "udp"), (8001, "udp"))),
        ("8000-8000", ((8000, "tcp"),)),
    ],
)
def test_good_expose(text, pairs):
    """--expose takes a port or a range, with a protocol or without."""
    assert parse_expose(text) == pairs


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "missing"),
        ("0", "port 0 cannot be exposed"),
        ("0-5", "port 0 cannot be exposed"),
        ("70000", "above 65535"),
        ("90-80", "reversed"),
        ("80/icmp", "unknown protocol"),
        ("8080:80", "'8080:80' is not a number"),
        ("127.0.0.1::80", "is not a number"),
        ("http", "is not a number"),
        ("80-", "missing"),
    ],
)
def test_bad_expose(text, why):
    """A malformed --expose is refused in a sentence that quotes it."""
    with pytest.raises(InvalidRequest) as caught:
        parse_expose(text)
    assert str(caught.value).startswith(f"invalid port {text!r}: ")
    assert why in str(caught.value)


addresses = st.none() | st.ip_addresses(v=4) | st.ip_addresses(v=6).filter(lambda address: not address.scope_id)
ports = st.integers(1, 65535)


def written(numbers: range) -> str:
    """Write a port or a range of ports."""
    return str(numbers[0]) if len(numbers) == 1 else f"{numbers[0]}-{numbers[-1]}"


@st.composite
def published(draw):
    """Draw a specification and its text, written as a person would."""
    container = draw(ports)
    count = draw(st.just(1) | st.integers(1, 65536 - container))
    host_count = draw(st.just(count) | st.integers(1, 65535)) if count == 1 else count
    first = draw(st.none() | st.integers(1, 65536 - host_count))
    item = Publish(
        draw(addresses),
        CHOSEN if first is None else range(first, first + host_count),
        range(container, container + count),
        draw(st.sampled_from(PROTOCOLS)),
    )
    text = written(item.container_ports)
    if item.host_ports or item.host_ip:
        text = f"{written(item.host_ports) if item.host_ports else ''}:{text}"
    if item.host_ip:
        text = f"[{item.host_ip}]:{text}" if item.host_ip.version == 6 else f"{item.host_ip}:{text}"
    if item.protocol != "tcp" or draw(st.booleans()):
        text += f"/{item.protocol}"
    return item, text


@given(published())
def test_round_trip(pair):
    """Whatever can be asked for can be written, and is read as it was meant."""
    item, text = pair
    assert parse_publish(text) == item


@given(published())
def test_pairs(pair):
    """Equally long ranges pair up in order; one container port may have any of the host ports; none means any."""
    item, _ = pair
    pairs = item.pairs()
    assert [port for _, port in pairs] == list(item.container_ports)
    if len(item.host_ports) == len(item.container_ports):
        assert [list(candidates) for candidates, _ in pairs] == [[port] for port in item.host_ports]
    else:
        assert {candidates for candidates, _ in pairs} == {item.host_ports}


@given(st.builds(PortMapping, addresses.filter(bool), ports, ports, st.sampled_from(PROTOCOLS)))
def test_a_mapping_is_its_own_specification(mapping):
    """What `ps` shows of a mapping, arrow replaced by a colon, is the -p that makes the same mapping."""
    item = parse_publish(str(mapping).replace("->", ":"))
    assert item == Publish(mapping.host_ip, one(mapping.host_port), one(mapping.container_port), mapping.protocol)


@given(st.text(alphabet="0123456789[]:-/.%abtcpudsf ", max_size=24) | st.text(max_size=12))
def test_any_text_is_read_or_refused(text):
    """No text makes the parser fail in another way than by refusing it, and what it reads is within bounds."""
    try:
        item = parse_publish(text)
    except InvalidRequest:
        return
    assert item.protocol in PROTOCOLS
    assert all(1 <= port <= 65535 for side in (item.host_ports, item.container_ports) for port in (side or one(1)))
    assert item.container_ports


@given(published(), st.data())
def test_a_spoiled_specification(pair, data):
    """A good specification with a letter put into it anywhere is refused."""
    _, text = pair
    position = data.draw(st.integers(0, len(text)))
    spoiled = f"{text[:position]}g{text[position:]}"
    with pytest.raises(InvalidRequest):
        parse_publish(spoiled)


@pytest.mark.parametrize(
    ("mapping", "text"),
    [
        (PortMapping(ip_address("0.0.0.0"), 8080, 80, "tcp"), "0.0.0.0:8080->80/tcp"),
        (PortMapping(ip_address("::"), 8080, 80, "tcp"), "[::]:8080->80/tcp"),
        (PortMapping(ip_address("127.0.0.1"), 5300, 53, "udp"), "127.0.0.1:5300->53/udp"),
    ],
)
def test_a_mapping_in_words(mapping, text):
    """A mapping is written as `docker ps` does, IPv6 in brackets."""
    assert str(mapping) == text
