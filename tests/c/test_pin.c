/* Tests of dnet_pin_directory() on the real kernel; test_sandbox.c pins and unpins sandboxes. */
#include "check.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <unistd.h>

bool
is_namespace(const char *path)
{
    struct statfs status;

    return !statfs(path, &status) && status.f_type == NSFS_MAGIC;
}

void
test_pin_directory(void)
{
    char path[64], pin[80];
    struct statfs status;
    struct stat outer, inner, again;
    int fd;

    snprintf(path, sizeof path, "%s/dir", directory);
    snprintf(pin, sizeof pin, "%s/theirs", path);
    CHECK_EQUAL(dnet_pin_directory(path), -ENOENT, "no such directory");
    fd = open(path, O_CREAT | O_CLOEXEC, 0600);
    close(fd);
    CHECK_EQUAL(dnet_pin_directory(path), -ENOTDIR, "a file");
    unlink(path);
    mkdir(path, 0755);
    stat(path, &outer);
    CHECK_EQUAL(dnet_pin_directory(path), 0, "a directory");
    stat(path, &inner);
    CHECK(outer.st_dev != inner.st_dev, "a mount of its own");
    CHECK(!statfs(path, &status) && status.f_type == TMPFS_MAGIC, "a tmpfs");
    CHECK_EQUAL(dnet_pin_directory(path), 0, "again");
    stat(path, &again);
    CHECK_EQUAL(again.st_dev, inner.st_dev, "the same mount");
    umount2(path, MNT_DETACH);
    fd = open(pin, O_CREAT | O_CLOEXEC, 0600);
    close(fd);
    CHECK(!mount("/proc/self/ns/net", pin, NULL, MS_BIND, NULL), "errno %d", errno);
    CHECK_EQUAL(dnet_pin_directory(path), 0, "a directory with somebody's pin");
    stat(path, &again);
    CHECK_EQUAL(again.st_dev, outer.st_dev, "left alone");
    CHECK(is_namespace(pin), "left alone");
    umount2(pin, MNT_DETACH);
}
