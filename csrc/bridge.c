/*
 * Builds rtnetlink messages about Linux bridges and their ports: the device itself, port settings, VLANs, entries of
 * the forwarding table. link.c makes devices ports (dnet_put_master) and has what bridges share with other devices.
 * The attributes follow linux/if_bridge.h and linux/if_link.h.
 */
#include "internal.h"

#include <errno.h>
#include <linux/if_bridge.h>
#include <linux/if_link.h>
#include <linux/neighbour.h>
#include <linux/rtnetlink.h>
#include <sys/socket.h>

/* Creates a bridge, down. Multicast snooping is off: with it, adding or raising a port walks all ports. */
int
dnet_put_bridge(struct dnet_batch *batch, uint32_t index, const char *name, const uint8_t *mac, uint32_t mtu)
{
    struct nlmsg_writer writer;
    size_t info, data;

    if (!link_name_is_valid(name))
        return -EINVAL;
    link_begin(&writer, batch, RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, index);
    info = nla_nest_open(&writer, IFLA_LINKINFO);
    nla_put_string(&writer, IFLA_INFO_KIND, "bridge");
    data = nla_nest_open(&writer, IFLA_INFO_DATA);
    nla_put_u8(&writer, IFLA_BR_MCAST_SNOOPING, 0);
    nla_nest_close(&writer, data);
    nla_nest_close(&writer, info);
    link_put_identity(&writer, name, mac, mtu);
    return nlmsg_end(&writer);
}

/* Begins a message about a bridge port, or about the bridge itself as a port. */
static void
bridge_begin_port(struct nlmsg_writer *writer, struct dnet_batch *batch, uint16_t type, uint32_t index)
{
    struct ifinfomsg *link = link_begin(writer, batch, type, 0, index);

    if (link)
        link->ifi_family = AF_BRIDGE;
}

/* Sets what a bridge port does: with `hairpin`, frames may leave by the port they came in by; if `isolated`, it
 * exchanges none with other isolated ports. */
int
dnet_put_bridge_port(struct dnet_batch *batch, uint32_t index, bool hairpin, bool isolated)
{
    struct nlmsg_writer writer;
    size_t port;

    bridge_begin_port(&writer, batch, RTM_SETLINK, index);
    port = nla_nest_open(&writer, IFLA_PROTINFO);
    nla_put_u8(&writer, IFLA_BRPORT_MODE, hairpin);
    nla_put_u8(&writer, IFLA_BRPORT_ISOLATED, isolated);
    nla_nest_close(&writer, port);
    return nlmsg_end(&writer);
}

/* Makes a bridge filter VLANs (`is_new`) or stop it. A filtering bridge puts no port into a VLAN unasked. */
int
dnet_put_bridge_filtering(struct dnet_batch *batch, bool is_new, uint32_t index)
{
    struct nlmsg_writer writer;
    uint16_t no_vlan = 0;
    size_t info, data;

    link_begin(&writer, batch, RTM_NEWLINK, 0, index);
    info = nla_nest_open(&writer, IFLA_LINKINFO);
    nla_put_string(&writer, IFLA_INFO_KIND, "bridge");
    data = nla_nest_open(&writer, IFLA_INFO_DATA);
    nla_put(&writer, IFLA_BR_VLAN_DEFAULT_PVID, &no_vlan, sizeof no_vlan);
    nla_put_u8(&writer, IFLA_BR_VLAN_FILTERING, is_new);
    nla_nest_close(&writer, data);
    nla_nest_close(&writer, info);
    return nlmsg_end(&writer);
}

static void
bridge_put_vlan_info(struct nlmsg_writer *writer, uint16_t vid, uint16_t flags)
{
    struct bridge_vlan_info info = {.flags = flags, .vid = vid};

    nla_put(writer, IFLA_BRIDGE_VLAN_INFO, &info, sizeof info);
}

/* Adds VLANs to a filtering bridge's port, or to the bridge's own device, or removes them: `ranges` are pairs of first
 * and last VID, tagged; `untagged` is the VID of untagged frames, or 0. */
int
dnet_put_bridge_vlans(struct dnet_batch *batch, bool is_new, uint32_t index, bool is_bridge, const uint16_t *ranges,
                      uint32_t range_count, uint16_t untagged)
{
    struct nlmsg_writer writer;
    uint16_t self = BRIDGE_FLAGS_SELF, flags = is_bridge ? BRIDGE_VLAN_INFO_BRENTRY : 0;
    size_t spec;

    bridge_begin_port(&writer, batch, is_new ? RTM_SETLINK : RTM_DELLINK, index);
    spec = nla_nest_open(&writer, IFLA_AF_SPEC);
    if (is_bridge)
        nla_put(&writer, IFLA_BRIDGE_FLAGS, &self, sizeof self);
    for (uint32_t i = 0; i < range_count; i++) {
        uint16_t first = ranges[2 * i], last = ranges[2 * i + 1];

        if (first == last) {
            bridge_put_vlan_info(&writer, first, flags);
            continue;
        }
        bridge_put_vlan_info(&writer, first, flags | BRIDGE_VLAN_INFO_RANGE_BEGIN);
        bridge_put_vlan_info(&writer, last, flags | BRIDGE_VLAN_INFO_RANGE_END);
    }
    if (untagged)
        bridge_put_vlan_info(&writer, untagged, flags | BRIDGE_VLAN_INFO_PVID | BRIDGE_VLAN_INFO_UNTAGGED);
    nla_nest_close(&writer, spec);
    return nlmsg_end(&writer);
}

/* Adds or removes an entry of a bridge's forwarding table. The entry ties the MAC address to this port, whoever else
 * sends from that address. */
int
dnet_put_mac_entry(struct dnet_batch *batch, bool is_new, uint32_t index, const uint8_t *mac)
{
    struct nlmsg_writer writer;
    struct ndmsg *body = nlmsg_begin(&writer, batch, is_new ? RTM_NEWNEIGH : RTM_DELNEIGH,
                                     is_new ? NLM_F_CREATE | NLM_F_REPLACE : 0, sizeof *body);

    if (body) {
        body->ndm_family = AF_BRIDGE;
        body->ndm_ifindex = (int)index;
        body->ndm_state = NUD_NOARP;
        body->ndm_flags = NTF_MASTER | NTF_STICKY;
    }
    nla_put(&writer, NDA_LLADDR, mac, MAC_BYTES);
    return nlmsg_end(&writer);
}
