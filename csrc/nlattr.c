/*
 * Netlink messages and their attributes: builds messages behind one another in the caller's memory, and finds
 * attributes in messages received. Knows the framing and not what it carries: link.c, bridge.c, tc.c, routes.c and
 * conntrack.c say what a message means, socket.c sends it.
 */
#include "internal.h"

#include <errno.h>
#include <string.h>

static struct nlmsghdr *
nlmsg_header(const struct nlmsg_writer *writer)
{
    return (struct nlmsghdr *)(writer->batch->data + writer->start);
}

/* Begins a message behind those of the batch. Returns its body, zeroed, or NULL if there is no room. */
void *
nlmsg_begin(struct nlmsg_writer *writer, struct dnet_batch *batch, uint16_t type, uint16_t flags, size_t body_size)
{
    struct nlmsghdr *header;

    *writer = (struct nlmsg_writer){.batch = batch, .start = batch->length, .at = batch->length};
    header = nlmsg_reserve(writer, sizeof *header);
    if (header) {
        header->nlmsg_type = type;
        header->nlmsg_flags = NLM_F_REQUEST | flags;
    }
    return nlmsg_reserve(writer, body_size);
}

/* Returns `size` bytes of the message, zeroed, or NULL if there is no room. */
void *
nlmsg_reserve(struct nlmsg_writer *writer, size_t size)
{
    size_t aligned = NLMSG_ALIGN(size);
    void *place;

    if (writer->full || aligned > writer->batch->capacity - writer->at) {
        writer->full = true;
        return NULL;
    }
    place = memset(writer->batch->data + writer->at, 0, aligned);
    writer->at += aligned;
    return place;
}

/* Adds the message to its batch. */
int
nlmsg_end(struct nlmsg_writer *writer)
{
    if (writer->full)
        return -ENOBUFS;
    nlmsg_header(writer)->nlmsg_len = (uint32_t)(writer->at - writer->start);
    writer->batch->length = writer->at;
    writer->batch->count++;
    return 0;
}

void
nla_put(struct nlmsg_writer *writer, uint16_t type, const void *value, size_t size)
{
    struct nlattr *attribute = nlmsg_reserve(writer, NLA_HDRLEN + size);

    if (!attribute)
        return;
    attribute->nla_type = type;
    attribute->nla_len = (uint16_t)(NLA_HDRLEN + size);
    if (size)
        memcpy(nla_data(attribute), value, size);
}

void
nla_put_u8(struct nlmsg_writer *writer, uint16_t type, uint8_t value)
{
    nla_put(writer, type, &value, sizeof value);
}

void
nla_put_u32(struct nlmsg_writer *writer, uint16_t type, uint32_t value)
{
    nla_put(writer, type, &value, sizeof value);
}

void
nla_put_string(struct nlmsg_writer *writer, uint16_t type, const char *text)
{
    nla_put(writer, type, text, strlen(text) + 1);
}

/*
 * Puts the descriptor of a namespace that does not exist yet; nlmsg_set_netns() fills it in. Until then, the sequence
 * number holds the descriptor's offset in the message: dnet_transact() chooses the number only when it sends.
 */
void
nla_put_pending_netns(struct nlmsg_writer *writer, uint16_t type)
{
    size_t offset = writer->at - writer->start + NLA_HDRLEN;

    nla_put_u32(writer, type, UINT32_MAX);
    if (!writer->full)
        nlmsg_header(writer)->nlmsg_seq = (uint32_t)offset;
}

/* Fills `netns_fd` into every message that leaves its namespace pending. */
void
nlmsg_set_netns(uint8_t *data, size_t length, int netns_fd)
{
    static const int pending = -1;
    struct nlmsghdr *message = (struct nlmsghdr *)data;
    ssize_t left = (ssize_t)length;

    for (; NLMSG_OK(message, left); message = NLMSG_NEXT(message, left)) {
        uint32_t offset = message->nlmsg_seq;

        if (offset < NLMSG_HDRLEN || offset > message->nlmsg_len - sizeof pending)
            continue;
        if (!memcmp((uint8_t *)message + offset, &pending, sizeof pending))
            memcpy((uint8_t *)message + offset, &netns_fd, sizeof netns_fd);
    }
}

/* Opens an attribute that holds others; nla_nest_close() takes what this returns. */
size_t
nla_nest_open(struct nlmsg_writer *writer, uint16_t type)
{
    size_t at = writer->at;

    nla_put(writer, type | NLA_F_NESTED, NULL, 0);
    return at;
}

void
nla_nest_close(struct nlmsg_writer *writer, size_t at)
{
    if (!writer->full)
        ((struct nlattr *)(writer->batch->data + at))->nla_len = (uint16_t)(writer->at - at);
}

/* Returns the first attribute of a type among `length` bytes of attributes, or NULL. Stops at a malformed one. */
struct nlattr *
nla_find(const void *start, size_t length, uint16_t type)
{
    for (size_t at = 0; at + NLA_HDRLEN <= length;) {
        struct nlattr *attribute = (struct nlattr *)((uintptr_t)start + at);

        if (attribute->nla_len < NLA_HDRLEN || attribute->nla_len > length - at)
            return NULL;
        if ((attribute->nla_type & NLA_TYPE_MASK) == type)
            return attribute;
        at += NLA_ALIGN(attribute->nla_len);
    }
    return NULL;
}

struct nlattr *
nla_find_nested(const struct nlattr *nest, uint16_t type)
{
    return nla_find(nla_data(nest), nla_length(nest), type);
}

void *
nla_data(const struct nlattr *attribute)
{
    return (uint8_t *)attribute + NLA_HDRLEN;
}

size_t
nla_length(const struct nlattr *attribute)
{
    return attribute->nla_len - (size_t)NLA_HDRLEN;
}

/* Puts a message whose body the caller has: one that a dump reported, to be sent again. */
int
dnet_put_message(struct dnet_batch *batch, uint16_t type, uint16_t flags, const uint8_t *body, size_t size)
{
    struct nlmsg_writer writer;
    void *place;

    if (size > UINT16_MAX)
        return -EMSGSIZE;
    place = nlmsg_begin(&writer, batch, type, flags, size);
    if (place)
        memcpy(place, body, size);
    return nlmsg_end(&writer);
}
