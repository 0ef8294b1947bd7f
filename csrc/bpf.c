/*
 * Loads the programs of bridge_vlan.bpf.c and keeps their map, by bpf(2) and without a library
 * (docs/decisions/0008-bpf.md). tc.c builds the messages that attach the programs.
 *
 * Maps and programs are descriptors, which the caller closes. They outlive it when pinned in a bpffs.
 */
#include "internal.h"

#include <errno.h>
#include <linux/bpf.h>
#include <linux/magic.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/vfs.h>

#include "bridge_vlan.bpf.h"

#define INSTRUCTIONS_MAX 512
#define LIST_MAX 1024 /* entries read at once */
#define COUNT(array) (sizeof(array) / sizeof *(array))

struct program {
    const char *name;
    const struct bpf_insn *instructions;
    uint32_t instruction_count;
    const uint16_t *maps; /* the instructions that refer to the map */
    uint32_t map_count;
};

static const struct program programs[] = {
    [DNET_VLAN_INTO] = {"dnet_vlan_into", dnet_vlan_into, COUNT(dnet_vlan_into), dnet_vlan_into_maps,
                        COUNT(dnet_vlan_into_maps)},
    [DNET_VLAN_OUT] = {"dnet_vlan_out", dnet_vlan_out, COUNT(dnet_vlan_out), dnet_vlan_out_maps,
                       COUNT(dnet_vlan_out_maps)},
};

static int
bpf_call(int command, union bpf_attr *attributes)
{
    long result = syscall(SYS_bpf, command, attributes, sizeof *attributes);

    return result < 0 ? -errno : (int)result;
}

/*
 * Makes a call that allocates memory. Before Linux 5.11 maps and programs count as locked memory, of which even root
 * has little by default; the kernel says EPERM if it is not enough.
 */
static int
bpf_call_charged(int command, union bpf_attr *attributes)
{
    struct rlimit before, unlimited = {RLIM_INFINITY, RLIM_INFINITY};
    int result = bpf_call(command, attributes);

    if (result != -EPERM || getrlimit(RLIMIT_MEMLOCK, &before) < 0 || setrlimit(RLIMIT_MEMLOCK, &unlimited) < 0)
        return result;
    result = bpf_call(command, attributes);
    (void)setrlimit(RLIMIT_MEMLOCK, &before);
    return result;
}

static uint64_t
address_of(const void *pointer)
{
    return (uint64_t)(uintptr_t)pointer;
}

/* Mounts a bpffs on an existing directory, unless it is in one. Shared, for the reason of dnet_pin_directory(). */
int
dnet_bpf_directory(const char *path)
{
    struct statfs status;

    if (statfs(path, &status) < 0)
        return -errno;
    if (status.f_type == BPF_FS_MAGIC)
        return 0;
    if (mount("dnet", path, "bpf", MS_NOSUID | MS_NODEV | MS_NOEXEC, "mode=700") < 0)
        return -errno;
    return mount(NULL, path, NULL, MS_SHARED, NULL) < 0 ? -errno : 0;
}

int
dnet_bpf_pin(int fd, const char *path)
{
    union bpf_attr attributes = {.pathname = address_of(path), .bpf_fd = (uint32_t)fd};

    return bpf_call(BPF_OBJ_PIN, &attributes);
}

int
dnet_bpf_open(const char *path, int *ret_fd)
{
    union bpf_attr attributes = {.pathname = address_of(path)};
    int fd = bpf_call(BPF_OBJ_GET, &attributes);

    if (fd < 0)
        return fd;
    *ret_fd = fd;
    return 0;
}

/* Returns a name that changes with the programs. */
const char *
dnet_vlan_version(void)
{
    return DNET_VLAN_VERSION;
}

/* Creates the map from a device's index to its struct dnet_vlan_port. An entry takes memory only once it is set. */
int
dnet_vlan_map(int *ret_fd)
{
    union bpf_attr attributes = {
        .map_type = BPF_MAP_TYPE_HASH,
        .key_size = sizeof(uint32_t),
        .value_size = sizeof(struct dnet_vlan_port),
        .max_entries = DNET_VLAN_PORTS_MAX,
        .map_flags = BPF_F_NO_PREALLOC,
        .map_name = "dnet_vlan_ports",
    };
    int fd = bpf_call_charged(BPF_MAP_CREATE, &attributes);

    if (fd < 0)
        return fd;
    *ret_fd = fd;
    return 0;
}

/*
 * Loads the program for frames into or out of a bridge (`direction` DNET_VLAN_INTO or DNET_VLAN_OUT). If the kernel
 * refuses, `ret_text` receives what its verifier says.
 */
int
dnet_vlan_program(int map_fd, int direction, int *ret_fd, char *ret_text, size_t text_size)
{
    struct bpf_insn instructions[INSTRUCTIONS_MAX];
    const struct program *program;
    union bpf_attr attributes = {.prog_type = BPF_PROG_TYPE_SCHED_CLS};
    int fd;

    if (text_size)
        ret_text[0] = '\0';
    if (direction != DNET_VLAN_INTO && direction != DNET_VLAN_OUT)
        return -EINVAL;
    /* The instructions are compiled for little-endian machines. */
    if (__BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__)
        return -EOPNOTSUPP;
    program = &programs[direction];
    _Static_assert(COUNT(dnet_vlan_into) <= INSTRUCTIONS_MAX && COUNT(dnet_vlan_out) <= INSTRUCTIONS_MAX, "too long");
    memcpy(instructions, program->instructions, program->instruction_count * sizeof *instructions);
    for (uint32_t i = 0; i < program->map_count; i++) {
        instructions[program->maps[i]].src_reg = BPF_PSEUDO_MAP_FD;
        instructions[program->maps[i]].imm = map_fd;
    }
    attributes.insns = address_of(instructions);
    attributes.insn_cnt = program->instruction_count;
    /* None of the helpers requires the GPL. */
    attributes.license = address_of("Apache-2.0");
    memcpy(attributes.prog_name, program->name, strlen(program->name));
    fd = bpf_call_charged(BPF_PROG_LOAD, &attributes);
    if (fd < 0 && fd != -EPERM && text_size) {
        attributes.log_level = 1;
        attributes.log_buf = address_of(ret_text);
        attributes.log_size = (uint32_t)text_size;
        fd = bpf_call_charged(BPF_PROG_LOAD, &attributes);
    }
    if (fd < 0)
        return fd;
    *ret_fd = fd;
    return 0;
}

/* Sets the entries of `count` devices, each replaced as a whole. -E2BIG: the map is full. After a failure, some are
 * set. */
int
dnet_vlan_set(int map_fd, const uint32_t *indexes, const struct dnet_vlan_port *ports, uint32_t count)
{
    union bpf_attr attributes = {
        .batch = {
            .keys = address_of(indexes), .values = address_of(ports), .count = count, .map_fd = (uint32_t)map_fd}};

    return count ? bpf_call(BPF_MAP_UPDATE_BATCH, &attributes) : 0;
}

/* Removes the entries of `count` devices. Ignores those that are missing. */
int
dnet_vlan_forget(int map_fd, const uint32_t *indexes, uint32_t count)
{
    while (count) {
        union bpf_attr attributes = {
            .batch = {.keys = address_of(indexes), .count = count, .map_fd = (uint32_t)map_fd}};
        int error = bpf_call(BPF_MAP_DELETE_BATCH, &attributes);

        if (error != -ENOENT)
            return error;
        /* It stopped at a missing one. */
        indexes += attributes.batch.count + 1;
        count -= attributes.batch.count + 1;
    }
    return 0;
}

/*
 * Reads the entries piece by piece: the caller sets *cursor to 0 first, and it is UINT32_MAX once all have been read.
 * Entries that come or go meanwhile may be missing, none is torn. -ENOSPC: ask again with more room.
 */
int
dnet_vlan_list(int map_fd, uint32_t *cursor, struct dnet_vlan_port *ret_ports, uint32_t capacity, uint32_t *ret_count)
{
    uint32_t indexes[LIST_MAX], next = 0;
    union bpf_attr attributes = {.batch = {
                                     .in_batch = address_of(cursor),
                                     .out_batch = address_of(&next),
                                     .keys = address_of(indexes),
                                     .values = address_of(ret_ports),
                                     .count = capacity < LIST_MAX ? capacity : LIST_MAX,
                                     .map_fd = (uint32_t)map_fd,
                                 }};
    int error = capacity ? bpf_call(BPF_MAP_LOOKUP_BATCH, &attributes) : -EINVAL;

    if (error && error != -ENOENT)
        return error;
    *ret_count = attributes.batch.count;
    *cursor = error ? UINT32_MAX : next;
    return 0;
}
