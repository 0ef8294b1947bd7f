"""The environment variables that a link gives its parent.

They are those of Docker (moby's daemon/links), because scripts in images read them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from dnet.model.address import IPAddress
from dnet.model.container import Container, Link

# Variables of the child that mean nothing to its parent.
NOT_PASSED = frozenset({"HOME", "PATH"})
RUN_MIN = 3  # so many consecutive ports, and more, have a START and an END


def environment(link: Link, child: Container, address: IPAddress) -> dict[str, str]:
    """Return a link's variables; `address` is the child's on the network that the link works through."""
    prefix = link.alias.rpartition("/")[2].upper().replace("-", "_")
    ports = sorted(child.exposed, key=lambda pair: (pair[1] != "tcp", pair[1], pair[0]))
    host = f"[{address}]" if address.version == 6 else str(address)
    variables: dict[str, str] = {}
    if ports:
        port, protocol = ports[0]
        variables[f"{prefix}_PORT"] = f"{protocol}://{host}:{port}"
    for run in _runs(ports):
        (first, protocol), (last, _) = run[0], run[-1]
        name = f"{prefix}_PORT_{first}_{protocol.upper()}"
        variables |= {
            f"{name}_START": f"{protocol}://{host}:{first}",
            f"{name}_ADDR": str(address),
            f"{name}_PROTO": protocol,
            f"{name}_PORT_START": str(first),
            f"{name}_END": f"{protocol}://{host}:{last}",
            f"{name}_PORT_END": str(last),
        }
    for port, protocol in ports:
        name = f"{prefix}_PORT_{port}_{protocol.upper()}"
        variables |= {
            name: f"{protocol}://{host}:{port}",
            f"{name}_ADDR": str(address),
            f"{name}_PORT": str(port),
            f"{name}_PROTO": protocol,
        }
    variables[f"{prefix}_NAME"] = f"/{link}"
    own = child.process.env if child.process else ()
    return variables | {f"{prefix}_ENV_{key}": value for key, value in own if key not in NOT_PASSED}


def _runs(ports: Iterable[tuple[int, str]]) -> Iterator[Sequence[tuple[int, str]]]:
    """Yield the runs of at least RUN_MIN consecutive ports of one protocol."""
    run: list[tuple[int, str]] = []
    for port, protocol in ports:
        if run and (port, protocol) != (run[-1][0] + 1, run[-1][1]):
            if len(run) >= RUN_MIN:
                yield run
            run = []
        run.append((port, protocol))
    if len(run) >= RUN_MIN:
        yield run
