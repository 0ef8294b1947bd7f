/*
 * Builds rtnetlink messages about addresses and routes, as link.c does about devices. The attributes follow
 * linux/if_addr.h and linux/rtnetlink.h.
 */
#include "internal.h"

#include <errno.h>
#include <linux/if_addr.h>
#include <linux/rtnetlink.h>
#include <string.h>
#include <sys/socket.h>

/* Returns the bytes of an address, or 0 for a family that dnet does not know. */
static size_t
family_bytes(int family)
{
    return family == AF_INET ? 4 : family == AF_INET6 ? 16 : 0;
}

/* Adds or removes an address; `is_bare`: without a route to its subnet. An IPv6 address is usable at once, without
 * duplicate address detection, because the allocator has already made it unique. */
int
dnet_put_address(struct dnet_batch *batch, bool is_new, uint32_t index, int family, const uint8_t *address,
                 uint8_t prefix_length, bool is_bare)
{
    struct nlmsg_writer writer;
    struct ifaddrmsg *body;
    size_t size = family_bytes(family);
    uint8_t broadcast[4];

    if (!size || prefix_length > size * 8)
        return -EINVAL;
    body = nlmsg_begin(&writer, batch, is_new ? RTM_NEWADDR : RTM_DELADDR, is_new ? NLM_F_CREATE | NLM_F_EXCL : 0,
                       sizeof *body);
    if (body) {
        body->ifa_family = (uint8_t)family;
        body->ifa_prefixlen = prefix_length;
        body->ifa_index = index;
        if (family == AF_INET6)
            body->ifa_flags = IFA_F_NODAD;
    }
    if (is_bare)
        nla_put_u32(&writer, IFA_FLAGS, IFA_F_NOPREFIXROUTE | (family == AF_INET6 ? IFA_F_NODAD : 0));
    nla_put(&writer, IFA_LOCAL, address, size);
    nla_put(&writer, IFA_ADDRESS, address, size);
    if (family == AF_INET && prefix_length < 31) {
        uint32_t host = UINT32_MAX >> prefix_length;

        for (size_t i = 0; i < sizeof broadcast; i++)
            broadcast[i] = address[i] | (uint8_t)(host >> (24 - 8 * i));
        nla_put(&writer, IFA_BROADCAST, broadcast, sizeof broadcast);
    }
    return nlmsg_end(&writer);
}

/* Adds or removes a unicast route of the main table. `gateway` NULL: directly connected; `metric` 0: the kernel
 * chooses, 0 for IPv4 and 1024 for IPv6. */
int
dnet_put_route(struct dnet_batch *batch, bool is_new, uint32_t index, int family, const uint8_t *destination,
               uint8_t prefix_length, const uint8_t *gateway, uint32_t metric)
{
    struct nlmsg_writer writer;
    struct rtmsg *body;
    size_t size = family_bytes(family);

    if (!size || prefix_length > size * 8)
        return -EINVAL;
    body = nlmsg_begin(&writer, batch, is_new ? RTM_NEWROUTE : RTM_DELROUTE, is_new ? NLM_F_CREATE | NLM_F_EXCL : 0,
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
        nla_put(&writer, RTA_DST, destination, size);
    if (gateway)
        nla_put(&writer, RTA_GATEWAY, gateway, size);
    if (index)
        nla_put_u32(&writer, RTA_OIF, index);
    if (metric)
        nla_put_u32(&writer, RTA_PRIORITY, metric);
    return nlmsg_end(&writer);
}

/* Replaces the device of a dumped route. A route through several devices has no single one, and stays as it is. */
static void
route_set_device(struct rtmsg *body, size_t length, uint32_t index)
{
    const struct nlattr *device = nla_find(body + 1, length - sizeof *body, RTA_OIF);

    /* The other flags tell a state, and the kernel does not take them back (fib_create_info, ip6_route_info_create). */
    body->rtm_flags &= RTNH_F_ONLINK;
    if (device && nla_length(device) >= sizeof index)
        memcpy(nla_data(device), &index, sizeof index);
}

/*
 * Adds again, or removes, an address or a route that a dump reported: `message` is what the kernel sent, header
 * included (RTM_NEWADDR or RTM_NEWROUTE). `index` replaces the device that it was on.
 */
int
dnet_put_dumped(struct dnet_batch *batch, bool is_new, uint32_t index, const uint8_t *message, size_t length)
{
    const struct nlmsghdr *dumped = (const struct nlmsghdr *)message;
    struct nlmsg_writer writer;
    size_t size = length - NLMSG_HDRLEN;
    uint16_t flags = is_new ? NLM_F_CREATE | NLM_F_EXCL : 0;
    void *body;

    if (length < NLMSG_HDRLEN + sizeof(struct rtmsg) ||
        (dumped->nlmsg_type != RTM_NEWADDR && dumped->nlmsg_type != RTM_NEWROUTE))
        return -EINVAL;
    /* RTM_DEL... is the number after RTM_NEW... */
    body = nlmsg_begin(&writer, batch, dumped->nlmsg_type + !is_new, flags, size);
    if (body) {
        memcpy(body, message + NLMSG_HDRLEN, size);
        if (dumped->nlmsg_type == RTM_NEWADDR)
            ((struct ifaddrmsg *)body)->ifa_index = index;
        else
            route_set_device(body, size, index);
    }
    return nlmsg_end(&writer);
}

/*
 * Adds a route `local ::1` through a device, or removes it. The kernel prefers the loopback's own route, and the
 * device's index as the metric keeps several of these apart. Routing of an incoming packet for ::1 is strict about the
 * interface; this route lets the kernel deliver the reply to a translated connection that began at ::1. Nothing else
 * gets that far, because packets that arrive addressed to ::1 are dropped before translation.
 */
int
dnet_put_loopback_route(struct dnet_batch *batch, bool is_new, uint32_t index)
{
    static const uint8_t loopback[16] = {[15] = 1};
    struct nlmsg_writer writer;
    struct rtmsg *body = nlmsg_begin(&writer, batch, is_new ? RTM_NEWROUTE : RTM_DELROUTE,
                                     is_new ? NLM_F_CREATE | NLM_F_EXCL : 0, sizeof *body);

    if (body) {
        body->rtm_family = AF_INET6;
        body->rtm_dst_len = 128;
        body->rtm_table = RT_TABLE_LOCAL;
        body->rtm_protocol = RTPROT_BOOT;
        body->rtm_type = RTN_LOCAL;
    }
    nla_put(&writer, RTA_DST, loopback, sizeof loopback);
    nla_put_u32(&writer, RTA_OIF, index);
    nla_put_u32(&writer, RTA_PRIORITY, index);
    return nlmsg_end(&writer);
}
