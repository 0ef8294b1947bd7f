"""The errors that dnet raises, sorted by what the caller can do about them.

DnetError
  InvalidRequest   (ValueError)      the call is wrong; nothing was changed
  NotFound         (LookupError)     no such network, container or endpoint
  Conflict                           a name, address or port is taken
  Exhausted                          no address, port or bridge port is left
  Unsupported                        this kernel or host lacks something
  KernelRefused    (OSError)         the kernel refused, in its words
  OvsError                           Open vSwitch cannot be reached or refused, in its words
  RuntimeFailed                      the OCI runtime refused, in its words
  StateError                         the database is damaged or from the future
  NeedsRoot        (PermissionError) the process lacks the privilege
"""

from __future__ import annotations

import errno as codes

AS_ROOT = "run it as root, with sudo say"


class DnetError(Exception):
    """Base of all. The text is one sentence.

    object: name of what the error is about, as the caller or the kernel knows it; may be empty
    hint: what the user can do, in one sentence; may be empty
    """

    def __init__(self, sentence: str, *, object: str = "", hint: str = "") -> None:  # noqa: A002
        super().__init__(sentence)
        self.object = object
        self.hint = hint


class InvalidRequest(DnetError, ValueError):
    """The call is wrong; nothing was changed."""


class NotFound(DnetError, LookupError):
    """There is no such network, container or endpoint."""


class Conflict(DnetError):
    """A name, an address, a port or a device is taken."""


class Exhausted(DnetError):
    """There are not enough addresses, ports or bridge ports."""


class Unsupported(DnetError):
    """This kernel or host lacks what the request needs."""


class KernelRefused(DnetError, OSError):
    """The kernel refused something. `errno` is its code, or 0 when only its words are known."""

    def __init__(self, what: str, errno: int, reason: str = "refused", *, hint: str = "") -> None:
        DnetError.__init__(self, f"cannot {what}: {reason}", object=what, hint=hint)
        self.errno = errno
        self._arguments = (what, errno, reason)

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), self._arguments, {"hint": self.hint}


class OvsError(DnetError):
    """Open vSwitch (its database or ovs-vswitchd) cannot be reached, or refused something."""


class RuntimeFailed(DnetError):
    """The OCI runtime refused.

    exit_code: what a shell exits with: 127 when the program is missing, 126 when it cannot be executed, else 125
    """

    def __init__(self, sentence: str, *, object: str = "", hint: str = "", exit_code: int = 125) -> None:  # noqa: A002
        super().__init__(sentence, object=object, hint=hint)
        self.exit_code = exit_code


class StateError(DnetError):
    """The database is damaged, unreadable, or written by a newer dnet."""


class NeedsRoot(DnetError, PermissionError):
    """The process lacks a privilege (CAP_NET_ADMIN, CAP_SYS_ADMIN, or access to the state directory)."""


def refused(what: str, errno: int, reason: str, *, words: str = "", unsupported: str = "") -> DnetError:
    """Return the error for something that the kernel refused.

    what: an imperative, such as `create bridge dnet0`
    reason: the name of `errno` for people
    words: what the kernel said in addition
    unsupported: for a feature that this kernel lacks, the hint; without it, that is KernelRefused
    """
    if errno == codes.EPERM:
        return NeedsRoot(f"cannot {what}: {reason}", object=what, hint=AS_ROOT)
    if unsupported:
        return Unsupported(f"cannot {what}: {words or reason}", object=what, hint=unsupported)
    return KernelRefused(what, errno, f"{reason} ({words})" if words else reason)
