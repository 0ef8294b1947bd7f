/* Tests of what enters a namespace, on the real kernel: dnet_enter(), devices created inside and moved, announce.c. */
#include "check.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#define PARENT_INDEX 5000
#define INNER_INDEX 5101
#define MODE_BRIDGE 4
#ifndef SO_NETNS_COOKIE
#define SO_NETNS_COOKIE 71
#endif

static const uint8_t mac[6] = {0x02, 0x42, 10, 4, 0, 1};
static const uint8_t address6[16] = {0xfd, [15] = 4};

static int
send_batch(int fd, struct dnet_batch *batch, int netns_fd)
{
    int32_t errors[8] = {0};
    int result;

    nlmsg_set_netns(batch->data, batch->length, netns_fd);
    result = dnet_transact(fd, batch->data, batch->length, batch->count, errors, NULL, 0);
    for (uint32_t i = 0; i < batch->count && !result; i++)
        result = errors[i];
    batch->length = batch->count = 0;
    return result;
}

static int
pin_new(void *path)
{
    if (unshare(CLONE_NEWNET) < 0)
        return -errno;
    return mount("/proc/thread-self/ns/net", path, NULL, MS_BIND, NULL) < 0 ? -errno : 0;
}

/* Returns the index of the device of that name in the socket's namespace, or 0. */
static uint32_t
index_of(int fd, const char *name)
{
    struct dnet_batch batch = new_batch(1);
    uint8_t answer[16384] __attribute__((aligned(NLMSG_ALIGNTO)));
    const struct ifinfomsg *link = NLMSG_DATA((struct nlmsghdr *)answer);
    size_t length = 0;
    int error;

    dnet_put_ask(&batch, 0, name);
    error = dnet_ask(fd, batch.data, batch.length, answer, sizeof answer, &length);
    free(batch.data);
    CHECK(!error || error == -ENODEV, "%d", error);
    return error ? 0 : (uint32_t)link->ifi_index;
}

static void
test_identity(const char *path, int netns_fd, int fd)
{
    struct stat status;
    uint64_t cookie = 0;
    socklen_t size = sizeof cookie;
    int one = -7, two = -7;

    fstat(netns_fd, &status);
    CHECK_EQUAL(getsockopt(fd, SOL_SOCKET, SO_NETNS_COOKIE, &cookie, &size), 0, "cookie");
    CHECK_EQUAL(dnet_enter(path, status.st_ino, cookie, &one, &two), 0, "the same");
    close(one);
    close(two);
    one = two = -7;
    CHECK_EQUAL(dnet_enter(path, status.st_ino + 1, cookie, &one, &two), -ESTALE, "another inode");
    CHECK_EQUAL(dnet_enter(path, status.st_ino, cookie + 1, &one, &two), -ESTALE, "another cookie");
    CHECK_EQUAL(dnet_enter("/nowhere", 0, 0, &one, &two), -ENOENT, "nothing");
    CHECK_EQUAL(dnet_enter("/dev/null", 0, 0, &one, &two), -EINVAL, "no namespace");
    CHECK(one == -7 && two == -7, "no result after a failure");
}

void
test_namespaces(int fd)
{
    struct dnet_batch batch = new_batch(8);
    char path[64], small[16];
    int own = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC), netns_fd = -1, inside = -1;
    size_t length;

    snprintf(path, sizeof path, "%s/foreign", directory);
    close(open(path, O_RDONLY | O_CREAT | O_CLOEXEC, 0444));
    CHECK_EQUAL(thread_run(pin_new, path), 0, "namespace");
    CHECK_EQUAL(dnet_enter(path, 0, 0, &netns_fd, &inside), 0, "enter");
    test_identity(path, netns_fd, inside);

    dnet_put_bridge(&batch, PARENT_INDEX, "parent0", NULL, 0);
    dnet_put_up(&batch, PARENT_INDEX);
    CHECK_EQUAL(send_batch(fd, &batch, -1), 0, "parent");
    dnet_put_ask(&batch, PARENT_INDEX, NULL);
    CHECK_EQUAL(dnet_ask(fd, batch.data, batch.length, (uint8_t *)small, sizeof small, &length), -ENOBUFS, "no room");
    batch.length = batch.count = 0;
    dnet_put_macvlan(&batch, INNER_INDEX, "inner0", PARENT_INDEX, MODE_BRIDGE, NULL, 0);
    CHECK_EQUAL(send_batch(fd, &batch, netns_fd), 0, "macvlan");
    CHECK_EQUAL(index_of(inside, "inner0"), INNER_INDEX, "it is inside");
    CHECK_EQUAL(index_of(fd, "inner0"), 0, "and not outside");
    dnet_put_arp_notify(&batch, INNER_INDEX);
    dnet_put_address(&batch, true, INNER_INDEX, AF_INET6, address6, 64, false);
    dnet_put_up(&batch, INNER_INDEX);
    dnet_put_ask(&batch, INNER_INDEX, NULL);
    dnet_put_identity(&batch, INNER_INDEX, NULL, mac, 1400);
    CHECK_EQUAL(send_batch(inside, &batch, -1), 0, "address, up, identity");
    CHECK_EQUAL(dnet_advertise(netns_fd, INNER_INDEX, mac, address6, 1), 0, "advertisement");
    CHECK(dnet_advertise(netns_fd, INNER_INDEX + 7, mac, address6, 1) < 0, "advertisement of nothing");
    dnet_put_move(&batch, INNER_INDEX, own, "back0", INNER_INDEX + 1);
    CHECK_EQUAL(send_batch(inside, &batch, -1), 0, "out");
    CHECK_EQUAL(index_of(fd, "back0"), INNER_INDEX + 1, "it is outside");
    dnet_put_move(&batch, INNER_INDEX + 1, -1, "inner0", INNER_INDEX);
    CHECK_EQUAL(send_batch(fd, &batch, netns_fd), 0, "and in again");
    CHECK_EQUAL(index_of(inside, "inner0"), INNER_INDEX, "it is inside");
    dnet_put_delete(&batch, INNER_INDEX);
    CHECK_EQUAL(send_batch(inside, &batch, -1), 0, "deleted");
    dnet_put_delete(&batch, PARENT_INDEX);
    CHECK_EQUAL(send_batch(fd, &batch, -1), 0, "parent deleted");
    close(own);
    close(netns_fd);
    close(inside);
    umount2(path, MNT_DETACH);
    unlink(path);
    free(batch.data);
}
