/*
 * Sandboxes: the pipelined maker of network namespaces and of the devices in them, and the way into those that exist.
 * Sends what link.c and its neighbours built through socket.c's transactions; pin.c keeps the namespaces alive.
 *
 * A namespace costs 0.3-0.45 ms that mostly runs outside the kernel's RTNL lock, its links about as much inside
 * it; so one thread makes namespaces ahead while the calling thread makes links. More threads do not help: RTNL
 * is one lock.
 */
#include "internal.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>

/* Namespaces made ahead, each holding two descriptors: 8 to 500 are equally fast (benchmarks/floor.c). */
#define WINDOW 32
/* At most so many sandboxes share one send of host messages. The links take what is ready, because waiting for a full
 * group costs 5-10 %. Small groups also let a cancelled build stop within a few milliseconds. */
#define GROUP 16
#define GROUP_BYTES (GROUP * 2048)
#define GROUP_MESSAGES (GROUP * 16)
#define TEXT_BYTES 256
#ifndef SO_NETNS_COOKIE
#define SO_NETNS_COOKIE 71 /* asm-generic/socket.h, since Linux 5.14 */
#endif

/* A namespace that has been made, or the reason why not. */
struct slot {
    int netns_fd;
    int socket_fd;
    int error;
};

struct build {
    struct dnet_sandbox *sandboxes;
    uint32_t count;
    bool keep_going;
    struct dnet_control *control;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    uint32_t made;  /* namespaces offered by the maker */
    uint32_t taken; /* namespaces whose links are finished */
    bool stop;
    struct slot slots[WINDOW];
    char own_netns[48]; /* the path of the caller's namespace */
    int host_fd;
    char *text;
    size_t text_size;
};

/* The host segments of several sandboxes at one step, collected for one send. */
struct host_batch {
    uint8_t data[GROUP_BYTES] __attribute__((aligned(NLMSG_ALIGNTO)));
    size_t length;
    uint32_t count; /* messages */
    struct dnet_sandbox *owners[GROUP];
    uint32_t owner_count;
};

static struct slot *
build_slot(struct build *build, uint32_t sandbox)
{
    return &build->slots[sandbox % WINDOW];
}

/* Checks that an open namespace, with a socket in it, is the one that is meant; 0 stands for any. The inode alone does
 * not tell: the kernel gives the number of a namespace that has gone to the next one. */
static int
netns_check_identity(int netns_fd, int socket_fd, uint64_t inode, uint64_t cookie)
{
    uint64_t found = 0;
    socklen_t size = sizeof found;
    struct stat status;

    if (inode && fstat(netns_fd, &status) < 0)
        return -errno;
    if (inode && status.st_ino != inode)
        return -ESTALE;
    if (cookie && getsockopt(socket_fd, SOL_SOCKET, SO_NETNS_COOKIE, &found, &size) < 0)
        return -errno;
    return found == cookie ? 0 : -ESTALE;
}

/* Opens the namespace at `path`, and a netlink socket in it. With `enter`, the calling thread enters it first; without,
 * it is inside already. */
static int
slot_open(struct slot *slot, const char *path, bool enter)
{
    slot->netns_fd = open(path, O_RDONLY | O_CLOEXEC);
    if (slot->netns_fd < 0)
        return -errno;
    if (enter && setns(slot->netns_fd, CLONE_NEWNET) < 0)
        return -errno;
    return dnet_socket(-1, NETLINK_ROUTE, &slot->socket_fd);
}

static void
slot_close(struct slot *slot)
{
    fd_cleanup(&slot->netns_fd);
    fd_cleanup(&slot->socket_fd);
}

/* Makes or enters one sandbox's namespace, and leaves the thread inside it. */
static int
sandbox_enter(const struct dnet_sandbox *sandbox, const char *own_netns, struct slot *slot)
{
    const char *path = sandbox->make == DNET_PIN_OWN ? own_netns : "/proc/thread-self/ns/net";
    int error;

    if (sandbox->make == DNET_ENTER) {
        error = slot_open(slot, sandbox->pin, true);
        return error ? error : netns_check_identity(slot->netns_fd, slot->socket_fd, sandbox->inode, sandbox->cookie);
    }
    if (sandbox->make == DNET_MAKE && unshare(CLONE_NEWNET) < 0)
        return -errno;
    error = pin_netns(path, sandbox->pin);
    if (error)
        return error;
    if (sandbox->name && symlink(sandbox->pin, sandbox->name) < 0)
        return -errno;
    return slot_open(slot, path, sandbox->make == DNET_PIN_OWN);
}

/* The maker's thread: makes namespaces, at most WINDOW ahead of the links. */
static void *
build_make_namespaces(void *argument)
{
    struct build *build = argument;

    for (uint32_t i = 0; i < build->count; i++) {
        struct slot slot = {.netns_fd = -1, .socket_fd = -1};
        bool stop;

        pthread_mutex_lock(&build->lock);
        while (i - build->taken >= WINDOW && !build->stop)
            pthread_cond_wait(&build->changed, &build->lock);
        stop = build->stop;
        pthread_mutex_unlock(&build->lock);
        if (stop)
            break;
        slot.error = sandbox_enter(&build->sandboxes[i], build->own_netns, &slot);
        pthread_mutex_lock(&build->lock);
        *build_slot(build, i) = slot;
        build->made = i + 1;
        pthread_cond_broadcast(&build->changed);
        stop = build->stop || (slot.error && !build->keep_going);
        pthread_mutex_unlock(&build->lock);
        if (stop)
            break;
    }
    return NULL;
}

/* Records a sandbox's first failure, and the first text of the whole build. */
static void
build_record_failure(struct build *build, struct dnet_sandbox *sandbox, int error, int32_t segment, uint32_t message,
                     const char *text)
{
    if (sandbox->error)
        return;
    sandbox->error = error;
    sandbox->failed_segment = segment;
    sandbox->failed_message = message;
    if (build->text_size && !build->text[0] && text[0]) {
        strncpy(build->text, text, build->text_size - 1);
        build->text[build->text_size - 1] = '\0';
    }
}

/* Sends the host messages collected so far, and gives each sandbox its failures. */
static void
host_batch_send(struct build *build, struct host_batch *batch, uint32_t step)
{
    int32_t errors[GROUP_MESSAGES];
    char text[TEXT_BYTES];
    uint32_t at = 0;
    int error;

    if (!batch->owner_count)
        return;
    error = dnet_transact(build->host_fd, batch->data, batch->length, batch->count, errors, text, sizeof text);
    for (uint32_t i = 0; i < batch->owner_count; i++) {
        struct dnet_sandbox *owner = batch->owners[i];

        for (uint32_t message = 0; message < owner->segments[step].count; message++, at++)
            if (error || errors[at])
                build_record_failure(build, owner, error ? error : errors[at], (int32_t)step, message, text);
    }
    batch->length = batch->count = batch->owner_count = 0;
}

/* Collects a sandbox's host messages, with its namespace filled in. Sends first what leaves no room for them. */
static void
host_batch_add(struct build *build, struct host_batch *batch, struct dnet_sandbox *sandbox, uint32_t step, int netns_fd)
{
    const struct dnet_segment *segment = &sandbox->segments[step];

    if (batch->length + segment->length > GROUP_BYTES || batch->count + segment->count > GROUP_MESSAGES)
        host_batch_send(build, batch, step);
    memcpy(batch->data + batch->length, segment->data, segment->length);
    nlmsg_set_netns(batch->data + batch->length, segment->length, netns_fd);
    batch->length += segment->length;
    batch->count += segment->count;
    batch->owners[batch->owner_count++] = sandbox;
}

static void
build_send_inside(struct build *build, struct dnet_sandbox *sandbox, uint32_t step, int fd)
{
    const struct dnet_segment *segment = &sandbox->segments[step];
    int32_t errors[GROUP_MESSAGES];
    char text[TEXT_BYTES];
    int error = dnet_transact(fd, segment->data, segment->length, segment->count, errors, text, sizeof text);

    for (uint32_t message = 0; message < segment->count; message++)
        if (error || errors[message])
            build_record_failure(build, sandbox, error ? error : errors[message], (int32_t)step, message, text);
}

static void
build_complete_frames(struct build *build, struct dnet_sandbox *sandbox, uint32_t step, int fd)
{
    const struct dnet_segment *segment = &sandbox->segments[step];

    for (uint32_t i = 0; i < segment->count && (size_t)(i + 1) * DNET_NAME_BYTES <= segment->length; i++) {
        int error = dnet_complete_frames(fd, (const char *)segment->data + (size_t)i * DNET_NAME_BYTES);

        if (error)
            build_record_failure(build, sandbox, error, (int32_t)step, i, "");
    }
}

/* Returns whether a segment has more messages than one send of a group takes. */
static bool
segment_is_too_long(const struct dnet_segment *segment)
{
    if (segment->kind == DNET_TO_HOST && segment->length > GROUP_BYTES)
        return true;
    return segment->kind <= DNET_TO_SANDBOX && segment->count > GROUP_MESSAGES;
}

/* Does one step of a group: sends inside messages sandbox by sandbox, host messages of all its sandboxes together. */
static void
build_run_step(struct build *build, uint32_t first, uint32_t count, uint32_t step)
{
    struct host_batch batch;

    batch.length = batch.count = batch.owner_count = 0;
    for (uint32_t i = first; i < first + count; i++) {
        struct dnet_sandbox *sandbox = &build->sandboxes[i];
        const struct slot *slot = build_slot(build, i);
        const struct dnet_segment *segment;

        if (sandbox->error || step >= sandbox->segment_count)
            continue;
        segment = &sandbox->segments[step];
        if (segment_is_too_long(segment)) {
            build_record_failure(build, sandbox, -EMSGSIZE, (int32_t)step, 0, "");
            continue;
        }
        switch ((enum dnet_segment_kind)segment->kind) {
        case DNET_TO_HOST:
            host_batch_add(build, &batch, sandbox, step, slot->netns_fd);
            break;
        case DNET_TO_SANDBOX:
            build_send_inside(build, sandbox, step, slot->socket_fd);
            break;
        case DNET_NAMES_ON_HOST:
            build_complete_frames(build, sandbox, step, build->host_fd);
            break;
        case DNET_NAMES_IN_SANDBOX:
            build_complete_frames(build, sandbox, step, slot->socket_fd);
            break;
        }
    }
    host_batch_send(build, &batch, step);
}

/* Builds the links of a group of sandboxes whose namespaces are ready. Returns whether to go on. */
static bool
build_link_group(struct build *build, uint32_t first, uint32_t count)
{
    uint32_t steps = 0;
    bool ok = true;

    for (uint32_t i = first; i < first + count; i++) {
        struct dnet_sandbox *sandbox = &build->sandboxes[i];
        const struct slot *slot = build_slot(build, i);

        if (slot->error)
            build_record_failure(build, sandbox, slot->error, -1, 0, "");
        else if (sandbox->segment_count > steps)
            steps = sandbox->segment_count;
    }
    for (uint32_t step = 0; step < steps; step++)
        build_run_step(build, first, count, step);
    for (uint32_t i = first; i < first + count; i++) {
        slot_close(build_slot(build, i));
        ok = ok && !build->sandboxes[i].error;
    }
    return ok || build->keep_going;
}

/* The calling thread's part: makes links in the namespaces that are ready, group by group. */
static void
build_make_links(struct build *build)
{
    uint32_t first = 0;
    bool go_on = true;

    while (go_on && first < build->count) {
        uint32_t ready;

        pthread_mutex_lock(&build->lock);
        while (build->made == first)
            pthread_cond_wait(&build->changed, &build->lock);
        ready = build->made - first;
        pthread_mutex_unlock(&build->lock);
        if (ready > GROUP)
            ready = GROUP;
        go_on = build_link_group(build, first, ready);
        first += ready;
        control_set_done(build->control, first);
        if (control_is_cancelled(build->control))
            go_on = false;
        pthread_mutex_lock(&build->lock);
        build->taken = first;
        build->stop = !go_on;
        pthread_cond_broadcast(&build->changed);
        pthread_mutex_unlock(&build->lock);
    }
}

/*
 * Builds `count` sandboxes. Without `keep_going` it stops soon after the first failure. The `out` fields of each
 * sandbox tell how far it came and why it failed; the caller removes what is unwanted. Returns -ECANCELED if the
 * caller cancelled, or -errno if no thread could be started.
 */
int
dnet_build(int host_fd, struct dnet_sandbox *sandboxes, uint32_t count, bool keep_going, struct dnet_control *control,
           char *ret_text, size_t text_size)
{
    struct build build = {
        .sandboxes = sandboxes,
        .count = count,
        .keep_going = keep_going,
        .control = control,
        .lock = PTHREAD_MUTEX_INITIALIZER,
        .changed = PTHREAD_COND_INITIALIZER,
        .host_fd = host_fd,
        .text = ret_text,
        .text_size = text_size,
    };
    pthread_t maker;
    int error;

    if (text_size)
        ret_text[0] = '\0';
    if (!count)
        return 0;
    /* The maker leaves its own namespace; this thread stays in the caller's. */
    snprintf(build.own_netns, sizeof build.own_netns, "/proc/self/task/%ld/ns/net", syscall(SYS_gettid));
    for (uint32_t i = 0; i < WINDOW; i++)
        build.slots[i].netns_fd = build.slots[i].socket_fd = -1;
    error = thread_start(&maker, build_make_namespaces, &build);
    if (error)
        return error;
    build_make_links(&build);
    pthread_join(maker, NULL);
    for (uint32_t i = 0; i < WINDOW; i++)
        slot_close(&build.slots[i]);
    return control_is_cancelled(control) ? -ECANCELED : 0;
}

/*
 * Opens the namespace at `path` and a netlink socket in it; the caller closes both. -ESTALE: it is not the namespace
 * that is meant.
 */
int
dnet_enter(const char *path, uint64_t inode, uint64_t cookie, int *ret_netns_fd, int *ret_socket_fd)
{
    AUTO_CLOSE int netns_fd = open(path, O_RDONLY | O_CLOEXEC);
    AUTO_CLOSE int socket_fd = -1;
    int error;

    if (netns_fd < 0)
        return -errno;
    error = dnet_socket(netns_fd, NETLINK_ROUTE, &socket_fd);
    if (!error)
        error = netns_check_identity(netns_fd, socket_fd, inode, cookie);
    if (error)
        return error;
    *ret_netns_fd = fd_steal(&netns_fd);
    *ret_socket_fd = fd_steal(&socket_fd);
    return 0;
}
