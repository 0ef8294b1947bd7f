"""What networks and containers add to the nftables table `inet dnet`: as objects, and as nft's text.

Everything that comes and goes is an element of a set or map, so neither the cost of a packet nor that of a change grows
with the number of containers. The chains are fixed; creating the table again replaces their rules in one transaction
and leaves the elements. dnet sets no policy: every chain accepts what does not concern it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from dnet.model.address import IPAddress
from dnet.model.container import Container, Endpoint
from dnet.model.network import Network
from dnet.model.published_port import PortMapping
from dnet.objects.host import Flows, NatElement, NftTable
from dnet.objects.object import Object

# Networks


def network_objects(network: Network) -> tuple[Object, ...]:
    """Return the elements of a network, except those of its uplinks."""
    bridge = f'"{network.device}"'
    elements = [NatElement("bridges", bridge), NatElement("subnets4", f"{bridge} . {network.subnet}")]
    if network.subnet6:
        elements.append(NatElement("subnets6", f"{bridge} . {network.subnet6}"))
    if network.is_enclosed:
        elements.append(NatElement("enclosed", bridge))
    elements.append(NatElement("within_network" if network.icc else "apart", f"{bridge} . {bridge}"))
    if network.internal:
        elements.append(NatElement("internal", bridge))
    elif not network.masquerade:
        elements.append(NatElement("routed", bridge))
    elif network.has_own_subnets:
        elements += _sources(network, network.subnet, network.subnet6)
    return tuple(elements)


def _sources(network: Network, four: object, six: object) -> Iterator[NatElement]:
    """Yield the source address outside, of a network's subnets or of one container's addresses."""
    for version, source, address in ((4, four, network.snat), (6, six, network.snat6)):
        if source and address:
            yield NatElement(f"snat{version}", str(source), str(address))
        elif source:
            yield NatElement(f"masquerade{version}", str(source))


# Endpoints


def guest_objects(network: Network, endpoint: Endpoint) -> Iterator[NatElement]:
    """Yield the elements of an endpoint whose network shares its bridge or subnets with others.

    On other networks, elements of the network cover all of its endpoints.
    """
    if network.has_own_subnets:
        return
    four, six = _address(4, endpoint), _address(6, endpoint)
    for address in (four, six):
        if address:
            yield NatElement(f"guests{address.version}", str(address))
    if network.masquerade and not network.internal:
        yield from _sources(network, four, six)


def _address(version: int, endpoint: Endpoint) -> IPAddress | None:
    interface = endpoint.address if version == 4 else endpoint.address6
    return interface.ip if interface else None


def container_objects(container: Container, networks: Mapping[str, Network]) -> tuple[Object, ...]:
    """Return the elements and connections of a container's addresses and published ports; `networks` are by id."""
    if not container.endpoints:
        return ()
    addresses = tuple(one.ip for item in container.endpoints for one in (item.address, item.address6) if one)
    udp_ports = tuple((item.host_ip, item.host_port) for item in container.ports if item.protocol == "udp")
    elements = [element for _, element in published(container)]
    for endpoint in container.endpoints:
        elements += guest_objects(networks[endpoint.network_id], endpoint)
    for endpoint in container.endpoints if container.ports else ():
        network = networks[endpoint.network_id]
        if not network.masquerade and not network.internal:
            elements += _open_ports(container, endpoint)
    return (Flows(addresses, udp_ports), *elements)


# Published ports


def outlet(container: Container, version: int) -> Endpoint | None:
    """Return the endpoint that ports of an IP version are published on: that of the default route, else the first."""
    able = [item for item in container.endpoints if version == 4 or item.address6]
    gateways = [item for item in able if (item.gateway if version == 4 else item.gateway6)]
    return next(iter(gateways or able), None)


def published(container: Container) -> Iterator[tuple[PortMapping, NatElement]]:
    """Yield each published port with its element; nothing if the container has no address of that IP version left."""
    outlets = {4: outlet(container, 4), 6: outlet(container, 6)} if container.ports else {}
    for item in container.ports:
        version = item.host_ip.version
        endpoint = outlets[version]
        address = _address(version, endpoint) if endpoint else None
        if address is None:
            continue
        key, target = f"{item.protocol} . {item.host_port}", f"{address} . {item.container_port}"
        if item.host_ip.is_unspecified:
            yield item, NatElement(f"publish{version}", key, target)
        else:
            yield item, NatElement(f"publish{version}_on", f"{item.host_ip} . {key}", target)


def _open_ports(container: Container, endpoint: Endpoint) -> Iterator[NatElement]:
    """Yield what opens the published ports of an endpoint of a routed network to the outside."""
    opened = {
        (item.host_ip.version, item.protocol, item.container_port)
        for item in container.ports
        if not item.host_ip.is_loopback
    }
    for version, protocol, port in sorted(opened):
        if address := _address(version, endpoint):
            yield NatElement(f"open{version}", f"{address} . {protocol} . {port}")


# Links


def linked_endpoints(parent: Container, child: Container) -> tuple[Endpoint, Endpoint] | None:
    """Return the endpoints that a link joins: those on the first network of the parent that the child is on, too."""
    there = {item.network_id: item for item in child.endpoints}
    return next(((item, there[item.network_id]) for item in parent.endpoints if item.network_id in there), None)


def link_objects(parent: Container, child: Container, networks: Mapping[str, Network]) -> tuple[Object, ...]:
    """Return what opens the child's exposed ports to the parent, if containers of their network may not talk."""
    joined = linked_endpoints(parent, child)
    if joined is None or networks[joined[0].network_id].icc:
        return ()
    sources, targets = ([_address(version, endpoint) for version in (4, 6)] for endpoint in joined)
    return tuple(
        NatElement(f"links{target.version}", f"{source} . {target} . {protocol} . {port}")
        for source, target in zip(sources, targets, strict=True)
        for port, protocol in child.exposed
        if source and target
    )


# The table

TABLE = "inet dnet"
# IANA's numbers. nft looks names up in /etc/protocols, which a small system does not have.
PROTOCOL_NUMBERS = {"tcp": "6", "udp": "17", "sctp": "132"}
_PROTOCOL_NAMES = {number: name for name, number in PROTOCOL_NUMBERS.items()}
ICMP, ICMPV6 = 1, 58

# Each set and map: its type and options, and a comment that says what it holds.
SETS = {
    "bridges": ("type ifname;", "the bridges of dnet networks"),
    "enclosed": ("type ifname;", "those of them that nobody but containers is on"),
    "guests4": ("type ipv4_addr;", "containers among others: on bridges, or in subnets, that are not theirs alone"),
    "guests6": ("type ipv6_addr;", "the same for IPv6"),
    "switched": (
        "type ifname;",
        "interfaces of the host's whose traffic Open vSwitch takes, and the host gets from it",
    ),
    "within_network": ("type ifname . ifname;", "traffic that stays in one network whose containers may talk"),
    "apart": ("type ifname . ifname;", "traffic within one network whose containers may not talk"),
    "internal": ("type ifname;", "bridges of networks without access to the outside"),
    "routed": ("type ifname;", "bridges of networks whose addresses the outside sees"),
    "docker_bridges": ("type ifname;", "bridges of Docker's, which relies on a policy that an accept for us passes by"),
    "subnets4": ("type ifname . ipv4_addr; flags interval;", "each bridge with its subnet"),
    "subnets6": ("type ifname . ipv6_addr; flags interval;", "each bridge with its IPv6 subnet"),
    "masquerade4": ("type ipv4_addr; flags interval; counter;", "subnets that leave under the host's address"),
    "masquerade6": ("type ipv6_addr; flags interval; counter;", "IPv6 subnets that leave under the host's address"),
    "links4": (
        "type ipv4_addr . ipv4_addr . inet_proto . inet_service; counter;",
        "what a linked container opens, and to whom",
    ),
    "links6": ("type ipv6_addr . ipv6_addr . inet_proto . inet_service; counter;", "the same for IPv6"),
    "open4": ("type ipv4_addr . inet_proto . inet_service;", "published ports of containers on routed networks"),
    "open6": ("type ipv6_addr . inet_proto . inet_service;", "the same for IPv6"),
}
MAPS = {
    "snat4": ("type ipv4_addr : ipv4_addr; flags interval; counter;", "subnets that leave under a given address"),
    "snat6": ("type ipv6_addr : ipv6_addr; flags interval; counter;", "IPv6 subnets that leave under a given address"),
    "publish4": (
        "type inet_proto . inet_service : ipv4_addr . inet_service; counter;",
        "ports published on every address of the host, and their containers",
    ),
    "publish6": (
        "type inet_proto . inet_service : ipv6_addr . inet_service; counter;",
        "the same for IPv6",
    ),
    "publish4_on": (
        "type ipv4_addr . inet_proto . inet_service : ipv4_addr . inet_service; counter;",
        "ports published on one address of the host, and their containers",
    ),
    "publish6_on": (
        "type ipv6_addr . inet_proto . inet_service : ipv6_addr . inet_service; counter;",
        "the same for IPv6",
    ),
}
COUNTED_SETS = ("masquerade4", "masquerade6", "links4", "links6")
CHAINS = {
    "guard": (
        "type filter hook prerouting priority raw; policy accept;",
        "containers neither pass for the host's loopback (route_localnet is for replies) nor become its IPv6 router",
        (
            "iifname @bridges ip daddr 127.0.0.0/8 counter drop",
            "iifname @bridges ip saddr 127.0.0.0/8 counter drop",
            "iifname @enclosed icmpv6 type nd-router-advert counter drop",
            # Open vSwitch in user space reads from a packet socket, which leaves the host's own stack its copy.
            "iifname @switched counter drop",
        ),
    ),
    "publish": (
        "",
        "the first packet of a connection to a published port is sent to its container",
        (
            # What conntrack takes for new may be a connection of the host's own that is older than any rule here
            # (nf_conntrack_tcp_loose); only a connection that opens belongs to a container.
            "tcp flags & (fin | syn | rst | ack) != syn return",
            "dnat ip to ip daddr . meta l4proto . th dport map @publish4_on",
            "dnat ip to meta l4proto . th dport map @publish4",
            "dnat ip6 to ip6 daddr . meta l4proto . th dport map @publish6_on",
            "dnat ip6 to meta l4proto . th dport map @publish6",
        ),
    ),
    "prerouting": (
        "type nat hook prerouting priority dstnat; policy accept;",
        "published ports, for traffic from other hosts and from containers",
        ('iifname != "lo" ip daddr 127.0.0.0/8 return', "fib daddr type local jump publish"),
    ),
    "output": (
        "type nat hook output priority -100; policy accept;",
        "published ports, for traffic from the host itself",
        ("fib daddr type local jump publish",),
    ),
    "forward": (
        "type filter hook forward priority filter; policy accept;",
        "what may reach containers, and what they may reach",
        (
            "ct state established,related accept",
            "iifname . oifname @within_network accept",
            "iifname . oifname @apart ip saddr . ip daddr . meta l4proto . th dport @links4 accept",
            "iifname . oifname @apart ip6 saddr . ip6 daddr . meta l4proto . th dport @links6 accept",
            "iifname @bridges oifname @docker_bridges ct status & dnat != dnat counter drop",
            "iifname @internal counter drop",
            "oifname @internal counter drop",
            "oifname @bridges ct status dnat accept",
            "oifname @bridges ip daddr . meta l4proto . th dport @open4 accept",
            "oifname @bridges ip6 daddr . meta l4proto . th dport @open6 accept",
            "iifname . oifname @apart oifname @enclosed counter drop",
            "iifname . oifname @apart ip daddr @guests4 counter drop",
            "iifname . oifname @apart ip6 daddr @guests6 counter drop",
            f"oifname @routed meta l4proto {{ {ICMP}, {ICMPV6} }} accept",
            "oifname @enclosed counter drop",
            "ip daddr @guests4 counter drop",
            "ip6 daddr @guests6 counter drop",
        ),
    ),
    "redirects": (
        "type filter hook output priority filter; policy accept;",
        "containers that may not talk reach each other through the host only, and are not told a shorter way",
        (
            "oifname @bridges icmp type redirect counter drop",
            "oifname @bridges icmpv6 type nd-redirect counter drop",
        ),
    ),
    "postrouting": (
        "type nat hook postrouting priority srcnat; policy accept;",
        "under which source address traffic leaves the host or returns to its own network",
        (
            "ct status dnat oifname . ip saddr @subnets4 masquerade",
            "ct status dnat oifname . ip6 saddr @subnets6 masquerade",
            "ct status dnat ip saddr 127.0.0.0/8 oifname @bridges masquerade",
            "ct status dnat ip6 saddr ::1 oifname @bridges masquerade",
            "oifname @enclosed return",
            "ip daddr @guests4 return",
            "ip6 daddr @guests6 return",
            "oifname . ip saddr @subnets4 return",
            "oifname . ip6 saddr @subnets6 return",
            "snat ip to ip saddr map @snat4",
            "snat ip6 to ip6 saddr map @snat6",
            "ip saddr @masquerade4 masquerade",
            "ip6 saddr @masquerade6 masquerade",
        ),
    ),
}


def table_commands() -> list[str]:
    """Return the commands that create the table, or update an existing one without touching its elements."""
    lines = [f'add table {TABLE} {{ comment "container networks; made by dnet"; }}']
    for kind, members in (("set", SETS), ("map", MAPS)):
        lines += [f'add {kind} {TABLE} {name} {{ {what} comment "{why}"; }}' for name, (what, why) in members.items()]
    for name, (hook, why, rules) in CHAINS.items():
        lines.append(f'add chain {TABLE} {name} {{ {hook} comment "{why}"; }}')
        lines.append(f"flush chain {TABLE} {name}")
        lines += [f"add rule {TABLE} {name} {rule}" for rule in rules]
    return lines


def commands(objects: Iterable[Object], verb: str) -> list[str]:
    """Return nft commands that `add` or `delete` objects; the elements of one set are in one command."""
    lines: list[str] = []
    elements: dict[str, dict[str, None]] = {}
    for item in objects:
        match item:
            case NftTable():
                lines += table_commands() if verb == "add" else [f"delete table {TABLE}"]
            case NatElement():
                value = f" : {item.value}" if item.value and verb == "add" else ""
                parts = [PROTOCOL_NUMBERS.get(part, part) for part in item.key.split(" . ")]
                # A key is deleted once, even if several values are given for it.
                elements.setdefault(item.set_name, {})[" . ".join(parts) + value] = None
            case _:
                raise TypeError(item)
    changes = [f"{verb} element {TABLE} {name} {{ {', '.join(keys)} }}" for name, keys in elements.items()]
    return changes + lines if verb == "delete" else lines + changes


def key_of(set_name: str, parts: Sequence[str]) -> str:
    """Return the key of an element as its object has it; nft lists it in `parts`, perhaps with a protocol's number."""
    kind = (SETS.get(set_name) or MAPS[set_name])[0].removeprefix("type ").partition(";")[0].partition(" : ")[0]
    named = [
        _PROTOCOL_NAMES.get(part, part) if what == "inet_proto" else part
        for what, part in zip(kind.split(" . "), parts, strict=True)
    ]
    return " . ".join(named)
