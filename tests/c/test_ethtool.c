/*
 * Tests of ethtool.c, and of the segments of names that sandbox.c hands to it. They check by ioctls of their own.
 */
#include "check.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/ethtool.h>
#include <linux/netlink.h>
#include <linux/sockios.h>
#include <net/if.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#define FIRST_INDEX 3000
#define INNER_INDEX 256
#define BOXES 4

void
test_names(void)
{
    uint8_t memory[2 * DNET_NAME_BYTES];
    struct dnet_batch batch = {.data = memory, .capacity = sizeof memory - 1};

    memset(memory, 0xff, sizeof memory);
    CHECK_EQUAL(dnet_put_name(&batch, ""), -EINVAL, "no name");
    CHECK_EQUAL(dnet_put_name(&batch, "sixteen-letters-"), -EINVAL, "a name without room for its zero");
    CHECK_EQUAL(dnet_put_name(&batch, "fifteen-letters"), 0, "the longest name");
    CHECK_EQUAL(dnet_put_name(&batch, "eth0"), -ENOBUFS, "no room");
    CHECK_EQUAL(batch.count, 1, "one name");
    CHECK_EQUAL(batch.length, DNET_NAME_BYTES, "one name");
    CHECK(!memcmp(memory, "fifteen-letters", DNET_NAME_BYTES), "the name with its zero");
    CHECK_EQUAL(memory[DNET_NAME_BYTES], 0xff, "nothing behind it");
}

/* Returns whether a feature is on, by a command such as ETHTOOL_GTSO; -1 if the kernel does not say. */
static int
feature(int fd, const char *name, uint32_t command)
{
    struct ethtool_value value = {.cmd = command};
    struct ifreq request = {.ifr_data = (char *)&value};

    strncpy(request.ifr_name, name, IFNAMSIZ - 1);
    return ioctl(fd, SIOCETHTOOL, &request) < 0 ? -1 : value.data != 0;
}

static void
check_inside(const char *pin, bool is_complete)
{
    int netns = open(pin, O_RDONLY | O_CLOEXEC), fd = -1, has = -1;

    CHECK_EQUAL(dnet_socket(netns, NETLINK_ROUTE, &fd), 0, "%s", pin);
    CHECK_EQUAL(feature(fd, "eth0", ETHTOOL_GTXCSUM), !is_complete, "%s", pin);
    CHECK_EQUAL(feature(fd, "eth0", ETHTOOL_GTSO), !is_complete, "%s", pin);
    CHECK_EQUAL(dnet_has_offloads(fd, "eth0", &has), 0, "%s", pin);
    CHECK_EQUAL(has, !is_complete, "%s", pin);
    close(fd);
    close(netns);
}

static void
add_segment(struct dnet_segment *segment, const struct dnet_batch *batch, size_t start, bool is_names)
{
    *segment = (struct dnet_segment){
        .data = batch->data + start,
        .length = (uint32_t)(batch->length - start),
        .count = 1,
        .kind = is_names ? DNET_NAMES_IN_SANDBOX : DNET_TO_HOST,
    };
}

static void
check_merging(int fd)
{
    uint32_t bits = 7;

    for (uint32_t wanted = 0; wanted < 2; wanted++) {
        CHECK_EQUAL(dnet_set_merging(fd, "veth3000", wanted), 0, "GRO %u", wanted);
        CHECK_EQUAL(feature(fd, "veth3000", ETHTOOL_GGRO), (int)wanted, "GRO %u", wanted);
        CHECK_EQUAL(dnet_get_merging(fd, "veth3000", &bits), 0, "GRO %u", wanted);
        CHECK_EQUAL(bits, wanted, "GRO %u", wanted);
    }
    CHECK(dnet_set_merging(fd, "veth3000", DNET_MERGES_LRO) < 0, "a veth has no LRO");
    CHECK_EQUAL(dnet_set_merging(fd, "veth3000", 0), 0, "neither");
    CHECK_EQUAL(dnet_get_merging(fd, "eth7", &bits), -ENODEV, "no such device");
}

/* Builds sandboxes whose devices shall send complete frames; the third names a device that does not exist. */
void
test_offloads(int fd)
{
    struct dnet_batch batch = new_batch(2 * BOXES);
    struct dnet_sandbox boxes[BOXES] = {0};
    struct dnet_segment segments[BOXES][2];
    struct dnet_control control = {0};
    char pins[BOXES][64], text[64];
    int has = -1;

    for (uint32_t i = 0; i < BOXES; i++) {
        char host_end[16];
        size_t start = batch.length;

        snprintf(pins[i], sizeof pins[i], "%s/pins/offloads-%u", directory, i);
        snprintf(host_end, sizeof host_end, "veth%u", FIRST_INDEX + i);
        dnet_put_veth(&batch, FIRST_INDEX + i, host_end, 0, INNER_INDEX, "eth0", NULL, 0);
        add_segment(&segments[i][0], &batch, start, false);
        start = batch.length;
        dnet_put_name(&batch, i == 2 ? "eth7" : "eth0");
        add_segment(&segments[i][1], &batch, start, true);
        boxes[i] =
            (struct dnet_sandbox){.pin = pins[i], .make = DNET_MAKE, .segment_count = 2, .segments = segments[i]};
    }
    CHECK_EQUAL(dnet_build(fd, boxes, BOXES, true, &control, text, sizeof text), 0, "build");
    for (uint32_t i = 0; i < BOXES; i++) {
        CHECK_EQUAL(boxes[i].error, i == 2 ? -ENODEV : 0, "sandbox %u", i);
        check_inside(pins[i], i != 2);
    }
    CHECK_EQUAL(boxes[2].failed_segment, 1, "the segment of names");
    CHECK_EQUAL(boxes[2].failed_message, 0, "the first name");
    CHECK_EQUAL(dnet_complete_frames(fd, "veth3000"), 0, "a device of the host's");
    CHECK_EQUAL(feature(fd, "veth3000", ETHTOOL_GTXCSUM), 0, "a device of the host's");
    CHECK_EQUAL(dnet_has_offloads(fd, "eth7", &has), -ENODEV, "no such device");
    CHECK_EQUAL(has, -1, "nothing is returned then");
    CHECK_EQUAL(dnet_complete_frames(fd, "a-name-of-sixteen"), -EINVAL, "too long a name");
    check_merging(fd);
    batch.length = batch.count = 0;
    for (uint32_t i = 0; i < BOXES; i++)
        dnet_put_delete(&batch, FIRST_INDEX + i);
    CHECK_EQUAL(dnet_transact(fd, batch.data, batch.length, batch.count, (int32_t[BOXES]){0}, NULL, 0), 0, "deletion");
    CHECK_EQUAL(dnet_unpin(boxes, BOXES, &control), 0, "unpin");
    free(batch.data);
}
