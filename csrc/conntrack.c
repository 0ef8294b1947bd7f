/*
 * Connection tracking: drops the entries that belong to containers. Walks the table once, however many containers
 * there are, and deletes each match by its exact tuple, so that nobody else's connections are touched. socket.c
 * carries the messages, nlattr.c builds and parses them.
 */
#include "internal.h"

#include <errno.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netfilter/nfnetlink_conntrack.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>

#define ADDRESS_BYTES 16
#define TARGET_BYTES (ADDRESS_BYTES + 2)
#define BATCH_BYTES (64 * 1024)
#define ATTRIBUTES_OFFSET (NLMSG_HDRLEN + NLMSG_ALIGN(sizeof(struct nfgenmsg)))

struct ct_tuple {
    uint8_t source[ADDRESS_BYTES];
    uint8_t destination[ADDRESS_BYTES];
    uint8_t protocol;
    uint16_t destination_port;
};

/* A walk through the table. The memory of the deletions grows. */
struct ct_walk {
    const struct dnet_flow_filter *filter;
    struct dnet_batch deletions;
    int result;
};

/* Finds an attribute of a dumped entry. */
static const struct nlattr *
ct_find_attr(const struct nlmsghdr *entry, uint16_t type)
{
    return nla_find((const uint8_t *)entry + ATTRIBUTES_OFFSET, entry->nlmsg_len - ATTRIBUTES_OFFSET, type);
}

static int
ct_read_address(const struct nlattr *ip, uint16_t type4, uint16_t type6, uint8_t *ret_address)
{
    const struct nlattr *found = nla_find_nested(ip, type4);

    memset(ret_address, 0, ADDRESS_BYTES);
    if (found && nla_length(found) == 4) {
        ret_address[10] = ret_address[11] = 0xff;
        memcpy(ret_address + 12, nla_data(found), 4);
        return 0;
    }
    found = nla_find_nested(ip, type6);
    if (!found || nla_length(found) != ADDRESS_BYTES)
        return -EBADMSG;
    memcpy(ret_address, nla_data(found), ADDRESS_BYTES);
    return 0;
}

static int
ct_read_tuple(const struct nlattr *nest, struct ct_tuple *ret_tuple)
{
    const struct nlattr *ip, *protocol, *number, *port;

    if (!nest)
        return -EBADMSG;
    ip = nla_find_nested(nest, CTA_TUPLE_IP);
    protocol = nla_find_nested(nest, CTA_TUPLE_PROTO);
    if (!ip || !protocol || ct_read_address(ip, CTA_IP_V4_SRC, CTA_IP_V6_SRC, ret_tuple->source) ||
        ct_read_address(ip, CTA_IP_V4_DST, CTA_IP_V6_DST, ret_tuple->destination))
        return -EBADMSG;
    number = nla_find_nested(protocol, CTA_PROTO_NUM);
    ret_tuple->protocol = number && nla_length(number) >= 1 ? *(const uint8_t *)nla_data(number) : 0;
    port = nla_find_nested(protocol, CTA_PROTO_DST_PORT);
    ret_tuple->destination_port = 0;
    if (port && nla_length(port) >= sizeof ret_tuple->destination_port)
        memcpy(&ret_tuple->destination_port, nla_data(port), sizeof ret_tuple->destination_port);
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

static bool
ct_matches(const struct dnet_flow_filter *filter, const struct ct_tuple *original, const struct ct_tuple *reply)
{
    const uint8_t *ends[] = {original->source, original->destination, reply->source, reply->destination};
    uint8_t target[TARGET_BYTES];

    for (size_t i = 0; filter->address_count && i < sizeof ends / sizeof *ends; i++)
        if (bsearch(ends[i], filter->addresses, filter->address_count, ADDRESS_BYTES, compare_addresses))
            return true;
    if (original->protocol != IPPROTO_UDP || !filter->udp_target_count)
        return false;
    memcpy(target, original->destination, ADDRESS_BYTES);
    memcpy(target + ADDRESS_BYTES, &original->destination_port, sizeof original->destination_port);
    return bsearch(target, filter->udp_targets, filter->udp_target_count, TARGET_BYTES, compare_targets) != NULL;
}

/* Puts the deletion of a dumped entry: by its original tuple, its zone and, in case the tuple is reused, its id. */
static int
ct_put_deletion(struct dnet_batch *batch, const struct nlmsghdr *entry)
{
    static const uint16_t keys[] = {CTA_TUPLE_ORIG, CTA_ZONE, CTA_ID};
    struct nlmsg_writer writer;
    struct nfgenmsg *body =
        nlmsg_begin(&writer, batch, NFNL_SUBSYS_CTNETLINK << 8 | IPCTNL_MSG_CT_DELETE, 0, sizeof *body);

    if (body)
        memcpy(body, NLMSG_DATA(entry), sizeof *body);
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
        const struct nlattr *key = ct_find_attr(entry, keys[i]);

        if (key)
            nla_put(&writer, key->nla_type, nla_data(key), nla_length(key));
    }
    return nlmsg_end(&writer);
}

static int
ct_add_deletion(struct dnet_batch *deletions, const struct nlmsghdr *entry)
{
    while (ct_put_deletion(deletions, entry)) {
        size_t capacity = deletions->capacity ? deletions->capacity * 2 : BATCH_BYTES;
        uint8_t *data = realloc(deletions->data, capacity);

        if (!data)
            return -ENOMEM;
        deletions->data = data;
        deletions->capacity = capacity;
    }
    return 0;
}

/* Takes one message of the dump. After a failure, the rest is received and ignored. */
static void
ct_visit(const struct nlmsghdr *message, void *context)
{
    struct ct_walk *walk = context;
    struct ct_tuple original, reply;

    if (message->nlmsg_type == NLMSG_ERROR)
        walk->result = ((const struct nlmsgerr *)NLMSG_DATA(message))->error;
    if (message->nlmsg_type == NLMSG_ERROR || message->nlmsg_type == NLMSG_DONE || walk->result)
        return;
    if (message->nlmsg_len < ATTRIBUTES_OFFSET)
        walk->result = -EBADMSG;
    else if (!ct_read_tuple(ct_find_attr(message, CTA_TUPLE_ORIG), &original) &&
             !ct_read_tuple(ct_find_attr(message, CTA_TUPLE_REPLY), &reply) &&
             ct_matches(walk->filter, &original, &reply))
        walk->result = ct_add_deletion(&walk->deletions, message);
}

/* Collects the deletions of all entries that match. */
static int
ct_collect(int fd, struct ct_walk *walk)
{
    struct {
        struct nlmsghdr header;
        struct nfgenmsg body;
    } request = {
        .header = {.nlmsg_len = sizeof request,
                   .nlmsg_type = NFNL_SUBSYS_CTNETLINK << 8 | IPCTNL_MSG_CT_GET,
                   .nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP},
        .body = {.nfgen_family = AF_UNSPEC, .version = NFNETLINK_V0},
    };
    int error = nlmsg_query(fd, &request.header, ct_visit, walk);

    return error ? error : walk->result;
}

/* Drops the entries that `filter` describes, and ignores those that expire meanwhile. `fd` is a NETLINK_NETFILTER
 * socket. */
int
dnet_drop_flows(int fd, const struct dnet_flow_filter *filter, uint32_t *ret_dropped)
{
    struct ct_walk walk = {.filter = filter};
    const struct dnet_batch *batch = &walk.deletions;
    int32_t *errors = NULL;
    int error = ct_collect(fd, &walk);

    if (!error && batch->count) {
        errors = calloc(batch->count, sizeof *errors);
        error = errors ? dnet_transact(fd, batch->data, batch->length, batch->count, errors, NULL, 0) : -ENOMEM;
        for (uint32_t i = 0; !error && i < batch->count; i++)
            if (errors[i] && errors[i] != -ENOENT)
                error = errors[i];
    }
    if (!error)
        *ret_dropped = batch->count;
    free(errors);
    free(batch->data);
    return error;
}
