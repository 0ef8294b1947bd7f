/*
 * Builds rtnetlink messages about devices of any kind: to create, move, set, ask for and delete them. bridge.c has
 * those about bridges and their ports, tc.c those about their tc hooks, routes.c those about addresses and routes.
 * One function builds one message, by nlattr.c. The attributes follow linux/if_link.h; docs/architecture.md says why
 * the engine sends these, and in this order.
 */
#include "internal.h"

#include <errno.h>
#include <linux/if_addr.h>
#include <linux/if_link.h>
#include <linux/ip.h>
#include <linux/pkt_sched.h>
#include <linux/rtnetlink.h>
#include <linux/veth.h>
#include <net/if.h>
#include <string.h>
#include <sys/socket.h>

#define ALIAS_BYTES 255 /* IFALIASZ less the final zero */

struct ifinfomsg *
link_begin(struct nlmsg_writer *writer, struct dnet_batch *batch, uint16_t type, uint16_t flags, uint32_t index)
{
    struct ifinfomsg *link = nlmsg_begin(writer, batch, type, flags, sizeof *link);

    if (link)
        link->ifi_index = (int)index;
    return link;
}

/* Puts the name, MAC address and MTU of a device to create. */
void
link_put_identity(struct nlmsg_writer *writer, const char *name, const uint8_t *mac, uint32_t mtu)
{
    nla_put_string(writer, IFLA_IFNAME, name);
    if (mac)
        nla_put(writer, IFLA_ADDRESS, mac, MAC_BYTES);
    if (mtu)
        nla_put_u32(writer, IFLA_MTU, mtu);
    /* One queue each: the default is one per possible CPU, each with its own sysfs objects. */
    nla_put_u32(writer, IFLA_NUM_TX_QUEUES, 1);
    nla_put_u32(writer, IFLA_NUM_RX_QUEUES, 1);
}

bool
link_name_is_valid(const char *name)
{
    size_t length = strlen(name);

    return length > 0 && length < IFNAMSIZ;
}

/*
 * Creates a veth pair. Both ends are down, the host end is already a port of `master`, and the peer is born inside a
 * sandbox whose namespace nlmsg_set_netns() fills in. The peer must not be created up: the kernel refuses (ENOTCONN)
 * and the refusal costs 16 ms.
 */
int
dnet_put_veth(struct dnet_batch *batch, uint32_t index, const char *name, uint32_t master, uint32_t peer_index,
              const char *peer_name, const uint8_t *peer_mac, uint32_t mtu)
{
    struct nlmsg_writer writer;
    struct ifinfomsg *peer;
    size_t info, data, peer_nest;

    if (!link_name_is_valid(name) || !link_name_is_valid(peer_name))
        return -EINVAL;
    link_begin(&writer, batch, RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, index);
    info = nla_nest_open(&writer, IFLA_LINKINFO);
    nla_put_string(&writer, IFLA_INFO_KIND, "veth");
    data = nla_nest_open(&writer, IFLA_INFO_DATA);
    peer_nest = nla_nest_open(&writer, VETH_INFO_PEER);
    peer = nlmsg_reserve(&writer, sizeof *peer);
    if (peer)
        peer->ifi_index = (int)peer_index;
    nla_put_pending_netns(&writer, IFLA_NET_NS_FD);
    link_put_identity(&writer, peer_name, peer_mac, mtu);
    nla_nest_close(&writer, peer_nest);
    nla_nest_close(&writer, data);
    nla_nest_close(&writer, info);
    link_put_identity(&writer, name, NULL, mtu);
    if (master)
        nla_put_u32(&writer, IFLA_MASTER, master);
    return nlmsg_end(&writer);
}

/*
 * Creates a macvlan on the host's device `parent`, down, inside a sandbox whose namespace nlmsg_set_netns() fills in.
 * `mode` is one of MACVLAN_MODE_*.
 */
int
dnet_put_macvlan(struct dnet_batch *batch, uint32_t index, const char *name, uint32_t parent, uint32_t mode,
                 const uint8_t *mac, uint32_t mtu)
{
    struct nlmsg_writer writer;
    size_t info, data;

    if (!link_name_is_valid(name))
        return -EINVAL;
    link_begin(&writer, batch, RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, index);
    nla_put_pending_netns(&writer, IFLA_NET_NS_FD);
    nla_put_u32(&writer, IFLA_LINK, parent);
    info = nla_nest_open(&writer, IFLA_LINKINFO);
    nla_put_string(&writer, IFLA_INFO_KIND, "macvlan");
    data = nla_nest_open(&writer, IFLA_INFO_DATA);
    nla_put_u32(&writer, IFLA_MACVLAN_MODE, mode);
    nla_nest_close(&writer, data);
    nla_nest_close(&writer, info);
    link_put_identity(&writer, name, mac, mtu);
    return nlmsg_end(&writer);
}

/* Creates a dummy, down: an interface that leads nowhere. */
int
dnet_put_dummy(struct dnet_batch *batch, uint32_t index, const char *name, const uint8_t *mac, uint32_t mtu)
{
    struct nlmsg_writer writer;
    size_t info;

    if (!link_name_is_valid(name))
        return -EINVAL;
    link_begin(&writer, batch, RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, index);
    info = nla_nest_open(&writer, IFLA_LINKINFO);
    nla_put_string(&writer, IFLA_INFO_KIND, "dummy");
    nla_nest_close(&writer, info);
    link_put_identity(&writer, name, mac, mtu);
    return nlmsg_end(&writer);
}

/*
 * Moves a device into another namespace, under another name and index. All three change in one step, so nobody sees
 * the one without the other. The device arrives down and without addresses. `netns_fd` -1: into a sandbox whose
 * namespace nlmsg_set_netns() fills in.
 */
int
dnet_put_move(struct dnet_batch *batch, uint32_t index, int netns_fd, const char *name, uint32_t new_index)
{
    struct nlmsg_writer writer;

    if (!link_name_is_valid(name))
        return -EINVAL;
    link_begin(&writer, batch, RTM_SETLINK, 0, index);
    if (netns_fd < 0)
        nla_put_pending_netns(&writer, IFLA_NET_NS_FD);
    else
        nla_put_u32(&writer, IFLA_NET_NS_FD, (uint32_t)netns_fd);
    nla_put_string(&writer, IFLA_IFNAME, name);
    nla_put_u32(&writer, IFLA_NEW_IFINDEX, new_index);
    return nlmsg_end(&writer);
}

/*
 * Sets a device's name (the device must be down), MAC address and MTU; NULL and 0 leave what is there. Setting the
 * same MAC address again tells the neighbours: with arp_notify the kernel sends a gratuitous ARP (NETDEV_CHANGEADDR).
 */
int
dnet_put_identity(struct dnet_batch *batch, uint32_t index, const char *name, const uint8_t *mac, uint32_t mtu)
{
    struct nlmsg_writer writer;

    if (name && !link_name_is_valid(name))
        return -EINVAL;
    link_begin(&writer, batch, RTM_SETLINK, 0, index);
    if (name)
        nla_put_string(&writer, IFLA_IFNAME, name);
    if (mac)
        nla_put(&writer, IFLA_ADDRESS, mac, MAC_BYTES);
    if (mtu)
        nla_put_u32(&writer, IFLA_MTU, mtu);
    return nlmsg_end(&writer);
}

/*
 * Sets what only RTM_SETLINK takes: the alias (NULL: none), and no IPv6 autoconfiguration. The latter has to come
 * before the device is up. It keeps an interface from sending MLD, DAD and router solicitations, each of which a
 * bridge floods to all ports (5,000 sandboxes: 4 s instead of 61 s). A device without IPv6 (`has_ipv6` false) refuses
 * that setting (EAFNOSUPPORT) and does not need it.
 */
int
dnet_put_quiet(struct dnet_batch *batch, uint32_t index, const char *alias, bool has_ipv6)
{
    struct nlmsg_writer writer;
    size_t families, inet6;

    if (alias && strlen(alias) > ALIAS_BYTES)
        return -EINVAL;
    link_begin(&writer, batch, RTM_SETLINK, 0, index);
    if (alias)
        nla_put(&writer, IFLA_IFALIAS, alias, strlen(alias));
    if (has_ipv6) {
        families = nla_nest_open(&writer, IFLA_AF_SPEC);
        inet6 = nla_nest_open(&writer, AF_INET6);
        nla_put_u8(&writer, IFLA_INET6_ADDR_GEN_MODE, IN6_ADDR_GEN_MODE_NONE);
        nla_nest_close(&writer, inet6);
        nla_nest_close(&writer, families);
    }
    return nlmsg_end(&writer);
}

static int
link_set_inet_setting(struct dnet_batch *batch, uint32_t index, uint16_t setting, uint32_t value)
{
    struct nlmsg_writer writer;
    size_t families, inet, settings;

    link_begin(&writer, batch, RTM_SETLINK, 0, index);
    families = nla_nest_open(&writer, IFLA_AF_SPEC);
    inet = nla_nest_open(&writer, AF_INET);
    settings = nla_nest_open(&writer, IFLA_INET_CONF);
    nla_put_u32(&writer, setting, value);
    nla_nest_close(&writer, settings);
    nla_nest_close(&writer, inet);
    nla_nest_close(&writer, families);
    return nlmsg_end(&writer);
}

/* Lets packets to and from 127.0.0.0/8 pass through a device (net.ipv4.conf.DEVICE.route_localnet), or not. */
int
dnet_put_route_localnet(struct dnet_batch *batch, bool is_new, uint32_t index)
{
    return link_set_inet_setting(batch, index, IPV4_DEVCONF_ROUTE_LOCALNET, is_new);
}

/* Makes the kernel send a gratuitous ARP whenever the device comes up or its MAC address is set (arp_notify). */
int
dnet_put_arp_notify(struct dnet_batch *batch, uint32_t index)
{
    return link_set_inet_setting(batch, index, IPV4_DEVCONF_ARP_NOTIFY, 1);
}

int
dnet_put_up(struct dnet_batch *batch, uint32_t index)
{
    struct nlmsg_writer writer;
    struct ifinfomsg *link = link_begin(&writer, batch, RTM_SETLINK, 0, index);

    if (link)
        link->ifi_flags = link->ifi_change = IFF_UP;
    return nlmsg_end(&writer);
}

/* Makes a device a port of a bridge. */
int
dnet_put_master(struct dnet_batch *batch, uint32_t index, uint32_t master)
{
    struct nlmsg_writer writer;

    link_begin(&writer, batch, RTM_SETLINK, 0, index);
    nla_put_u32(&writer, IFLA_MASTER, master);
    return nlmsg_end(&writer);
}

/* Puts a device into a group, so that one message can delete many. */
int
dnet_put_group(struct dnet_batch *batch, uint32_t index, uint32_t group)
{
    struct nlmsg_writer writer;

    link_begin(&writer, batch, RTM_SETLINK, 0, index);
    nla_put_u32(&writer, IFLA_GROUP, group);
    return nlmsg_end(&writer);
}

/* Deletes every device of a group: 0.5 ms each, where one by one each waits 17 ms for readers (RCU). */
int
dnet_put_delete_group(struct dnet_batch *batch, uint32_t group)
{
    struct nlmsg_writer writer;

    link_begin(&writer, batch, RTM_DELLINK, 0, 0);
    nla_put_u32(&writer, IFLA_GROUP, group);
    return nlmsg_end(&writer);
}

int
dnet_put_delete(struct dnet_batch *batch, uint32_t index)
{
    struct nlmsg_writer writer;

    link_begin(&writer, batch, RTM_DELLINK, 0, index);
    return nlmsg_end(&writer);
}

/*
 * Asks for one device, by its index or, with index 0, by its name. Before it answers, the kernel lets a change of the
 * carrier take effect (linkwatch_sync_dev, Linux 6.8): from then on a bridge port forwards and a device sends.
 */
int
dnet_put_ask(struct dnet_batch *batch, uint32_t index, const char *name)
{
    struct nlmsg_writer writer;

    if (!index && !link_name_is_valid(name))
        return -EINVAL;
    link_begin(&writer, batch, RTM_GETLINK, 0, index);
    if (!index)
        nla_put_string(&writer, IFLA_IFNAME, name);
    return nlmsg_end(&writer);
}

/* Requests a dump: RTM_GETLINK, RTM_GETADDR, RTM_GETROUTE or RTM_GETQDISC of one family, or of all with AF_UNSPEC; or
 * RTM_GETNEIGH of AF_BRIDGE, which takes the header of a link. */
int
dnet_put_dump(struct dnet_batch *batch, int type, int family)
{
    struct nlmsg_writer writer;
    size_t size = type == RTM_GETROUTE   ? sizeof(struct rtmsg)
                  : type == RTM_GETADDR  ? sizeof(struct ifaddrmsg)
                  : type == RTM_GETQDISC ? sizeof(struct tcmsg)
                                         : sizeof(struct ifinfomsg);
    uint8_t *body = nlmsg_begin(&writer, batch, (uint16_t)type, NLM_F_DUMP, size);

    if (body)
        body[0] = (uint8_t)family; /* the family is the first byte of all of them */
    return nlmsg_end(&writer);
}
