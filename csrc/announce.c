/*
 * Tells neighbours who has an IPv6 address: unsolicited neighbour advertisements (RFC 4861, section 7.2.6). For IPv4
 * the kernel sends the like (arp_notify, link.c); for IPv6 that takes a sysctl (ndisc_notify) that only /proc has.
 */
#include "internal.h"

#include <errno.h>
#include <netinet/icmp6.h>
#include <netinet/in.h>
#include <sched.h>
#include <string.h>
#include <sys/socket.h>

#define ADDRESS_BYTES 16
#define HOPS 255 /* receivers ignore less: it would come from beyond the link */

struct advertisement {
    struct nd_neighbor_advert head;
    uint8_t option_type;
    uint8_t option_length; /* in units of 8 bytes */
    uint8_t mac[MAC_BYTES];
};

struct announcement {
    int netns_fd;
    uint32_t index;
    const uint8_t *mac;
    const uint8_t *addresses;
    uint32_t count;
};

/* Sends one advertisement from the address that it is about, to all nodes on the link. The kernel adds the checksum. */
static int
send_advertisement(int fd, const struct announcement *announcement, const uint8_t *address)
{
    struct sockaddr_in6 all_nodes = {
        .sin6_family = AF_INET6,
        .sin6_scope_id = announcement->index,
        .sin6_addr = {.s6_addr = {0xff, 0x02, [15] = 1}},
    };
    struct advertisement message = {
        .head.nd_na_type = ND_NEIGHBOR_ADVERT,
        .head.nd_na_flags_reserved = ND_NA_FLAG_OVERRIDE,
        .option_type = ND_OPT_TARGET_LINKADDR,
        .option_length = 1,
    };
    uint8_t control[CMSG_SPACE(sizeof(struct in6_pktinfo))] __attribute__((aligned(sizeof(size_t)))) = {0};
    struct iovec part = {.iov_base = &message, .iov_len = sizeof message};
    struct msghdr letter = {
        .msg_name = &all_nodes,
        .msg_namelen = sizeof all_nodes,
        .msg_iov = &part,
        .msg_iovlen = 1,
        .msg_control = control,
        .msg_controllen = sizeof control,
    };
    struct cmsghdr *header = CMSG_FIRSTHDR(&letter);
    struct in6_pktinfo source = {.ipi6_ifindex = announcement->index};

    memcpy(&message.head.nd_na_target, address, ADDRESS_BYTES);
    memcpy(message.mac, announcement->mac, MAC_BYTES);
    memcpy(&source.ipi6_addr, address, ADDRESS_BYTES);
    header->cmsg_level = IPPROTO_IPV6;
    header->cmsg_type = IPV6_PKTINFO;
    header->cmsg_len = CMSG_LEN(sizeof source);
    memcpy(CMSG_DATA(header), &source, sizeof source);
    return sendmsg(fd, &letter, 0) < 0 ? -errno : 0;
}

static int
send_advertisements(void *argument)
{
    const struct announcement *announcement = argument;
    AUTO_CLOSE int fd = -1;
    int hops = HOPS, result = 0;

    if (setns(announcement->netns_fd, CLONE_NEWNET) < 0)
        return -errno;
    fd = socket(AF_INET6, SOCK_RAW | SOCK_CLOEXEC, IPPROTO_ICMPV6);
    if (fd < 0)
        return -errno;
    if (setsockopt(fd, IPPROTO_IPV6, IPV6_MULTICAST_HOPS, &hops, sizeof hops) < 0)
        result = -errno;
    for (uint32_t i = 0; i < announcement->count && !result; i++)
        result = send_advertisement(fd, announcement, announcement->addresses + (size_t)i * ADDRESS_BYTES);
    return result;
}

int
dnet_advertise(int netns_fd, uint32_t index, const uint8_t *mac, const uint8_t *addresses, uint32_t count)
{
    struct announcement announcement = {netns_fd, index, mac, addresses, count};

    return thread_run(send_advertisements, &announcement);
}
