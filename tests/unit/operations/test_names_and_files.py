"""Renaming containers, and keeping their resolv.conf in step, on a host that is only remembered."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from dnet.drivers import desired, host_files
from dnet.errors import Conflict, InvalidRequest, KernelRefused, NotFound
from dnet.objects.links import NoAutoconf
from dnet.transaction import containers
from tests.support.engine_on_fakes import Machine, remembered, specs


@pytest.fixture
def machine(tmp_path, monkeypatch) -> Iterator[Machine]:
    """Yield a machine on which nothing exists yet."""
    with remembered(tmp_path, monkeypatch) as made:
        yield made


# Renaming


@pytest.fixture
def furnished(machine) -> Machine:
    """Return a machine with containers `web` and `db`."""
    machine.engine.create("web")
    machine.engine.create("db")
    return machine


def aliases(machine: Machine) -> set[str]:
    """Return the names that host interfaces carry in their ifalias."""
    return {item.alias for item in machine.kernel.objects if isinstance(item, NoAutoconf) and item.alias}


@pytest.mark.parametrize("kind", ["name", "id", "prefix"])
def test_rename(furnished, kind):
    """Renaming changes the name, the ifalias and the link to the files, and nothing else of a container."""
    web = furnished.engine.container("web")
    before = furnished.tree()
    (alias,) = [text for text in aliases(furnished) if "web" in text]
    reference = {"name": "web", "id": web.id, "prefix": web.id[:12]}[kind]
    renamed = furnished.engine.rename(reference, "front")
    assert renamed == replace(web, name="front") == furnished.engine.container("front")
    assert furnished.engine.names() == ["front", "db"]
    assert alias.replace("web", "front") in aliases(furnished)
    assert alias not in aliases(furnished)
    assert furnished.tree() == before | {"etc-netns/front": before.pop("etc-netns/web")}


def test_renamed_name_is_free(furnished):
    """The old name can be given to another container, and the renamed one be removed with all that it had."""
    furnished.engine.rename("web", "front")
    rows, tree = furnished.rows(), furnished.tree()
    furnished.engine.create("web")
    furnished.engine.delete("web")
    assert (furnished.rows(), furnished.tree()) == (rows, tree)
    furnished.engine.delete_many(["front", "db"])
    assert furnished.tree() == {}
    assert not [alias for alias in aliases(furnished) if "eth0" in alias]


@pytest.mark.parametrize("name", ["db", "web"])
def test_rename_to_a_taken_name(furnished, name):
    """A name that a container has, be it the same one, is a Conflict that names the holder; nothing has changed."""
    before = furnished.everything()
    with pytest.raises(Conflict, match=furnished.engine.container(name).id[:12]):
        furnished.engine.rename("web", name)
    assert furnished.everything() == before


def occupy(path: Path, kind: str) -> None:
    """Put something of somebody else's at a path."""
    match kind:
        case "file":
            path.touch()
        case "directory":
            path.mkdir()
        case "link":
            path.symlink_to("/nowhere/at/all")


@pytest.mark.parametrize("kind", ["file", "directory", "link"])
@pytest.mark.parametrize("place", ["NAME_DIRECTORY", "ETC_DIRECTORY"])
@pytest.mark.parametrize("verb", ["create", "rename"])
def test_foreign_name(furnished, kind, place, verb):
    """What somebody else has under a new name, for `ip netns` or its files, is a Conflict and stays."""
    path = Path(getattr(desired, place)) / "front"
    occupy(path, kind)
    before = furnished.everything()
    with pytest.raises(Conflict, match="front"):
        furnished.engine.create("front") if verb == "create" else furnished.engine.rename("web", "front")
    assert furnished.everything() == before
    assert os.path.lexists(path)


@pytest.mark.parametrize("verb", ["create", "rename"])
def test_stale_link_is_taken_over(furnished, verb):
    """A link to files of this engine's that are gone, as a database that was thrown away leaves, is no obstacle."""
    path = Path(desired.ETC_DIRECTORY) / "front"
    path.symlink_to(furnished.directory / "run" / "etc" / "0123456789ab")
    made = furnished.engine.create("front") if verb == "create" else furnished.engine.rename("web", "front")
    assert str(path.readlink()) == made.files


def test_foreign_name_with_keep_going(machine):
    """A foreign name fails the whole of a bulk before anything is made, as every name that is taken."""
    occupy(Path(desired.ETC_DIRECTORY) / "c-2", "directory")
    before = machine.everything()
    with pytest.raises(Conflict, match="c-2"):
        machine.engine.create_many(specs(3), keep_going=True)
    assert machine.everything() == before


def test_failed_rename_changes_nothing(furnished):
    """When the kernel refuses the new ifalias, the container has its old name everywhere."""
    before = furnished.everything()
    furnished.kernel.refuses = lambda item: isinstance(item, NoAutoconf)
    with pytest.raises(KernelRefused):
        furnished.engine.rename("web", "front")
    assert furnished.everything() == before


@pytest.mark.parametrize(
    ("reference", "name", "kind"),
    [("nope", "front", NotFound), ("", "front", NotFound), ("web", "a b", InvalidRequest)],
)
def test_bad_rename(furnished, reference, name, kind):
    """An unknown container and a name that cannot be are refused; nothing has changed."""
    before = furnished.everything()
    with pytest.raises(kind):
        furnished.engine.rename(reference, name)
    assert furnished.everything() == before


# The host's resolver

NEW_RESOLVER = "nameserver 198.51.100.54\nsearch example.org\n"


def resolver(machine: Machine, name: str) -> Path:
    """Return a container's resolv.conf."""
    return Path(machine.engine.container(name).files) / "resolv.conf"


def test_changed_resolver_reaches_the_containers(furnished):
    """When the host's resolver has changed, every container has it, in the same file as before; then all is done."""
    inodes = [resolver(furnished, name).stat().st_ino for name in ("web", "db")]
    Path(host_files.RESOLV_CONF).write_text(NEW_RESOLVER)
    assert furnished.engine.refresh_resolvers() == 2
    for name, inode in zip(("web", "db"), inodes, strict=True):
        assert set(NEW_RESOLVER.splitlines()) <= set(resolver(furnished, name).read_text().splitlines())
        assert resolver(furnished, name).stat().st_ino == inode
    assert furnished.engine.refresh_resolvers() == 0


def test_shorter_resolver_leaves_nothing_of_the_longer(furnished):
    """A file that becomes shorter holds nothing of what it was."""
    Path(host_files.RESOLV_CONF).write_text("search a.example b.example c.example\nnameserver 198.51.100.54\n")
    furnished.engine.refresh_resolvers()
    before = resolver(furnished, "web").read_text()
    Path(host_files.RESOLV_CONF).write_text("nameserver 198.51.100.1\n")
    furnished.engine.refresh_resolvers()
    after = resolver(furnished, "web").read_text()
    assert len(after) < len(before)
    assert after == resolver(furnished, furnished.engine.create("fresh").name).read_text()


def test_edited_resolver_is_left_alone(furnished):
    """A file that somebody has edited, and one that somebody has removed, stay so."""
    resolver(furnished, "web").write_text("nameserver 192.0.2.1\n")
    resolver(furnished, "db").unlink()
    Path(host_files.RESOLV_CONF).write_text(NEW_RESOLVER)
    assert furnished.engine.refresh_resolvers() == 0
    assert resolver(furnished, "web").read_text() == "nameserver 192.0.2.1\n"
    assert not resolver(furnished, "db").exists()


def test_own_resolver_is_left_alone(machine):
    """A container that was given servers and search domains of its own keeps its file as it is."""
    machine.engine.create("own", dns=["192.0.2.1"], dns_search=["own.example"], dns_options=["ndots:2"])
    before = resolver(machine, "own").stat()
    Path(host_files.RESOLV_CONF).write_text(NEW_RESOLVER)
    assert machine.engine.refresh_resolvers() == 0
    assert resolver(machine, "own").stat() == before


@pytest.mark.parametrize("text", ["", "\n \n", None], ids=["empty", "blank", "missing"])
def test_empty_resolver_changes_nothing(furnished, text):
    """While the host's file is empty or missing, since somebody is about to write it, nothing is rewritten."""
    before = furnished.everything()
    if text is None:
        Path(host_files.RESOLV_CONF).unlink()
    else:
        Path(host_files.RESOLV_CONF).write_text(text)
    assert furnished.engine.refresh_resolvers() == 0
    assert furnished.everything() == before


def test_container_removed_meanwhile_is_no_obstacle(furnished, monkeypatch):
    """A container that another process removes in the middle does not keep the others from being rewritten."""
    doomed = resolver(furnished, "web")

    def is_untouched(_text: str) -> bool:
        doomed.unlink(missing_ok=True)
        return True

    monkeypatch.setattr(host_files, "is_untouched", is_untouched)
    Path(host_files.RESOLV_CONF).write_text(NEW_RESOLVER)
    furnished.engine.refresh_resolvers()
    assert "nameserver 198.51.100.54" in resolver(furnished, "db").read_text()
    assert not doomed.exists()


def test_watch(furnished):
    """Watching catches up at the start, then tells after every change how many files were rewritten."""
    furnished.kernel.resolver_changes = 2
    Path(host_files.RESOLV_CONF).write_text(NEW_RESOLVER)
    watching = furnished.engine.watch()
    assert next(watching) == 2
    assert next(watching) == 0
    Path(host_files.RESOLV_CONF).write_text("nameserver 198.51.100.55\n")
    furnished.engine.create("late")
    assert list(watching) == [2]
    [watched] = [paths for name, paths in furnished.kernel.log if name == "watch"]
    assert set(watched) >= {host_files.RESOLV_CONF, containers.SYSTEMD_RESOLV_CONF}
