"""The engine: one object with all that a caller can do. Rank 8.

Reading goes straight to the store; writing to changes.py, which is loaded on the first write.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Self, Unpack

from dnet.model import (
    DEFAULT_NETWORK,
    Container,
    ContainerOptions,
    ContainerSpec,
    Network,
    NetworkOptions,
    NetworkSpec,
)
from dnet.ports import PortMapping
from dnet.store import Store

if TYPE_CHECKING:
    from dnet.changes import Changes, Created, NatRow, Progress
    from dnet.kernel import Kernel
    from dnet.nft import Nft
    from dnet.objects import Object

STATE_DIRECTORY = "/var/lib/dnet"
RUN_DIRECTORY = "/run/dnet"


class Engine:
    """Networks and containers of one state directory, in the network namespace that it is first used in.

    Safe to use from several processes at once; one Engine belongs to one thread. `kernel` and `nft` are for tests.
    """

    def __init__(
        self,
        state_dir: str = STATE_DIRECTORY,
        run_dir: str = RUN_DIRECTORY,
        on_notice: Callable[[str], None] = lambda _: None,
        kernel: Kernel | None = None,
        nft: Nft | None = None,
    ) -> None:
        self._run_directory = os.path.abspath(run_dir)
        self._store = Store(os.path.abspath(state_dir), self._run_directory)
        self._on_notice = on_notice
        self._kernel = kernel
        self._nft = nft
        self._loaded_changes: Changes | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def _changes(self) -> Changes:
        if self._loaded_changes is None:
            from dnet.changes import Changes
            from dnet.kernel import Kernel
            from dnet.nft import Nft

            kernel = self._kernel or Kernel(self._on_notice)
            self._loaded_changes = Changes(
                self._store, self._run_directory, self._on_notice, kernel, self._nft or Nft()
            )
        return self._loaded_changes

    def close(self) -> None:
        """Close the database and the sockets. What was created stays."""
        if self._loaded_changes is not None:
            self._loaded_changes.close()
        self._store.close()

    # Looking

    def containers(self) -> list[Container]:
        """Return all containers, oldest first."""
        return self._store.containers()

    def container(self, reference: str) -> Container:
        """Return the container of that name, id or unique id prefix."""
        return self._store.container(reference)

    def names(self, *, prefix: str | None = None) -> list[str]:
        """Return the names of all containers, or of those called PREFIX-1, PREFIX-2, ..."""
        found = [item.name for item in self.containers()]
        return [name for name in found if prefix is None or _is_numbered(name, prefix)]

    def networks(self) -> list[Network]:
        """Return all networks, by name."""
        return self._store.networks()

    def network(self, reference: str) -> Network:
        """Return the network of that name, id or unique id prefix."""
        return self._store.network(reference)

    def members(self, network: Network) -> list[Container]:
        """Return the containers on a network."""
        return self._store.containers_on(network.id)

    def nat(self, network: str = "") -> list[NatRow]:
        """Return published ports and source address translation, with live counters; of one network, or of all."""
        return self._changes.nat(network)

    # Networks

    def create_network(self, spec: NetworkSpec | str, **options: Unpack[NetworkOptions]) -> Network:
        """Create a network from a specification, or from a name and NetworkSpec's fields as keywords.

        Unset, the subnet is the first free one of Docker's default pools and the gateway its first address.
        """
        if isinstance(spec, str):
            spec = NetworkSpec(name=spec, **options)
        return self._changes.create_network(spec)

    def plan_network(self, spec: NetworkSpec) -> list[Object]:
        """Return what creating the network would create, in order, touching nothing."""
        return self._changes.plan_network(spec)

    def delete_networks(self, references: Sequence[str]) -> list[Network]:
        """Remove networks that no container is on; all of them, or none."""
        return self._changes.delete_networks(references)

    def prune_networks(self) -> list[Network]:
        """Remove every network that no container is on."""
        return self._changes.prune_networks()

    # Containers

    def create(
        self, name: str = "", *, network: str = DEFAULT_NETWORK, **options: Unpack[ContainerOptions]
    ) -> Container:
        """Create one container's network; `options` are ContainerSpec's fields, and unset ones are chosen."""
        spec = ContainerSpec(name=name, network=network, **options)
        return self.create_many([spec]).containers[0]

    def create_many(
        self, specs: Iterable[ContainerSpec], *, keep_going: bool = False, on_progress: Progress | None = None
    ) -> Created:
        """Create containers in one pass. All or nothing, unless `keep_going`.

        `on_progress(done, total)` is called some twenty times a second; an exception from it, or Ctrl-C, takes
        everything back.
        """
        return self._changes.create_many(list(specs), keep_going=keep_going, on_progress=on_progress)

    def plan(self, specs: Sequence[ContainerSpec]) -> list[Object]:
        """Return what `create_many` would create, in order, touching nothing."""
        return self._changes.plan(specs)

    def delete(self, reference: str) -> Container:
        """Remove one container."""
        return self.delete_many([reference])[0]

    def delete_many(
        self, references: Iterable[str], *, is_missing_ok: bool = False, on_progress: Progress | None = None
    ) -> list[Container]:
        """Remove containers with all that belongs to them; returns when the kernel shows nothing of them.

        None is removed when a name is unknown, unless `is_missing_ok`.
        """
        return self._changes.delete_many(list(references), is_missing_ok=is_missing_ok, on_progress=on_progress)

    def rename(self, reference: str, name: str) -> Container:
        """Give a container another name. Its id, sandbox path and host name stay."""
        return self._changes.rename(reference, name)

    def refresh_resolvers(self) -> int:
        """Give every container the host's resolver as it is now, and return how many files were rewritten.

        Files are rewritten in place, so that running containers, into which they are mounted, see it at once. A
        file that somebody has edited is left alone.
        """
        return self._changes.refresh_resolvers()

    def watch(self) -> Iterator[int]:
        """Keep containers' resolv.conf in step with the host's, for as long as the iterator is read.

        Yields how many files were rewritten, at the start and after every change of the host's.
        """
        return self._changes.watch()

    def publish(self, reference: str, ports: Iterable[str]) -> Container:
        """Publish further ports of a container, in the grammar of `docker run -p`; all of them, or none."""
        return self._changes.publish(reference, list(ports))

    def unpublish(self, reference: str, ports: Iterable[PortMapping]) -> Container:
        """Take back published ports of a container. Open connections go on; new ones are refused."""
        return self._changes.unpublish(reference, list(ports))


def _is_numbered(name: str, prefix: str) -> bool:
    return name.startswith(f"{prefix}-") and name[len(prefix) + 1 :].isdecimal()
