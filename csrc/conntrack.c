/*
 * Connection tracking: drops the entries that belong to containers. Walks the table once, however many containers
 * there are, and deletes what matches by its exact tuple, so that nobody else's connections are touched.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "internal.h"

#include <errno.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netfilter/nfnetlink_conntrack.h>
#include <linux/netlink.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

#define ADDRESS_BYTES 16
#define TARGET_BYTES (ADDRESS_BYTES + 2)
#define RECEIVE_BYTES (64 * 1024)
#define BATCH_BYTES (64 * 1024)
#define DELETE_BYTES_MAX 256
#define ATTRIBUTES_OFFSET (NLMSG_HDRLEN + NLMSG_ALIGN(sizeof(struct nfgenmsg)))

struct tuple {
    uint8_t source[ADDRESS_BYTES];
    uint8_t destination[ADDRESS_BYTES];
    uint8_t protocol;
    uint16_t destination_port;
};

/* The deletions found so far, in memory that grows. */
struct deletions {
    uint8_t *data;
    size_t length;
    size_t capacity;
    uint32_t count;
};

static const struct nlattr *
find(const uint8_t *start, size_t length, uint16_t type)
{
    for (size_t at = 0; at + NLA_HDRLEN <= length;) {
        const struct nlattr *attribute = (const struct nlattr *)(start + at);

        if (attribute->nla_len < NLA_HDRLEN || attribute->nla_len > length - at)
            return NULL;
        if ((attribute->nla_type & NLA_TYPE_MASK) == type)
            return attribute;
        at += NLA_ALIGN(attribute->nla_len);
    }
    return NULL;
}

static const uint8_t *
body(const struct nlattr *attribute)
{
    return (const uint8_t *)attribute + NLA_HDRLEN;
}

static size_t
body_length(const struct nlattr *attribute)
{
    return attribute->nla_len - NLA_HDRLEN;
}

static int
read_address(const struct nlattr *ip, uint16_t type4, uint16_t type6, uint8_t *ret_address)
{
    const struct nlattr *found = find(body(ip), body_length(ip), type4);

    memset(ret_address, 0, ADDRESS_BYTES);
    if (found && body_length(found) == 4) {
        ret_address[10] = ret_address[11] = 0xff;
        memcpy(ret_address + 12, body(found), 4);
        return 0;
    }
    found = find(body(ip), body_length(ip), type6);
    if (!found || body_length(found) != ADDRESS_BYTES)
        return -EBADMSG;
    memcpy(ret_address, body(found), ADDRESS_BYTES);
    return 0;
}

static int
read_tuple(const struct nlattr *nest, struct tuple *ret_tuple)
{
    const struct nlattr *ip, *protocol, *found;

    if (!nest)
        return -EBADMSG;
    ip = find(body(nest), body_length(nest), CTA_TUPLE_IP);
    protocol = find(body(nest), body_length(nest), CTA_TUPLE_PROTO);
    if (!ip || !protocol || read_address(ip, CTA_IP_V4_SRC, CTA_IP_V6_SRC, ret_tuple->source) ||
        read_address(ip, CTA_IP_V4_DST, CTA_IP_V6_DST, ret_tuple->destination))
        return -EBADMSG;
    found = find(body(protocol), body_length(protocol), CTA_PROTO_NUM);
    ret_tuple->protocol = found && body_length(found) >= 1 ? *body(found) : 0;
    found = find(body(protocol), body_length(protocol), CTA_PROTO_DST_PORT);
    ret_tuple->destination_port =
        found && body_length(found) >= 2 ? (uint16_t)(body(found)[0] << 8 | body(found)[1]) : 0;
    return 0;
}

static int
compare_addresses(const void *left, const void *right)
{
    return memcmp(left, right, ADDRESS_BYTES);
}

static int
compare_targets(const void *left, const void *right)
{
    return memcmp(left, right, TARGET_BYTES);
}

static int
has_address(const uint8_t *addresses, uint32_t count, const uint8_t *address)
{
    return count && bsearch(address, addresses, count, ADDRESS_BYTES, compare_addresses) != NULL;
}

static int
matches(const struct dnet_flow_filter *filter, const struct tuple *original, const struct tuple *reply)
{
    const uint8_t *ends[] = {original->source, original->destination, reply->source, reply->destination};
    uint8_t target[TARGET_BYTES];

    for (size_t i = 0; i < sizeof ends / sizeof *ends; i++)
        if (has_address(filter->addresses, filter->address_count, ends[i]))
            return 1;
    if (original->protocol != IPPROTO_UDP || !filter->udp_target_count)
        return 0;
    memcpy(target, original->destination, ADDRESS_BYTES);
    target[ADDRESS_BYTES] = (uint8_t)(original->destination_port >> 8);
    target[ADDRESS_BYTES + 1] = (uint8_t)original->destination_port;
    return bsearch(target, filter->udp_targets, filter->udp_target_count, TARGET_BYTES, compare_targets) != NULL;
}

static size_t
append(uint8_t *at, const struct nlattr *attribute)
{
    if (!attribute)
        return 0;
    memcpy(at, attribute, attribute->nla_len);
    return NLA_ALIGN(attribute->nla_len);
}

/* Adds the deletion of a dumped entry: by its original tuple, its zone, and its id, should the tuple be reused. */
static int
add_deletion(struct deletions *deletions, const struct nlmsghdr *entry)
{
    const uint8_t *attributes = (const uint8_t *)entry + ATTRIBUTES_OFFSET;
    size_t length = entry->nlmsg_len - ATTRIBUTES_OFFSET, size = ATTRIBUTES_OFFSET;
    const struct nlattr *tuple = find(attributes, length, CTA_TUPLE_ORIG);
    struct nlmsghdr *message;
    uint8_t *start;

    if (tuple->nla_len > DELETE_BYTES_MAX - ATTRIBUTES_OFFSET - 32)
        return 0;
    if (deletions->capacity - deletions->length < DELETE_BYTES_MAX) {
        size_t capacity = deletions->capacity ? deletions->capacity * 2 : BATCH_BYTES;
        uint8_t *data = realloc(deletions->data, capacity);

        if (!data)
            return -ENOMEM;
        deletions->data = data;
        deletions->capacity = capacity;
    }
    start = deletions->data + deletions->length;
    memset(start, 0, DELETE_BYTES_MAX);
    size += append(start + size, tuple);
    size += append(start + size, find(attributes, length, CTA_ZONE));
    size += append(start + size, find(attributes, length, CTA_ID));
    message = (struct nlmsghdr *)start;
    message->nlmsg_len = (uint32_t)size;
    message->nlmsg_type = NFNL_SUBSYS_CTNETLINK << 8 | IPCTNL_MSG_CT_DELETE;
    message->nlmsg_flags = NLM_F_REQUEST;
    memcpy(start + NLMSG_HDRLEN, NLMSG_DATA(entry), sizeof(struct nfgenmsg));
    deletions->length += size;
    deletions->count++;
    return 0;
}

static int
consider(const struct dnet_flow_filter *filter, const struct nlmsghdr *entry, struct deletions *deletions)
{
    const uint8_t *attributes = (const uint8_t *)entry + ATTRIBUTES_OFFSET;
    struct tuple original, reply;
    size_t length;

    if (entry->nlmsg_len < ATTRIBUTES_OFFSET)
        return -EBADMSG;
    length = entry->nlmsg_len - ATTRIBUTES_OFFSET;
    if (read_tuple(find(attributes, length, CTA_TUPLE_ORIG), &original) ||
        read_tuple(find(attributes, length, CTA_TUPLE_REPLY), &reply) || !matches(filter, &original, &reply))
        return 0;
    return add_deletion(deletions, entry);
}

/* Dumps the whole table and collects what matches. */
static int
collect(int fd, const struct dnet_flow_filter *filter, struct deletions *deletions)
{
    uint8_t buffer[RECEIVE_BYTES] __attribute__((aligned(NLMSG_ALIGNTO)));
    struct {
        struct nlmsghdr header;
        struct nfgenmsg body;
    } request = {
        .header = {.nlmsg_len = sizeof request,
                   .nlmsg_type = NFNL_SUBSYS_CTNETLINK << 8 | IPCTNL_MSG_CT_GET,
                   .nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP},
        .body = {.nfgen_family = AF_UNSPEC, .version = NFNETLINK_V0},
    };
    struct sockaddr_nl kernel = {.nl_family = AF_NETLINK};
    struct timespec now;
    int result = 0;

    clock_gettime(CLOCK_MONOTONIC, &now);
    request.header.nlmsg_seq = (uint32_t)now.tv_nsec;
    if (sendto(fd, &request, sizeof request, 0, (struct sockaddr *)&kernel, sizeof kernel) < 0)
        return -errno;
    for (;;) {
        const struct nlmsghdr *message = (const struct nlmsghdr *)buffer;
        ssize_t received;
        size_t left;

        do
            received = recv(fd, buffer, sizeof buffer, 0);
        while (received < 0 && errno == EINTR);
        if (received < 0)
            return -errno;
        for (left = (size_t)received; NLMSG_OK(message, left); message = NLMSG_NEXT(message, left)) {
            if (message->nlmsg_seq != request.header.nlmsg_seq)
                continue;
            if (message->nlmsg_type == NLMSG_DONE)
                return result;
            if (message->nlmsg_type == NLMSG_ERROR)
                return ((const struct nlmsgerr *)NLMSG_DATA(message))->error;
            if (!result)
                result = consider(filter, message, deletions);
        }
    }
}

/*
 * Drops the entries that `filter` describes. `fd` is a NETLINK_NETFILTER socket. An entry that expires meanwhile
 * is no failure.
 */
int
dnet_drop_flows(int fd, const struct dnet_flow_filter *filter, uint32_t *ret_dropped)
{
    struct deletions deletions = {0};
    int32_t *errors = NULL;
    int error = collect(fd, filter, &deletions);

    if (!error && deletions.count) {
        errors = calloc(deletions.count, sizeof *errors);
        error =
            errors ? dnet_transact(fd, deletions.data, deletions.length, deletions.count, errors, NULL, 0) : -ENOMEM;
        for (uint32_t i = 0; !error && i < deletions.count; i++)
            if (errors[i] && errors[i] != -ENOENT)
                error = errors[i];
    }
    if (!error)
        *ret_dropped = deletions.count;
    free(errors);
    free(deletions.data);
    return error;
}
