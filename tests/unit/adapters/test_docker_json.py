"""Documents with Docker's field names, and Docker's templates over them."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from ipaddress import IPv4Address, IPv4Network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dnet.adapters import docker_json
from dnet.errors import InvalidRequest
from dnet.model.container import Link
from tests.support import samples

BLUE = samples.network("blue", "10.1.0.0/16", labels={"tier": "front"})
RED = samples.network("red", "10.2.0.0/24", internal=True)
NETWORKS = [BLUE, RED]
END = samples.endpoint(BLUE, "10.1.0.2")
WEB = samples.container("web", [END, samples.endpoint(RED, "10.2.0.9", interface="eth1", index=77)], labels={"a": "b"})
ALONE = samples.container("alone")
DOCUMENT = {
    "Name": "web",
    "State": {"Pid": 0, "Running": True, "Status": "created"},
    "Empty": {},
    "List": ["a", 1, None],
    "Text": "{{ .Name }} 'quoted' \\d",
    "Deep": {"b": {"c": 2}, "a": [1]},
}

# cli.md: what `inspect` prints of a container.
CONTAINER_FIELDS = {
    "": {
        "Id",
        "Name",
        "Created",
        "State",
        "Config",
        "HostConfig",
        "HostsPath",
        "HostnamePath",
        "ResolvConfPath",
        "NetworkSettings",
    },
    "State": {"Status", "Pid"},
    "Config": {"Hostname", "Domainname", "Env", "ExposedPorts", "Labels"},
    "HostConfig": {"NetworkMode", "Links", "PublishAllPorts", "Dns", "DnsSearch"},
    "NetworkSettings": {"SandboxKey", "IPAddress", "IPPrefixLen", "Gateway", "MacAddress", "Ports", "Networks"},
}
ENDPOINT_FIELDS = {"IPAddress", "IPPrefixLen", "Gateway", "MacAddress", "EndpointID", "NetworkID", "Aliases"}
ENDPOINT_FIELDS |= {"HostInterface", "Vlan"}
NETWORK_FIELDS = {
    "Name",
    "Id",
    "Driver",
    "Internal",
    "EnableIPv6",
    "IPAM",
    "Options",
    "Labels",
    "Containers",
    "Segments",
}
MEMBER_FIELDS = {"Name", "EndpointID", "MacAddress", "IPv4Address", "IPv6Address"}
BULK_FIELDS = {"name", "id", "ip", "mac", "gateway", "sandbox", "host_interface", "ports"}

GOOD = {
    "{{ .Name }}": "web",
    "{{.Name}}": "web",
    "{{   .Name\t}}": "web",
    "{{ .Name }}/{{ .State.Pid }}": "web/0",
    "no placeholder": "no placeholder",
    "": "",
    "{ .Name }": "{ .Name }",
    "{{ .State.Running }}": "true",
    "{{ .List }}": "[a 1 <no value>]",
    "{{ .Deep }}": "map[a:[1] b:map[c:2]]",
    "{{ .Empty }}": "map[]",
    "{{ .Text }}": DOCUMENT["Text"],
    "é {{ .Name }} \\1": "é web \\1",
}
BAD = {
    "never closed": "{{ .Name",
    "never opened": ".Name }}",
    "opened twice": "{{ {{ .Name }}",
    "closed twice": "{{ .Name }} }}",
    "nothing inside": "{{ }}",
    "nothing at all inside": "{{}}",
    "no dot": "{{ Name }}",
    "two paths": "{{ .Name .State }}",
    "json of nothing": "{{ json }}",
    "json of two": "{{ json .Name .State }}",
    "another function": "{{ upper .Name }}",
    "range": "{{ range .List }}",
    "end": "{{ end }}",
    "pipe": "{{ .Name | upper }}",
    "literal": '{{ "Name" }}',
    "two dots": "{{ ..Name }}",
    "two dots within": "{{ .State..Pid }}",
    "dot at the end": "{{ .Name. }}",
    "exclamation mark": "{{ .Name! }}",
    "brackets": "{{ .List[0] }}",
    "two paths without a space": "{{ .Name,.State }}",
    "json without a dot": "{{ json Name }}",
    "json with two dots": "{{ json ..Name }}",
}


@pytest.mark.parametrize(("template", "expected"), GOOD.items())
def test_good_template(template, expected):
    """A dotted template is filled as Docker's templates are; what is outside braces stays as it is."""
    assert docker_json.render(template, DOCUMENT) == expected


@pytest.mark.parametrize("template", [pytest.param(text, id=label) for label, text in BAD.items()])
def test_bad_template(template):
    """A template that cannot be read is refused before any look-up; the error quotes it and shows a good one."""
    with pytest.raises(InvalidRequest) as caught:
        docker_json.check_template(template)
    assert repr(template) in str(caught.value)
    assert "{{ .Name }}" in caught.value.hint
    with pytest.raises(InvalidRequest):
        docker_json.render(template, DOCUMENT)


@pytest.mark.parametrize("template", ["{{ .Nome }}", "{{ .State.Nope }}", "{{ .Name.First }}", "{{ json .List.x }}"])
def test_unknown_field(template):
    """A field that does not exist is refused by its name, not answered with nothing."""
    docker_json.check_template(template)
    with pytest.raises(InvalidRequest, match=template.strip("{} ").rpartition(".")[2]):
        docker_json.render(template, DOCUMENT)


def test_unknown_field_lists_the_known():
    """The error about a field that does not exist lists those that do."""
    with pytest.raises(InvalidRequest, match="Pid, Running, Status"):
        docker_json.render("{{ .State.pid }}", DOCUMENT)


@pytest.mark.parametrize("path", [".", ".State", ".List", ".Text", ".Deep.a"])
def test_json(path):
    """`json` gives the value as JSON; a single dot means the whole document."""
    value = DOCUMENT
    for key in path.split("."):
        value = value[key] if key else value
    assert json.loads(docker_json.render(f"{{{{ json {path} }}}}", DOCUMENT)) == value


@given(st.text(st.characters(exclude_characters="{}")), st.text())
def test_values_are_not_read_as_templates(text, value):
    """Whatever a value holds, it arrives as it is, and so does the text around the braces."""
    assert docker_json.render(f"{text}{{{{ .Name }}}}{text}", {"Name": value}) == f"{text}{value}{text}"


def test_container_fields():
    """The document of a container has the contract's fields, with and without an endpoint."""
    for container in (WEB, ALONE):
        document = docker_json.container_document(container, NETWORKS)
        for place, names in CONTAINER_FIELDS.items():
            assert names <= set(document[place] if place else document)
        for end in document["NetworkSettings"]["Networks"].values():
            assert set(end) >= ENDPOINT_FIELDS


def test_container_document():
    """The document of a container says who and where it is; the address at the top is its first endpoint's."""
    document = docker_json.container_document(WEB, NETWORKS)
    assert (document["Id"], document["Name"]) == (WEB.id, "web")
    assert document["Config"]["Labels"] == {"a": "b"}
    assert document["HostConfig"]["NetworkMode"] == "blue"
    settings = document["NetworkSettings"]
    assert settings["SandboxKey"] == WEB.sandbox
    top = [settings[key] for key in ("IPAddress", "IPPrefixLen", "Gateway", "MacAddress")]
    assert top == ["10.1.0.2", 16, "10.1.0.1", "02:42:0a:01:00:02"]
    assert list(settings["Networks"]) == ["blue", "red"]


def test_endpoint_document():
    """Each endpoint is under its network's name, one of an internal network without a gateway."""
    networks = docker_json.container_document(WEB, NETWORKS)["NetworkSettings"]["Networks"]
    blue, red = networks["blue"], networks["red"]
    assert (blue["IPAddress"], blue["IPPrefixLen"], blue["Gateway"]) == ("10.1.0.2", 16, "10.1.0.1")
    assert (blue["HostInterface"], blue["EndpointID"], blue["NetworkID"]) == (END.host_interface, END.id, BLUE.id)
    assert (red["IPAddress"], red["IPPrefixLen"], red["Gateway"]) == ("10.2.0.9", 24, "")


def test_gateway_without_default_route():
    """The gateway of a network is told also where the default route leads another way, as Docker does."""
    end = replace(END, gateway=None)
    shown = docker_json.container_document(replace(WEB, endpoints=(end,)), NETWORKS)["NetworkSettings"]["Networks"]
    assert shown["blue"]["Gateway"] == "10.1.0.1"


def test_container_without_endpoint():
    """A container of mode none has empty addresses, as with Docker."""
    settings = docker_json.container_document(ALONE, NETWORKS)["NetworkSettings"]
    assert [settings[key] for key in ("IPAddress", "IPPrefixLen", "Gateway", "MacAddress")] == ["", 0, "", ""]
    assert settings["Networks"] == {}


@given(st.floats(min_value=0, max_value=4e9))
def test_timestamps(seconds):
    """A time is RFC 3339 in UTC, to the microsecond."""
    text = docker_json.timestamp(seconds)
    assert text.endswith("Z")
    assert abs(datetime.fromisoformat(text).timestamp() - seconds) < 1e-5
    assert datetime.fromisoformat(text).tzinfo == UTC


def test_network_fields():
    """The document of a network has the contract's fields, those of its members included."""
    document = docker_json.network_document(BLUE, [WEB])
    assert set(document) >= NETWORK_FIELDS
    assert set(document["Containers"][WEB.id]) >= MEMBER_FIELDS


def test_network_document():
    """The document of a network gives its subnet, gateway, range and auxiliary addresses as Docker does."""
    net = samples.network(
        "blue",
        "10.1.0.0/16",
        ip_range=IPv4Network("10.1.7.0/24"),
        aux_addresses={"router": IPv4Address("10.1.0.9")},
        internal=True,
    )
    document = docker_json.network_document(net, [])
    (config,) = [item for item in document["IPAM"]["Config"] if "." in item["Subnet"]]
    assert (config["Subnet"], config["Gateway"], config["IPRange"]) == ("10.1.0.0/16", "10.1.0.1", "10.1.7.0/24")
    assert config["AuxiliaryAddresses"] == {"router": "10.1.0.9"}
    assert document["Internal"] is True
    assert document["Containers"] == {}
    assert document["Options"]["com.docker.network.bridge.name"] == net.device


def test_network_without_range():
    """A network without a range has no IPRange, as with Docker."""
    assert "IPRange" not in docker_json.network_document(BLUE, [])["IPAM"]["Config"][0]


def test_network_members():
    """A network shows its own endpoints only, each with its address and prefix length."""
    blue = docker_json.network_document(BLUE, [WEB, ALONE])["Containers"]
    red = docker_json.network_document(RED, [WEB, ALONE])["Containers"]
    assert [(item["Name"], item["IPv4Address"]) for item in blue.values()] == [("web", "10.1.0.2/16")]
    assert [(item["Name"], item["IPv4Address"]) for item in red.values()] == [("web", "10.2.0.9/24")]


def test_segments_count_their_endpoints():
    """A network of one bridge is one segment, with the number of its endpoints."""
    segments = docker_json.network_document(BLUE, [WEB])["Segments"]
    assert segments == [{"Device": BLUE.device, "Endpoints": 1}]


def test_row_of_ps():
    """A line of `ps` has the contract's eight columns, with the short id and all networks and addresses."""
    row = docker_json.row(WEB, {})
    assert len(row) == 8
    assert row[:5] == (WEB.id[:12], "web", "blue", "blue, red", "10.1.0.2, 10.2.0.9")
    assert row[6] == "created"
    assert all(isinstance(cell, str) for cell in docker_json.row(ALONE, {}))


def test_row_document():
    """An entry of `ps --json` has whole ids and lists."""
    entry = docker_json.row_document(WEB, {})
    assert (entry["id"], entry["networks"], entry["ips"]) == (WEB.id, ["blue", "red"], ["10.1.0.2", "10.2.0.9"])
    assert entry["labels"] == {"a": "b"}


def test_bulk_document():
    """An entry of `bulk-create --json` has the contract's fields, of the first endpoint."""
    entry = docker_json.bulk_document(WEB)
    assert set(entry) >= BULK_FIELDS
    assert (entry["ip"], entry["mac"], entry["gateway"]) == ("10.1.0.2", "02:42:0a:01:00:02", "10.1.0.1")
    assert (entry["sandbox"], entry["host_interface"]) == (WEB.sandbox, END.host_interface)
    assert docker_json.bulk_document(ALONE)["ip"] == ""


@pytest.mark.parametrize(
    "document",
    [
        docker_json.container_document(WEB, NETWORKS),
        docker_json.container_document(ALONE, NETWORKS),
        docker_json.network_document(BLUE, [WEB]),
        docker_json.row_document(WEB, {}),
        docker_json.bulk_document(WEB),
        docker_json.brief_network(BLUE),
    ],
)
def test_documents_are_json(document):
    """Every document can be written as JSON and read again without loss."""
    assert json.loads(json.dumps(document)) == document


def test_documented_templates():
    """The templates that the command line's contract names work on a container's document."""
    document = docker_json.container_document(WEB, NETWORKS)
    assert docker_json.render("{{ .Name }}", document) == "web"
    assert docker_json.render("{{ .NetworkSettings.IPAddress }}", document) == "10.1.0.2"
    assert isinstance(json.loads(docker_json.render("{{ json .NetworkSettings.Ports }}", document)), dict)


# Modes and links


LINKS = (Link("web", "db", "database"), Link("web", "cache", "cache"))
PARENT = samples.container("web", [END], links=LINKS)
CHILD = samples.container(
    "db", [samples.endpoint(BLUE, "10.1.0.3")], exposed=((80, "tcp"), (53, "udp")), linked_by=LINKS[:1]
)


def test_links_as_shown():
    """`inspect` shows the parent's links as Docker does, `ps` the child's other names."""
    assert docker_json.container_document(PARENT, NETWORKS)["HostConfig"]["Links"] == [
        "/db:/web/database",
        "/cache:/web/cache",
    ]
    assert docker_json.container_document(CHILD, NETWORKS)["HostConfig"]["Links"] == []
    assert (docker_json.row(PARENT, {})[7], docker_json.row(CHILD, {})[7]) == ("", "web/database")
    assert docker_json.row_document(CHILD, {})["links"] == ["web/database"]


def test_link_rows():
    """A line of `link ls` has the child's exposed ports; of one that is not there it says so."""
    assert docker_json.link_rows([PARENT, CHILD]) == [
        {"parent": "web", "child": "db", "alias": "database", "ports": ["80/tcp", "53/udp"], "present": True},
        {"parent": "web", "child": "cache", "alias": "cache", "ports": [], "present": False},
    ]
    assert docker_json.link_rows([CHILD]) == []


@pytest.mark.parametrize(
    ("mode", "names", "shown"),
    [
        ("host", {}, "host"),
        ("none", {}, "none"),
        ("blue", {}, "blue"),
        (f"container:{WEB.id}", {WEB.id: "renamed"}, "container:renamed"),
        (f"container:{WEB.id}", {}, f"container:{WEB.id[:12]}"),
    ],
)
def test_mode_as_shown(mode, names, shown):
    """`ps` shows whose network a sharer has by its name now, or its id when it is gone; `inspect` always by the id."""
    box = samples.container("side", mode=mode, shares=WEB.id if "container" in mode else "")
    assert docker_json.row(box, names)[2] == docker_json.row_document(box, names)["mode"] == shown
    assert docker_json.container_document(box, NETWORKS)["HostConfig"]["NetworkMode"] == mode
