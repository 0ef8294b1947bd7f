/*
 * Builders of rtnetlink messages about devices: one function per message that dnet sends, each writing into a batch by
 * nlattr.c. The attributes follow linux/if_link.h and linux/rtnetlink.h; why they are these, and in this order, is in
 * docs/architecture.md.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "internal.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/if_addr.h>
#include <linux/if_bridge.h>
#include <linux/if_ether.h>
#include <linux/if_link.h>
#include <linux/ip.h>
#include <linux/neighbour.h>
#include <linux/netlink.h>
#include <linux/pkt_cls.h>
#include <linux/pkt_sched.h>
#include <linux/rtnetlink.h>
#include <linux/veth.h>
#include <net/if.h>
#include <string.h>
#include <sys/socket.h>

#define MAC_BYTES 6
#define ALIAS_BYTES 255 /* IFALIASZ less the final zero */

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
/* Where other messages have the namespace that a device is born in or moved to: in their first attribute. */
#define NAMESPACE_OFFSET (NLMSG_HDRLEN + sizeof(struct ifinfomsg) + NLA_HDRLEN)

/*
 * A veth pair, both ends down, the host end already a port of `master`, the peer born inside a sandbox whose
 * namespace dnet_set_namespace fills in. The peer must not be created up: the kernel refuses (ENOTCONN) and
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

/* Returns where a message of `size` bytes holds a namespace that is still to be filled in, or 0. */
static size_t
namespace_offset(const uint8_t *message, size_t size)
{
    const struct nlmsghdr *header = (const struct nlmsghdr *)message;
    const struct nlattr *first = (const struct nlattr *)(message + NAMESPACE_OFFSET - NLA_HDRLEN);
    uint32_t open = UINT32_MAX;
    size_t offset = 0;

    if (header->nlmsg_type != RTM_NEWLINK && header->nlmsg_type != RTM_SETLINK)
        return 0;
    if (size >= PEER_NAMESPACE_OFFSET + sizeof open && !memcmp(message + KIND_OFFSET, "veth", sizeof "veth"))
        offset = PEER_NAMESPACE_OFFSET;
    else if (size >= NAMESPACE_OFFSET + sizeof open && first->nla_type == IFLA_NET_NS_FD)
        offset = NAMESPACE_OFFSET;
    return offset && !memcmp(message + offset, &open, sizeof open) ? offset : 0;
}

void
dnet_set_namespace(uint8_t *data, size_t length, int netns_fd)
{
    for (size_t at = 0; length - at >= NLMSG_HDRLEN;) {
        const struct nlmsghdr *header = (const struct nlmsghdr *)(data + at);
        size_t size = NLMSG_ALIGN(header->nlmsg_len), offset;
        uint32_t value = (uint32_t)netns_fd;

        if (size < NLMSG_HDRLEN || size > length - at)
            return;
        offset = namespace_offset(data + at, size);
        if (offset)
            memcpy(data + at + offset, &value, sizeof value);
        at += size;
    }
}

/*
 * A macvlan on the host's device `parent`, down, born inside a sandbox whose namespace dnet_set_namespace fills in.
 * `mode` is one of MACVLAN_MODE_*.
 */
int
dnet_put_macvlan(struct dnet_batch *batch, uint32_t index, const char *name, uint32_t parent, uint32_t mode,
                 const uint8_t *mac, uint32_t mtu)
{
    struct writer writer;
    size_t info, data;

    if (bad_name(name))
        return -EINVAL;
    begin_link(&writer, batch, RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, index);
    put_u32(&writer, IFLA_NET_NS_FD, UINT32_MAX);
    put_u32(&writer, IFLA_LINK, parent);
    info = open_nest(&writer, IFLA_LINKINFO);
    put_text(&writer, IFLA_INFO_KIND, "macvlan");
    data = open_nest(&writer, IFLA_INFO_DATA);
    put_u32(&writer, IFLA_MACVLAN_MODE, mode);
    close_nest(&writer, data);
    close_nest(&writer, info);
    put_identity(&writer, name, mac, mtu);
    return finish(&writer);
}

/* A dummy, down: an interface that leads nowhere. */
int
dnet_put_dummy(struct dnet_batch *batch, uint32_t index, const char *name, const uint8_t *mac, uint32_t mtu)
{
    struct writer writer;
    size_t info;

    if (bad_name(name))
        return -EINVAL;
    begin_link(&writer, batch, RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, index);
    info = open_nest(&writer, IFLA_LINKINFO);
    put_text(&writer, IFLA_INFO_KIND, "dummy");
    close_nest(&writer, info);
    put_identity(&writer, name, mac, mtu);
    return finish(&writer);
}

/*
 * Moves a device into another namespace, under another name and index, in one step: no moment in which it has the
 * one and not the other. It arrives down, without addresses. `netns_fd` -1: into the sandbox that
 * dnet_set_namespace fills in.
 */
int
dnet_put_move(struct dnet_batch *batch, uint32_t index, int netns_fd, const char *name, uint32_t new_index)
{
    struct writer writer;

    if (bad_name(name))
        return -EINVAL;
    begin_link(&writer, batch, RTM_SETLINK, 0, index);
    put_u32(&writer, IFLA_NET_NS_FD, (uint32_t)netns_fd);
    put_text(&writer, IFLA_IFNAME, name);
    put_u32(&writer, IFLA_NEW_IFINDEX, new_index);
    return finish(&writer);
}

/*
 * Sets a device's name, which has to be down for that, its MAC address and MTU; NULL and 0 leave what is there. A MAC
 * address that is set again, although it is the same, tells the neighbours: with arp_notify the kernel sends a
 * gratuitous ARP (NETDEV_CHANGEADDR).
 */
int
dnet_put_identity(struct dnet_batch *batch, uint32_t index, const char *name, const uint8_t *mac, uint32_t mtu)
{
    struct writer writer;

    if (name && bad_name(name))
        return -EINVAL;
    begin_link(&writer, batch, RTM_SETLINK, 0, index);
    if (name)
        put_text(&writer, IFLA_IFNAME, name);
    if (mac)
        put(&writer, IFLA_ADDRESS, mac, MAC_BYTES);
    if (mtu)
        put_u32(&writer, IFLA_MTU, mtu);
    return finish(&writer);
}

/*
 * Asks for one device, by its index or, with 0, by its name. Whatever the answer, the kernel first lets a change of
 * the carrier take effect (linkwatch_sync_dev, Linux 6.8): a bridge port forwards and a device sends from then on.
 */
int
dnet_put_ask(struct dnet_batch *batch, uint32_t index, const char *name)
{
    struct writer writer;

    if (!index && bad_name(name))
        return -EINVAL;
    begin_link(&writer, batch, RTM_GETLINK, 0, index);
    if (!index)
        put_text(&writer, IFLA_IFNAME, name);
    return finish(&writer);
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

static int
put_inet_setting(struct dnet_batch *batch, uint32_t index, uint16_t setting)
{
    struct writer writer;
    size_t families, inet, settings;

    begin_link(&writer, batch, RTM_SETLINK, 0, index);
    families = open_nest(&writer, IFLA_AF_SPEC);
    inet = open_nest(&writer, AF_INET);
    settings = open_nest(&writer, IFLA_INET_CONF);
    put_u32(&writer, setting, 1);
    close_nest(&writer, settings);
    close_nest(&writer, inet);
    close_nest(&writer, families);
    return finish(&writer);
}

/* Lets packets to and from 127.0.0.0/8 pass through a device (net.ipv4.conf.DEVICE.route_localnet). */
int
dnet_put_route_localnet(struct dnet_batch *batch, uint32_t index)
{
    return put_inet_setting(batch, index, IPV4_DEVCONF_ROUTE_LOCALNET);
}

/* Has the kernel send a gratuitous ARP whenever the device comes up or its MAC address is set (arp_notify). */
int
dnet_put_arp_notify(struct dnet_batch *batch, uint32_t index)
{
    return put_inet_setting(batch, index, IPV4_DEVCONF_ARP_NOTIFY);
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

/* A bridge filters VLANs from now on, and puts no port into one by itself; or it filters them no longer. */
int
dnet_put_bridge_filtering(struct dnet_batch *batch, int is_new, uint32_t index)
{
    struct writer writer;
    uint16_t no_vlan = 0;
    size_t info, data;

    begin_link(&writer, batch, RTM_NEWLINK, 0, index);
    info = open_nest(&writer, IFLA_LINKINFO);
    put_text(&writer, IFLA_INFO_KIND, "bridge");
    data = open_nest(&writer, IFLA_INFO_DATA);
    put(&writer, IFLA_BR_VLAN_DEFAULT_PVID, &no_vlan, sizeof no_vlan);
    put_u8(&writer, IFLA_BR_VLAN_FILTERING, (uint8_t) !!is_new);
    close_nest(&writer, data);
    close_nest(&writer, info);
    return finish(&writer);
}

static void
put_vlan_info(struct writer *writer, uint16_t vid, uint16_t flags)
{
    struct bridge_vlan_info info = {.flags = flags, .vid = vid};

    put(writer, IFLA_BRIDGE_VLAN_INFO, &info, sizeof info);
}

/* Adds VLANs to a filtering bridge's port, or to the bridge's own device, or removes them: `ranges` are pairs of first
 * and last VID, tagged; `untagged` is the VID of untagged frames, or 0. */
int
dnet_put_bridge_vlans(struct dnet_batch *batch, int is_new, uint32_t index, int is_bridge, const uint16_t *ranges,
                      uint32_t range_count, uint16_t untagged)
{
    struct writer writer;
    struct ifinfomsg *link = begin_link(&writer, batch, is_new ? RTM_SETLINK : RTM_DELLINK, 0, index);
    uint16_t flags = BRIDGE_FLAGS_SELF;
    size_t spec;

    if (link)
        link->ifi_family = AF_BRIDGE;
    spec = open_nest(&writer, IFLA_AF_SPEC);
    if (is_bridge)
        put(&writer, IFLA_BRIDGE_FLAGS, &flags, sizeof flags);
    flags = is_bridge ? BRIDGE_VLAN_INFO_BRENTRY : 0;
    for (uint32_t i = 0; i < range_count; i++) {
        uint16_t first = ranges[2 * i], last = ranges[2 * i + 1];

        if (first == last) {
            put_vlan_info(&writer, first, flags);
            continue;
        }
        put_vlan_info(&writer, first, flags | BRIDGE_VLAN_INFO_RANGE_BEGIN);
        put_vlan_info(&writer, last, flags | BRIDGE_VLAN_INFO_RANGE_END);
    }
    if (untagged)
        put_vlan_info(&writer, untagged, flags | BRIDGE_VLAN_INFO_PVID | BRIDGE_VLAN_INFO_UNTAGGED);
    close_nest(&writer, spec);
    return finish(&writer);
}

/* Makes a device a port of a bridge. */
int
dnet_put_master(struct dnet_batch *batch, uint32_t index, uint32_t master)
{
    struct writer writer;

    begin_link(&writer, batch, RTM_SETLINK, 0, index);
    put_u32(&writer, IFLA_MASTER, master);
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

/* Adds or removes an entry of a bridge's forwarding table: the MAC is at this port, and stays there whoever else sends
 * from it. */
int
dnet_put_mac_entry(struct dnet_batch *batch, int is_new, uint32_t index, const uint8_t *mac)
{
    struct writer writer;
    struct ndmsg *body = begin(&writer, batch, is_new ? RTM_NEWNEIGH : RTM_DELNEIGH,
                               is_new ? NLM_F_CREATE | NLM_F_REPLACE : 0, sizeof *body);

    if (body) {
        body->ndm_family = AF_BRIDGE;
        body->ndm_ifindex = (int)index;
        body->ndm_state = NUD_NOARP;
        body->ndm_flags = NTF_MASTER | NTF_STICKY;
    }
    put(&writer, NDA_LLADDR, mac, MAC_BYTES);
    return finish(&writer);
}

/* Adds or removes a device's tc hooks, which do what is in two blocks of filters that other devices share. With
 * somebody else's hooks on the device already: -EEXIST; removed are whosever are there. */
int
dnet_put_clsact(struct dnet_batch *batch, int is_new, uint32_t index, uint32_t ingress_block, uint32_t egress_block)
{
    struct writer writer;
    struct tcmsg *body = begin(&writer, batch, is_new ? RTM_NEWQDISC : RTM_DELQDISC,
                               is_new ? NLM_F_CREATE | NLM_F_EXCL : 0, sizeof *body);

    if (body) {
        body->tcm_ifindex = (int)index;
        body->tcm_handle = TC_H_MAKE(TC_H_CLSACT, 0);
        body->tcm_parent = TC_H_CLSACT;
    }
    put_text(&writer, TCA_KIND, "clsact");
    put_u32(&writer, TCA_INGRESS_BLOCK, ingress_block);
    put_u32(&writer, TCA_EGRESS_BLOCK, egress_block);
    return finish(&writer);
}

/* A BPF program in a block, in place of the one that was there: at no moment is there none. A block exists as long
 * as a device does that shares it. */
int
dnet_put_program(struct dnet_batch *batch, uint32_t block, int program_fd, const char *name)
{
    struct writer writer;
    struct tcmsg *body = begin(&writer, batch, RTM_NEWTFILTER, NLM_F_CREATE | NLM_F_REPLACE, sizeof *body);
    size_t options;

    if (body) {
        body->tcm_ifindex = (int)TCM_IFINDEX_MAGIC_BLOCK;
        body->tcm_block_index = block;
        body->tcm_handle = 1;
        body->tcm_info = TC_H_MAKE(1U << 16, htons(ETH_P_ALL)); /* the first in order, for every protocol */
    }
    put_text(&writer, TCA_KIND, "bpf");
    options = open_nest(&writer, TCA_OPTIONS);
    put_u32(&writer, TCA_BPF_FD, (uint32_t)program_fd);
    put_text(&writer, TCA_BPF_NAME, name);
    put_u32(&writer, TCA_BPF_FLAGS, TCA_BPF_FLAG_ACT_DIRECT);
    close_nest(&writer, options);
    return finish(&writer);
}

/* A message whose body is made elsewhere: what a dump has reported, to be sent again. */
int
dnet_put_message(struct dnet_batch *batch, uint16_t type, uint16_t flags, const uint8_t *body, size_t size)
{
    struct writer writer;
    void *place;

    if (size > UINT16_MAX)
        return -EMSGSIZE;
    place = begin(&writer, batch, type, flags, size);
    if (place)
        memcpy(place, body, size);
    return finish(&writer);
}

/* A dump request: RTM_GETLINK, RTM_GETADDR, RTM_GETROUTE or RTM_GETQDISC of one family, or of all with AF_UNSPEC; or
 * RTM_GETNEIGH of AF_BRIDGE, which takes the header of a link. */
int
dnet_put_dump(struct dnet_batch *batch, int type, int family)
{
    struct writer writer;
    size_t size = type == RTM_GETROUTE   ? sizeof(struct rtmsg)
                  : type == RTM_GETADDR  ? sizeof(struct ifaddrmsg)
                  : type == RTM_GETQDISC ? sizeof(struct tcmsg)
                                         : sizeof(struct ifinfomsg);
    uint8_t *body = begin(&writer, batch, (uint16_t)type, NLM_F_DUMP, size);

    if (body)
        body[0] = (uint8_t)family; /* the family is the first byte of all of them */
    return finish(&writer);
}
