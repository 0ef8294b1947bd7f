"""Network namespaces of containers, as objects."""

from __future__ import annotations

from dnet.model.values import frozen
from dnet.objects.object import Object


@frozen
class Sandbox(Object):
    """A network namespace, pinned at `path`, with a name in `ip netns` at `name_path`."""

    sandbox: str
    path: str
    name_path: str

    def __str__(self) -> str:
        return f"sandbox {self.sandbox} at {self.path}"


@frozen
class HostSandbox(Sandbox):
    """The host's own network namespace, pinned and named as a sandbox."""

    def __str__(self) -> str:
        return f"the host's network as sandbox {self.sandbox} at {self.path}"


@frozen
class JoinedSandbox(Sandbox, owned=True):
    """A network namespace that exists already: what is in it can be made, itself is left alone.

    Where `inode` and `cookie` are given, it has to be the namespace that has these.
    """

    inode: int = 0
    cookie: int = 0

    @classmethod
    def of(cls, sandbox: Sandbox) -> JoinedSandbox:
        """Return a sandbox as one that is there already."""
        if isinstance(sandbox, JoinedSandbox):
            return sandbox
        return cls(sandbox.sandbox, sandbox.path, sandbox.name_path)

    def __str__(self) -> str:
        return f"sandbox {self.sandbox} at {self.path}"
