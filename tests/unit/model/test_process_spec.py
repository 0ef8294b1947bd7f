"""What a container is asked to run, read and checked."""

from __future__ import annotations

import dataclasses

import pytest

from dnet.errors import InvalidRequest
from dnet.model.container import Process, Status
from dnet.model.container_spec import check_process


def test_everything_is_kept():
    """A process has what it was asked to have."""
    process = check_process(
        ["sh", "-c", "echo hi"],
        env={"A": "1", "B": "x=y"},
        workdir="/srv",
        user="web:staff",
        rootfs="/images/busybox",
        is_read_only=True,
        has_terminal=True,
        is_interactive=True,
        removes_itself=True,
    )
    assert process == Process(
        args=("sh", "-c", "echo hi"),
        env=(("A", "1"), ("B", "x=y")),
        workdir="/srv",
        user="web:staff",
        rootfs="/images/busybox",
        is_read_only=True,
        has_terminal=True,
        is_interactive=True,
        removes_itself=True,
    )


def test_last_variable_counts():
    """Of a variable that is given twice the last counts."""
    assert check_process(["true"], env=[("A", "1"), ("B", "2"), ("A", "3")]).env == (("A", "3"), ("B", "2"))


@pytest.mark.parametrize("user", ["", "0", "root", "web:staff", "1000:1000", "web:50", "a.b-c_d$"])
def test_users(user):
    """Users are names or numbers, perhaps with a group."""
    assert check_process(["true"], user=user).user == user


@pytest.mark.parametrize(
    ("words", "given"),
    [
        ("command", {"args": []}),
        ("command", {"args": [""]}),
        ("variable ''", {"env": {"": "x"}}),
        ("variable 'A=B'", {"env": {"A=B": "x"}}),
        ("zero byte", {"args": ["sh", "a\0b"]}),
        ("zero byte", {"env": {"A": "b\0"}}),
        ("zero byte", {"env": {"A\0": "b"}}),
        ("zero byte", {"workdir": "/a\0"}),
        ("zero byte", {"rootfs": "/a\0"}),
        ("working directory srv", {"workdir": "srv"}),
        ("root directory images", {"rootfs": "images"}),
        ("user ':staff'", {"user": ":staff"}),
        ("user 'web:'", {"user": "web:"}),
        ("user 'a:b:c'", {"user": "a:b:c"}),
        ("user 'a b'", {"user": "a b"}),
        (r"user 'web\\n'", {"user": "web\n"}),
    ],
)
def test_bad_requests(words, given):
    """What cannot be meant is refused, in words that name it."""
    with pytest.raises(InvalidRequest, match=words):
        check_process(given.pop("args", ["true"]), **given)


@pytest.mark.parametrize("value", [check_process(["true"]), Status(state="created")])
def test_values_are_frozen(value):
    """Neither value can be changed, and equal ones are equal."""
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(value, dataclasses.fields(value)[0].name, "x")
    assert dataclasses.replace(value) == value
