/*
 * Fuzzes frame.c against a model that is written for clarity, on copies in heap memory of exactly the frame's size, so
 * that ASan sees a read or write beside it. Needs nothing of the other C tests. Two ways to build it:
 *
 *     clang -fsanitize=fuzzer,address,undefined -DDNET_LIBFUZZER ... && ./fuzz-frame -max_total_time=20
 *     gcc -fsanitize=address,undefined ...                           && ./fuzz-frame [ITERATIONS [SEED]]
 *
 * The second makes its inputs itself, the same ones for the same seed. Either stops at the first difference.
 */
#include "dnet.cdef.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FRAMES_MAX 8
#define GAP_MAX 8
#define TAG 4

#define REQUIRE(condition)                                                                                             \
    do {                                                                                                               \
        if (!(condition)) {                                                                                            \
            fprintf(stderr, "%s:%d: not true: %s\n", __FILE__, __LINE__, #condition);                                  \
            abort();                                                                                                   \
        }                                                                                                              \
    } while (0)

enum kind { PUSH, POP, REWRITE, KINDS };

/* One call: what is done, and with what arguments. */
struct call {
    enum kind kind;
    uint16_t tpid;
    uint16_t tci;
    uint16_t keep;
};

/* What a call makes of a frame, by the model: `error`, or the bytes. */
struct outcome {
    int error;
    size_t length;
    uint8_t *bytes;
};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Exactly `size` bytes that end where ASan's guard begins; of none, a pointer that must not be read. */
static uint8_t *
copy(const uint8_t *bytes, size_t size)
{
    uint8_t *memory = malloc(size);

    REQUIRE(memory || !size);
    if (size)
        memcpy(memory, bytes, size);
    return memory;
}

static unsigned
number_at(const uint8_t *bytes, size_t at)
{
    return bytes[at] * 256u + bytes[at + 1];
}

static bool
names_tag(unsigned ethertype)
{
    return ethertype == 0x8100 || ethertype == 0x88a8;
}

/* The model's reading of a frame: an error, or how many tags it has. */
static int
model_depth(const uint8_t *frame, size_t length)
{
    int depth = 0;

    for (size_t at = 12;; at += TAG, depth++) {
        if (at + 2 > length)
            return -EBADMSG;
        if (!names_tag(number_at(frame, at)))
            return depth;
        if (depth == DNET_VLAN_TAGS_MAX)
            return -E2BIG;
    }
}

/* Whether the model allows the arguments at all. */
static bool
model_allows(const struct call *call)
{
    unsigned kept_vid = call->keep % 4096, vid = call->tci % 4096;

    if (call->kind == POP)
        return true;
    if (call->kind == PUSH)
        return names_tag(call->tpid) && vid != 4095;
    return (!call->tpid || names_tag(call->tpid)) && (kept_vid == 0 || kept_vid == 4095) && !(call->tci & call->keep) &&
           (kept_vid || vid != 4095);
}

static struct outcome
model(const struct call *call, const uint8_t *frame, size_t length)
{
    struct outcome outcome = {0};
    bool tagged = length >= 14 && names_tag(number_at(frame, 12));
    unsigned tpid = call->tpid, tci = call->tci;
    size_t rest = 12; /* where the part behind the tag in question begins */

    if (!model_allows(call))
        outcome.error = -EINVAL;
    else if (length < 14 || (tagged && length < 18))
        outcome.error = -EBADMSG;
    else if (call->kind != PUSH && !tagged)
        outcome.error = -ENODATA;
    if (outcome.error)
        return outcome;
    if (call->kind == REWRITE) {
        tpid = tpid ? tpid : number_at(frame, 12);
        tci |= number_at(frame, 14) & call->keep;
    }
    if (call->kind != PUSH)
        rest += TAG;
    outcome.bytes = malloc(length + TAG);
    REQUIRE(outcome.bytes);
    memcpy(outcome.bytes, frame, 12);
    outcome.length = 12;
    if (call->kind != POP) {
        const uint8_t tag[TAG] = {tpid / 256, tpid % 256, tci / 256, tci % 256};

        memcpy(outcome.bytes + outcome.length, tag, sizeof tag);
        outcome.length += sizeof tag;
    }
    memcpy(outcome.bytes + outcome.length, frame + rest, length - rest);
    outcome.length += length - rest;
    return outcome;
}

static void
try_classify(const uint8_t *frame, size_t length)
{
    uint8_t *memory = copy(frame, length);
    struct dnet_vlan_stack stack = {.count = 77};
    int depth = model_depth(frame, length), error = dnet_vlan_classify(memory, length, &stack);

    if (depth < 0) {
        REQUIRE(error == depth && stack.count == 77);
    } else {
        REQUIRE(!error && stack.count == (uint32_t)depth && stack.payload_offset == 14 + TAG * (uint32_t)depth);
        REQUIRE(stack.payload_offset <= length && stack.ethertype == number_at(frame, stack.payload_offset - 2));
        for (int i = 0; i < depth; i++) {
            REQUIRE(stack.tags[i].tpid == number_at(frame, 12 + TAG * (size_t)i));
            REQUIRE(stack.tags[i].tci == number_at(frame, 14 + TAG * (size_t)i));
        }
    }
    free(memory);
}

/* How far the frame's beginning moves. */
static int
shift(enum kind kind)
{
    return kind == PUSH ? -TAG : kind == POP ? TAG : 0;
}

static void
try_single(const struct call *call, const uint8_t *frame, size_t length)
{
    struct outcome wanted = model(call, frame, length);
    size_t room = call->kind == PUSH ? TAG : 0;
    uint8_t *memory = malloc(room + length), *place;
    int error = 0;

    REQUIRE(memory || !(room + length));
    place = room ? memory + room : memory;
    if (length)
        memcpy(place, frame, length);
    if (call->kind == PUSH)
        error = dnet_vlan_push(place, length, call->tpid, call->tci);
    else if (call->kind == POP)
        error = dnet_vlan_pop(place, length);
    else
        error = dnet_vlan_rewrite(place, length, call->tpid, call->tci, call->keep);
    REQUIRE(error == wanted.error);
    if (error)
        REQUIRE(!length || !memcmp(place, frame, length));
    else
        REQUIRE(!memcmp(place + shift(call->kind), wanted.bytes, wanted.length));
    free(wanted.bytes);
    free(memory);
}

static int
run_batch(const struct call *call, uint8_t *buffer, size_t size, struct dnet_frame *frames, uint32_t count)
{
    if (call->kind == PUSH)
        return dnet_vlan_push_batch(buffer, size, frames, count, call->tpid, call->tci);
    if (call->kind == POP)
        return dnet_vlan_pop_batch(buffer, size, frames, count);
    return dnet_vlan_rewrite_batch(buffer, size, frames, count, call->tpid, call->tci, call->keep);
}

/* The model's word on one frame of a batch, and the buffer as it ought to be after it. */
static int
model_frame(const struct call *call, uint8_t *buffer, size_t size, const struct dnet_frame *frame)
{
    struct outcome wanted;

    if (frame->offset < frame->start || (uint64_t)frame->offset + frame->length > size)
        return -EFAULT;
    if (call->kind == PUSH && frame->offset - frame->start < TAG)
        return -ENOSPC;
    wanted = model(call, buffer + frame->offset, frame->length);
    if (!wanted.error)
        memcpy(buffer + frame->offset + shift(call->kind), wanted.bytes, wanted.length);
    free(wanted.bytes);
    return wanted.error;
}

/* Cuts the input into slots of headroom and frame, as its own bytes say; spoils some descriptions. */
static uint32_t
cut(const uint8_t *data, size_t size, struct dnet_frame *ret_frames)
{
    uint32_t count = 0;

    for (size_t at = 0; at < size && count < FRAMES_MAX; count++) {
        struct dnet_frame *frame = &ret_frames[count];
        uint8_t choice = data[at];
        size_t room = choice % (GAP_MAX + 1), length = choice;

        room = room < size - at ? room : size - at;
        length = length < size - at - room ? length : size - at - room;
        *frame = (struct dnet_frame){(uint32_t)at, (uint32_t)(at + room), (uint32_t)length, 99};
        at += room + length + !(room + length);
        if (choice == 0xfe)
            frame->start = frame->offset + 1;
        else if (choice == 0xfd)
            frame->length = UINT32_MAX - (choice & 3);
        else if (choice == 0xfc)
            frame->offset = frame->start = UINT32_MAX;
        else if (choice == 0xfb)
            frame->length = (uint32_t)size - frame->offset + 1;
    }
    return count;
}

static void
try_batch(const struct call *call, const uint8_t *data, size_t size)
{
    struct dnet_frame frames[FRAMES_MAX], before[FRAMES_MAX];
    uint32_t count = cut(data, size, frames);
    uint8_t *buffer = copy(data, size), *wanted = copy(data, size);
    int done, good = 0;

    memcpy(before, frames, sizeof frames);
    done = run_batch(call, buffer, size, frames, count);
    for (uint32_t i = 0; i < count; i++) {
        int error = model_allows(call) ? model_frame(call, wanted, size, &before[i]) : 99;
        int moved = error ? 0 : shift(call->kind);

        good += !error;
        REQUIRE(frames[i].error == error && frames[i].start == before[i].start);
        REQUIRE(frames[i].offset == before[i].offset + (uint32_t)moved);
        REQUIRE(frames[i].length == before[i].length - (uint32_t)moved);
    }
    REQUIRE(done == (model_allows(call) ? good : -EINVAL));
    /* A popped frame leaves 4 bytes of headroom whose content is nobody's; the model leaves the same ones. */
    REQUIRE(!size || !memcmp(buffer, wanted, size));
    free(buffer);
    free(wanted);
}

static void
try_classify_batch(const uint8_t *data, size_t size)
{
    struct dnet_frame frames[FRAMES_MAX];
    struct dnet_vlan_stack stacks[FRAMES_MAX] = {0};
    uint32_t count = cut(data, size, frames);
    uint8_t *buffer = copy(data, size);
    int good = 0, done = dnet_vlan_classify_batch(buffer, size, frames, count, stacks);

    for (uint32_t i = 0; i < count; i++) {
        const struct dnet_frame *frame = &frames[i];
        bool inside = frame->offset >= frame->start && (uint64_t)frame->offset + frame->length <= size;
        int depth = inside ? model_depth(data + frame->offset, frame->length) : -EFAULT;

        good += depth >= 0;
        REQUIRE(frame->error == (depth < 0 ? depth : 0));
        REQUIRE(depth < 0 || stacks[i].count == (uint32_t)depth);
    }
    REQUIRE(done == good);
    free(buffer);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct call call;

    if (size < 7)
        return 0;
    call = (struct call){data[0] % KINDS, (uint16_t)number_at(data, 1), (uint16_t)number_at(data, 3),
                         (uint16_t)number_at(data, 5)};
    if (data[0] & 0x80)
        call.tpid = data[0] & 0x40 ? 0x8100 : 0x88a8;
    if (data[0] & 0x20)
        call.keep = data[0] & 0x10 ? 0x0fff : 0xf000;
    if (data[0] & 0x08)
        call.tci &= (uint16_t)~call.keep;
    data += 7;
    size -= 7;
    try_classify(data, size);
    try_classify_batch(data, size);
    try_single(&call, data, size);
    try_batch(&call, data, size);
    return 0;
}

#ifndef DNET_LIBFUZZER

#define ITERATIONS 2000000
#define INPUT_MAX 320

/* xorshift64 (Marsaglia 2003). */
static uint64_t
next(uint64_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

/* Every length from 0 to 70, cut out of a stack of `depth` tags: whole, and ending at each byte of each tag. */
static void
try_every_length(void)
{
    uint8_t input[7 + 70];

    for (int depth = 0; depth <= DNET_VLAN_TAGS_MAX + 1; depth++)
        for (size_t length = 0; length <= 70; length++)
            for (int first = 0; first < 256; first++) {
                memset(input, 0x01, sizeof input);
                input[0] = (uint8_t)first;
                for (int i = 0; i < depth; i++)
                    memcpy(input + 7 + 12 + TAG * i, i % 2 ? "\x88\xa8" : "\x81\x00", 2);
                LLVMFuzzerTestOneInput(input, 7 + length);
            }
}

int
main(int argc, char **argv)
{
    unsigned long long iterations = argc > 1 ? strtoull(argv[1], NULL, 10) : ITERATIONS;
    uint64_t seed = argc > 2 ? strtoull(argv[2], NULL, 10) : 1, state = seed * 0x9e3779b97f4a7c15u + 1;
    uint8_t input[INPUT_MAX];

    try_every_length();
    for (unsigned long long i = 0; i < iterations; i++) {
        /* Short inputs, where the edges are, come as often as long ones. */
        size_t limit = next(&state) & 1 ? 7 + 71 : INPUT_MAX + 1, size = next(&state) % limit;
        uint64_t tags = next(&state) % 12;

        for (size_t at = 0; at < size; at++)
            input[at] = (uint8_t)(next(&state) >> 32);
        for (uint64_t tag = 0; tag < tags; tag++) {
            /* Where a frame's first tags are, or anywhere. */
            size_t at = next(&state) % 4 ? 7 + 12 + TAG * (size_t)tag : next(&state) % INPUT_MAX;

            if (at + 2 <= size)
                memcpy(input + at, next(&state) & 1 ? "\x81\x00" : "\x88\xa8", 2);
        }
        LLVMFuzzerTestOneInput(input, size);
    }
    printf("frame.c: %llu random inputs of seed %llu, all as the model says\n", iterations, (unsigned long long)seed);
    return 0;
}

#endif
