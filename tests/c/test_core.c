/*
 * Tests of the C core, run under ASan and UBSan and again under TSan. The first half needs no privilege. The second
 * one, for root, works in a network and a mount namespace of its own.
 */
#include "check.h"

#include <errno.h>
#include <linux/netlink.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

int failures;
char directory[] = "/tmp/dnet-test-XXXXXX";

void *
allocate(size_t size)
{
    void *memory = calloc(1, size ? size : 1);

    if (!memory)
        abort();
    return memory;
}

/* A batch with room for `messages`. */
struct dnet_batch
new_batch(uint32_t messages)
{
    return (struct dnet_batch){.data = allocate(messages * 384), .capacity = messages * 384};
}

int
open_rtnetlink(void)
{
    int fd = -1;

    CHECK_EQUAL(dnet_socket(-1, NETLINK_ROUTE, &fd), 0, "rtnetlink");
    return fd;
}

/* Makes the namespaces and directories of the second half; 0, or an errno. */
static int
enter_playground(void)
{
    static const char *const names[] = {"", "/pins", "/names"};
    char path[64];

    if (unshare(CLONE_NEWNET | CLONE_NEWNS) < 0)
        return errno;
    if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 || !mkdtemp(directory))
        return errno;
    if (mount("test", directory, "tmpfs", 0, NULL) < 0)
        return errno;
    for (size_t i = 1; i < sizeof names / sizeof *names; i++) {
        snprintf(path, sizeof path, "%s%s", directory, names[i]);
        if (mkdir(path, 0755) < 0)
            return errno;
    }
    return 0;
}

int
main(void)
{
    int error, fd;
    const char *ci = getenv("CI");

    test_attributes();
    test_messages();
    test_threads();
    test_sockets();
    test_names();
    error = enter_playground();
    if (error) {
        printf("skipped: needs root (%s)\n", strerror(error));
        return failures || (ci && !strcmp(ci, "true"));
    }
    fd = open_rtnetlink();
    test_long_batch(fd);
    test_pin_directory();
    test_sandboxes(fd);
    test_namespaces(fd);
    test_flows();
    test_offloads(fd);
    test_bpf(fd);
    close(fd);
    umount2(directory, MNT_DETACH);
    rmdir(directory);
    if (!failures)
        printf("the C core: all true\n");
    return failures != 0;
}
