/*
 * 802.1Q and 802.1ad tags on Ethernet frames in the caller's memory: classify, push, pop, rewrite, one by one and in
 * batches. Pure functions beside the rest of the core: no sockets, no allocation, no state.
 *
 * A frame runs from the destination address to the end of the payload, without preamble and frame check sequence,
 * as AF_PACKET and pcap files have it. A tag is TPID and TCI (IEEE 802.1Q-2018, 9.3 to 9.6), and stands behind the
 * two addresses: a push or pop moves those 12 bytes by 4 and nothing else, however long the frame is.
 *
 * Only lengths that the caller states are believed, and nothing beyond them is read. -EBADMSG: the frame ends within
 * its header or within a tag; -ENODATA: there is no tag; -E2BIG: there are too many; -ENOSPC: no room before the
 * frame; -EFAULT: a batch's frame is not inside the buffer; -EINVAL: no such tag can be written.
 */
#include "internal.h"

#include <errno.h>
#include <string.h>

#define ADDRESSES_BYTES 12 /* destination and source */
#define HEADER_BYTES 14    /* and the EtherType */
#define TAG_BYTES 4        /* TPID, TCI */
#define TAGGED_BYTES (HEADER_BYTES + TAG_BYTES)
#define TPID_CUSTOMER 0x8100 /* IEEE 802.1Q-2018, table 9-1 */
#define TPID_SERVICE 0x88a8
#define VID_MASK 0x0fff
#define VID_RESERVED 0x0fff /* table 9-2: never in a frame */

/* Batches call these once for each frame: without a call, they keep up with memory. */
#define INLINE static inline __attribute__((always_inline))
#define IS_RARE(condition) __builtin_expect(!!(condition), 0)

/* A tag to write: each byte becomes (old & keep) | value. */
struct edit {
    uint32_t keep;
    uint32_t value;
};

INLINE uint16_t
load16(const uint8_t *at)
{
    return (uint16_t)(at[0] << 8 | at[1]);
}

INLINE int
is_tpid(uint16_t ethertype)
{
    return (ethertype == TPID_CUSTOMER) | (ethertype == TPID_SERVICE);
}

/* The bytes of a tag as they stand in memory. */
static uint32_t
tag_word(uint16_t tpid, uint16_t tci)
{
    const uint8_t bytes[TAG_BYTES] = {(uint8_t)(tpid >> 8), (uint8_t)tpid, (uint8_t)(tci >> 8), (uint8_t)tci};
    uint32_t word;

    memcpy(&word, bytes, sizeof word);
    return word;
}

/* Moves the addresses of a frame by `distance` bytes. Both loads come before the stores: the places overlap. */
INLINE void
move_addresses(uint8_t *frame, int distance)
{
    uint64_t first;
    uint32_t last;

    memcpy(&first, frame, sizeof first);
    memcpy(&last, frame + sizeof first, sizeof last);
    memcpy(frame + distance, &first, sizeof first);
    memcpy(frame + distance + (int)sizeof first, &last, sizeof last);
}

/* 0 when the frame's header, with a tag if it begins with one, is whole. */
INLINE int
check_header(const uint8_t *frame, size_t length)
{
    if (IS_RARE(length < TAGGED_BYTES))
        return length < HEADER_BYTES || is_tpid(load16(frame + ADDRESSES_BYTES)) ? -EBADMSG : 0;
    return 0;
}

/* 0 when the frame has a whole tag. */
INLINE int
check_tag(const uint8_t *frame, size_t length)
{
    int error = check_header(frame, length);

    return error || is_tpid(load16(frame + ADDRESSES_BYTES)) ? error : -ENODATA;
}

INLINE int
push(uint8_t *frame, size_t length, struct edit edit)
{
    int error = check_header(frame, length);

    if (IS_RARE(error))
        return error;
    move_addresses(frame, -TAG_BYTES);
    memcpy(frame + ADDRESSES_BYTES - TAG_BYTES, &edit.value, TAG_BYTES);
    return 0;
}

INLINE int
pop(uint8_t *frame, size_t length, struct edit none __attribute__((unused)))
{
    int error = check_tag(frame, length);

    if (IS_RARE(error))
        return error;
    move_addresses(frame, TAG_BYTES);
    return 0;
}

INLINE int
rewrite(uint8_t *frame, size_t length, struct edit edit)
{
    int error = check_tag(frame, length);
    uint32_t word;

    if (IS_RARE(error))
        return error;
    memcpy(&word, frame + ADDRESSES_BYTES, sizeof word);
    word = (word & edit.keep) | edit.value;
    memcpy(frame + ADDRESSES_BYTES, &word, sizeof word);
    return 0;
}

/* The edit of a push: the whole tag. */
static int
make_tag(uint16_t tpid, uint16_t tci, struct edit *ret_edit)
{
    if (!is_tpid(tpid) || (tci & VID_MASK) == VID_RESERVED)
        return -EINVAL;
    *ret_edit = (struct edit){.value = tag_word(tpid, tci)};
    return 0;
}

/* The edit of a rewrite: `tpid` unless 0, and the bits of `tci` that are not in `keep`, the VID's all or none. */
static int
make_edit(uint16_t tpid, uint16_t tci, uint16_t keep, struct edit *ret_edit)
{
    uint16_t kept_vid = keep & VID_MASK;

    if ((tpid && !is_tpid(tpid)) || (kept_vid && kept_vid != VID_MASK) || (tci & keep))
        return -EINVAL;
    if ((tci & VID_MASK) == VID_RESERVED)
        return -EINVAL;
    *ret_edit = (struct edit){.keep = tag_word(tpid ? 0 : 0xffff, keep), .value = tag_word(tpid, tci)};
    return 0;
}

/* Applies `operation` to every frame of a batch, and moves the beginning of each by `distance`. Descriptions are
 * read once and checked by sums of comparisons, so that a batch of good frames has no branch to mispredict. */
INLINE int
run(uint8_t *buffer, size_t size, struct dnet_frame *frames, uint32_t count, struct edit edit, int distance,
    int (*operation)(uint8_t *, size_t, struct edit))
{
    uint32_t done = 0;

    if (size > UINT32_MAX || count > INT32_MAX)
        return -EINVAL;
    for (uint32_t i = 0; i < count; i++) {
        struct dnet_frame frame = frames[i];
        uint32_t needed = distance < 0 ? (uint32_t)-distance : 0;
        int error;

        if (IS_RARE((frame.start > frame.offset) | (frame.offset > size) | (frame.length > size - frame.offset)))
            error = -EFAULT;
        else if (IS_RARE(frame.offset - frame.start < needed))
            error = -ENOSPC;
        else
            error = operation(buffer + frame.offset, frame.length, edit);
        frames[i].error = error;
        if (IS_RARE(error))
            continue;
        frames[i].offset = frame.offset + (uint32_t)distance;
        frames[i].length = frame.length - (uint32_t)distance;
        done++;
    }
    return (int)done;
}

int
dnet_vlan_push(uint8_t *frame, size_t length, uint16_t tpid, uint16_t tci)
{
    struct edit edit;
    int error = make_tag(tpid, tci, &edit);

    return error ? error : push(frame, length, edit);
}

int
dnet_vlan_pop(uint8_t *frame, size_t length)
{
    return pop(frame, length, (struct edit){0});
}

int
dnet_vlan_rewrite(uint8_t *frame, size_t length, uint16_t tpid, uint16_t tci, uint16_t keep)
{
    struct edit edit;
    int error = make_edit(tpid, tci, keep, &edit);

    return error ? error : rewrite(frame, length, edit);
}

int
dnet_vlan_classify(const uint8_t *frame, size_t length, struct dnet_vlan_stack *ret_stack)
{
    struct dnet_vlan_stack stack = {0};
    size_t at = ADDRESSES_BYTES;

    if (length < HEADER_BYTES)
        return -EBADMSG;
    while (is_tpid(load16(frame + at))) {
        if (stack.count == DNET_VLAN_TAGS_MAX)
            return -E2BIG;
        if (length - at < TAG_BYTES + 2)
            return -EBADMSG;
        stack.tags[stack.count++] = (struct dnet_vlan_tag){.tpid = load16(frame + at), .tci = load16(frame + at + 2)};
        at += TAG_BYTES;
    }
    stack.ethertype = load16(frame + at);
    stack.payload_offset = (uint32_t)at + 2;
    *ret_stack = stack;
    return 0;
}

int
dnet_vlan_push_batch(uint8_t *buffer, size_t size, struct dnet_frame *frames, uint32_t count, uint16_t tpid,
                     uint16_t tci)
{
    struct edit edit;
    int error = make_tag(tpid, tci, &edit);

    return error ? error : run(buffer, size, frames, count, edit, -TAG_BYTES, push);
}

int
dnet_vlan_pop_batch(uint8_t *buffer, size_t size, struct dnet_frame *frames, uint32_t count)
{
    return run(buffer, size, frames, count, (struct edit){0}, TAG_BYTES, pop);
}

int
dnet_vlan_rewrite_batch(uint8_t *buffer, size_t size, struct dnet_frame *frames, uint32_t count, uint16_t tpid,
                        uint16_t tci, uint16_t keep)
{
    struct edit edit;
    int error = make_edit(tpid, tci, keep, &edit);

    return error ? error : run(buffer, size, frames, count, edit, 0, rewrite);
}

int
dnet_vlan_classify_batch(const uint8_t *buffer, size_t size, struct dnet_frame *frames, uint32_t count,
                         struct dnet_vlan_stack *ret_stacks)
{
    uint32_t done = 0;

    if (size > UINT32_MAX || count > INT32_MAX)
        return -EINVAL;
    for (uint32_t i = 0; i < count; i++) {
        const struct dnet_frame frame = frames[i];

        if (frame.start > frame.offset || frame.offset > size || frame.length > size - frame.offset)
            frames[i].error = -EFAULT;
        else
            frames[i].error = dnet_vlan_classify(buffer + frame.offset, frame.length, &ret_stacks[i]);
        done += !frames[i].error;
    }
    return (int)done;
}
