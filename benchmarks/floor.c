/*
 * The kernel's floor: only the kernel work that N bridge-mode container networks need, as fast as it can be done.
 *
 * Contestant of the benchmark runner (built by build_programs.py); shares no code with dnet, so that it stays an
 * independent yardstick. It knows nothing of names, state or policy. Start it in network and mount namespaces of its
 * own (`unshare -nm`): it leaves everything in place, and all of it vanishes with those namespaces.
 *
 *     floor create N DIRECTORY    N sandboxes on one new bridge
 *     floor delete N DIRECTORY    create, then delete by IFLA_GROUP while a second thread unmounts the pins
 *     floor reap N DIRECTORY      create, then only unmount the pins and let the kernel reap the veths
 *     floor one N DIRECTORY       create, then sandboxes one at a time; the median of them
 *     floor attach N DIRECTORY    create, then a second veth for each, born inside, on a second bridge
 *
 * DIRECTORY exists; a tmpfs for the pins is mounted on it. Each prints one JSON line; "seconds" runs from the first
 * system call of the measured work to the kernel's last acknowledgement (reap: to the last RTM_DELLINK event).
 *
 * One thread makes namespaces, the other links. Both are bound by the one RTNL lock, which is held about 0.6 ms per
 * sandbox; so the link thread never waits for a full batch, it takes what is ready. Measured at 500 sandboxes on 2
 * cores, ms each: this program 0.70; all namespaces first and links after 1.00; two namespace threads 0.82; without
 * IN6_ADDR_GEN_MODE_NONE 1.17; default queue counts 0.93; mcast_snooping on 0.78.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_addr.h>
#include <linux/if_link.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <linux/veth.h>
#include <net/if.h>
#include <pthread.h>
#include <sched.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum {
    LOOPBACK_INDEX = 1,
    ETH0_INDEX = 2,
    BRIDGE_INDEX = 10,
    FIRST_HOST_INDEX = 1000,
    SECOND = 10000,   /* between the indexes of the first veth, or bridge, and the second */
    FIRST_NUMBER = 1, /* the sandboxes are c-1, c-2, ... and have the addresses after the bridge's */
    HOST_GROUP = 0x666c6f72,
    PREFIX_LENGTH = 16,
    SUBNET = 0x0a120000,     /* 10.18.0.0, host byte order */
    SECOND_SUBNET = 0x10000, /* added to the first: 10.19.0.0 */
    MOST_SANDBOXES = 1023,   /* BR_MAX_PORTS - 1: what one Linux bridge takes */
    BATCH = 16,              /* veths in one send; 1, 4, 8, 16 and 32 measure the same */
    WINDOW = 16,             /* namespaces made ahead, two descriptors each; 8 to 500 measure the same */
    ONE_ROUNDS = 15,
    SEND_BYTES = 16384,
    RECEIVE_BYTES = 65536,
    EVENT_BUFFER_BYTES = 64 << 20,
};

/* A sandbox between the thread that made it and the thread that wires it. */
struct sandbox {
    int namespace_fd;
    int netlink_fd; /* a socket of that namespace */
};

struct queue {
    struct sandbox (*open)(const char *directory, int number);
    pthread_mutex_t lock;
    pthread_cond_t changed;
    struct sandbox ready[WINDOW];
    int first, count;
    int made, taken;
    const char *directory;
};

/* Messages for one send. */
struct batch {
    char bytes[SEND_BYTES];
    size_t length;
    uint32_t sequence;
    struct nlmsghdr *message;
};

static void
fail(const char *what)
{
    fprintf(stderr, "floor: %s: %s\n", what, strerror(errno));
    exit(1);
}

static double
now_s(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + (double)time.tv_nsec * 1e-9;
}

static int
netlink_socket(void)
{
    int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);
    if (fd < 0)
        fail("netlink socket");
    return fd;
}

/* Room for size bytes (rounded up to the netlink alignment), zeroed, as part of the current message. */
static void *
extend(struct batch *batch, size_t size)
{
    size_t aligned = NLMSG_ALIGN(size);
    if (batch->length + aligned > sizeof batch->bytes) {
        errno = ENOBUFS;
        fail("batch");
    }
    void *room = batch->bytes + batch->length;
    memset(room, 0, aligned);
    batch->length += aligned;
    if (batch->message)
        batch->message->nlmsg_len += (uint32_t)aligned;
    return room;
}

static void
begin(struct batch *batch, uint16_t type, uint16_t flags, const void *body, size_t body_size)
{
    batch->message = NULL;
    struct nlmsghdr *message = extend(batch, NLMSG_HDRLEN);
    message->nlmsg_len = NLMSG_HDRLEN;
    message->nlmsg_type = type;
    message->nlmsg_flags = NLM_F_REQUEST | flags;
    message->nlmsg_seq = ++batch->sequence;
    batch->message = message;
    memcpy(extend(batch, body_size), body, body_size);
}

static void
put(struct batch *batch, uint16_t type, const void *value, size_t size)
{
    struct rtattr *attribute = extend(batch, RTA_LENGTH(size));
    attribute->rta_type = type;
    attribute->rta_len = (uint16_t)RTA_LENGTH(size);
    memcpy(RTA_DATA(attribute), value, size);
}

static void
put_u8(struct batch *batch, uint16_t type, uint8_t value)
{
    put(batch, type, &value, sizeof value);
}

static void
put_u32(struct batch *batch, uint16_t type, uint32_t value)
{
    put(batch, type, &value, sizeof value);
}

static void
put_text(struct batch *batch, uint16_t type, const char *text)
{
    put(batch, type, text, strlen(text) + 1);
}

static struct rtattr *
nest(struct batch *batch, uint16_t type)
{
    struct rtattr *attribute = extend(batch, RTA_LENGTH(0));
    attribute->rta_type = type | NLA_F_NESTED;
    return attribute;
}

static void
close_nest(struct batch *batch, struct rtattr *attribute)
{
    attribute->rta_len = (uint16_t)(batch->bytes + batch->length - (char *)attribute);
}

/* Send the batch, whose last message asks for an acknowledgement, and wait for it. The kernel reports failures of the
 * others too. */
static void
transact(int fd, struct batch *batch, const char *what)
{
    struct sockaddr_nl kernel = {.nl_family = AF_NETLINK};
    batch->message->nlmsg_flags |= NLM_F_ACK;
    if (sendto(fd, batch->bytes, batch->length, 0, (struct sockaddr *)&kernel, sizeof kernel) < 0)
        fail(what);
    for (;;) {
        char reply[RECEIVE_BYTES];
        ssize_t received = recv(fd, reply, sizeof reply, 0);
        if (received < 0)
            fail(what);
        size_t left = (size_t)received;
        for (struct nlmsghdr *header = (struct nlmsghdr *)reply; NLMSG_OK(header, left);
             header = NLMSG_NEXT(header, left)) {
            if (header->nlmsg_type != NLMSG_ERROR)
                continue;
            const struct nlmsgerr *error = NLMSG_DATA(header);
            if (error->error) {
                errno = -error->error;
                fail(what);
            }
            if (header->nlmsg_seq == batch->sequence) {
                batch->length = 0;
                return;
            }
        }
    }
}

static void
message_up(struct batch *batch, int index)
{
    struct ifinfomsg link = {.ifi_index = index, .ifi_flags = IFF_UP, .ifi_change = IFF_UP};
    begin(batch, RTM_NEWLINK, 0, &link, sizeof link);
}

/*
 * No IPv6 autoconfiguration. A message of its own, before up: the kernel reads IFLA_AF_SPEC neither when it creates a
 * link nor, in a message that also sets IFF_UP, before it raises the link.
 */
static void
message_no_autoconfiguration(struct batch *batch, int index)
{
    struct ifinfomsg link = {.ifi_index = index};
    begin(batch, RTM_SETLINK, 0, &link, sizeof link);
    struct rtattr *families = nest(batch, IFLA_AF_SPEC);
    struct rtattr *inet6 = nest(batch, AF_INET6);
    put_u8(batch, IFLA_INET6_ADDR_GEN_MODE, IN6_ADDR_GEN_MODE_NONE);
    close_nest(batch, inet6);
    close_nest(batch, families);
}

static void
message_address(struct batch *batch, int index, uint32_t address)
{
    struct ifaddrmsg body = {.ifa_family = AF_INET, .ifa_prefixlen = PREFIX_LENGTH, .ifa_index = (uint32_t)index};
    begin(batch, RTM_NEWADDR, NLM_F_CREATE | NLM_F_EXCL, &body, sizeof body);
    put_u32(batch, IFA_LOCAL, htonl(address));
    put_u32(batch, IFA_ADDRESS, htonl(address));
}

static void
message_default_route(struct batch *batch)
{
    struct rtmsg body = {
        .rtm_family = AF_INET,
        .rtm_table = RT_TABLE_MAIN,
        .rtm_protocol = RTPROT_STATIC,
        .rtm_scope = RT_SCOPE_UNIVERSE,
        .rtm_type = RTN_UNICAST,
    };
    begin(batch, RTM_NEWROUTE, NLM_F_CREATE | NLM_F_EXCL, &body, sizeof body);
    put_u32(batch, RTA_GATEWAY, htonl(SUBNET + 1));
    put_u32(batch, RTA_OIF, ETH0_INDEX);
}

static void
message_bridge(struct batch *batch, int shift)
{
    struct ifinfomsg link = {.ifi_index = BRIDGE_INDEX + shift};
    const uint8_t mac[] = {0x02, 0x44, 0, 0, 0, shift ? 2 : 1};
    begin(batch, RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, &link, sizeof link);
    put_text(batch, IFLA_IFNAME, shift ? "floor1" : "floor0");
    put(batch, IFLA_ADDRESS, mac, sizeof mac);
    struct rtattr *info = nest(batch, IFLA_LINKINFO);
    put_text(batch, IFLA_INFO_KIND, "bridge");
    struct rtattr *data = nest(batch, IFLA_INFO_DATA);
    put_u8(batch, IFLA_BR_MCAST_SNOOPING, 0);
    close_nest(batch, data);
    close_nest(batch, info);
}

/* What both ends of a veth share. One queue: the default is one per possible CPU, each with sysfs objects. */
static void
put_veth_end(struct batch *batch, const char *name, uint8_t side, int number)
{
    const uint8_t mac[] = {0x02, side, 0, 0, (uint8_t)(number >> 8), (uint8_t)number};
    put_text(batch, IFLA_IFNAME, name);
    put(batch, IFLA_ADDRESS, mac, sizeof mac);
    put_u32(batch, IFLA_NUM_TX_QUEUES, 1);
    put_u32(batch, IFLA_NUM_RX_QUEUES, 1);
}

/* The host end is born enslaved, the peer is born in the sandbox: moving it there later would cost 19 ms. */
static void
message_veth(struct batch *batch, int number, int shift, int namespace_fd)
{
    struct ifinfomsg host = {.ifi_index = FIRST_HOST_INDEX + shift + number};
    struct ifinfomsg inside = {.ifi_index = ETH0_INDEX + !!shift};
    char name[IFNAMSIZ];
    snprintf(name, sizeof name, "veth%d", shift + number);
    begin(batch, RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, &host, sizeof host);
    put_veth_end(batch, name, 0x43, number);
    put_u32(batch, IFLA_MASTER, (uint32_t)(BRIDGE_INDEX + shift));
    put_u32(batch, IFLA_GROUP, HOST_GROUP);
    struct rtattr *info = nest(batch, IFLA_LINKINFO);
    put_text(batch, IFLA_INFO_KIND, "veth");
    struct rtattr *data = nest(batch, IFLA_INFO_DATA);
    struct rtattr *peer = nest(batch, VETH_INFO_PEER);
    memcpy(extend(batch, sizeof inside), &inside, sizeof inside);
    put_veth_end(batch, shift ? "eth1" : "eth0", 0x42, number);
    put_u32(batch, IFLA_NET_NS_FD, (uint32_t)namespace_fd);
    close_nest(batch, peer);
    close_nest(batch, data);
    close_nest(batch, info);
}

static void
pin_path(char *path, size_t size, const char *directory, int number)
{
    if ((size_t)snprintf(path, size, "%s/c-%d", directory, number) >= size) {
        errno = ENAMETOOLONG;
        fail(directory);
    }
}

/* Leave the calling thread in a new network namespace, pinned at its path. */
static struct sandbox
make_sandbox(const char *directory, int number)
{
    char path[4096];
    pin_path(path, sizeof path, directory, number);
    if (unshare(CLONE_NEWNET) < 0)
        fail("unshare");
    int pin = open(path, O_RDONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0444);
    if (pin < 0)
        fail(path);
    close(pin);
    if (mount("/proc/thread-self/ns/net", path, NULL, MS_BIND, NULL) < 0)
        fail("bind mount");
    struct sandbox sandbox = {.namespace_fd = open(path, O_RDONLY | O_CLOEXEC), .netlink_fd = netlink_socket()};
    if (sandbox.namespace_fd < 0)
        fail(path);
    return sandbox;
}

/* Leave the calling thread in the network namespace that is pinned at its path. */
static struct sandbox
enter_sandbox(const char *directory, int number)
{
    char path[4096];
    pin_path(path, sizeof path, directory, number);
    struct sandbox sandbox = {.namespace_fd = open(path, O_RDONLY | O_CLOEXEC)};
    if (sandbox.namespace_fd < 0 || setns(sandbox.namespace_fd, CLONE_NEWNET) < 0)
        fail(path);
    sandbox.netlink_fd = netlink_socket();
    return sandbox;
}

static void *
make_sandboxes(void *argument)
{
    struct queue *queue = argument;
    for (int i = 0; i < queue->count; i++) {
        pthread_mutex_lock(&queue->lock);
        while (queue->made - queue->taken == WINDOW)
            pthread_cond_wait(&queue->changed, &queue->lock);
        pthread_mutex_unlock(&queue->lock);

        struct sandbox sandbox = queue->open(queue->directory, queue->first + i);

        pthread_mutex_lock(&queue->lock);
        queue->ready[queue->made++ % WINDOW] = sandbox;
        pthread_cond_signal(&queue->changed);
        pthread_mutex_unlock(&queue->lock);
    }
    return NULL;
}

/* All sandboxes that are ready, at least one and at most BATCH. */
static int
take_ready(struct queue *queue, struct sandbox *ret_sandboxes)
{
    int taken = 0;
    pthread_mutex_lock(&queue->lock);
    while (queue->made == queue->taken)
        pthread_cond_wait(&queue->changed, &queue->lock);
    while (taken < BATCH && queue->taken < queue->made)
        ret_sandboxes[taken++] = queue->ready[queue->taken++ % WINDOW];
    pthread_cond_signal(&queue->changed);
    pthread_mutex_unlock(&queue->lock);
    return taken;
}

/* Veths on the host, then each sandbox's inside, then the host ends up: last, so that carrier events and floods are
 * fewest. */
static void
wire(int host_fd, struct batch *batch, int first, int shift, const struct sandbox *sandboxes, int count)
{
    int inside = ETH0_INDEX + !!shift;

    for (int i = 0; i < count; i++)
        message_veth(batch, first + i, shift, sandboxes[i].namespace_fd);
    for (int i = 0; i < count; i++)
        message_no_autoconfiguration(batch, FIRST_HOST_INDEX + shift + first + i);
    transact(host_fd, batch, "create veths");

    for (int i = 0; i < count; i++) {
        message_no_autoconfiguration(batch, inside);
        if (!shift)
            message_up(batch, LOOPBACK_INDEX);
        message_address(batch, inside, SUBNET + (shift ? SECOND_SUBNET : 0) + 1 + (uint32_t)(first + i));
        message_up(batch, inside);
        if (!shift)
            message_default_route(batch);
        transact(sandboxes[i].netlink_fd, batch, "configure the sandbox");
        close(sandboxes[i].netlink_fd);
        close(sandboxes[i].namespace_fd);
    }

    for (int i = 0; i < count; i++)
        message_up(batch, FIRST_HOST_INDEX + shift + first + i);
    transact(host_fd, batch, "raise the host ends");
}

/* Makes sandboxes with their first veths, or with a `shift` enters those that are there, for their second. */
static void
create(int host_fd, const char *directory, int first, int shift, int count)
{
    static struct batch batch;
    struct queue queue = {
        .open = shift ? enter_sandbox : make_sandbox,
        .lock = PTHREAD_MUTEX_INITIALIZER,
        .changed = PTHREAD_COND_INITIALIZER,
        .first = first,
        .count = count,
        .directory = directory,
    };
    pthread_t maker;
    if ((errno = pthread_create(&maker, NULL, make_sandboxes, &queue)))
        fail("thread");
    for (int wired = 0; wired < count;) {
        struct sandbox sandboxes[BATCH];
        int ready = take_ready(&queue, sandboxes);
        wire(host_fd, &batch, first + wired, shift, sandboxes, ready);
        wired += ready;
    }
    pthread_join(maker, NULL);
}

static void
make_bridge(int host_fd, int shift)
{
    static struct batch batch;
    message_bridge(&batch, shift);
    message_no_autoconfiguration(&batch, BRIDGE_INDEX + shift);
    message_address(&batch, BRIDGE_INDEX + shift, SUBNET + (shift ? SECOND_SUBNET : 0) + 1);
    message_up(&batch, BRIDGE_INDEX + shift);
    transact(host_fd, &batch, "create the bridge");
}

static void
prepare(int host_fd, const char *directory)
{
    if (mount("floor", directory, "tmpfs", 0, "mode=0700") < 0)
        fail(directory);
    make_bridge(host_fd, 0);
}

static void *
unmount_pins(void *argument)
{
    const struct queue *sandboxes = argument;
    for (int i = 0; i < sandboxes->count; i++) {
        char path[4096];
        pin_path(path, sizeof path, sandboxes->directory, sandboxes->first + i);
        if (umount2(path, MNT_DETACH) < 0 || unlink(path) < 0)
            fail(path);
    }
    return NULL;
}

/* One message removes all veths of the group; the namespaces, without devices by then, die in the background. */
static void
delete_by_group(int host_fd, const char *directory, int count)
{
    static struct batch batch;
    struct queue sandboxes = {.directory = directory, .first = FIRST_NUMBER, .count = count};
    struct ifinfomsg any = {0};
    pthread_t unmounter;
    if ((errno = pthread_create(&unmounter, NULL, unmount_pins, &sandboxes)))
        fail("thread");
    begin(&batch, RTM_DELLINK, 0, &any, sizeof any);
    put_u32(&batch, IFLA_GROUP, HOST_GROUP);
    transact(host_fd, &batch, "delete the group");
    pthread_join(unmounter, NULL);
}

static int
event_socket(void)
{
    struct sockaddr_nl events = {.nl_family = AF_NETLINK, .nl_groups = RTMGRP_LINK};
    int bytes = EVENT_BUFFER_BYTES;
    int fd = netlink_socket();
    if (setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &bytes, sizeof bytes) < 0)
        fail("receive buffer");
    if (bind(fd, (struct sockaddr *)&events, sizeof events) < 0)
        fail("link events");
    return fd;
}

/* Wait for count host ends to go. A bridge reports each lost port by an RTM_DELLINK too, of family AF_BRIDGE. */
static void
await_deletions(int event_fd, int count)
{
    while (count > 0) {
        char events[RECEIVE_BYTES];
        ssize_t received = recv(event_fd, events, sizeof events, 0);
        if (received < 0)
            fail("link events");
        size_t left = (size_t)received;
        for (struct nlmsghdr *header = (struct nlmsghdr *)events; NLMSG_OK(header, left);
             header = NLMSG_NEXT(header, left)) {
            const struct ifinfomsg *link = NLMSG_DATA(header);
            if (header->nlmsg_type == RTM_DELLINK && link->ifi_family == AF_UNSPEC &&
                link->ifi_index >= FIRST_HOST_INDEX)
                count--;
        }
    }
}

static int
compare_doubles(const void *left, const void *right)
{
    double difference = *(const double *)left - *(const double *)right;
    return (difference > 0) - (difference < 0);
}

static double
create_one_by_one(int host_fd, const char *directory, int present)
{
    double seconds[ONE_ROUNDS];
    for (int i = 0; i < ONE_ROUNDS; i++) {
        double start_s = now_s();
        create(host_fd, directory, FIRST_NUMBER + present + i, 0, 1);
        seconds[i] = now_s() - start_s;
    }
    qsort(seconds, ONE_ROUNDS, sizeof seconds[0], compare_doubles);
    return seconds[ONE_ROUNDS / 2];
}

int
main(int argc, char **argv)
{
    int count = argc == 4 ? atoi(argv[2]) : 0;
    bool one = count > 0 && !strcmp(argv[1], "one");
    if (count < 1 || count > MOST_SANDBOXES - (one ? ONE_ROUNDS : 0)) {
        fprintf(stderr, "usage: floor create|delete|reap|one|attach N DIRECTORY, N up to %d\n", MOST_SANDBOXES);
        return 2;
    }
    const char *directory = argv[3];
    double start_s = now_s();
    int host_fd = netlink_socket();
    prepare(host_fd, directory);
    create(host_fd, directory, FIRST_NUMBER, 0, count);
    double created_s = now_s();

    double seconds = created_s - start_s;
    if (!strcmp(argv[1], "delete")) {
        delete_by_group(host_fd, directory, count);
        seconds = now_s() - created_s;
    } else if (!strcmp(argv[1], "reap")) {
        int event_fd = event_socket();
        struct queue sandboxes = {.directory = directory, .first = FIRST_NUMBER, .count = count};
        created_s = now_s();
        unmount_pins(&sandboxes);
        await_deletions(event_fd, count);
        seconds = now_s() - created_s;
    } else if (!strcmp(argv[1], "attach")) {
        make_bridge(host_fd, SECOND);
        created_s = now_s();
        create(host_fd, directory, FIRST_NUMBER, SECOND, count);
        seconds = now_s() - created_s;
    } else if (one) {
        seconds = create_one_by_one(host_fd, directory, count);
    } else if (strcmp(argv[1], "create")) {
        fprintf(stderr, "floor: no such command: %s\n", argv[1]);
        return 2;
    }
    printf("{\"n\": %d, \"seconds\": %.6f}\n", count, seconds);
    return 0;
}
