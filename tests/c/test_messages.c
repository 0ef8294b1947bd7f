/* Tests of rtnl.c: every message in every room, its shape, and bad arguments. */
#include "check.h"

#include <errno.h>
#include <linux/if_link.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <linux/veth.h>
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
    return dnet_put_quiet(batch, 7, alias255, 1);
}

static int
plain_quiet(struct dnet_batch *batch)
{
    return dnet_put_quiet(batch, 7, NULL, 1);
}

static int
empty_quiet(struct dnet_batch *batch)
{
    return dnet_put_quiet(batch, 7, "", 1);
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
    return dnet_put_address(batch, 1, 7, AF_INET, address4, 16);
}

static int
point_to_point(struct dnet_batch *batch)
{
    return dnet_put_address(batch, 1, 7, AF_INET, address4, 31);
}

static int
every_address(struct dnet_batch *batch)
{
    return dnet_put_address(batch, 0, 7, AF_INET, address4, 0);
}

static int
new_address6(struct dnet_batch *batch)
{
    return dnet_put_address(batch, 1, 7, AF_INET6, address6, 128);
}

static int
default_route(struct dnet_batch *batch)
{
    return dnet_put_route(batch, 1, 7, AF_INET, address4, 0, address4);
}

static int
route(struct dnet_batch *batch)
{
    return dnet_put_route(batch, 0, 7, AF_INET, address4, 32, NULL);
}

static int
route6(struct dnet_batch *batch)
{
    return dnet_put_route(batch, 1, 7, AF_INET6, address6, 64, address6);
}

static int
bridge_port(struct dnet_batch *batch)
{
    return dnet_put_bridge_port(batch, 7, 1, 1);
}

static int
loopback_route(struct dnet_batch *batch)
{
    return dnet_put_loopback_route(batch, 7);
}

static int
route_localnet(struct dnet_batch *batch)
{
    return dnet_put_route_localnet(batch, 7);
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
    {"dump of links", dump_links, sizeof(struct ifinfomsg)},
    {"dump of addresses", dump_addresses, sizeof(struct ifaddrmsg)},
    {"dump of routes", dump_routes, sizeof(struct rtmsg)},
};
#define BUILDERS (sizeof builders / sizeof *builders)

/* Whether `length` bytes are attributes one behind the other, nothing left over. */
static int
are_attributes(const uint8_t *data, size_t length)
{
    size_t at = 0;

    while (at < length) {
        const struct nlattr *attribute = (const struct nlattr *)(data + at);

        if (length - at < NLA_HDRLEN || attribute->nla_len < NLA_HDRLEN || attribute->nla_len > length - at)
            return 0;
        at += NLA_ALIGN(attribute->nla_len);
    }
    return at == length;
}

/* Every builder, behind a message that is there already, in every room from none to enough: it never writes past
 * the room (ASan watches), and changes nothing unless all of the message fits. */
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
        CHECK(needed - first <= 384, "%s needs %zu bytes, kernel.py reckons with 384", builders[i].name,
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
    CHECK_EQUAL(dnet_put_quiet(&batch, 7, alias256, 1), -EINVAL, "alias of 256 bytes");
    CHECK_EQUAL(dnet_put_address(&batch, 1, 7, AF_INET, address4, 33), -EINVAL, "prefix length");
    CHECK_EQUAL(dnet_put_address(&batch, 1, 7, AF_INET6, address6, 129), -EINVAL, "prefix length");
    CHECK_EQUAL(dnet_put_address(&batch, 1, 7, AF_UNIX, address4, 8), -EINVAL, "family");
    CHECK_EQUAL(dnet_put_route(&batch, 1, 7, AF_INET, address4, 33, NULL), -EINVAL, "prefix length");
    CHECK_EQUAL(dnet_put_route(&batch, 1, 7, AF_UNIX, address4, 8, NULL), -EINVAL, "family");
    CHECK_EQUAL(batch.length, 0, "nothing was written");
    CHECK_EQUAL(batch.count, 0, "nothing was written");
    free(batch.data);
}

/* The namespace goes into veths' peers, and nowhere else; damaged messages are left alone. */
static void
test_peer_namespace(void)
{
    struct dnet_batch batch = new_batch(4), copy = new_batch(4);
    size_t first = 0, changed = 0, offset = 0;

    up(&batch);
    first = batch.length;
    veth(&batch);
    plain_bridge(&batch);
    memcpy(copy.data, batch.data, batch.length);
    dnet_set_peer_namespace(batch.data, batch.length, 0x12345678);
    for (size_t at = 0; at < batch.length; at++)
        if (batch.data[at] != copy.data[at]) {
            offset = changed++ ? offset : at;
            CHECK(at > first, "at %zu", at);
        }
    CHECK_EQUAL(changed, 4, "four bytes of a descriptor");
    CHECK_EQUAL(*(uint16_t *)(batch.data + offset - 2), IFLA_NET_NS_FD, "attribute");
    CHECK_EQUAL(*(uint32_t *)(batch.data + offset), 0x12345678, "descriptor");
    for (size_t length = 0; length <= batch.length; length++) {
        uint8_t *part = allocate(length);

        memcpy(part, copy.data, length);
        dnet_set_peer_namespace(part, length, 5);
        free(part);
    }
    for (uint32_t length = 0; length < 64; length++) {
        ((struct nlmsghdr *)copy.data)->nlmsg_len = length;
        dnet_set_peer_namespace(copy.data, batch.length, 5);
    }
    free(batch.data);
    free(copy.data);
}

void
test_messages(void)
{
    memset(alias255, 'a', sizeof alias255 - 1);
    test_capacities();
    test_shapes();
    test_arguments();
    test_peer_namespace();
}
