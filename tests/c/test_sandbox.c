/*
 * Tests of sandbox.c and of dnet_unpin() on the real kernel. They check by ioctl, stat, /sys and /proc.
 */
#include "check.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

static const uint8_t mac[6] = {0x02, 0x42, 10, 1, 0, 1};
static const uint8_t address4[4] = {10, 1, 0, 1};

#define BRIDGE_INDEX 1000
#define FIRST_INDEX 2000
#define INNER_INDEX 256
#define SEGMENTS 3
#define MESSAGES (1 + 5 + 2) /* of the three segments */
#define SANDBOXES_MAX 400

/* Some sandboxes with all the memory that they point to. */
struct crowd {
    uint32_t count;
    struct dnet_sandbox *sandboxes;
    struct dnet_segment *segments;
    char (*pins)[64];
    char (*names)[64];
    struct dnet_batch batch;
};

static void
add_segment(struct crowd *crowd, uint32_t i, uint32_t step, size_t start, uint32_t count, bool inside)
{
    crowd->segments[i * SEGMENTS + step] = (struct dnet_segment){
        .data = crowd->batch.data + start,
        .length = (uint32_t)(crowd->batch.length - start),
        .count = count,
        .kind = inside ? DNET_TO_SANDBOX : DNET_TO_HOST,
    };
}

static void
inner_address(uint32_t i, uint8_t *ret_address)
{
    uint32_t address = htonl(0x0a010002 + i); /* 10.1.0.2 and on */

    memcpy(ret_address, &address, sizeof address);
}

/* Describes `count` sandboxes on the bridge, as the engine does. */
static struct crowd
new_crowd(uint32_t count)
{
    struct crowd crowd = {
        .count = count,
        .sandboxes = allocate(count * sizeof *crowd.sandboxes),
        .segments = allocate(count * SEGMENTS * sizeof *crowd.segments),
        .pins = allocate(count * sizeof *crowd.pins),
        .names = allocate(count * sizeof *crowd.names),
        .batch = new_batch(count * MESSAGES),
    };

    for (uint32_t i = 0; i < count; i++) {
        uint8_t address[4];
        char host_end[16], alias[32];
        size_t start = crowd.batch.length;
        uint32_t index = FIRST_INDEX + i;

        inner_address(i, address);
        snprintf(host_end, sizeof host_end, "veth%u", index);
        snprintf(alias, sizeof alias, "dnet test %u", i);
        snprintf(crowd.pins[i], sizeof crowd.pins[i], "%s/pins/%u", directory, i);
        snprintf(crowd.names[i], sizeof crowd.names[i], "%s/names/c-%u", directory, i);
        dnet_put_veth(&crowd.batch, index, host_end, BRIDGE_INDEX, INNER_INDEX, "eth0", NULL, 0);
        add_segment(&crowd, i, 0, start, 1, false);
        start = crowd.batch.length;
        dnet_put_up(&crowd.batch, 1);
        dnet_put_quiet(&crowd.batch, INNER_INDEX, NULL, true);
        dnet_put_address(&crowd.batch, true, INNER_INDEX, AF_INET, address, 16, false);
        dnet_put_up(&crowd.batch, INNER_INDEX);
        dnet_put_route(&crowd.batch, true, INNER_INDEX, AF_INET, address4, 0, address4, 0);
        add_segment(&crowd, i, 1, start, 5, true);
        start = crowd.batch.length;
        dnet_put_quiet(&crowd.batch, index, alias, true);
        dnet_put_up(&crowd.batch, index);
        add_segment(&crowd, i, 2, start, 2, false);
        crowd.sandboxes[i] = (struct dnet_sandbox){
            .pin = crowd.pins[i],
            .name = crowd.names[i],
            .make = DNET_MAKE,
            .segment_count = SEGMENTS,
            .segments = &crowd.segments[i * SEGMENTS],
        };
    }
    return crowd;
}

static void
free_crowd(struct crowd *crowd)
{
    free(crowd->sandboxes);
    free(crowd->segments);
    free(crowd->pins);
    free(crowd->names);
    free(crowd->batch.data);
}

static struct nlmsghdr *
message_of(struct crowd *crowd, uint32_t i, uint32_t step, uint32_t number)
{
    uint8_t *at = crowd->segments[i * SEGMENTS + step].data;

    while (number--)
        at += NLMSG_ALIGN(((struct nlmsghdr *)at)->nlmsg_len);
    return (struct nlmsghdr *)at;
}

/* Changes the kind in a veth message to one that no kernel has. */
static void
spoil_kind(struct nlmsghdr *message)
{
    uint8_t *kind = memmem(message, message->nlmsg_len, "veth", sizeof "veth");

    if (kind)
        kind[3] = 'x';
}

static int
device_flags(const char *name)
{
    struct ifreq request = {0};
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0), result;

    strncpy(request.ifr_name, name, IFNAMSIZ - 1);
    result = ioctl(fd, SIOCGIFFLAGS, &request) < 0 ? 0 : request.ifr_flags;
    close(fd);
    return result;
}

static bool
exists(const char *path)
{
    struct stat status;

    return !lstat(path, &status);
}

static uint32_t
entries(const char *name)
{
    char path[64];
    uint32_t count = 0;
    DIR *opened;

    snprintf(path, sizeof path, "%s/%s", directory, name);
    opened = opendir(path);
    for (const struct dirent *entry; opened && (entry = readdir(opened));)
        count += entry->d_name[0] != '.';
    if (opened)
        closedir(opened);
    return count;
}

static uint32_t
open_descriptors(void)
{
    uint32_t count = 0;
    DIR *opened = opendir("/proc/self/fd");

    while (opened && readdir(opened))
        count++;
    if (opened)
        closedir(opened);
    return count;
}

struct look {
    const char *pin;
    uint32_t number;
};

/* Checks a sandbox from inside, on a thread of its own. Returns 0, or the number of the line that is not true. */
static int
look_inside(void *argument)
{
    const struct look *look = argument;
    struct ifreq request = {.ifr_name = "eth0"};
    struct sockaddr_in found;
    uint8_t wanted[4];
    char line[256];
    FILE *routes;
    int fd = open(look->pin, O_RDONLY | O_CLOEXEC);
    bool has_default = false;

    if (fd < 0 || setns(fd, CLONE_NEWNET) < 0)
        return __LINE__;
    close(fd);
    if (if_nametoindex("eth0") != INNER_INDEX)
        return __LINE__;
    if (!(device_flags("lo") & IFF_UP) || !(device_flags("eth0") & IFF_UP))
        return __LINE__;
    fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (ioctl(fd, SIOCGIFADDR, &request) < 0) {
        close(fd);
        return __LINE__;
    }
    close(fd);
    memcpy(&found, &request.ifr_addr, sizeof found);
    inner_address(look->number, wanted);
    if (memcmp(&found.sin_addr, wanted, sizeof wanted))
        return __LINE__;
    routes = fopen("/proc/thread-self/net/route", "re");
    while (routes && fgets(line, sizeof line, routes))
        has_default |= !strncmp(line, "eth0\t00000000\t0100010A\t", 23);
    if (routes)
        fclose(routes);
    return has_default ? 0 : __LINE__;
}

static void
check_sandbox(const struct crowd *crowd, uint32_t i)
{
    struct look look = {.pin = crowd->pins[i], .number = i};
    char host_end[16], target[64] = "";

    snprintf(host_end, sizeof host_end, "veth%u", FIRST_INDEX + i);
    CHECK_EQUAL(crowd->sandboxes[i].error, 0, "sandbox %u", i);
    CHECK(is_namespace(crowd->pins[i]), "sandbox %u", i);
    CHECK(readlink(crowd->names[i], target, sizeof target - 1) > 0, "sandbox %u", i);
    CHECK(!strcmp(target, crowd->pins[i]), "sandbox %u: %s", i, target);
    CHECK_EQUAL(if_nametoindex(host_end), FIRST_INDEX + i, "sandbox %u", i);
    CHECK(device_flags(host_end) & IFF_UP, "sandbox %u", i);
    CHECK_EQUAL(thread_run(look_inside, &look), 0, "sandbox %u: the line of look_inside", i);
}

/* Deletes the host ends that exist, as a group, and unpins. */
static void
remove_crowd(struct crowd *crowd, int fd)
{
    struct dnet_batch batch = new_batch(crowd->count + 1);
    int32_t *errors = allocate((crowd->count + 1) * sizeof *errors);
    struct dnet_control control = {0};

    for (uint32_t i = 0; i < crowd->count; i++)
        dnet_put_group(&batch, FIRST_INDEX + i, 77);
    dnet_put_delete_group(&batch, 77);
    CHECK_EQUAL(dnet_transact(fd, batch.data, batch.length, batch.count, errors, NULL, 0), 0, "deletion");
    CHECK_EQUAL(dnet_unpin(crowd->sandboxes, crowd->count, &control), 0, "unpin");
    CHECK_EQUAL(control.done, crowd->count, "unpin");
    for (uint32_t i = 0; i < crowd->count; i++) {
        char name[IF_NAMESIZE];

        CHECK(!if_indextoname(FIRST_INDEX + i, name), "%s is left", name);
    }
    free(errors);
    free(batch.data);
}

static void
test_bridge(int fd)
{
    struct dnet_batch batch = new_batch(6);
    struct ifreq request = {.ifr_name = "dnet0"};
    int32_t errors[6];
    char text[128], alias[32] = "", expected[] = "dnet test";
    int probe = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    FILE *file;

    dnet_put_bridge(&batch, BRIDGE_INDEX, "dnet0", mac, 1400);
    dnet_put_quiet(&batch, BRIDGE_INDEX, expected, true);
    dnet_put_route_localnet(&batch, true, BRIDGE_INDEX);
    dnet_put_address(&batch, true, BRIDGE_INDEX, AF_INET, address4, 16, false);
    dnet_put_up(&batch, BRIDGE_INDEX);
    dnet_put_up(&batch, 1);
    CHECK_EQUAL(dnet_transact(fd, batch.data, batch.length, batch.count, errors, text, sizeof text), 0, "exchange");
    for (uint32_t i = 0; i < batch.count; i++)
        CHECK_EQUAL(errors[i], 0, "message %u: %s", i, text);
    CHECK_EQUAL(if_nametoindex("dnet0"), BRIDGE_INDEX, "the index is the one chosen");
    CHECK(device_flags("dnet0") & IFF_UP, "up");
    CHECK(!ioctl(probe, SIOCGIFHWADDR, &request), "errno %d", errno);
    CHECK(!memcmp(request.ifr_hwaddr.sa_data, mac, sizeof mac), "the MAC is the one chosen");
    CHECK(!ioctl(probe, SIOCGIFMTU, &request) && request.ifr_mtu == 1400, "the MTU is %d", request.ifr_mtu);
    CHECK(!mount("sysfs", "/sys", "sysfs", 0, NULL), "errno %d", errno);
    file = fopen("/sys/class/net/dnet0/ifalias", "re");
    CHECK(file && fgets(alias, sizeof alias, file) && !strncmp(alias, expected, strlen(expected)), "%s", alias);
    if (file)
        fclose(file);
    file = fopen("/sys/class/net/dnet0/bridge/multicast_snooping", "re");
    CHECK(file && fgetc(file) == '0', "no multicast snooping");
    if (file)
        fclose(file);
    batch.length = batch.count = 0;
    dnet_put_bridge(&batch, BRIDGE_INDEX, "other", mac, 0);
    dnet_put_bridge(&batch, 0, "dnet0", mac, 0);
    dnet_put_up(&batch, 987654);
    CHECK_EQUAL(dnet_transact(fd, batch.data, batch.length, batch.count, errors, text, sizeof text), 0, "exchange");
    CHECK_EQUAL(errors[0], -EEXIST, "an index that is taken");
    CHECK_EQUAL(errors[1], -EEXIST, "a name that is taken");
    CHECK_EQUAL(errors[2], -ENODEV, "no such device");
    close(probe);
    free(batch.data);
}

static void
test_build(int fd)
{
    struct crowd crowd = new_crowd(40);
    struct dnet_control control = {0};
    uint32_t descriptors = open_descriptors();
    char text[128] = "x";

    CHECK_EQUAL(dnet_build(fd, crowd.sandboxes, crowd.count, false, &control, text, sizeof text), 0, "build");
    CHECK_EQUAL(control.done, crowd.count, "progress");
    CHECK(!text[0], "%s", text);
    for (uint32_t i = 0; i < crowd.count; i++)
        check_sandbox(&crowd, i);
    CHECK_EQUAL(open_descriptors(), descriptors, "descriptors");
    remove_crowd(&crowd, fd);
    CHECK_EQUAL(entries("pins") + entries("names"), 0, "pins and names are gone");
    CHECK_EQUAL(dnet_unpin(crowd.sandboxes, crowd.count, &control), 0, "what is missing is no failure");
    CHECK_EQUAL(dnet_build(fd, crowd.sandboxes, 0, false, &control, text, sizeof text), 0, "none");
    free_crowd(&crowd);
}

/* A failure is reported for its sandbox, segment and message, in the kernel's words; the other sandboxes are whole. */
static void
test_failures(int fd)
{
    static const struct {
        uint32_t sandbox, step, message;
        int error;
    } faults[] = {{3, 0, 0, -EOPNOTSUPP},  {4, 1, 0, -EOPNOTSUPP}, {17, 1, 4, -EOPNOTSUPP},
                  {18, 2, 0, -EOPNOTSUPP}, {19, 2, 1, -ENODEV},    {39, 1, 2, -ENODEV}};

    for (size_t i = 0; i < sizeof faults / sizeof *faults; i++) {
        struct crowd crowd = new_crowd(40);
        struct dnet_control control = {0};
        struct nlmsghdr *message = message_of(&crowd, faults[i].sandbox, faults[i].step, faults[i].message);
        const struct dnet_sandbox *failed = &crowd.sandboxes[faults[i].sandbox];
        uint32_t descriptors = open_descriptors();
        char text[128];

        if (faults[i].error == -ENODEV)
            ((struct ifinfomsg *)NLMSG_DATA(message))->ifi_index = 987654;
        else if (faults[i].step == 0)
            spoil_kind(message);
        else
            message->nlmsg_type = ABSENT_TYPE;
        if (message->nlmsg_type == RTM_NEWADDR)
            ((struct ifaddrmsg *)NLMSG_DATA(message))->ifa_index = 987654;
        CHECK_EQUAL(dnet_build(fd, crowd.sandboxes, crowd.count, true, &control, text, sizeof text), 0, "fault %zu", i);
        CHECK_EQUAL(control.done, crowd.count, "it goes on");
        CHECK_EQUAL(failed->error, faults[i].error, "fault %zu", i);
        CHECK_EQUAL(failed->failed_segment, faults[i].step, "fault %zu", i);
        CHECK_EQUAL(failed->failed_message, faults[i].message, "fault %zu", i);
        if (faults[i].step == 0)
            CHECK(strstr(text, "nknown device type"), "the kernel's words: %s", text);
        for (uint32_t other = 0; other < crowd.count; other++)
            if (other != faults[i].sandbox)
                check_sandbox(&crowd, other);
        CHECK_EQUAL(open_descriptors(), descriptors, "descriptors");
        remove_crowd(&crowd, fd);
        CHECK_EQUAL(entries("pins") + entries("names"), 0, "pins and names are gone");
        free_crowd(&crowd);
    }
}

/* Without keep_going a build stops soon after a failure, begins nothing further, and all of it can be removed. */
static void
test_stop(int fd)
{
    struct crowd crowd = new_crowd(200);
    struct dnet_control control = {0};
    uint32_t descriptors = open_descriptors();
    char text[128];

    spoil_kind(message_of(&crowd, 20, 0, 0));
    CHECK_EQUAL(dnet_build(fd, crowd.sandboxes, crowd.count, false, &control, text, sizeof text), 0, "build");
    CHECK_EQUAL(crowd.sandboxes[20].error, -EOPNOTSUPP, "the cause");
    CHECK(control.done < crowd.count, "%u are done", control.done);
    CHECK(!exists(crowd.pins[199]), "the last has not been begun");
    CHECK_EQUAL(open_descriptors(), descriptors, "descriptors");
    remove_crowd(&crowd, fd);
    CHECK_EQUAL(entries("pins") + entries("names"), 0, "pins and names are gone");
    free_crowd(&crowd);
}

/* A pin or a name that is taken fails the namespace itself, and stays. */
static void
test_taken(int fd)
{
    struct crowd crowd = new_crowd(20);
    struct dnet_control control = {0};
    char text[128];
    int file = open(crowd.pins[5], O_CREAT | O_CLOEXEC, 0600);

    close(file);
    CHECK(!symlink("theirs", crowd.names[6]), "errno %d", errno);
    CHECK_EQUAL(dnet_build(fd, crowd.sandboxes, crowd.count, true, &control, text, sizeof text), 0, "build");
    for (uint32_t i = 0; i < crowd.count; i++) {
        if (i != 5 && i != 6) {
            check_sandbox(&crowd, i);
            continue;
        }
        CHECK_EQUAL(crowd.sandboxes[i].error, -EEXIST, "sandbox %u", i);
        CHECK_EQUAL(crowd.sandboxes[i].failed_segment, -1, "sandbox %u", i);
    }
    CHECK(!is_namespace(crowd.pins[5]), "theirs is as it was");
    remove_crowd(&crowd, fd);
    CHECK(exists(crowd.names[6]), "a name that leads elsewhere is left alone");
    unlink(crowd.names[6]);
    CHECK_EQUAL(entries("pins") + entries("names"), 0, "the others are gone");
    free_crowd(&crowd);
}

/* If the index of a host end is taken, the kernel refuses it, and the messages behind it do not hit that device. */
static void
test_taken_index(int fd)
{
    struct crowd crowd = new_crowd(5);
    struct dnet_control control = {0};
    struct dnet_batch batch = new_batch(1);
    int32_t error;
    char text[128];

    dnet_put_bridge(&batch, FIRST_INDEX + 2, "theirs", mac, 0);
    CHECK_EQUAL(dnet_transact(fd, batch.data, batch.length, 1, &error, NULL, 0), 0, "theirs");
    CHECK_EQUAL(dnet_build(fd, crowd.sandboxes, crowd.count, true, &control, text, sizeof text), 0, "build");
    CHECK_EQUAL(crowd.sandboxes[2].error, -EEXIST, "the index is taken");
    CHECK_EQUAL(crowd.sandboxes[2].failed_segment, 0, "the index is taken");
    CHECK(!(device_flags("theirs") & IFF_UP), "their device is still down");
    for (uint32_t i = 0; i < crowd.count; i++)
        if (i != 2)
            check_sandbox(&crowd, i);
    remove_crowd(&crowd, fd);
    free_crowd(&crowd);
    free(batch.data);
}

/* An existing sandbox can be entered, a missing one cannot. */
static void
test_enter(int fd)
{
    struct crowd crowd = new_crowd(3);
    struct dnet_control control = {0};
    struct dnet_batch batch = new_batch(1);
    struct dnet_segment segment;
    struct dnet_sandbox again[2];
    char text[128];

    CHECK_EQUAL(dnet_build(fd, crowd.sandboxes, crowd.count, false, &control, text, sizeof text), 0, "build");
    dnet_put_address(&batch, true, INNER_INDEX, AF_INET, address4, 32, false);
    segment = (struct dnet_segment){
        .data = batch.data, .length = (uint32_t)batch.length, .count = 1, .kind = DNET_TO_SANDBOX};
    again[0] = (struct dnet_sandbox){.pin = crowd.pins[1], .segment_count = 1, .segments = &segment};
    again[1] = (struct dnet_sandbox){.pin = "/absent", .segment_count = 1, .segments = &segment};
    CHECK_EQUAL(dnet_build(fd, again, 2, true, &control, text, sizeof text), 0, "build");
    CHECK_EQUAL(again[0].error, 0, "one that exists: %s", text);
    CHECK_EQUAL(again[1].error, -ENOENT, "one that does not");
    CHECK_EQUAL(again[1].failed_segment, -1, "one that does not");
    CHECK_EQUAL(dnet_build(fd, again, 1, true, &control, text, sizeof text), 0, "build");
    CHECK_EQUAL(again[0].error, -EEXIST, "the address is there by now");
    remove_crowd(&crowd, fd);
    free_crowd(&crowd);
    free(batch.data);
}

/* A segment with more messages than a send takes is refused as a whole. */
static void
test_oversized_segment(int fd)
{
    enum { COUNT = 3000 };
    struct dnet_batch batch = {.data = allocate(COUNT * 64), .capacity = COUNT * 64};
    char pins[2][64];
    struct dnet_segment segments[2];
    struct dnet_sandbox sandboxes[2];
    struct dnet_control control = {0};
    char text[128];

    for (uint32_t i = 0; i < COUNT; i++)
        dnet_put_up(&batch, 1);
    for (uint32_t i = 0; i < 2; i++) {
        snprintf(pins[i], sizeof pins[i], "%s/pins/big%u", directory, i);
        segments[i] = (struct dnet_segment){.data = batch.data,
                                            .length = (uint32_t)batch.length,
                                            .count = COUNT,
                                            .kind = i == 1 ? DNET_TO_SANDBOX : DNET_TO_HOST};
        sandboxes[i] =
            (struct dnet_sandbox){.pin = pins[i], .make = DNET_MAKE, .segment_count = 1, .segments = &segments[i]};
    }
    CHECK_EQUAL(dnet_build(fd, sandboxes, 2, true, &control, text, sizeof text), 0, "build");
    CHECK_EQUAL(sandboxes[0].error, -EMSGSIZE, "on the host");
    CHECK_EQUAL(sandboxes[1].error, -EMSGSIZE, "inside");
    dnet_unpin(sandboxes, 2, &control);
    free(batch.data);
}

static void *
cancel_soon(void *argument)
{
    struct dnet_control *control = argument;

    while (__atomic_load_n(&control->done, __ATOMIC_RELAXED) < 20)
        sched_yield();
    __atomic_store_n(&control->cancel, 1, __ATOMIC_RELAXED);
    return NULL;
}

static void
test_cancel(int fd)
{
    struct crowd crowd = new_crowd(SANDBOXES_MAX);
    struct dnet_control control = {0};
    uint32_t descriptors = open_descriptors();
    char text[128];
    pthread_t canceller;

    pthread_create(&canceller, NULL, cancel_soon, &control);
    CHECK_EQUAL(dnet_build(fd, crowd.sandboxes, crowd.count, false, &control, text, sizeof text), -ECANCELED, "build");
    pthread_join(canceller, NULL);
    CHECK(control.done < crowd.count, "%u are done", control.done);
    for (uint32_t i = 0; i < control.done; i += 7)
        check_sandbox(&crowd, i);
    CHECK_EQUAL(open_descriptors(), descriptors, "descriptors");
    CHECK_EQUAL(dnet_unpin(crowd.sandboxes, crowd.count, &control), -ECANCELED, "unpin, still cancelled");
    remove_crowd(&crowd, fd);
    CHECK_EQUAL(entries("pins") + entries("names"), 0, "pins and names are gone");
    free_crowd(&crowd);
}

void
test_sandboxes(int fd)
{
    test_bridge(fd);
    test_build(fd);
    test_failures(fd);
    test_stop(fd);
    test_taken(fd);
    test_taken_index(fd);
    test_enter(fd);
    test_oversized_segment(fd);
    test_cancel(fd);
}
