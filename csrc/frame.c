/*
 * 802.1Q and 802.1ad tags on Ethernet frames in the caller's memory: classify, push, pop, rewrite, one by one and in
 * batches. Pure functions that use nothing of the core's other files: no sockets, no allocation, no state.
 *
 * A frame runs from the destination address to the end of the payload, without preamble and frame check sequence,
 * as in AF_PACKET and pcap files. A tag is TPID and TCI (IEEE 802.1Q-2018, 9.3 to 9.6), and stands behind the two
 * addresses: a push or pop moves those 12 bytes by 4 and nothing else, however long the frame is.
 *
 * The functions trust the lengths that the caller states, and read nothing beyond them. -EBADMSG: the frame ends
 * within its header or within a tag; -ENODATA: it has no tag; -E2BIG: it has too many; -ENOSPC: no room before the
 * frame; -EFAULT: a batch's frame is not inside the buffer; -EINVAL: no such tag can be written.
 */
#include "dnet.cdef.h"

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

/* A batch does these once for each frame; inlined, they keep up with memory. */
#define INLINE static inline __attribute__((always_inline))
#define UNLIKELY(condition) __builtin_expect(!!(condition), 0)

/* How to write a tag: each byte becomes (old & keep) | value. */
struct tag_edit {
    uint32_t keep;
    uint32_t value;
};

INLINE uint16_t
load16(const uint8_t *at)
{
    return (uint16_t)(at[0] << 8 | at[1]);
}

INLINE bool
is_tpid(uint16_t ethertype)
{
    return (ethertype == TPID_CUSTOMER) | (ethertype == TPID_SERVICE);
}

/* Returns the bytes of a tag in the order of memory. */
static uint32_t
tag_bytes(uint16_t tpid, uint16_t tci)
{
    const uint8_t bytes[TAG_BYTES] = {(uint8_t)(tpid >> 8), (uint8_t)tpid, (uint8_t)(tci >> 8), (uint8_t)tci};
    uint32_t word;

    memcpy(&word, bytes, sizeof word);
    return word;
}

/* Moves the addresses of a frame by `distance` bytes. Loads both before it stores, because the places overlap. */
INLINE void
frame_move_addresses(uint8_t *frame, int distance)
{
    uint64_t first;
    uint32_t last;

    memcpy(&first, frame, sizeof first);
    memcpy(&last, frame + sizeof first, sizeof last);
    memcpy(frame + distance, &first, sizeof first);
    memcpy(frame + distance + (int)sizeof first, &last, sizeof last);
}

/* Returns 0 if the header is whole, with its first tag if it has one. */
INLINE int
frame_check_header(const uint8_t *frame, size_t length)
{
    if (UNLIKELY(length < TAGGED_BYTES))
        return length < HEADER_BYTES || is_tpid(load16(frame + ADDRESSES_BYTES)) ? -EBADMSG : 0;
    return 0;
}

/* Returns 0 if the frame has a whole tag. */
INLINE int
frame_check_tag(const uint8_t *frame, size_t length)
{
    int error = frame_check_header(frame, length);

    return error || is_tpid(load16(frame + ADDRESSES_BYTES)) ? error : -ENODATA;
}

INLINE int
frame_push(uint8_t *frame, size_t length, struct tag_edit edit)
{
    int error = frame_check_header(frame, length);

    if (UNLIKELY(error))
        return error;
    frame_move_addresses(frame, -TAG_BYTES);
    memcpy(frame + ADDRESSES_BYTES - TAG_BYTES, &edit.value, TAG_BYTES);
    return 0;
}

INLINE int
frame_pop(uint8_t *frame, size_t length, struct tag_edit none __attribute__((unused)))
{
    int error = frame_check_tag(frame, length);

    if (UNLIKELY(error))
        return error;
    frame_move_addresses(frame, TAG_BYTES);
    return 0;
}

INLINE int
frame_rewrite(uint8_t *frame, size_t length, struct tag_edit edit)
{
    int error = frame_check_tag(frame, length);
    uint32_t word;

    if (UNLIKELY(error))
        return error;
    memcpy(&word, frame + ADDRESSES_BYTES, sizeof word);
    word = (word & edit.keep) | edit.value;
    memcpy(frame + ADDRESSES_BYTES, &word, sizeof word);
    return 0;
}

/* Makes the edit of a push, which writes the whole tag. */
static int
tag_edit_for_push(uint16_t tpid, uint16_t tci, struct tag_edit *ret_edit)
{
    if (!is_tpid(tpid) || (tci & VID_MASK) == VID_RESERVED)
        return -EINVAL;
    *ret_edit = (struct tag_edit){.value = tag_bytes(tpid, tci)};
    return 0;
}

/* Makes the edit of a rewrite: `tpid` unless 0, and the bits of `tci` that are not in `keep`; the VID's bits are kept
 * all or not at all. */
static int
tag_edit_for_rewrite(uint16_t tpid, uint16_t tci, uint16_t keep, struct tag_edit *ret_edit)
{
    uint16_t kept_vid = keep & VID_MASK;

    if ((tpid && !is_tpid(tpid)) || (kept_vid && kept_vid != VID_MASK) || (tci & keep))
        return -EINVAL;
    if ((tci & VID_MASK) == VID_RESERVED)
        return -EINVAL;
    *ret_edit = (struct tag_edit){.keep = tag_bytes(tpid ? 0 : 0xffff, keep), .value = tag_bytes(tpid, tci)};
    return 0;
}

/* Applies `operation` to every frame of a batch, and moves the beginning of each by `distance`. Reads a description
 * once and checks it by sums of comparisons, so that a batch of good frames has no branch to mispredict. */
INLINE int
frame_run_batch(uint8_t *buffer, size_t size, struct dnet_frame *frames, uint32_t count, struct tag_edit edit,
                int distance, int (*operation)(uint8_t *, size_t, struct tag_edit))
{
    uint32_t done = 0;

    if (size > UINT32_MAX || count > INT32_MAX)
        return -EINVAL;
    for (uint32_t i = 0; i < count; i++) {
        struct dnet_frame frame = frames[i];
        uint32_t needed = distance < 0 ? (uint32_t)-distance : 0;
        int error;

        if (UNLIKELY((frame.start > frame.offset) | (frame.offset > size) | (frame.length > size - frame.offset)))
            error = -EFAULT;
        else if (UNLIKELY(frame.offset - frame.start < needed))
            error = -ENOSPC;
        else
            error = operation(buffer + frame.offset, frame.length, edit);
        frames[i].error = error;
        if (UNLIKELY(error))
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
    struct tag_edit edit;
    int error = tag_edit_for_push(tpid, tci, &edit);

    return error ? error : frame_push(frame, length, edit);
}

int
dnet_vlan_pop(uint8_t *frame, size_t length)
{
    return frame_pop(frame, length, (struct tag_edit){0});
}

int
dnet_vlan_rewrite(uint8_t *frame, size_t length, uint16_t tpid, uint16_t tci, uint16_t keep)
{
    struct tag_edit edit;
    int error = tag_edit_for_rewrite(tpid, tci, keep, &edit);

    return error ? error : frame_rewrite(frame, length, edit);
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
    struct tag_edit edit;
    int error = tag_edit_for_push(tpid, tci, &edit);

    return error ? error : frame_run_batch(buffer, size, frames, count, edit, -TAG_BYTES, frame_push);
}

int
dnet_vlan_pop_batch(uint8_t *buffer, size_t size, struct dnet_frame *frames, uint32_t count)
{
    return frame_run_batch(buffer, size, frames, count, (struct tag_edit){0}, TAG_BYTES, frame_pop);
}

int
dnet_vlan_rewrite_batch(uint8_t *buffer, size_t size, struct dnet_frame *frames, uint32_t count, uint16_t tpid,
                        uint16_t tci, uint16_t keep)
{
    struct tag_edit edit;
    int error = tag_edit_for_rewrite(tpid, tci, keep, &edit);

    return error ? error : frame_run_batch(buffer, size, frames, count, edit, 0, frame_rewrite);
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
