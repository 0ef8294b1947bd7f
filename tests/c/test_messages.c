/* Tests of the builders of messages in link.c, bridge.c, tc.c, routes.c and nlattr.c: every message in batches of every
 * capacity, its shape, bad arguments, the namespace that is filled in later. */
#include "check.h"

#include <errno.h>
#include <linux/if_addr.h>
#include <linux/if_link.h>
#include <linux/neighbour.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <linux/veth.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#define NAME15 "fifteen-bytes-x"
#define ROOM 4096

static const uint8_t mac[6] = {0x02, 0x42, 10, 1, 0, 1};
static const uint8_t address4[4] = {10, 1, 0, 1};
static const uint8_t address6[16] = {0xfd, [15] = 1};

static char alias255[256];

static int
bridge(struct dnet_batch *batch)
{
    return dnet_put_bridge(batch, 7, NAME15, mac, 1400);
}

static int
plain_bridge(struct dnet_batch *batch)
{
    return dnet_put_bridge(batch, 7, "b", NULL, 0);
}

static int
veth(struct dnet_batch *batch)
{
    return dnet_put_veth(batch, 7, NAME15, 9, 256, NAME15, mac, 1400);
}

static int
plain_veth(struct dnet_batch *batch)
{
    return dnet_put_veth(batch, 7, "v", 0, 256, "e", NULL, 0);
}

static int
quiet(struct dnet_batch *batch)
{
    return dnet_put_quiet(batch, 7, alias255, true);
}

static int
plain_quiet(struct dnet_batch *batch)
{
    return dnet_put_quiet(batch, 7, NULL, true);
}

static int
empty_quiet(struct dnet_batch *batch)
{
    return dnet_put_quiet(batch, 7, "", true);
}

static int
up(struct dnet_batch *batch)
{
    return dnet_put_up(batch, 7);
}

static int
group(struct dnet_batch *batch)
{
    return dnet_put_group(batch, 7, 1u << 30);
}

static int
delete_one(struct dnet_batch *batch)
{
    return dnet_put_delete(batch, 7);
}

static int
delete_group(struct dnet_batch *batch)
{
    return dnet_put_delete_group(batch, 1u << 30);
}

static int
new_address(struct dnet_batch *batch)
{
    return dnet_put_address(batch, true, 7, AF_INET, address4, 16, false);
}

static int
point_to_point(struct dnet_batch *batch)
{
    return dnet_put_address(batch, true, 7, AF_INET, address4, 31, false);
}

static int
every_address(struct dnet_batch *batch)
{
    return dnet_put_address(batch, false, 7, AF_INET, address4, 0, false);
}

static int
new_address6(struct dnet_batch *batch)
{
    return dnet_put_address(batch, true, 7, AF_INET6, address6, 128, false);
}

static int
default_route(struct dnet_batch *batch)
{
    return dnet_put_route(batch, true, 7, AF_INET, address4, 0, address4, 0);
}

static int
route(struct dnet_batch *batch)
{
    return dnet_put_route(batch, false, 7, AF_INET, address4, 32, NULL, 0);
}

static int
route6(struct dnet_batch *batch)
{
    return dnet_put_route(batch, true, 7, AF_INET6, address6, 64, address6, 1024);
}

static int
bridge_port(struct dnet_batch *batch)
{
    return dnet_put_bridge_port(batch, 7, true, true);
}

static int
loopback_route(struct dnet_batch *batch)
{
    return dnet_put_loopback_route(batch, true, 7);
}

static int
route_localnet(struct dnet_batch *batch)
{
    return dnet_put_route_localnet(batch, true, 7);
}

static int
arp_notify(struct dnet_batch *batch)
{
    return dnet_put_arp_notify(batch, 7);
}

static int
macvlan(struct dnet_batch *batch)
{
    return dnet_put_macvlan(batch, 7, NAME15, 9, 8, mac, 1400);
}

static int
plain_macvlan(struct dnet_batch *batch)
{
    return dnet_put_macvlan(batch, 7, "m", 9, 4, NULL, 0);
}

static int
dummy(struct dnet_batch *batch)
{
    return dnet_put_dummy(batch, 7, NAME15, mac, 1400);
}

static int
move(struct dnet_batch *batch)
{
    return dnet_put_move(batch, 7, -1, NAME15, 9);
}

static int
move_back(struct dnet_batch *batch)
{
    return dnet_put_move(batch, 7, 5, NAME15, 9);
}

static int
identity(struct dnet_batch *batch)
{
    return dnet_put_identity(batch, 7, NAME15, mac, 1400);
}

static int
no_identity(struct dnet_batch *batch)
{
    return dnet_put_identity(batch, 7, NULL, NULL, 0);
}

static int
ask_by_index(struct dnet_batch *batch)
{
    return dnet_put_ask(batch, 7, NULL);
}

static int
ask_by_name(struct dnet_batch *batch)
{
    return dnet_put_ask(batch, 0, NAME15);
}

/* Puts what another builder makes, as if a dump had reported it. */
static int
dumped(struct dnet_batch *batch, bool is_new, int (*put)(struct dnet_batch *batch))
{
    uint8_t data[ROOM] __attribute__((aligned(NLMSG_ALIGNTO)));
    struct dnet_batch told = {.data = data, .capacity = sizeof data};

    put(&told);
    return dnet_put_dumped(batch, is_new, 11, data, told.length);
}

static int
dumped_route(struct dnet_batch *batch)
{
    return dumped(batch, true, default_route);
}

static int
no_dumped_route(struct dnet_batch *batch)
{
    return dumped(batch, false, route6);
}

static int
dumped_address(struct dnet_batch *batch)
{
    return dumped(batch, true, new_address6);
}

static int
message(struct dnet_batch *batch)
{
    /* An ifaddrmsg of device 7, and IFA_ADDRESS. */
    static const uint8_t body[] = {AF_INET, 24, 0, 0, 7, 0, 0, 0, 8, 0, 1, 0, 192, 0, 2, 1};

    return dnet_put_message(batch, RTM_NEWADDR, NLM_F_CREATE, body, sizeof body);
}

static int
dump_links(struct dnet_batch *batch)
{
    return dnet_put_dump(batch, RTM_GETLINK, AF_UNSPEC);
}

static int
dump_addresses(struct dnet_batch *batch)
{
    return dnet_put_dump(batch, RTM_GETADDR, AF_INET6);
}

static int
dump_routes(struct dnet_batch *batch)
{
    return dnet_put_dump(batch, RTM_GETROUTE, AF_INET);
}

static int
bridge_filtering(struct dnet_batch *batch)
{
    return dnet_put_bridge_filtering(batch, false, 7);
}

static int
mac_entry(struct dnet_batch *batch)
{
    return dnet_put_mac_entry(batch, true, 7, mac);
}

static int
clsact(struct dnet_batch *batch)
{
    return dnet_put_clsact(batch, true, 7, UINT32_MAX - 1, UINT32_MAX);
}

static int
program(struct dnet_batch *batch)
{
    return dnet_put_program(batch, UINT32_MAX, 5, "dnet_vlan_into");
}

static const struct {
    const char *name;
    int (*put)(struct dnet_batch *batch);
    size_t body_bytes;
} builders[] = {
    {"bridge", bridge, sizeof(struct ifinfomsg)},
    {"plain bridge", plain_bridge, sizeof(struct ifinfomsg)},
    {"veth", veth, sizeof(struct ifinfomsg)},
    {"plain veth", plain_veth, sizeof(struct ifinfomsg)},
    {"quiet", quiet, sizeof(struct ifinfomsg)},
    {"plain quiet", plain_quiet, sizeof(struct ifinfomsg)},
    {"empty quiet", empty_quiet, sizeof(struct ifinfomsg)},
    {"up", up, sizeof(struct ifinfomsg)},
    {"group", group, sizeof(struct ifinfomsg)},
    {"delete", delete_one, sizeof(struct ifinfomsg)},
    {"delete group", delete_group, sizeof(struct ifinfomsg)},
    {"address", new_address, sizeof(struct ifaddrmsg)},
    {"address/31", point_to_point, sizeof(struct ifaddrmsg)},
    {"address/0", every_address, sizeof(struct ifaddrmsg)},
    {"address6", new_address6, sizeof(struct ifaddrmsg)},
    {"default route", default_route, sizeof(struct rtmsg)},
    {"route", route, sizeof(struct rtmsg)},
    {"route6", route6, sizeof(struct rtmsg)},
    {"bridge port", bridge_port, sizeof(struct ifinfomsg)},
    {"loopback route", loopback_route, sizeof(struct rtmsg)},
    {"route_localnet", route_localnet, sizeof(struct ifinfomsg)},
    {"arp_notify", arp_notify, sizeof(struct ifinfomsg)},
    {"macvlan", macvlan, sizeof(struct ifinfomsg)},
    {"plain macvlan", plain_macvlan, sizeof(struct ifinfomsg)},
    {"dummy", dummy, sizeof(struct ifinfomsg)},
    {"move", move, sizeof(struct ifinfomsg)},
    {"move back", move_back, sizeof(struct ifinfomsg)},
    {"identity", identity, sizeof(struct ifinfomsg)},
    {"no identity", no_identity, sizeof(struct ifinfomsg)},
    {"ask by index", ask_by_index, sizeof(struct ifinfomsg)},
    {"ask by name", ask_by_name, sizeof(struct ifinfomsg)},
    {"dumped route", dumped_route, sizeof(struct rtmsg)},
    {"no dumped route", no_dumped_route, sizeof(struct rtmsg)},
    {"dumped address", dumped_address, sizeof(struct ifaddrmsg)},
    {"message", message, sizeof(struct ifaddrmsg)},
    {"dump of links", dump_links, sizeof(struct ifinfomsg)},
    {"dump of addresses", dump_addresses, sizeof(struct ifaddrmsg)},
    {"dump of routes", dump_routes, sizeof(struct rtmsg)},
    {"bridge filtering", bridge_filtering, sizeof(struct ifinfomsg)},
    {"mac entry", mac_entry, sizeof(struct ndmsg)},
    {"clsact", clsact, sizeof(struct tcmsg)},
    {"program", program, sizeof(struct tcmsg)},
};
#define BUILDERS (sizeof builders / sizeof *builders)

/* Returns whether `length` bytes are attributes one behind the other and nothing else. */
static bool
are_attributes(const uint8_t *data, size_t length)
{
    size_t at = 0;

    while (at < length) {
        const struct nlattr *attribute = (const struct nlattr *)(data + at);

        if (length - at < NLA_HDRLEN || attribute->nla_len < NLA_HDRLEN || attribute->nla_len > length - at)
            return false;
        at += NLA_ALIGN(attribute->nla_len);
    }
    return at == length;
}

/* Every builder, behind another message, in every capacity from none to enough, never writes past the capacity (ASan
 * watches), and changes nothing unless all of the message fits. */
static void
test_capacities(void)
{
    for (size_t i = 0; i < BUILDERS; i++) {
        struct dnet_batch whole = {.data = allocate(ROOM), .capacity = ROOM};
        size_t first, needed;

        CHECK_EQUAL(up(&whole), 0, "%s", builders[i].name);
        first = whole.length;
        CHECK_EQUAL(builders[i].put(&whole), 0, "%s", builders[i].name);
        needed = whole.length;
        CHECK(needed - first <= 384, "%s needs %zu bytes, new_batch() reckons with 384", builders[i].name,
              needed - first);
        for (size_t capacity = first; capacity <= needed; capacity++) {
            struct dnet_batch batch = {.data = allocate(capacity), .capacity = capacity};
            int result;

            up(&batch);
            result = builders[i].put(&batch);
            CHECK_EQUAL(result, capacity < needed ? -ENOBUFS : 0, "%s in %zu bytes", builders[i].name, capacity);
            CHECK_EQUAL(batch.length, capacity < needed ? first : needed, "%s in %zu", builders[i].name, capacity);
            CHECK_EQUAL(batch.count, capacity < needed ? 1 : 2, "%s in %zu", builders[i].name, capacity);
            CHECK(!memcmp(batch.data, whole.data, batch.length), "%s in %zu", builders[i].name, capacity);
            free(batch.data);
        }
        for (size_t capacity = 0; capacity < first; capacity++) {
            struct dnet_batch batch = {.data = allocate(capacity), .capacity = capacity};

            if (capacity < needed - first)
                CHECK_EQUAL(builders[i].put(&batch), -ENOBUFS, "%s in %zu", builders[i].name, capacity);
            free(batch.data);
        }
        free(whole.data);
    }
}

/* Every message is well-formed: its length, its flags, and attributes that fill it exactly. */
static void
test_shapes(void)
{
    for (size_t i = 0; i < BUILDERS; i++) {
        struct dnet_batch batch = {.data = allocate(ROOM), .capacity = ROOM};
        const struct nlmsghdr *header = (const struct nlmsghdr *)batch.data;
        size_t start = NLMSG_HDRLEN + NLMSG_ALIGN(builders[i].body_bytes);

        builders[i].put(&batch);
        CHECK_EQUAL(header->nlmsg_len, batch.length, "%s", builders[i].name);
        CHECK(header->nlmsg_flags & NLM_F_REQUEST, "%s", builders[i].name);
        CHECK(header->nlmsg_type >= RTM_BASE && header->nlmsg_type <= RTM_MAX, "%s", builders[i].name);
        CHECK(are_attributes(batch.data + start, batch.length - start), "%s", builders[i].name);
        free(batch.data);
    }
}

static void
test_arguments(void)
{
    struct dnet_batch batch = {.data = allocate(ROOM), .capacity = ROOM};
    char alias256[257];

    memset(alias256, 'a', sizeof alias256 - 1);
    alias256[256] = '\0';
    CHECK_EQUAL(dnet_put_bridge(&batch, 7, "sixteen-bytes-xx", mac, 0), -EINVAL, "name of 16 bytes");
    CHECK_EQUAL(dnet_put_bridge(&batch, 7, "", mac, 0), -EINVAL, "no name");
    CHECK_EQUAL(dnet_put_veth(&batch, 7, "sixteen-bytes-xx", 0, 9, "eth0", mac, 0), -EINVAL, "name of 16 bytes");
    CHECK_EQUAL(dnet_put_veth(&batch, 7, "veth7", 0, 9, "sixteen-bytes-xx", mac, 0), -EINVAL, "peer of 16 bytes");
    CHECK_EQUAL(dnet_put_veth(&batch, 7, "veth7", 0, 9, "", mac, 0), -EINVAL, "no name for the peer");
    CHECK_EQUAL(dnet_put_quiet(&batch, 7, alias256, true), -EINVAL, "alias of 256 bytes");
    CHECK_EQUAL(dnet_put_macvlan(&batch, 7, "sixteen-bytes-xx", 9, 4, mac, 0), -EINVAL, "macvlan of 16 bytes");
    CHECK_EQUAL(dnet_put_dummy(&batch, 7, "", mac, 0), -EINVAL, "no name for the dummy");
    CHECK_EQUAL(dnet_put_move(&batch, 7, -1, "sixteen-bytes-xx", 9), -EINVAL, "moved to 16 bytes");
    CHECK_EQUAL(dnet_put_identity(&batch, 7, "sixteen-bytes-xx", NULL, 0), -EINVAL, "renamed to 16 bytes");
    CHECK_EQUAL(dnet_put_ask(&batch, 0, ""), -EINVAL, "asked for no name");
    CHECK_EQUAL(dnet_put_dumped(&batch, true, 7, (const uint8_t *)alias256, 16), -EINVAL, "short dump");
    CHECK_EQUAL(dnet_put_dumped(&batch, true, 7, (const uint8_t *)alias256, 64), -EINVAL, "dump of something else");
    CHECK_EQUAL(dnet_put_address(&batch, true, 7, AF_INET, address4, 33, false), -EINVAL, "prefix length");
    CHECK_EQUAL(dnet_put_address(&batch, true, 7, AF_INET6, address6, 129, false), -EINVAL, "prefix length");
    CHECK_EQUAL(dnet_put_address(&batch, true, 7, AF_UNIX, address4, 8, false), -EINVAL, "family");
    CHECK_EQUAL(dnet_put_route(&batch, true, 7, AF_INET, address4, 33, NULL, 0), -EINVAL, "prefix length");
    CHECK_EQUAL(dnet_put_route(&batch, true, 7, AF_UNIX, address4, 8, NULL, 0), -EINVAL, "family");
    CHECK_EQUAL(batch.length, 0, "nothing was written");
    CHECK_EQUAL(batch.count, 0, "nothing was written");
    free(batch.data);
}

/* Returns how many bytes differ, and where the first of them is. */
static size_t
differences(const uint8_t *one, const uint8_t *other, size_t length, size_t *ret_first)
{
    size_t count = 0;

    for (size_t at = length; at-- > 0;)
        if (one[at] != other[at]) {
            *ret_first = at;
            count++;
        }
    return count;
}

/* A namespace is filled into the message that leaves it pending, and nowhere else; damaged messages are left alone. */
static void
test_namespace(int (*put)(struct dnet_batch *batch), uint32_t expected)
{
    struct dnet_batch batch = new_batch(4), copy = new_batch(4);
    size_t first = 0, offset = 0;

    up(&batch);
    first = batch.length;
    put(&batch);
    plain_bridge(&batch);
    memcpy(copy.data, batch.data, batch.length);
    nlmsg_set_netns(batch.data, batch.length, 0x12345678);
    CHECK_EQUAL(differences(batch.data, copy.data, batch.length, &offset), expected, "bytes of a descriptor");
    if (expected) {
        CHECK(offset > first, "at %zu", offset);
        CHECK_EQUAL(*(uint16_t *)(batch.data + offset - 2), IFLA_NET_NS_FD, "attribute");
        CHECK_EQUAL(*(uint32_t *)(batch.data + offset), 0x12345678, "descriptor");
    }
    for (size_t length = 0; length <= batch.length; length++) {
        uint8_t *part = allocate(length);

        memcpy(part, copy.data, length);
        nlmsg_set_netns(part, length, 5);
        free(part);
    }
    for (uint32_t length = 0; length < 64; length++) {
        ((struct nlmsghdr *)copy.data)->nlmsg_len = length;
        nlmsg_set_netns(copy.data, batch.length, 5);
    }
    free(batch.data);
    free(copy.data);
}

/* A dumped route or address differs only in its device when it is put again. */
static void
test_dumped(void)
{
    struct dnet_batch one = new_batch(1), other = new_batch(1);
    size_t offset = 0;

    default_route(&one);
    dumped_route(&other);
    CHECK_EQUAL(other.length, one.length, "route");
    CHECK_EQUAL(differences(one.data, other.data, one.length, &offset), 1, "route");
    CHECK_EQUAL(other.data[offset], 11, "device of the route");
    one.length = other.length = 0;
    new_address6(&one);
    dumped_address(&other);
    CHECK_EQUAL(differences(one.data, other.data, one.length, &offset), 1, "address");
    CHECK_EQUAL(offset, NLMSG_HDRLEN + offsetof(struct ifaddrmsg, ifa_index), "device of the address");
    free(one.data);
    free(other.data);
}

void
test_messages(void)
{
    memset(alias255, 'a', sizeof alias255 - 1);
    test_capacities();
    test_shapes();
    test_arguments();
    test_namespace(veth, 4);
    test_namespace(macvlan, 4);
    test_namespace(move, 4);
    test_namespace(move_back, 0);
    test_namespace(dummy, 0);
    test_dumped();
}
