/* Tests of bpf.c, and of tc.c's messages that attach what it loads, on the real kernel. */
#include "check.h"

#include <errno.h>
#include <linux/magic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#define TEXT_BYTES 65536
#define INDEX 424242

static const uint8_t mac[6] = {0x02, 0x42, 10, 1, 0, 1};

static struct dnet_vlan_port
port(uint32_t index, uint32_t untagged, uint32_t vid)
{
    struct dnet_vlan_port found = {.index = index, .untagged = untagged};

    if (vid)
        found.tagged[vid / 8] = (uint8_t)(1 << vid % 8);
    return found;
}

/* Lists a map, at most `capacity` entries at a time. Returns how many it has, or an error. */
static int
list_ports(int map, uint32_t capacity, struct dnet_vlan_port *ports, uint32_t room)
{
    uint32_t cursor = 0, count = 0, all = 0;

    while (cursor != UINT32_MAX) {
        int error = dnet_vlan_list(map, &cursor, ports + all, capacity < room - all ? capacity : room - all, &count);

        if (error)
            return error;
        all += count;
    }
    return (int)all;
}

static const struct dnet_vlan_port *
find_port(const struct dnet_vlan_port *ports, int count, uint32_t index)
{
    for (int i = 0; i < count; i++)
        if (ports[i].index == index)
            return &ports[i];
    return NULL;
}

static void
test_entries(int map)
{
    const uint32_t indexes[] = {7, 8, 9};
    const struct dnet_vlan_port ports[] = {port(7, 100, 0), port(8, 0, 4094), port(9, 1, 1)};
    const struct dnet_vlan_port other = port(8, 200, 0);
    const uint32_t first_missing[] = {6, 7}, last_missing[] = {8, 10}, all_missing[] = {7, 8};
    struct dnet_vlan_port *found = allocate(16 * sizeof *found);
    const struct dnet_vlan_port *eight;

    CHECK_EQUAL(list_ports(map, 16, found, 16), 0, "an empty map");
    CHECK_EQUAL(dnet_vlan_set(map, indexes, ports, 0), 0, "nothing");
    CHECK_EQUAL(dnet_vlan_set(map, indexes, ports, 3), 0, "three");
    CHECK_EQUAL(list_ports(map, 16, found, 16), 3, "three");
    for (size_t i = 0; i < 3; i++)
        CHECK(find_port(found, 3, indexes[i]) && !memcmp(find_port(found, 3, indexes[i]), &ports[i], sizeof *ports),
              "%zu", i);
    CHECK_EQUAL(dnet_vlan_set(map, indexes + 1, &other, 1), 0, "one anew");
    CHECK_EQUAL(list_ports(map, 16, found, 16), 3, "three still");
    eight = find_port(found, 3, 8);
    CHECK(eight && !memcmp(eight, &other, sizeof other), "replaced whole");
    CHECK_EQUAL(dnet_vlan_forget(map, indexes, 0), 0, "nothing");
    CHECK_EQUAL(dnet_vlan_forget(map, first_missing, 2), 0, "a missing one in front");
    CHECK_EQUAL(dnet_vlan_forget(map, last_missing, 2), 0, "a missing one at the end");
    CHECK_EQUAL(dnet_vlan_forget(map, all_missing, 2), 0, "missing ones only");
    CHECK_EQUAL(list_ports(map, 16, found, 16), 1, "one is left");
    CHECK_EQUAL(found[0].index, 9, "the third");
    CHECK_EQUAL(dnet_vlan_forget(map, indexes, 3), 0, "all");
    free(found);
}

static void
test_many_entries(int map)
{
    const uint32_t count = DNET_VLAN_PORTS_MAX + 1;
    struct dnet_vlan_port *ports = allocate(count * sizeof *ports), *found = allocate(count * sizeof *found);
    uint32_t *indexes = allocate(count * sizeof *indexes);
    uint32_t cursor = 0, none = 0, wrong = 0;
    uint8_t *seen = allocate(count);
    int all;

    for (uint32_t i = 0; i < count; i++) {
        indexes[i] = i + 1;
        ports[i] = port(i + 1, i % 4094 + 1, 0);
    }
    CHECK_EQUAL(dnet_vlan_set(map, indexes, ports, count), -E2BIG, "one more than there is room for");
    CHECK_EQUAL(dnet_vlan_list(map, &cursor, found, 0, &none), -EINVAL, "no room at all");
    all = list_ports(map, 1000, found, count);
    CHECK_EQUAL(all, DNET_VLAN_PORTS_MAX, "piece by piece");
    for (int i = 0; i < all; i++) {
        wrong += found[i].index < 1 || found[i].index > count || seen[found[i].index - 1]++ ||
                 found[i].untagged != (found[i].index - 1) % 4094 + 1;
    }
    CHECK_EQUAL(wrong, 0, "each once, as it was set");
    CHECK_EQUAL(dnet_vlan_forget(map, indexes, count), 0, "all, and one that is missing");
    CHECK_EQUAL(list_ports(map, 1000, found, count), 0, "none is left");
    free(seen);
    free(indexes);
    free(found);
    free(ports);
}

static void
test_bad_map(void)
{
    struct dnet_vlan_port one = port(7, 1, 0);
    uint32_t cursor = 0, count = 9;
    char *text = allocate(TEXT_BYTES);
    int fd = -7;

    CHECK_EQUAL(dnet_vlan_set(-1, &one.index, &one, 1), -EBADF, "no map");
    CHECK_EQUAL(dnet_vlan_forget(-1, &one.index, 1), -EBADF, "no map");
    CHECK_EQUAL(dnet_vlan_list(-1, &cursor, &one, 1, &count), -EBADF, "no map");
    CHECK_EQUAL(cursor, 0, "nothing was read");
    CHECK_EQUAL(count, 9, "nothing was read");
    CHECK(dnet_vlan_program(-1, DNET_VLAN_INTO, &fd, text, TEXT_BYTES) < 0, "no map");
    CHECK(text[0], "the verifier says why");
    CHECK(dnet_vlan_program(-1, DNET_VLAN_INTO, &fd, NULL, 0) < 0, "no map, and no text");
    CHECK_EQUAL(dnet_vlan_program(-1, 2, &fd, text, TEXT_BYTES), -EINVAL, "no such program");
    CHECK_EQUAL(dnet_vlan_program(-1, -1, &fd, text, TEXT_BYTES), -EINVAL, "no such program");
    CHECK_EQUAL(text[0], 0, "no text");
    CHECK_EQUAL(fd, -7, "no result after a failure");
    free(text);
}

static void
test_pins(int map)
{
    char pins[64], path[80], missing[80];
    struct statfs status;
    struct dnet_vlan_port one = port(7, 1, 0), found[2];
    int fd = -7;

    snprintf(pins, sizeof pins, "%s/bpf", directory);
    snprintf(path, sizeof path, "%s/map", pins);
    snprintf(missing, sizeof missing, "%s/missing", pins);
    CHECK_EQUAL(dnet_bpf_directory(pins), -ENOENT, "no directory");
    CHECK_EQUAL(mkdir(pins, 0755), 0, "directory");
    CHECK_EQUAL(dnet_bpf_directory(pins), 0, "a bpffs now");
    CHECK_EQUAL(dnet_bpf_directory(pins), 0, "and still");
    CHECK_EQUAL(statfs(pins, &status), 0, "statfs");
    CHECK_EQUAL(status.f_type, BPF_FS_MAGIC, "file system");
    CHECK_EQUAL(dnet_bpf_pin(map, path), 0, "pin");
    CHECK_EQUAL(dnet_bpf_pin(map, path), -EEXIST, "pin again");
    CHECK_EQUAL(dnet_bpf_pin(-1, missing), -EINVAL, "pin nothing");
    CHECK_EQUAL(dnet_bpf_open(missing, &fd), -ENOENT, "nothing is pinned there");
    CHECK_EQUAL(fd, -7, "no result after a failure");
    CHECK_EQUAL(dnet_bpf_open(path, &fd), 0, "open");
    CHECK_EQUAL(dnet_vlan_set(map, &one.index, &one, 1), 0, "set by one descriptor");
    CHECK_EQUAL(list_ports(fd, 2, found, 2), 1, "seen by the other");
    close(fd);
    CHECK_EQUAL(umount2(pins, MNT_DETACH), 0, "one file system, not two");
    CHECK_EQUAL(umount2(pins, MNT_DETACH), -1, "one file system, not two");
}

static void
transact(int fd, struct dnet_batch *batch, int expected, const char *what)
{
    int32_t errors[2] = {1, 1};
    char text[128];

    CHECK_EQUAL(dnet_transact(fd, batch->data, batch->length, batch->count, errors, text, sizeof text), 0, "%s", what);
    CHECK_EQUAL(errors[batch->count - 1], expected, "%s: %s", what, text);
    batch->length = batch->count = 0;
}

/* The kernel accepts the messages that attach a program, replace it and remove the hooks, and refuses bad ones. */
static void
test_attaching(int fd, int map)
{
    struct dnet_batch batch = new_batch(2);
    char *text = allocate(TEXT_BYTES);
    int programs[2] = {-1, -1};

    for (int direction = 0; direction < 2; direction++)
        CHECK_EQUAL(dnet_vlan_program(map, direction, &programs[direction], text, TEXT_BYTES), 0, "%s", text);
    dnet_put_program(&batch, 5000, programs[0], "into");
    transact(fd, &batch, -EINVAL, "a block that does not exist");
    dnet_put_clsact(&batch, true, 987654, 5000, 5001);
    transact(fd, &batch, -ENODEV, "a device that does not exist");
    dnet_put_bridge(&batch, INDEX, "filtered", mac, 0);
    transact(fd, &batch, 0, "bridge");
    dnet_put_clsact(&batch, true, INDEX, 5001, 5000);
    transact(fd, &batch, 0, "hooks");
    dnet_put_clsact(&batch, true, INDEX, 5001, 5000);
    transact(fd, &batch, -EEXIST, "hooks that are there already");
    for (int direction = 0; direction < 2; direction++) {
        dnet_put_program(&batch, 5000, programs[direction], "a program");
        transact(fd, &batch, 0, "a program, and another in place of it");
        close(programs[direction]);
    }
    dnet_put_program(&batch, 5000, map, "no program");
    transact(fd, &batch, -EINVAL, "a descriptor of something else");
    dnet_put_clsact(&batch, false, INDEX, 5001, 5000);
    transact(fd, &batch, 0, "no hooks");
    dnet_put_clsact(&batch, false, INDEX, 5001, 5000);
    transact(fd, &batch, -EINVAL, "no hooks any more");
    dnet_put_delete(&batch, INDEX);
    transact(fd, &batch, 0, "bridge");
    free(batch.data);
    free(text);
}

void
test_bpf(int fd)
{
    int map = -1;

    CHECK_EQUAL(strlen(dnet_vlan_version()), 8, "version");
    test_bad_map();
    CHECK_EQUAL(dnet_vlan_map(&map), 0, "map");
    test_entries(map);
    test_many_entries(map);
    test_pins(map);
    test_attaching(fd, map);
    close(map);
}
