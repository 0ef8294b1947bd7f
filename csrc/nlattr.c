/*
 * A netlink message under construction, behind others in the caller's memory. Knows headers and attributes, nothing of
 * what they mean.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "internal.h"

#include <errno.h>
#include <linux/netlink.h>
#include <string.h>

void *
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

void *
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

int
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

void
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

void
put_u8(struct writer *writer, uint16_t type, uint8_t value)
{
    put(writer, type, &value, sizeof value);
}

void
put_u32(struct writer *writer, uint16_t type, uint32_t value)
{
    put(writer, type, &value, sizeof value);
}

void
put_text(struct writer *writer, uint16_t type, const char *text)
{
    put(writer, type, text, strlen(text) + 1);
}

size_t
open_nest(struct writer *writer, uint16_t type)
{
    size_t at = writer->at;

    put(writer, type | NLA_F_NESTED, NULL, 0);
    return at;
}

void
close_nest(struct writer *writer, size_t at)
{
    if (!writer->full)
        ((struct nlattr *)(writer->batch->data + at))->nla_len = (uint16_t)(writer->at - at);
}
