/*
 * What the C files share with each other and nobody else, grouped by the file that defines it. Every C file of the
 * core includes this header first.
 */
#ifndef DNET_INTERNAL_H
#define DNET_INTERNAL_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "dnet.cdef.h"

#include <linux/netlink.h>
#include <pthread.h>
#include <unistd.h>

#define MAC_BYTES 6

/* libnl and libmnl export functions with some of these names; hidden, ours cannot clash with theirs. */
#pragma GCC visibility push(hidden)

/* nlattr.c: a message under construction. The first part that does not fit sets `full`; the rest is then dropped, and
 * nlmsg_end() leaves the batch as it was. */
struct nlmsg_writer {
    struct dnet_batch *batch;
    size_t start;
    size_t at;
    bool full;
};
void *nlmsg_begin(struct nlmsg_writer *writer, struct dnet_batch *batch, uint16_t type, uint16_t flags,
                  size_t body_size);
void *nlmsg_reserve(struct nlmsg_writer *writer, size_t size);
int nlmsg_end(struct nlmsg_writer *writer);
void nlmsg_set_netns(uint8_t *data, size_t length, int netns_fd);
void nla_put(struct nlmsg_writer *writer, uint16_t type, const void *value, size_t size);
void nla_put_u8(struct nlmsg_writer *writer, uint16_t type, uint8_t value);
void nla_put_u32(struct nlmsg_writer *writer, uint16_t type, uint32_t value);
void nla_put_string(struct nlmsg_writer *writer, uint16_t type, const char *text);
void nla_put_pending_netns(struct nlmsg_writer *writer, uint16_t type);
size_t nla_nest_open(struct nlmsg_writer *writer, uint16_t type);
void nla_nest_close(struct nlmsg_writer *writer, size_t at);

/* nlattr.c: attributes of a message received. */
struct nlattr *nla_find(const void *start, size_t length, uint16_t type);
struct nlattr *nla_find_nested(const struct nlattr *nest, uint16_t type);
void *nla_data(const struct nlattr *attribute);
size_t nla_length(const struct nlattr *attribute);

/* socket.c: one request and its answer. */
int nlmsg_query(int fd, struct nlmsghdr *request, void (*handle)(const struct nlmsghdr *answer, void *context),
                void *context);

/* thread.c: threads that take none of the caller's signals. */
int thread_start(pthread_t *ret_thread, void *(*function)(void *), void *argument);
int thread_run(int (*function)(void *), void *argument);

/* link.c: the beginning of a message about a device, and attributes that several kinds of device have. */
struct ifinfomsg *link_begin(struct nlmsg_writer *writer, struct dnet_batch *batch, uint16_t type, uint16_t flags,
                             uint32_t index);
void link_put_identity(struct nlmsg_writer *writer, const char *name, const uint8_t *mac, uint32_t mtu);
bool link_name_is_valid(const char *name);

/* pin.c: a namespace that outlives its processes. */
int pin_netns(const char *path, const char *pin);

#pragma GCC visibility pop

/* Closes a descriptor at the end of its scope, unless it is -1 or fd_steal() has handed it on. */
#define AUTO_CLOSE __attribute__((cleanup(fd_cleanup)))

static inline void
fd_cleanup(int *fd)
{
    if (*fd >= 0)
        close(*fd);
    *fd = -1;
}

static inline int
fd_steal(int *fd)
{
    int stolen = *fd;

    *fd = -1;
    return stolen;
}

static inline bool
control_is_cancelled(const struct dnet_control *control)
{
    return __atomic_load_n(&control->cancel, __ATOMIC_RELAXED) != 0;
}

static inline void
control_set_done(struct dnet_control *control, uint32_t done)
{
    __atomic_store_n(&control->done, done, __ATOMIC_RELAXED);
}

#endif
