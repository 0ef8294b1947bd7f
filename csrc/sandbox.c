/*
 * Network namespaces: the pipelined maker of sandboxes, and their removal. Sends what link.c built through socket.c's
 * transactions.
 *
 * A namespace costs 0.3-0.45 ms that mostly runs outside the kernel's RTNL lock, its links about as much inside
 * it; so one thread makes namespaces ahead while the calling thread makes links. More threads do not help: RTNL
 * is one lock.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "internal.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/netlink.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Namespaces made ahead, each holding two descriptors: 8 to 500 are equally fast (benchmarks/floor.c). */
#define WINDOW 32
/* Sandboxes whose host messages share one send, at most: the links take what is ready, since waiting for a full
 * group costs 5-10 %. Small groups also let a cancelled build stop within a few milliseconds. */
#define GROUP 16
#define GROUP_BYTES (GROUP * 2048)
#define GROUP_MESSAGES (GROUP * 16)
#ifndef SO_NETNS_COOKIE
#define SO_NETNS_COOKIE 71 /* asm-generic/socket.h, since Linux 5.14 */
#endif

struct slot {
    int namespace_fd;
    int socket_fd;
    int error;
};

struct build {
    struct dnet_sandbox *sandboxes;
    uint32_t count;
    int keep_going;
    struct dnet_control *control;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    uint32_t made;  /* namespaces offered by the maker */
    uint32_t taken; /* namespaces the links are done with */
    int stop;
    struct slot slots[WINDOW];
    char own[48]; /* the path of the caller's namespace */
    int host_fd;
    char *text;
    size_t text_size;
};

static int
is_cancelled(const struct dnet_control *control)
{
    return __atomic_load_n(&control->cancel, __ATOMIC_RELAXED) != 0;
}

/* Pins the namespace at `path` on the file `pin`. */
static int
pin_namespace(const char *path, const char *pin)
{
    int fd = open(pin, O_RDONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0444);
    int error;

    if (fd < 0)
        return -errno;
    close(fd);
    if (mount(path, pin, NULL, MS_BIND, NULL) < 0) {
        error = -errno;
        unlink(pin);
        return error;
    }
    return 0;
}

/* Whether an open namespace, with a socket in it, is the one that is meant; 0 stands for any. An inode number alone
 * does not tell: the kernel gives that of a namespace which has gone to the next one. */
static int
check_identity(int namespace_fd, int socket_fd, uint64_t inode, uint64_t cookie)
{
    uint64_t found = 0;
    socklen_t size = sizeof found;
    struct stat status;

    if (inode && fstat(namespace_fd, &status) < 0)
        return -errno;
    if (inode && status.st_ino != inode)
        return -ESTALE;
    if (cookie && getsockopt(socket_fd, SOL_SOCKET, SO_NETNS_COOKIE, &found, &size) < 0)
        return -errno;
    return found == cookie ? 0 : -ESTALE;
}

/* Opens the namespace at `path` into the slot, and a netlink socket in it; the calling thread is inside. */
static int
open_slot(struct slot *slot, const char *path, int enter)
{
    slot->namespace_fd = open(path, O_RDONLY | O_CLOEXEC);
    if (slot->namespace_fd < 0)
        return -errno;
    if (enter && setns(slot->namespace_fd, CLONE_NEWNET) < 0)
        return -errno;
    return dnet_socket(-1, NETLINK_ROUTE, &slot->socket_fd);
}

static void
enter_existing(const struct dnet_sandbox *sandbox, struct slot *slot)
{
    slot->error = open_slot(slot, sandbox->pin, 1);
    if (!slot->error)
        slot->error = check_identity(slot->namespace_fd, slot->socket_fd, sandbox->inode, sandbox->cookie);
}

/* Makes or enters one sandbox's namespace; the thread stays inside it. `own` is the path of the caller's. */
static void
enter_sandbox(struct dnet_sandbox *sandbox, const char *own, struct slot *slot)
{
    const char *path = sandbox->make == DNET_PIN_OWN ? own : "/proc/thread-self/ns/net";

    slot->namespace_fd = slot->socket_fd = -1;
    if (sandbox->make == DNET_ENTER) {
        enter_existing(sandbox, slot);
        return;
    }
    if (sandbox->make == DNET_MAKE && unshare(CLONE_NEWNET) < 0)
        slot->error = -errno;
    else
        slot->error = pin_namespace(path, sandbox->pin);
    if (slot->error)
        return;
    if (sandbox->name && symlink(sandbox->pin, sandbox->name) < 0)
        slot->error = -errno;
    else
        slot->error = open_slot(slot, path, sandbox->make == DNET_PIN_OWN);
}

static void *
make_namespaces(void *argument)
{
    struct build *build = argument;

    for (uint32_t i = 0; i < build->count; i++) {
        struct slot slot;
        int stop;

        pthread_mutex_lock(&build->lock);
        while (i - build->taken >= WINDOW && !build->stop)
            pthread_cond_wait(&build->changed, &build->lock);
        stop = build->stop;
        pthread_mutex_unlock(&build->lock);
        if (stop)
            break;
        enter_sandbox(&build->sandboxes[i], build->own, &slot);
        pthread_mutex_lock(&build->lock);
        build->slots[i % WINDOW] = slot;
        build->made = i + 1;
        pthread_cond_broadcast(&build->changed);
        stop = build->stop || (slot.error && !build->keep_going);
        pthread_mutex_unlock(&build->lock);
        if (stop)
            break;
    }
    return NULL;
}

static void
close_slot(struct slot *slot)
{
    if (slot->namespace_fd >= 0)
        close(slot->namespace_fd);
    if (slot->socket_fd >= 0)
        close(slot->socket_fd);
    slot->namespace_fd = slot->socket_fd = -1;
}

static void
fail(struct build *build, struct dnet_sandbox *sandbox, int error, int32_t segment, uint32_t message, const char *text)
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

/* Sends the collected host segments of several sandboxes and gives each its failures. */
static void
send_host(struct build *build, struct dnet_sandbox **owners, uint32_t owner_count, uint32_t step, uint8_t *data,
          size_t length, uint32_t count)
{
    int32_t errors[GROUP_MESSAGES];
    char text[256];
    int error = dnet_transact(build->host_fd, data, length, count, errors, text, sizeof text);
    uint32_t at = 0;

    for (uint32_t i = 0; i < owner_count; i++) {
        uint32_t messages = owners[i]->segments[step].count;

        for (uint32_t message = 0; message < messages; message++, at++)
            if (error || errors[at])
                fail(build, owners[i], error ? error : errors[at], (int32_t)step, message, text);
    }
}

static void
send_inside(struct build *build, struct dnet_sandbox *sandbox, uint32_t step, int fd)
{
    const struct dnet_segment *segment = &sandbox->segments[step];
    int32_t errors[GROUP_MESSAGES];
    char text[256];
    int error;

    if (segment->count > GROUP_MESSAGES) {
        fail(build, sandbox, -EMSGSIZE, (int32_t)step, 0, "");
        return;
    }
    error = dnet_transact(fd, segment->data, segment->length, segment->count, errors, text, sizeof text);
    for (uint32_t message = 0; message < segment->count; message++)
        if (error || errors[message])
            fail(build, sandbox, error ? error : errors[message], (int32_t)step, message, text);
}

static void
complete_frames(struct build *build, struct dnet_sandbox *sandbox, uint32_t step, int fd)
{
    const struct dnet_segment *segment = &sandbox->segments[step];

    for (uint32_t i = 0; i < segment->count && (size_t)(i + 1) * DNET_NAME_BYTES <= segment->length; i++) {
        int error = dnet_complete_frames(fd, (const char *)segment->data + (size_t)i * DNET_NAME_BYTES);

        if (error)
            fail(build, sandbox, error, (int32_t)step, i, "");
    }
}

/* One step of a group: inside segments go out one by one, host segments of all its sandboxes together. */
static void
run_step(struct build *build, uint32_t first, uint32_t count, uint32_t step)
{
    uint8_t data[GROUP_BYTES] __attribute__((aligned(NLMSG_ALIGNTO)));
    struct dnet_sandbox *owners[GROUP];
    uint32_t owner_count = 0, messages = 0;
    size_t length = 0;

    for (uint32_t i = 0; i < count; i++) {
        struct dnet_sandbox *sandbox = &build->sandboxes[first + i];
        struct slot *slot = &build->slots[(first + i) % WINDOW];
        const struct dnet_segment *segment;

        if (sandbox->error || step >= sandbox->segment_count)
            continue;
        segment = &sandbox->segments[step];
        if (segment->is_names) {
            complete_frames(build, sandbox, step, segment->inside ? slot->socket_fd : build->host_fd);
            continue;
        }
        if (segment->inside) {
            send_inside(build, sandbox, step, slot->socket_fd);
            continue;
        }
        if (segment->length > GROUP_BYTES || segment->count > GROUP_MESSAGES) {
            fail(build, sandbox, -EMSGSIZE, (int32_t)step, 0, "");
            continue;
        }
        if (length + segment->length > GROUP_BYTES || messages + segment->count > GROUP_MESSAGES) {
            send_host(build, owners, owner_count, step, data, length, messages);
            owner_count = messages = 0;
            length = 0;
        }
        memcpy(data + length, segment->data, segment->length);
        dnet_set_namespace(data + length, segment->length, slot->namespace_fd);
        length += segment->length;
        messages += segment->count;
        owners[owner_count++] = sandbox;
    }
    if (owner_count)
        send_host(build, owners, owner_count, step, data, length, messages);
}

/* Builds the links of sandboxes first..first+count-1, whose namespaces are ready. Returns whether to go on. */
static int
link_group(struct build *build, uint32_t first, uint32_t count)
{
    uint32_t steps = 0;
    int ok = 1;

    for (uint32_t i = 0; i < count; i++) {
        struct dnet_sandbox *sandbox = &build->sandboxes[first + i];
        const struct slot *slot = &build->slots[(first + i) % WINDOW];

        if (slot->error)
            fail(build, sandbox, slot->error, -1, 0, "");
        else if (sandbox->segment_count > steps)
            steps = sandbox->segment_count;
    }
    for (uint32_t step = 0; step < steps; step++)
        run_step(build, first, count, step);
    for (uint32_t i = 0; i < count; i++) {
        struct dnet_sandbox *sandbox = &build->sandboxes[first + i];

        close_slot(&build->slots[(first + i) % WINDOW]);
        ok = ok && !sandbox->error;
    }
    return ok || build->keep_going;
}

static void
make_links(struct build *build)
{
    uint32_t first = 0;
    int go_on = 1;

    while (go_on && first < build->count) {
        uint32_t ready;

        pthread_mutex_lock(&build->lock);
        while (build->made == first)
            pthread_cond_wait(&build->changed, &build->lock);
        ready = build->made - first;
        pthread_mutex_unlock(&build->lock);
        if (ready > GROUP)
            ready = GROUP;
        go_on = link_group(build, first, ready);
        first += ready;
        __atomic_store_n(&build->control->done, first, __ATOMIC_RELAXED);
        if (is_cancelled(build->control))
            go_on = 0;
        pthread_mutex_lock(&build->lock);
        build->taken = first;
        build->stop = !go_on;
        pthread_cond_broadcast(&build->changed);
        pthread_mutex_unlock(&build->lock);
    }
}

/*
 * Builds `count` sandboxes. Without `keep_going` it stops soon after the first failure. Each sandbox tells in
 * its `out` fields how far it came; the caller removes what is unwanted. Returns -ECANCELED when the caller
 * cancelled, or -errno when no thread could be started; a failure of a sandbox is reported in that sandbox.
 */
int
dnet_build(int host_fd, struct dnet_sandbox *sandboxes, uint32_t count, int keep_going, struct dnet_control *control,
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
    sigset_t all, before;
    pthread_t maker;
    uint32_t i;
    int error;

    if (text_size)
        ret_text[0] = '\0';
    if (!count)
        return 0;
    /* The maker's own changes; this thread's stays. */
    snprintf(build.own, sizeof build.own, "/proc/self/task/%ld/ns/net", syscall(SYS_gettid));
    for (i = 0; i < WINDOW; i++)
        build.slots[i].namespace_fd = build.slots[i].socket_fd = -1;
    /* The signals belong to the caller's thread; the maker must not take them. */
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    error = pthread_create(&maker, NULL, make_namespaces, &build);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (error)
        return -error;
    make_links(&build);
    pthread_join(maker, NULL);
    for (i = 0; i < WINDOW; i++)
        close_slot(&build.slots[i]);
    return is_cancelled(control) ? -ECANCELED : 0;
}

/*
 * Opens the namespace at `path` and a netlink socket in it, if it is the one that is meant (-ESTALE if not); the
 * caller closes both.
 */
int
dnet_enter(const char *path, uint64_t inode, uint64_t cookie, int *ret_netns_fd, int *ret_socket_fd)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC), socket_fd, error;

    if (fd < 0)
        return -errno;
    error = dnet_socket(fd, NETLINK_ROUTE, &socket_fd);
    if (!error) {
        error = check_identity(fd, socket_fd, inode, cookie);
        if (error)
            close(socket_fd);
    }
    if (error) {
        close(fd);
        return error;
    }
    *ret_netns_fd = fd;
    *ret_socket_fd = socket_fd;
    return 0;
}

/* Whether `path` is a symbolic link that leads to `target`. */
static int
leads_to(const char *path, const char *target)
{
    char found[4096];
    ssize_t length = readlink(path, found, sizeof found);

    return length >= 0 && (size_t)length == strlen(target) && !memcmp(found, target, (size_t)length);
}

/*
 * Removes pins and names. What is missing already is no failure, and a name that leads elsewhere is left alone.
 * The namespaces go when their last user does. Stops early, with -ECANCELED, when cancelled.
 */
int
dnet_unpin(struct dnet_sandbox *sandboxes, uint32_t count, struct dnet_control *control)
{
    for (uint32_t i = 0; i < count; i++) {
        struct dnet_sandbox *sandbox = &sandboxes[i];

        if (is_cancelled(control))
            return -ECANCELED;
        sandbox->error = 0;
        if (sandbox->name && leads_to(sandbox->name, sandbox->pin) && unlink(sandbox->name) < 0)
            sandbox->error = -errno;
        /* EINVAL: not a mount point, so only the file is left. */
        if (umount2(sandbox->pin, MNT_DETACH | UMOUNT_NOFOLLOW) < 0 && errno != EINVAL && errno != ENOENT)
            sandbox->error = -errno;
        else if (unlink(sandbox->pin) < 0 && errno != ENOENT)
            sandbox->error = -errno;
        __atomic_store_n(&control->done, i + 1, __ATOMIC_RELAXED);
    }
    return 0;
}

static int
is_mount_point(int directory, const char *name)
{
    struct statx status;

    return !statx(directory, name, AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT, 0, &status) &&
           (status.stx_attributes & STATX_ATTR_MOUNT_ROOT);
}

/*
 * Makes an existing directory fit to hold pins: a tmpfs mount of its own (a pin on a disk's file system costs ten
 * times as much) with shared propagation, so that a namespace removed here also goes in the copies of this mount
 * that services with private mount namespaces hold. A directory that is a mount point already, or holds somebody's
 * pins, is left alone.
 */
int
dnet_pin_directory(const char *path)
{
    DIR *directory = opendir(path);
    const struct dirent *entry;
    int in_use;

    if (!directory)
        return -errno;
    in_use = is_mount_point(dirfd(directory), "");
    while (!in_use && (entry = readdir(directory)))
        in_use = entry->d_name[0] != '.' && is_mount_point(dirfd(directory), entry->d_name);
    closedir(directory);
    if (in_use)
        return 0;
    if (mount("dnet", path, "tmpfs", MS_NOSUID | MS_NODEV | MS_NOEXEC, "mode=755") < 0)
        return -errno;
    if (mount(NULL, path, NULL, MS_SHARED, NULL) < 0)
        return -errno;
    return 0;
}
