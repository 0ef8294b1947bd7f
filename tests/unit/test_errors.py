"""The exception tree."""

from __future__ import annotations

import errno
import inspect
import os
import pickle
import re

import pytest

from dnet import errors

TREE = {
    "InvalidRequest": ValueError,
    "NotFound": LookupError,
    "Conflict": Exception,
    "Exhausted": Exception,
    "Unsupported": Exception,
    "KernelRefused": OSError,
    "OvsError": Exception,
    "RuntimeFailed": Exception,
    "StateError": Exception,
    "NeedsRoot": PermissionError,
}


def _classes() -> dict[str, type]:
    return {
        name: kind for name, kind in vars(errors).items() if inspect.isclass(kind) and kind.__module__ == "dnet.errors"
    }


def _example(kind: type[errors.DnetError]) -> errors.DnetError:
    if kind is errors.KernelRefused:
        return kind("create bridge br0", errno.EBUSY, "Device or resource busy (in use)", hint="wait")
    return kind("there is no bridge br0", object="br0", hint="make one")


@pytest.mark.parametrize("name", TREE)
def test_kinds_are_what_callers_catch(name):
    """Every kind is a DnetError, and also the builtin that a Python programmer would expect."""
    kind = _classes()[name]
    assert issubclass(kind, errors.DnetError)
    assert issubclass(kind, TREE[name])


@pytest.mark.parametrize("kind", _classes().values(), ids=lambda kind: kind.__name__)
def test_sentence_object_and_hint_are_kept(kind):
    """The text of an error is its sentence alone; the object and the hint are beside it."""
    error = _example(kind)
    expected = "cannot create bridge br0: Device or resource busy (in use)"
    assert str(error) == (expected if kind is errors.KernelRefused else "there is no bridge br0")
    assert error.object in {"br0", "create bridge br0"}
    assert error.hint in {"make one", "wait"}


def test_hint_and_object_default_to_nothing():
    """An error without object and hint has empty ones, so that nobody has to ask for None."""
    error = errors.NotFound("there is none")
    assert (error.object, error.hint) == ("", "")


@pytest.mark.parametrize("number", [errno.EEXIST, errno.ENOENT, errno.EXFULL, errno.ENOBUFS])
def test_kernel_refusal_uses_the_kernels_words(number):
    """A refusal names the object and gives the words that it is told; the code is in errno."""
    what = "create address 10.1.0.2/16 on eth0 in sandbox web"
    error = errors.KernelRefused(what, number, os.strerror(number))
    assert str(error) == f"cannot create address 10.1.0.2/16 on eth0 in sandbox web: {os.strerror(number)}"
    assert error.errno == number


def test_kernel_refusal_without_a_code_says_the_text():
    """A refusal whose code is unknown gives the text."""
    assert str(errors.KernelRefused("set up nftables", 0, "syntax error")) == "cannot set up nftables: syntax error"


def test_kernel_refusal_is_caught_as_oserror():
    """Code that knows nothing of dnet catches a refusal as OSError and finds its errno."""
    with pytest.raises(OSError, match="File exists") as caught:
        raise errors.KernelRefused("create bridge br0", errno.EEXIST, os.strerror(errno.EEXIST))
    assert caught.value.errno == errno.EEXIST


def test_tree_in_the_docstring_is_the_tree():
    """The tree drawn at the top of the module has exactly the classes that exist."""
    drawn = re.findall(r"^ *([A-Z]\w+)(?= |$)", (errors.__doc__ or "").partition("\n\n")[2], flags=re.MULTILINE)
    assert set(drawn) == set(_classes())


@pytest.mark.parametrize("kind", _classes().values(), ids=lambda kind: kind.__name__)
def test_errors_travel_between_processes(kind):
    """An error raised in a worker process arrives whole in the one that waits for it."""
    error = _example(kind)
    arrived = pickle.loads(pickle.dumps(error))  # noqa: S301  our own bytes
    assert type(arrived) is kind
    assert (str(arrived), arrived.object, arrived.hint) == (str(error), error.object, error.hint)
    assert getattr(arrived, "errno", None) == getattr(error, "errno", None)


@pytest.mark.parametrize("kind", _classes().values(), ids=lambda kind: kind.__name__)
def test_kinds_do_not_cover_each_other(kind):
    """No kind is a special case of another, so one table can map each to its exit code."""
    others = [other for other in _classes().values() if other not in {kind, errors.DnetError}]
    assert not [other for other in others if issubclass(kind, other)]
