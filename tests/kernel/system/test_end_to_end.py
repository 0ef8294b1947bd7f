"""The whole of it, with real servers: nginx over HTTP and TLS and an sshd in one container, a Redis in another one.

Neither configuration nor users of the machine are touched: both containers see its files through layers of their own.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.support.container_processes import PATH, detached, fetch, require, require_runtime, wait_for_log
from tests.support.dnet_commands import address, network, ports_of, run
from tests.support.hosts import FakeHost, Namespace, Neighbour
from tests.support.traffic import HOST, is_refused

PORTS = {"22/tcp", "80/tcp", "443/tcp"}
NGINX = """
daemon off;
pid /run/nginx.pid;
error_log stderr;
events {}
http {
  access_log /dev/stderr;
  server {
    listen 80;
    listen 443 ssl;
    ssl_certificate HERE/certificate.pem;
    ssl_certificate_key HERE/key.pem;
    root /srv/site;
  }
}
"""
SSHD = """
HostKey HERE/host_key
AuthorizedKeysFile /etc/ssh/authorized_keys
PasswordAuthentication no
KbdInteractiveAuthentication no
UsePAM no
"""
# What it writes goes into the container's own layer.
SERVICE = """
set -e
mkdir -p /srv/site /run/sshd
echo hello >/srv/site/index.html
useradd --create-home --password '*' --shell /bin/sh guest
cp HERE/user_key.pub /etc/ssh/authorized_keys
nginx -c HERE/nginx.conf &
exec /usr/sbin/sshd -D -e -f HERE/sshd_config
"""


@pytest.fixture(autouse=True)
def _programs() -> None:
    require_runtime()
    require(curl="curl", openssl="openssl", nginx="nginx", ssh="openssh-client", sshd="openssh-server")
    require(**{"redis-cli": "redis-tools", "redis-check-rdb": "redis-tools", "useradd": "passwd"})


@pytest.fixture
def site(host: FakeHost) -> Path:
    """Return a directory with the configuration of the servers, a certificate, and keys."""
    place = host.directory / "site"
    place.mkdir()
    for name, text in {"nginx.conf": NGINX, "sshd_config": SSHD, "service": SERVICE}.items():
        (place / name).write_text(text.replace("HERE", str(place)), encoding="ascii")
    new_key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", f"{place}/key.pem")
    names = ("-subj", "/CN=web.example", "-addext", "subjectAltName=DNS:web.example")
    host.run("openssl", "req", "-x509", *new_key, *names, "-days", "1", "-out", f"{place}/certificate.pem")
    for name in ("host_key", "user_key"):
        host.run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", name, "-f", f"{place}/{name}")
    return place


class Shell:
    """What logs in by ssh with a key, and knows the server by its own."""

    def __init__(self, space: Namespace, site: Path, port: int) -> None:
        self._space = space
        kind, key, _ = (site / "host_key.pub").read_text(encoding="ascii").split()
        (site / "known_hosts").write_text(f"[{HOST[4]}]:{port} {kind} {key}\n", encoding="ascii")
        options = ("BatchMode=yes", "StrictHostKeyChecking=yes", f"UserKnownHostsFile={site}/known_hosts")
        words = ("ssh", "-F", "/dev/null", "-i", str(site / "user_key"), "-p", str(port))
        self._command = (*words, *(f"-o{option}" for option in options), f"guest@{HOST[4]}")

    def run(self, script: str, *options: str) -> list[str]:
        """Log in, run a script, and return the lines that it prints."""
        return self._space.run(*self._command, *options, script).stdout.splitlines()


def published_ports(host: FakeHost, name: str) -> dict[str, int]:
    """Return the host port of each port of a container, as `dnet port` prints them."""
    pairs = (line.split(" -> ") for line in ports_of(host, name))
    return {port: int(where.removeprefix("0.0.0.0:")) for port, where in pairs}


@pytest.mark.parametrize("options", [(), ("--icc=false",)], ids=["open", "icc=false"])
def test_site(host: FakeHost, outside: Neighbour, site: Path, options: tuple[str, ...]) -> None:
    """From outside, HTTP, TLS and an ssh login work through automatic ports; the database is for the linked container.

    The database has no published port: it is reached by its alias from the container that is linked to it, and by
    nobody else where containers may not talk.
    """
    network(host, "site", "--subnet", "10.7.0.0/24", *options)
    # The same program, called so, is the server; the package redis-server only adds a service.
    server = site / "redis-server"
    server.symlink_to(str(shutil.which("redis-check-rdb", path=PATH)))
    open_to_all = ("--bind", "0.0.0.0", "--protected-mode", "no", "--save", "", "--dir", "/tmp")
    detached(host, "db", "--network", "site", "--expose", "6379", str(server), *open_to_all)
    exposed = ("--expose", "80", "--expose", "443", "--expose", "22", "-P", "-h", "front")
    detached(host, "web", "--network", "site", *exposed, "--link", "db:cache", "sh", str(site / "service"))

    ports = published_ports(host, "web")
    assert ports.keys() == PORTS
    assert min(ports.values()) >= 32768
    assert fetch(outside, f"http://{HOST[4]}:{ports['80/tcp']}/") == "hello\n"
    assert fetch(outside, f"https://{HOST[4]}:{ports['443/tcp']}/", "-k") == "hello\n"
    trust = ("--cacert", str(site / "certificate.pem"), "--resolve", f"web.example:{ports['443/tcp']}:{HOST[4]}")
    assert fetch(outside, f"https://web.example:{ports['443/tcp']}/", *trust) == "hello\n"

    wait_for_log(host, "web", "Server listening on")
    shell = Shell(outside, site, ports["22/tcp"])
    said = shell.run("id -un; hostname; cat /srv/site/index.html; echo $SSH_CONNECTION")
    assert said[:3] == ["guest", "front", "hello"]
    assert said[3].split()[0] == outside.address
    assert shell.run("tty", "-tt") == ["/dev/pts/0"]

    wait_for_log(host, "db", "Ready to accept connections")
    assert shell.run("redis-cli -h cache ping; redis-cli -h cache set greeting hello") == ["PONG", "OK"]
    ask = ("redis-cli", "-h", "store", "get", "greeting")
    assert host.dnet("run", "--rm", "--network", "site", "--link", "db:store", *ask).stdout == "hello\n"
    script = "timeout 0.3 redis-cli -h $0 ping"
    unlinked = host.dnet("run", "--rm", "--network", "site", "sh", "-c", script, address(host, "db"), code=None)
    assert (unlinked.stdout == "PONG\n") is not bool(options)

    outside.run("ip route add 10.7.0.0/24 via 192.0.2.1")
    assert is_refused(outside, HOST[4], 6379)
    assert is_refused(outside, address(host, "db"), 6379)
    assert is_refused(outside, address(host, "web"), 80)
    assert "guest" not in host.run("cat /etc/passwd").stdout
    run(host, "rm", "-f", "web", "db")
    assert is_refused(outside, HOST[4], ports["80/tcp"])
