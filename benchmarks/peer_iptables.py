"""Rules with which Docker and CNI's portmap publish ports, for `iptables-restore`. Writes text, runs nothing.

Each container has so many ports of its own as with dnet (`shares`), and the port that is measured stands in the
middle, where the average port is. Few containers with many ports favour the peers: Docker has a rule per container that
every packet passes, and portmap looks at fifteen ports of one container by one rule.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from ipaddress import IPv4Address
from pathlib import Path

from benchmarks.peer_scripts import BRIDGE, GATEWAY, PREFIX_LENGTH

HOST_PORT = 8080  # the published port that is measured
CONTAINER_PORT = 80
FIRST_OTHER_PORT = 10_000
OTHER_CONTAINERS = 10

_SUBNET = f"{GATEWAY - 1}/{PREFIX_LENGTH}"
_MEASURED_CONTAINER = GATEWAY + 1
_PORTS_IN_ONE_MATCH = 15  # XT_MULTI_PORTS


def shares(others: int) -> list[range]:
    """Return the host ports of each other container, `others` of them in all; none is empty."""
    bounds = [FIRST_OTHER_PORT + others * number // OTHER_CONTAINERS for number in range(OTHER_CONTAINERS + 1)]
    return [range(first, end) for first, end in itertools.pairwise(bounds) if first < end]


def _containers(count: int) -> Iterator[tuple[IPv4Address, list[tuple[int, int]]]]:
    """Yield (address, pairs of host and container port), `count` ports in all."""
    others = shares(count - 1)
    for number, ports in enumerate(others):
        if number == len(others) // 2:
            yield _MEASURED_CONTAINER, [(HOST_PORT, CONTAINER_PORT)]
        yield _MEASURED_CONTAINER + 1 + number, [(port, port) for port in ports]
    if not others:
        yield _MEASURED_CONTAINER, [(HOST_PORT, CONTAINER_PORT)]


def write_docker(directory: Path, count: int) -> Path:
    """Write the rules of Docker 29's iptables backend with `count` ports published, for `iptables-restore`.

    Source: moby, integration/network/bridge/iptablesdoc. For each port a DNAT and an accept rule, for each container a
    drop rule in raw.
    """
    raw, nat, accept = [], [], []
    for address, ports in _containers(count):
        raw.append(f"-A PREROUTING -d {address}/32 ! -i {BRIDGE} -j DROP")
        for host_port, port in ports:
            nat.append(
                f"-A DOCKER ! -i {BRIDGE} -p tcp -m tcp --dport {host_port} -j DNAT --to-destination {address}:{port}"
            )
            accept.append(f"-A DOCKER -d {address}/32 ! -i {BRIDGE} -o {BRIDGE} -p tcp -m tcp --dport {port} -j ACCEPT")
    return _write(
        directory / f"docker-{count}",
        ["*raw", ":PREROUTING ACCEPT", ":OUTPUT ACCEPT", *raw, "COMMIT"],
        ["*nat", ":PREROUTING ACCEPT", ":INPUT ACCEPT", ":OUTPUT ACCEPT", ":POSTROUTING ACCEPT", ":DOCKER -"],
        [
            "-A PREROUTING -m addrtype --dst-type LOCAL -j DOCKER",
            "-A OUTPUT ! -d 127.0.0.0/8 -m addrtype --dst-type LOCAL -j DOCKER",
            f"-A POSTROUTING -s {_SUBNET} ! -o {BRIDGE} -j MASQUERADE",
            *nat,
            "COMMIT",
        ],
        ["*filter", ":INPUT ACCEPT", ":FORWARD DROP", ":OUTPUT ACCEPT"],
        [":DOCKER-USER -", ":DOCKER-FORWARD -", ":DOCKER-CT -", ":DOCKER-INTERNAL -", ":DOCKER-BRIDGE -", ":DOCKER -"],
        [
            "-A FORWARD -j DOCKER-USER",
            "-A FORWARD -j DOCKER-FORWARD",
            "-A DOCKER-FORWARD -j DOCKER-CT",
            "-A DOCKER-FORWARD -j DOCKER-INTERNAL",
            "-A DOCKER-FORWARD -j DOCKER-BRIDGE",
            f"-A DOCKER-FORWARD -i {BRIDGE} -j ACCEPT",
            f"-A DOCKER-CT -o {BRIDGE} -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT",
            f"-A DOCKER-BRIDGE -o {BRIDGE} -j DOCKER",
            *accept,
            f"-A DOCKER ! -i {BRIDGE} -o {BRIDGE} -j DROP",
            "COMMIT",
        ],
    )


def write_portmap(directory: Path, count: int) -> Path:
    """Write the rules of the CNI plugin portmap with `count` ports published, for `iptables-restore`.

    Source: containernetworking/plugins, portmap_iptables.go. For each container a chain, reached by rules that match
    fifteen ports each; in the chain three rules for each port. The rules of the plugins bridge and firewall, some for
    each container, are left out.
    """
    chains, entries, rules = [], [], []
    for number, (address, ports) in enumerate(_containers(count)):
        chain = f"CNI-DN-{number:021x}"
        comment = f'-m comment --comment "dnat name: \\"peer\\" id: \\"c-{number}\\""'
        chains.append(f":{chain} -")
        for start in range(0, len(ports), _PORTS_IN_ONE_MATCH):
            matched = ",".join(str(host_port) for host_port, _ in ports[start : start + _PORTS_IN_ONE_MATCH])
            entries.append(f"-A CNI-HOSTPORT-DNAT -p tcp {comment} -m multiport --dports {matched} -j {chain}")
        for host_port, port in ports:
            match = f"-A {chain} -p tcp -m tcp --dport {host_port}"
            rules += [
                f"{match} -s {address}/{PREFIX_LENGTH} -j CNI-HOSTPORT-SETMARK",
                f"{match} -s 127.0.0.1/32 -j CNI-HOSTPORT-SETMARK",
                f"{match} -j DNAT --to-destination {address}:{port}",
            ]
    return _write(
        directory / f"portmap-{count}",
        ["*nat", ":PREROUTING ACCEPT", ":INPUT ACCEPT", ":OUTPUT ACCEPT", ":POSTROUTING ACCEPT"],
        [":CNI-HOSTPORT-DNAT -", ":CNI-HOSTPORT-SETMARK -", ":CNI-HOSTPORT-MASQ -", *chains],
        [
            "-A PREROUTING -m addrtype --dst-type LOCAL -j CNI-HOSTPORT-DNAT",
            "-A OUTPUT -m addrtype --dst-type LOCAL -j CNI-HOSTPORT-DNAT",
            "-A POSTROUTING -j CNI-HOSTPORT-MASQ",
            "-A CNI-HOSTPORT-SETMARK -j MARK --set-xmark 0x2000/0x2000",
            "-A CNI-HOSTPORT-MASQ -m mark --mark 0x2000/0x2000 -j MASQUERADE",
            *entries,
            *rules,
            "COMMIT",
        ],
    )


def _write(path: Path, *parts: list[str]) -> Path:
    path.write_text("".join(f"{line}\n" for part in parts for line in part))
    return path
