/*
 * Pins: files on which namespaces are bind-mounted, so that these outlive their processes, and the symbolic links that
 * name them for `ip netns`. sandbox.c makes the namespaces.
 */
#include "internal.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>

/* Pins the namespace at `path` on the file `pin`, which must not exist. */
int
pin_netns(const char *path, const char *pin)
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

static bool
is_link_to(const char *path, const char *target)
{
    char found[4096];
    ssize_t length = readlink(path, found, sizeof found);

    return length >= 0 && (size_t)length == strlen(target) && !memcmp(found, target, (size_t)length);
}

/*
 * Removes pins and names. Ignores what is missing, and leaves a name alone that leads elsewhere. A namespace goes when
 * its last user does. Stops early, with -ECANCELED, when cancelled.
 */
int
dnet_unpin(struct dnet_sandbox *sandboxes, uint32_t count, struct dnet_control *control)
{
    for (uint32_t i = 0; i < count; i++) {
        struct dnet_sandbox *sandbox = &sandboxes[i];

        if (control_is_cancelled(control))
            return -ECANCELED;
        sandbox->error = 0;
        if (sandbox->name && is_link_to(sandbox->name, sandbox->pin) && unlink(sandbox->name) < 0)
            sandbox->error = -errno;
        /* EINVAL: not a mount point, so only the file is left. */
        if (umount2(sandbox->pin, MNT_DETACH | UMOUNT_NOFOLLOW) < 0 && errno != EINVAL && errno != ENOENT)
            sandbox->error = -errno;
        else if (unlink(sandbox->pin) < 0 && errno != ENOENT)
            sandbox->error = -errno;
        control_set_done(control, i + 1);
    }
    return 0;
}

static bool
is_mount_point(int directory, const char *name)
{
    struct statx status;

    return !statx(directory, name, AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT, 0, &status) &&
           (status.stx_attributes & STATX_ATTR_MOUNT_ROOT);
}

/*
 * Prepares an existing directory for pins: mounts a tmpfs on it, because a pin on a disk's file system costs ten times
 * as much. The mount is shared, so that a namespace removed here also goes in the copies of this mount that services
 * with private mount namespaces hold. Leaves a directory alone that is a mount point or holds somebody's pins.
 */
int
dnet_pin_directory(const char *path)
{
    DIR *directory = opendir(path);
    const struct dirent *entry;
    bool in_use;

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
    return mount(NULL, path, NULL, MS_SHARED, NULL) < 0 ? -errno : 0;
}
