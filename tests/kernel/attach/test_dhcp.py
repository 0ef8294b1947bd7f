"""Attachments with an address by DHCP. The oracles are dnsmasq and its file of leases, ip and ping."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.attachment_lan import HOST4, default, global_addresses, make_lan, names, namespace, routes
from tests.support.dnet_commands import run
from tests.support.docker import require_programs
from tests.support.hosts import FakeHost, wait_until

SERVER_OPTIONS = (
    "--dhcp-option=option:dns-server,192.168.1.53",
    "--dhcp-option=option:domain-search,lan.example",
    "--dhcp-option=option:classless-static-route,0.0.0.0/0,192.168.1.1,10.60.0.0/16,192.168.1.2",
)


@pytest.fixture
def leases(host: FakeHost, tmp_path: Path) -> Iterator[Path]:
    """Yield the file of a DHCP server's leases, which is on the LAN of the host's bridge br0; they last two minutes."""
    require_programs("dnsmasq")
    make_lan(host)
    file, pid = tmp_path / "leases", tmp_path / "dnsmasq.pid"
    host.run(
        "dnsmasq", "--port=0", "--interface=br0", "--bind-interfaces", "--dhcp-range=192.168.1.100,192.168.1.120,2m",
        "--no-ping", "--conf-file=/dev/null", f"--dhcp-leasefile={file}", f"--pid-file={pid}", *SERVER_OPTIONS,
    )  # fmt: skip
    yield file
    host.run("kill", pid.read_text().strip(), code=None)


def test_lease(host: FakeHost, leases: Path) -> None:
    """An attachment gets address, default route and further routes; detaching gives the lease back."""
    space = namespace(host, "x")
    before = routes(space)
    [made] = run(host, "attach", "--bridge", "br0", "--dhcp", "--hostname", "box", "--json", "/run/netns/x").json
    [address] = global_addresses(space, "eth0")
    assert made["addresses"] == [address]
    assert default(space) == [(HOST4, "eth0")]
    assert ("10.60.0.0/16", "192.168.1.2", "eth0") in routes(space)
    assert space.can_ping(HOST4)
    [line] = leases.read_text().splitlines()
    assert (line.split()[1], line.split()[3]) == (made["mac"], "box")
    assert f"{line.split()[2]}/24" == address
    run(host, "attach", "--bridge", "br0", "--dhcp", "/run/netns/x")
    run(host, "detach", "/run/netns/x")
    assert routes(space) == before
    wait_until(lambda: not leases.read_text().strip(), "the server has it back")


def test_nameservers(host: FakeHost, leases: Path) -> None:
    """One of dnet's own containers also has the name servers and search list that came with the lease."""
    run(host, "create", "web")
    run(host, "pipework", "br0", "web", "dhcp")
    assert default(host.sandbox("web")) == [(HOST4, "eth1")]
    text = host.run("cat", "/etc/netns/web/resolv.conf").stdout.splitlines()
    assert {"nameserver 192.168.1.53", "search lan.example"} <= set(text)
    assert leases.read_text().split()[3] == "web"
    run(host, "detach", "web")
    assert "192.168.1.53" not in host.run("cat", "/etc/netns/web/resolv.conf").stdout


def test_no_server(host: FakeHost) -> None:
    """Where nobody answers, nothing stays attached."""
    make_lan(host)
    space = namespace(host, "x")
    before = names(space)
    refused = host.call(attach_without_server, host.directories)
    assert refused.startswith("no DHCP server answered on eth0 within")
    assert names(space) == before
    assert host.rows("SELECT * FROM attachment") == []


def attach_without_server(directories: tuple[str, str]) -> str:
    """Attach where there is no DHCP server, with little patience."""
    import functools

    import dnet
    from dnet.linux import dhcp

    dhcp.acquire = functools.partial(dhcp.acquire, timeout_s=0.3)
    with dnet.open(*directories) as engine:
        try:
            engine.attach("/run/netns/x", bridge="br0", dhcp=True)
        except dnet.NotFound as error:
            return str(error)
    return ""


def test_watch_renews(host: FakeHost, leases: Path) -> None:
    """A running `dnet watch` renews when half of the time is over, and the address stays."""
    space = namespace(host, "x")
    watch = host.start_dnet("watch")
    try:
        run(host, "attach", "--bridge", "br0", "--dhcp", "/run/netns/x")
        [address] = global_addresses(space, "eth0")
        wait_until(lambda: lease_ends(leases), "the server has written it down")
        ends = lease_ends(leases)
        # As if half of the time were over soon.
        host.call(shorten, host.directories)
        wait_until(lambda: lease_ends(leases) > ends, "it is renewed", within_s=20)
        assert global_addresses(space, "eth0") == [address]
    finally:
        watch.terminate()
        watch.communicate()


def lease_ends(leases: Path) -> int:
    """Return when the server's lease ends; 0 at a moment when it is writing the file anew."""
    words = leases.read_text().split()
    return int(words[0]) if words else 0


def shorten(directories: tuple[str, str]) -> None:
    """Have leases be due in a second."""
    import time
    from dataclasses import replace

    import dnet

    with dnet.open(*directories) as engine, engine._store.write():
        engine._store.new_owner()
        for container in engine._store.containers.all():
            for item in container.attachments:
                lease = dict(item.lease) | {"t1_s": int(time.time() - item.lease["acquired_at"]) + 2}
                engine._store.attachments.update(replace(item, lease=lease))
