/* What the C files share with each other and nobody else. */
#ifndef DNET_INTERNAL_H
#define DNET_INTERNAL_H

#include "dnet.cdef.h"

#pragma GCC visibility push(hidden)

/* nlattr.c: a message under construction. The first attribute that does not fit sets `full`; later ones are dropped,
 * and `finish` then leaves the batch as it was. */
struct writer {
    struct dnet_batch *batch;
    size_t start;
    size_t at;
    int full;
};
void *begin(struct writer *writer, struct dnet_batch *batch, uint16_t type, uint16_t flags, size_t body_size);
int finish(struct writer *writer);
void *reserve(struct writer *writer, size_t size);
void put(struct writer *writer, uint16_t type, const void *value, size_t size);
void put_u8(struct writer *writer, uint16_t type, uint8_t value);
void put_u32(struct writer *writer, uint16_t type, uint32_t value);
void put_text(struct writer *writer, uint16_t type, const char *text);
size_t open_nest(struct writer *writer, uint16_t type);
void close_nest(struct writer *writer, size_t at);

#pragma GCC visibility pop

/* link.c: writes `netns_fd` into every message of a segment that leaves a namespace open: that in which a veth's peer
 * or another device is born, or which a device is moved into. */
void dnet_set_namespace(uint8_t *data, size_t length, int netns_fd);

/* socket.c: runs `function(argument)` on a thread of its own, all signals blocked, and returns its result. What
 * the thread does to its namespaces ends with it. */
int dnet_on_thread(int (*function)(void *), void *argument);

#endif
