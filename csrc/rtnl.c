/*
 * Builders of rtnetlink messages: one function per message that dnet sends, each writing into a batch of nl.c.
 * The attributes follow linux/if_link.h, linux/if_addr.h and linux/rtnetlink.h; why they are these, and in this
 * order, is in docs/architecture.md.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "internal.h"

#include <errno.h>
#include <linux/if_addr.h>
#include <linux/if_link.h>
#include <linux/ip.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <linux/veth.h>
#include <net/if.h>
#include <string.h>
#include <sys/socket.h>

#define MAC_BYTES 6
#define ALIAS_BYTES 255 /* IFALIASZ less the final zero */

/* A message under construction. The first attribute that does not fit sets `full`; later ones are dropped. */
struct writer {
    struct dnet_batch *batch;
    size_t start;
    size_t at;
    int full;
};

static void *
reserve(struct writer *writer, size_t size)
{
    size_t aligned = NLMSG_ALIGN(size);
    void *place = writer->batch->data + writer->at;

    if (writer->full || aligned > writer->batch->capacity - writer->at) {
        writer->full = 1;
        return NULL;
    }
    memset(place, 0, aligned);
    writer->at += aligned;
    return place;
}

static void *
begin(struct writer *writer, struct dnet_batch *batch, uint16_t type, uint16_t flags, size_t body_size)
{
    struct nlmsghdr *header;

    writer->batch = batch;
    writer->start = writer->at = batch->length;
    writer->full = 0;
    header = reserve(writer, sizeof *header);
    if (header) {
        header->nlmsg_type = type;
        header->nlmsg_flags = NLM_F_REQUEST | flags;
    }
    return reserve(writer, body_size);
}

static int
finish(struct writer *writer)
{
    struct nlmsghdr *header = (struct nlmsghdr *)(writer->batch->data + writer->start);

    if (writer->full)
        return -ENOBUFS;
    header->nlmsg_len = (uint32_t)(writer->at - writer->start);
    writer->batch->length = writer->at;
    writer->batch->count++;
    return 0;
}

static void
put(struct writer *writer, uint16_t type, const void *value, size_t size)
{
    struct nlattr *attribute = reserve(writer, NLA_HDRLEN + size);

    if (!attribute)
        return;
    attribute->nla_type = type;
    attribute->nla_len = (uint16_t)(NLA_HDRLEN + size);
    if (size)
        memcpy((uint8_t *)attribute + NLA_HDRLEN, value, size);
}

static void
put_u8(struct writer *writer, uint16_t type, uint8_t value)
{
    put(writer, type, &value, sizeof value);
}

static void
put_u32(struct writer *writer, uint16_t type, uint32_t value)
{
    put(writer, type, &value, sizeof value);
}

static void
put_text(struct writer *writer, uint16_t type, const char *text)
{
    put(writer, type, text, strlen(text) + 1);
}

static size_t
open_nest(struct writer *writer, uint16_t type)
{
    size_t at = writer->at;

    put(writer, type | NLA_F_NESTED, NULL, 0);
    return at;
}

static void
close_nest(struct writer *writer, size_t at)
{
    if (!writer->full)
        ((struct nlattr *)(writer->batch->data + at))->nla_len = (uint16_t)(writer->at - at);
}

static size_t
family_bytes(int family)
{
    return family == AF_INET ? 4 : family == AF_INET6 ? 16 : 0;
}

static struct ifinfomsg *
begin_link(struct writer *writer, struct dnet_batch *batch, uint16_t type, uint16_t flags, uint32_t index)
{
    struct ifinfomsg *link = begin(writer, batch, type, flags, sizeof *link);

    if (link)
        link->ifi_index = (int)index;
    return link;
}

static void
put_identity(struct writer *writer, const char *name, const uint8_t *mac, uint32_t mtu)
{
    put_text(writer, IFLA_IFNAME, name);
    if (mac)
        put(writer, IFLA_ADDRESS, mac, MAC_BYTES);
    if (mtu)
        put_u32(writer, IFLA_MTU, mtu);
    /* One queue each: the default is one per possible CPU, each with its own sysfs objects. */
    put_u32(writer, IFLA_NUM_TX_QUEUES, 1);
    put_u32(writer, IFLA_NUM_RX_QUEUES, 1);
}

static int
bad_name(const char *name)
{
    size_t length = strlen(name);

    return length == 0 || length >= IFNAMSIZ;
}

/* A bridge, down. Multicast snooping is off: with it, adding or raising a port walks all ports. */
int
dnet_put_bridge(struct dnet_batch *batch, uint32_t index, const char *name, const uint8_t *mac, uint32_t mtu)
{
    struct writer writer;
    size_t info, data;

    if (bad_name(name))
        return -EINVAL;
    begin_link(&writer, batch, RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, index);
    info = open_nest(&writer, IFLA_LINKINFO);
    put_text(&writer, IFLA_INFO_KIND, "bridge");
    data = open_nest(&writer, IFLA_INFO_DATA);
    put_u8(&writer, IFLA_BR_MCAST_SNOOPING, 0);
    close_nest(&writer, data);
    close_nest(&writer, info);
    put_identity(&writer, name, mac, mtu);
    return finish(&writer);
}

/* Where dnet_put_veth writes the peer's namespace: behind the two headers of the message, LINKINFO, the kind
 * "veth" with its zero, INFO_DATA, VETH_INFO_PEER and the peer's own ifinfomsg. */
#define KIND_BYTES NLA_ALIGN(NLA_HDRLEN + sizeof "veth")
#define PEER_NAMESPACE_OFFSET                                                                                          \
    (NLMSG_HDRLEN + sizeof(struct ifinfomsg) + NLA_HDRLEN + KIND_BYTES + NLA_HDRLEN + NLA_HDRLEN +                     \
     sizeof(struct ifinfomsg) + NLA_HDRLEN)
#define KIND_OFFSET (NLMSG_HDRLEN + sizeof(struct ifinfomsg) + NLA_HDRLEN + NLA_HDRLEN)

/*
 * A veth pair, both ends down, the host end already a port of `master`, the peer born inside a sandbox whose
 * namespace dnet_set_peer_namespace fills in. The peer must not be created up: the kernel refuses (ENOTCONN) and
 * the refusal costs 16 ms.
 */
int
dnet_put_veth(struct dnet_batch *batch, uint32_t index, const char *name, uint32_t master, uint32_t peer_index,
              const char *peer_name, const uint8_t *peer_mac, uint32_t mtu)
{
    struct writer writer;
    struct ifinfomsg *peer;
    size_t info, data, peer_nest;

    if (bad_name(name) || bad_name(peer_name))
        return -EINVAL;
    begin_link(&writer, batch, RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, index);
    info = open_nest(&writer, IFLA_LINKINFO);
    put_text(&writer, IFLA_INFO_KIND, "veth");
    data = open_nest(&writer, IFLA_INFO_DATA);
    peer_nest = open_nest(&writer, VETH_INFO_PEER);
    peer = reserve(&writer, sizeof *peer);
    if (peer)
        peer->ifi_index = (int)peer_index;
    put_u32(&writer, IFLA_NET_NS_FD, UINT32_MAX);
    put_identity(&writer, peer_name, peer_mac, mtu);
    close_nest(&writer, peer_nest);
    close_nest(&writer, data);
    close_nest(&writer, info);
    put_identity(&writer, name, NULL, mtu);
    if (master)
        put_u32(&writer, IFLA_MASTER, master);
    return finish(&writer);
}

void
dnet_set_peer_namespace(uint8_t *data, size_t length, int netns_fd)
{
    for (size_t at = 0; length - at >= NLMSG_HDRLEN;) {
        const struct nlmsghdr *header = (const struct nlmsghdr *)(data + at);
        size_t size = NLMSG_ALIGN(header->nlmsg_len);
        uint32_t value = (uint32_t)netns_fd;

        if (size < NLMSG_HDRLEN || size > length - at)
            return;
        if (header->nlmsg_type == RTM_NEWLINK && size >= PEER_NAMESPACE_OFFSET + sizeof value &&
            !memcmp(data + at + KIND_OFFSET, "veth", sizeof "veth"))
            memcpy(data + at + PEER_NAMESPACE_OFFSET, &value, sizeof value);
        at += size;
    }
}

/*
 * Settings that only RTM_SETLINK takes: the alias (NULL: none), and no IPv6 autoconfiguration. It has to come
 * before the device is up; with it, an interface sends no MLD, DAD or router solicitations, each of which a
 * bridge floods to all ports (5,000 sandboxes: 4 s instead of 61 s). A device without IPv6 (`has_ipv6` 0) refuses
 * that setting (EAFNOSUPPORT), and needs none.
 */
int
dnet_put_quiet(struct dnet_batch *batch, uint32_t index, const char *alias, int has_ipv6)
{
    struct writer writer;
    size_t families, inet6;

    if (alias && strlen(alias) > ALIAS_BYTES)
        return -EINVAL;
    begin_link(&writer, batch, RTM_SETLINK, 0, index);
    if (alias)
        put(&writer, IFLA_IFALIAS, alias, strlen(alias));
    if (has_ipv6) {
        families = open_nest(&writer, IFLA_AF_SPEC);
        inet6 = open_nest(&writer, AF_INET6);
        put_u8(&writer, IFLA_INET6_ADDR_GEN_MODE, IN6_ADDR_GEN_MODE_NONE);
        close_nest(&writer, inet6);
        close_nest(&writer, families);
    }
    return finish(&writer);
}

/* Sets what a bridge port does: `hairpin`, frames may leave by the port they came in by; `isolated`, it exchanges
 * none with other isolated ports. */
int
dnet_put_bridge_port(struct dnet_batch *batch, uint32_t index, int hairpin, int isolated)
{
    struct writer writer;
    struct ifinfomsg *link = begin_link(&writer, batch, RTM_SETLINK, 0, index);
    size_t port;

    if (link)
        link->ifi_family = AF_BRIDGE;
    port = open_nest(&writer, IFLA_PROTINFO);
    put_u8(&writer, IFLA_BRPORT_MODE, (uint8_t) !!hairpin);
    put_u8(&writer, IFLA_BRPORT_ISOLATED, (uint8_t) !!isolated);
    close_nest(&writer, port);
    return finish(&writer);
}

/* Lets packets to and from 127.0.0.0/8 pass through a device (net.ipv4.conf.DEVICE.route_localnet). */
int
dnet_put_route_localnet(struct dnet_batch *batch, uint32_t index)
{
    struct writer writer;
    size_t families, inet, settings;

    begin_link(&writer, batch, RTM_SETLINK, 0, index);
    families = open_nest(&writer, IFLA_AF_SPEC);
    inet = open_nest(&writer, AF_INET);
    settings = open_nest(&writer, IFLA_INET_CONF);
    put_u32(&writer, IPV4_DEVCONF_ROUTE_LOCALNET, 1);
    close_nest(&writer, settings);
    close_nest(&writer, inet);
    close_nest(&writer, families);
    return finish(&writer);
}

int
dnet_put_up(struct dnet_batch *batch, uint32_t index)
{
    struct writer writer;
    struct ifinfomsg *link = begin_link(&writer, batch, RTM_SETLINK, 0, index);

    if (link)
        link->ifi_flags = link->ifi_change = IFF_UP;
    return finish(&writer);
}

/* Puts a device into a group, by which many can be deleted at once. */
int
dnet_put_group(struct dnet_batch *batch, uint32_t index, uint32_t group)
{
    struct writer writer;

    begin_link(&writer, batch, RTM_SETLINK, 0, index);
    put_u32(&writer, IFLA_GROUP, group);
    return finish(&writer);
}

/* Deletes every device of a group: 0.5 ms each, where one by one each waits 17 ms for readers (RCU). */
int
dnet_put_delete_group(struct dnet_batch *batch, uint32_t group)
{
    struct writer writer;

    begin_link(&writer, batch, RTM_DELLINK, 0, 0);
    put_u32(&writer, IFLA_GROUP, group);
    return finish(&writer);
}

int
dnet_put_delete(struct dnet_batch *batch, uint32_t index)
{
    struct writer writer;

    begin_link(&writer, batch, RTM_DELLINK, 0, index);
    return finish(&writer);
}

/* Adds or removes an address. An IPv6 one is used at once, without duplicate address detection: the allocator
 * has already made it unique. */
int
dnet_put_address(struct dnet_batch *batch, int is_new, uint32_t index, int family, const uint8_t *address,
                 uint8_t prefix_length)
{
    struct writer writer;
    struct ifaddrmsg *body;
    size_t size = family_bytes(family);
    uint8_t broadcast[4];

    if (!size || prefix_length > size * 8)
        return -EINVAL;
    body =
        begin(&writer, batch, is_new ? RTM_NEWADDR : RTM_DELADDR, is_new ? NLM_F_CREATE | NLM_F_EXCL : 0, sizeof *body);
    if (body) {
        body->ifa_family = (uint8_t)family;
        body->ifa_prefixlen = prefix_length;
        body->ifa_index = index;
        if (family == AF_INET6)
            body->ifa_flags = IFA_F_NODAD;
    }
    put(&writer, IFA_LOCAL, address, size);
    put(&writer, IFA_ADDRESS, address, size);
    if (family == AF_INET && prefix_length < 31) {
        uint32_t host = UINT32_MAX >> prefix_length;

        for (size_t i = 0; i < sizeof broadcast; i++)
            broadcast[i] = address[i] | (uint8_t)(host >> (24 - 8 * i));
        put(&writer, IFA_BROADCAST, broadcast, sizeof broadcast);
    }
    return finish(&writer);
}

/* Adds or removes a unicast route of the main table; `gateway` NULL: directly connected. */
int
dnet_put_route(struct dnet_batch *batch, int is_new, uint32_t index, int family, const uint8_t *destination,
               uint8_t prefix_length, const uint8_t *gateway)
{
    struct writer writer;
    struct rtmsg *body;
    size_t size = family_bytes(family);

    if (!size || prefix_length > size * 8)
        return -EINVAL;
    body = begin(&writer, batch, is_new ? RTM_NEWROUTE : RTM_DELROUTE, is_new ? NLM_F_CREATE | NLM_F_EXCL : 0,
                 sizeof *body);
    if (body) {
        body->rtm_family = (uint8_t)family;
        body->rtm_dst_len = prefix_length;
        body->rtm_table = RT_TABLE_MAIN;
        body->rtm_protocol = RTPROT_BOOT;
        body->rtm_scope = gateway ? RT_SCOPE_UNIVERSE : RT_SCOPE_LINK;
        body->rtm_type = RTN_UNICAST;
    }
    if (prefix_length)
        put(&writer, RTA_DST, destination, size);
    if (gateway)
        put(&writer, RTA_GATEWAY, gateway, size);
    put_u32(&writer, RTA_OIF, index);
    return finish(&writer);
}

/*
 * A route `local ::1` through a device, behind the loopback's own in preference (its metric is the index, so that
 * several do not clash). Routing of an incoming packet for ::1 is strict about the interface; with this, the reply
 * to a translated connection that began at ::1 is delivered. Nothing else gets that far: packets that arrive
 * addressed to ::1 are dropped before translation.
 */
int
dnet_put_loopback_route(struct dnet_batch *batch, uint32_t index)
{
    static const uint8_t loopback[16] = {[15] = 1};
    struct writer writer;
    struct rtmsg *body = begin(&writer, batch, RTM_NEWROUTE, NLM_F_CREATE | NLM_F_EXCL, sizeof *body);

    if (body) {
        body->rtm_family = AF_INET6;
        body->rtm_dst_len = 128;
        body->rtm_table = RT_TABLE_LOCAL;
        body->rtm_protocol = RTPROT_BOOT;
        body->rtm_type = RTN_LOCAL;
    }
    put(&writer, RTA_DST, loopback, sizeof loopback);
    put_u32(&writer, RTA_OIF, index);
    put_u32(&writer, RTA_PRIORITY, index);
    return finish(&writer);
}

/* A dump request: RTM_GETLINK, RTM_GETADDR or RTM_GETROUTE of one family, or of all with AF_UNSPEC. */
int
dnet_put_dump(struct dnet_batch *batch, int type, int family)
{
    struct writer writer;
    size_t size = type == RTM_GETROUTE  ? sizeof(struct rtmsg)
                  : type == RTM_GETADDR ? sizeof(struct ifaddrmsg)
                                        : sizeof(struct ifinfomsg);
    uint8_t *body = begin(&writer, batch, (uint16_t)type, NLM_F_DUMP, size);

    if (body)
        body[0] = (uint8_t)family; /* the family is the first byte of all three */
    return finish(&writer);
}
