"""The topic `publish`: what published ports cost. Runs on a fake host."""

from __future__ import annotations

import json
from ipaddress import IPv4Address

from benchmarks import published_host, traffic_lan
from benchmarks.peer_iptables import CONTAINER_PORT
from benchmarks.peers import DNET_PORTS, Contestant, Publisher, Setting
from benchmarks.timed_process import ContestantFailedError, Measurement, run

_ROUNDS = 25  # of calls that take milliseconds
_LOAD_S = 4.0
_QUICK_LOAD_S = 0.1
_PROBE_S = 0.0


def calls(setting: Setting, others: int) -> Measurement:
    """Publish and take back one port in a running Engine, with `others` published.

    The faster half of the calls counts: what else the machine does can only add to a call of a millisecond.
    """
    program = [str(setting.dnet_python), "-m", "benchmarks.engine_publish", "time", str(others)]
    finished = run([*program, str(1 if setting.is_quick else _ROUNDS)], setting.directory)
    published_host.require_published(DNET_PORTS, setting, others + 1)
    seconds: Measurement = json.loads(finished.output)
    return {call: sorted(values)[: (len(values) + 1) // 2] for call, values in seconds.items()}


def traffic(publisher: Publisher, setting: Setting, count: int) -> Measurement:
    """Traffic to one published port of a host with 1 and of a host with `count` published, in turns of some 10 ms.

    Each turn on the second host is compared with the turn on the first one beside it.
    """
    address = publisher.address or traffic_lan.HOST
    load_s = _QUICK_LOAD_S if setting.is_quick else _LOAD_S
    measured: Measurement = {}
    with (
        published_host.publishing(publisher, setting, 1) as with_one,
        published_host.publishing(publisher, setting, count) as with_many,
    ):
        for load in ("connections", "bytes"):
            one, many = traffic_lan.rates(setting, load, address, publisher.port, load_s, [with_one, with_many])
            measured[f"{load}_per_s_with_1"] = one
            measured[f"{load}_per_s"] = many
            measured[f"{load}_ratio"] = [rate / beside for rate, beside in zip(many, one, strict=True)]
    return measured


def require_reachable(contestant: Contestant, setting: Setting, count: int) -> None:
    """Raise unless the LAN reaches the published port of the first, the middle and the last container."""
    published_host.require_published(DNET_PORTS, setting, count)
    traffic_lan.make(setting.directory)
    for number in sorted({1, (count + 1) // 2, count}):
        answer = run([str(setting.dnet), "port", f"c-{number}", str(CONTAINER_PORT)], setting.directory).output
        host_ip, _, host_port = answer.splitlines()[0].rpartition(":")
        if not IPv4Address(host_ip).is_unspecified:
            raise ContestantFailedError(f"port {CONTAINER_PORT} of c-{number} is published on {host_ip} only")
        with traffic_lan.server(setting.traffic, contestant.sandbox(setting, number), CONTAINER_PORT):
            traffic_lan.rates(
                setting, "connections", traffic_lan.HOST, int(host_port), _PROBE_S, [traffic_lan.NAMESPACE]
            )
