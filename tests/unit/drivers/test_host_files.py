"""The text of a container's hosts, hostname and resolv.conf."""

from __future__ import annotations

from ipaddress import IPv6Address, IPv6Interface, IPv6Network

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from dnet.drivers import host_files
from dnet.model.container import Container, Link, Settings
from tests.support import samples

BLUE = samples.network("blue", "10.1.0.0/16")
SIX = samples.network("six", "10.2.0.0/16", subnet6=IPv6Network("fd00:2::/64"), gateway6=IPv6Address("fd00:2::1"))
PUBLIC = ["8.8.8.8", "8.8.4.4"]
PUBLIC6 = ["2001:4860:4860::8888", "2001:4860:4860::8844"]
HOST = "nameserver 192.0.2.53\nsearch corp.example\noptions edns0\n"
STUB = "nameserver 127.0.0.53\noptions edns0 trust-ad\nsearch .\n"
# What systemd-resolved knows behind its stub.
SYSTEMD = "nameserver 198.51.100.1\nnameserver 198.51.100.2\nsearch lan.example\n"
# Docker's, reference: libnetwork's etchosts package.
LOCAL_HOSTS = """\
127.0.0.1\tlocalhost
::1\tlocalhost ip6-localhost ip6-loopback
fe00::\tip6-localnet
ff00::\tip6-mcastprefix
ff02::1\tip6-allnodes
ff02::2\tip6-allrouters
"""


def web(*, six: bool = False, hostname: str = "web", **settings) -> Container:
    """Return a container on BLUE, or on SIX with addresses of both families."""
    end = samples.endpoint(BLUE, "10.1.0.2")
    if six:
        end = samples.endpoint(SIX, "10.2.0.2", address6=IPv6Interface("fd00:2::2/64"))
    return samples.container("web", [end], settings=Settings(hostname=hostname, **settings))


def lines(text: str, keyword: str) -> list[list[str]]:
    """Return the words after a keyword, line by line."""
    return [line.split()[1:] for line in text.splitlines() if line.startswith(f"{keyword} ")]


def servers(text: str) -> list[str]:
    """Return the name servers in a resolv.conf."""
    return [word for words in lines(text, "nameserver") for word in words]


# hostname


def test_hostname():
    """The file has the host name alone on a line, without the domain."""
    assert host_files.hostname(web(hostname="front", domainname="example.org")) == "front\n"


# hosts


def test_hosts_begins_as_dockers():
    """The file begins with the lines for localhost that Docker writes, then come the container's own names."""
    assert host_files.hosts(web(), [BLUE]) == f"{LOCAL_HOSTS}10.1.0.2\tweb\n"


def test_both_addresses_have_the_name():
    """A container with addresses of both families finds itself at both."""
    assert host_files.hosts(web(six=True), [SIX]) == f"{LOCAL_HOSTS}10.2.0.2\tweb\nfd00:2::2\tweb\n"


def test_every_endpoint_has_the_name():
    """A container on two networks finds itself at its address on either."""
    ends = [samples.endpoint(BLUE, "10.1.0.2"), samples.endpoint(SIX, "10.2.0.2", interface="eth1", index=77)]
    text = host_files.hosts(samples.container("web", ends), [BLUE, SIX])
    assert text == f"{LOCAL_HOSTS}10.1.0.2\tweb\n10.2.0.2\tweb\n"


def test_hosts_without_a_network():
    """A container without a network has the lines for localhost."""
    assert host_files.hosts(samples.container("alone"), []) == LOCAL_HOSTS


@pytest.mark.parametrize(
    ("hostname", "domainname", "names"),
    [
        ("web", "", "web"),
        ("web", "example.org", "web.example.org web"),
        ("web.example.org", "", "web.example.org web"),
        ("web.a", "example.org", "web.a.example.org web"),
    ],
)
def test_own_names(hostname, domainname, names):
    """A container finds itself by its full name, and by the part before the first dot, as Docker has it."""
    text = host_files.hosts(web(hostname=hostname, domainname=domainname), [BLUE])
    assert text.splitlines()[-1] == f"10.1.0.2\t{names}"


def test_extra_hosts():
    """Hosts that were added come in the order given, one name twice too, before the container's own."""
    extra = (("db", "10.0.0.5"), ("db", "10.0.0.6"), ("cache", "fd00::5"))
    text = host_files.hosts(web(extra_hosts=extra), [BLUE])
    added = "10.0.0.5\tdb\n10.0.0.6\tdb\nfd00::5\tcache\n"
    assert text == f"{LOCAL_HOSTS}{added}10.1.0.2\tweb\n"


def test_host_gateway():
    """`host-gateway` becomes the gateway of the container's first network, where the host is."""
    text = host_files.hosts(web(extra_hosts=(("host", "host-gateway"), ("db", "10.0.0.5"))), [BLUE, SIX])
    assert text == f"{LOCAL_HOSTS}10.1.0.1\thost\n10.0.0.5\tdb\n10.1.0.2\tweb\n"


def test_host_gateway_without_a_network():
    """Without a network there is no way to the host, and no line that pretends so."""
    alone = samples.container("alone", settings=Settings(hostname="alone", extra_hosts=(("host", "host-gateway"),)))
    assert host_files.hosts(alone, []) == LOCAL_HOSTS


# Name servers of resolv.conf


@pytest.mark.parametrize(
    ("host", "systemd", "four", "six"),
    [
        pytest.param(HOST, "", ["192.0.2.53"], ["192.0.2.53"], id="the host's"),
        pytest.param(HOST, SYSTEMD, ["192.0.2.53"], ["192.0.2.53"], id="the host's, not systemd's"),
        pytest.param(
            "nameserver 127.0.0.1\nnameserver 192.0.2.1\nnameserver ::1\nnameserver 192.0.2.2\n",
            SYSTEMD,
            ["192.0.2.1", "192.0.2.2"],
            ["192.0.2.1", "192.0.2.2"],
            id="those that are not on loopback",
        ),
        pytest.param(
            "nameserver 2001:db8::53\nnameserver 192.0.2.1\n",
            "",
            ["192.0.2.1"],
            ["2001:db8::53", "192.0.2.1"],
            id="IPv6 only with IPv6",
        ),
        pytest.param("nameserver 2001:db8::53\n", "", PUBLIC, ["2001:db8::53"], id="nothing but IPv6"),
        pytest.param(STUB, SYSTEMD, ["198.51.100.1", "198.51.100.2"], ["198.51.100.1", "198.51.100.2"], id="systemd's"),
        pytest.param(STUB, "", PUBLIC, PUBLIC + PUBLIC6, id="a stub without systemd's file"),
        pytest.param(STUB, "# none\n", PUBLIC, PUBLIC + PUBLIC6, id="systemd's file without servers"),
        pytest.param(STUB, STUB, PUBLIC, PUBLIC + PUBLIC6, id="loopback in systemd's file"),
        pytest.param("nameserver 127.9.9.9\n", "", PUBLIC, PUBLIC + PUBLIC6, id="all of 127.0.0.0/8"),
        pytest.param("", "", PUBLIC, PUBLIC + PUBLIC6, id="no file"),
        pytest.param(
            "# nameserver 192.0.2.9\n; nameserver 192.0.2.9\nnameserver\nnameserver ns1\n\tnameserver\t192.0.2.1 # x\n",
            "",
            ["192.0.2.1"],
            ["192.0.2.1"],
            id="comments, and what is no address",
        ),
    ],
)
def test_name_servers(host, systemd, four, six):
    """A container has the host's name servers that it can reach, else systemd's, else public ones."""
    assert servers(host_files.resolv_conf(web(), host, systemd)) == four
    assert servers(host_files.resolv_conf(web(six=True), host, systemd)) == six


def test_own_servers_are_taken_as_they_are():
    """Servers that a container was given replace the host's, whatever they are: loopback and IPv6 too."""
    own = ("127.0.0.1", "2001:db8::1", "192.0.2.1")
    assert servers(host_files.resolv_conf(web(dns=own), HOST, SYSTEMD)) == list(own)


# Search domains and options of resolv.conf


@pytest.mark.parametrize(
    ("host", "search"),
    [
        ("nameserver 192.0.2.1\n", []),
        ("search a.example b.example\n", [["a.example", "b.example"]]),
        ("domain a.example\n", [["a.example"]]),
        ("domain a.example\nsearch b.example\n", [["b.example"]]),
        ("search b.example\ndomain a.example\n", [["a.example"]]),
        ("search a.example\nsearch b.example c.example\n", [["b.example", "c.example"]]),
        ("search .\n", []),
    ],
)
def test_search_domains(host, search):
    """Of the host's search and domain lines the last counts (resolv.conf(5)); the root alone is nothing to search."""
    text = host_files.resolv_conf(web(), host + "nameserver 192.0.2.1\n", "")
    assert lines(text, "search") == search
    assert lines(text, "domain") == []


def test_options_add_up():
    """All of the host's options lines count, as they do in the C library and with Docker."""
    text = host_files.resolv_conf(web(), "options ndots:2 edns0\nnameserver 192.0.2.1\noptions rotate\n", "")
    assert lines(text, "options") == [["ndots:2", "edns0", "rotate"]]


def test_systemds_file_brings_its_search():
    """With systemd's servers come the search domains of its file, not those beside the stub."""
    text = host_files.resolv_conf(web(), STUB, SYSTEMD)
    assert lines(text, "search") == [["lan.example"]]


def test_each_override_is_by_itself():
    """Own servers leave the host's search and options as they are, own search the servers and options, and so on."""
    whole = (["192.0.2.53"], [["corp.example"]], [["edns0"]])
    for own, changed in (
        ({"dns": ("203.0.113.1",)}, 0),
        ({"dns_search": ("own.example", "b.example")}, 1),
        ({"dns_options": ("ndots:4", "rotate")}, 2),
    ):
        text = host_files.resolv_conf(web(**own), HOST, "")
        expected = list(whole)
        (words,) = own.values()
        expected[changed] = list(words) if changed == 0 else [list(words)]
        assert [servers(text), lines(text, "search"), lines(text, "options")] == expected


def test_no_search_at_all():
    """`--dns-search .` means no search domains, although the host has some."""
    assert "search" not in host_files.resolv_conf(web(dns_search=(".",)), HOST, "")


# Whether somebody has edited it


def test_fresh_text_is_untouched():
    """A text as it is made counts as untouched, and the mark of that is a comment."""
    text = host_files.resolv_conf(web(), HOST, "")
    assert host_files.is_untouched(text)
    assert text.splitlines()[-1].startswith("#")
    assert text.endswith("\n")


EDITS = {
    "line added at the end": lambda text: text + "nameserver 203.0.113.1\n",
    "line added at the start": lambda text: "nameserver 203.0.113.1\n" + text,
    "server changed": lambda text: text.replace("192.0.2.53", "192.0.2.54"),
    "line removed": lambda text: text.replace("search corp.example\n", ""),
    "checksum removed": lambda text: "".join(text.splitlines(keepends=True)[:-1]),
    "all lines swapped": lambda text: "".join(sorted(text.splitlines(keepends=True))),
    "emptied": lambda _: "",
    "text of somebody else": lambda _: HOST,
    "comment added": lambda text: text.replace("search", "# mine\nsearch"),
}


@pytest.mark.parametrize("edit", EDITS.values(), ids=EDITS)
def test_edit_is_noticed(edit):
    """Whatever somebody changes, a text that was edited does not count as untouched."""
    assert not host_files.is_untouched(edit(host_files.resolv_conf(web(), HOST, "")))


WORDS = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=60)
CONF = st.lists(
    st.one_of(
        WORDS,
        st.ip_addresses().map(lambda address: f"nameserver {address}"),
        st.tuples(st.sampled_from(["search", "options", "domain", "nameserver", "#"]), WORDS).map(" ".join),
    )
).map("\n".join)


@given(host=CONF, systemd=CONF, six=st.booleans())
@example(host="search \x85 \u2028", systemd="options \x1c", six=False)
def test_any_text_of_the_hosts(host, systemd, six):
    """Whatever is in the host's files, there is a server that can be reached, and the text counts as untouched."""
    text = host_files.resolv_conf(web(six=six), host, systemd)
    found = servers(text)
    assert found
    assert all(six or ":" not in server for server in found)
    assert host_files.is_untouched(text)
    assert text == host_files.resolv_conf(web(six=six), host, systemd)
    assert all(
        line.split()[0] in {"nameserver", "search", "options"} or line[0] == "#" for line in text.split("\n")[:-1]
    )


# Lines of links, and of networks that come and go


def test_link_lines():
    """A link is `ADDRESS ALIAS HOSTNAME NAME` for each address of the child, a name that recurs written once."""
    net = samples.network(subnet6=IPv6Network("fd00:1::/64"))
    end = samples.endpoint(net, "10.1.0.2", address6=IPv6Interface("fd00:1::2/64"))
    for alias, hostname, names in (("a", "h", "a h db"), ("db", "h", "db h"), ("a", "db", "a db"), ("db", "db", "db")):
        child = samples.container("db", [end], settings=Settings(hostname=hostname))
        text = host_files.link_lines(Link("web", "db", alias), child, (end.address, end.address6))
        assert text == f"10.1.0.2\t{names}\nfd00:1::2\t{names}\n"


@pytest.mark.parametrize(
    ("text", "before", "after", "expected"),
    [
        ("a\nb\n", "a\nb\n", "b\nc\n", "b\nc\n"),
        ("a\nmine\nb\n", "a\nb\n", "b\n", "mine\nb\n"),
        ("a\nmine\n", "a\n", "", "mine\n"),
        ("mine", "", "a\n", "mine\na\n"),
        ("", "a\n", "b\n", "b\n"),
        ("a\na\n", "a\n", "", "a\n"),
        ("b\n", "a\n", "b\n", "b\n"),
        ("# b\n\n", "a\n", "a\nb\n", "# b\n\nb\n"),
    ],
)
def test_edited(text, before, after, expected):
    """Lines that dnet no longer means go, new ones come at the end, and everybody else's stay where they are."""
    assert host_files.edited(text, before, after) == expected


@given(st.lists(st.sampled_from("abcdef"), unique=True), st.lists(st.sampled_from("abcdef"), unique=True), st.data())
def test_edits_can_be_taken_back(before, after, data):
    """Whatever somebody has added, going from one text to another and back leaves those lines, and the first text's."""
    mine = data.draw(st.lists(st.sampled_from("uvwxyz"), unique=True))
    one, other = ("".join(f"{line}\n" for line in lines) for lines in (before, after))
    text = "".join(f"{line}\n" for line in data.draw(st.permutations(before + mine)))
    there = host_files.edited(text, one, other)
    assert sorted(there.split()) == sorted(after + mine)
    back = host_files.edited(there, other, one)
    assert sorted(back.split()) == sorted(before + mine)
    assert [line for line in back.split() if line in mine] == [line for line in text.split() if line in mine]


def test_lines_are_the_readers():
    """Only a newline ends a line: what somebody has written stays, whatever other separators are in it."""
    text = "127.0.0.1 localhost\r\n# note \f10.0.0.1 evil \x85 x\n10.1.0.2 web\n"
    edited = host_files.edited(text, "10.1.0.2 web\n", "10.1.0.3 web\n")
    assert edited == text.replace("10.1.0.2", "10.1.0.3")


def test_bytes_of_the_hosts():
    """What is not UTF-8 in a resolv.conf does not keep it from being looked at."""
    assert not host_files.is_untouched("# \udcff\n" + host_files.resolv_conf(web(), HOST, ""))
