/*
 * The C core's whole interface. The C files include it and cffi reads it (build.py drops the preprocessor's lines), so
 * that the two cannot drift apart.
 *
 * Every function returns 0 or a negative errno, unless its comment says otherwise. It writes its results last and
 * keeps nothing: sockets are plain descriptors that the caller closes, memory belongs to the caller.
 */
#ifndef DNET_CDEF_H
#define DNET_CDEF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Netlink messages under construction, one behind the other in the caller's memory. A builder that finds no room
 * returns -ENOBUFS and leaves the batch as it was. */
struct dnet_batch {
    uint8_t *data;
    size_t capacity; /* bytes */
    size_t length;   /* bytes in use */
    uint32_t count;  /* messages */
};

enum {
    DNET_NAME_BYTES = 16 /* IFNAMSIZ of linux/if.h */
};

/* What a segment is: messages for the host's socket, sent together with those of other sandboxes; messages for the
 * sandbox's socket; or names of devices of either whose frames shall be complete, DNET_NAME_BYTES each. */
enum dnet_segment_kind { DNET_TO_HOST = 0, DNET_TO_SANDBOX = 1, DNET_NAMES_ON_HOST = 2, DNET_NAMES_IN_SANDBOX = 3 };

/* Messages, or names, that go out together. */
struct dnet_segment {
    uint8_t *data;
    uint32_t length; /* bytes */
    uint32_t count;  /* messages, or names */
    uint8_t kind;    /* enum dnet_segment_kind */
};

/* What to do with a sandbox's namespace first: enter the one at `pin`, make and pin a new one, or pin the caller's
 * own. */
enum { DNET_ENTER = 0, DNET_MAKE = 1, DNET_PIN_OWN = 2 };

/* One sandbox to build: its namespace, then its segments in order. */
struct dnet_sandbox {
    const char *pin;  /* the file that the namespace is, or shall be, bind-mounted on */
    const char *name; /* a symbolic link to `pin` to make as well, or NULL */
    uint8_t make;     /* DNET_MAKE, DNET_ENTER or DNET_PIN_OWN */
    uint64_t inode;   /* DNET_ENTER: the inode and the cookie of the namespace that is meant; 0: any. */
    uint64_t cookie;  /* Another one at `pin` is -ESTALE. */
    uint32_t segment_count;
    const struct dnet_segment *segments;
    int32_t error;           /* out: 0 or -errno */
    int32_t failed_segment;  /* out: -1 when the namespace itself failed */
    uint32_t failed_message; /* out: within that segment */
};

/* Shared with the caller while a long call runs on another thread: the caller reads `done` and may set `cancel`. */
struct dnet_control {
    uint32_t done; /* sandboxes finished */
    uint32_t cancel;
};

/* socket.c: sockets and transactions. `netns_fd` -1 means the caller's own namespace. */
int dnet_socket(int netns_fd, int protocol, int *ret_fd);
int dnet_transact(int fd, uint8_t *data, size_t length, uint32_t count, int32_t *ret_errors, char *ret_text,
                  size_t text_size);
int dnet_dump(int fd, uint8_t *request, size_t request_length, uint8_t *buffer, size_t capacity, size_t *ret_length);
int dnet_ask(int fd, uint8_t *request, size_t request_length, uint8_t *buffer, size_t capacity, size_t *ret_length);

/* link.c, bridge.c, routes.c, tc.c, nlattr.c: messages. `index` is an ifindex that the caller chooses; MACs are 6
 * bytes; addresses are 4 or 16 bytes by `family`; an `mtu` or `mac` of 0/NULL leaves the kernel's choice. */
int dnet_put_veth(struct dnet_batch *batch, uint32_t index, const char *name, uint32_t master, uint32_t peer_index,
                  const char *peer_name, const uint8_t *peer_mac, uint32_t mtu);
int dnet_put_macvlan(struct dnet_batch *batch, uint32_t index, const char *name, uint32_t parent, uint32_t mode,
                     const uint8_t *mac, uint32_t mtu);
int dnet_put_dummy(struct dnet_batch *batch, uint32_t index, const char *name, const uint8_t *mac, uint32_t mtu);
int dnet_put_move(struct dnet_batch *batch, uint32_t index, int netns_fd, const char *name, uint32_t new_index);
int dnet_put_identity(struct dnet_batch *batch, uint32_t index, const char *name, const uint8_t *mac, uint32_t mtu);
int dnet_put_quiet(struct dnet_batch *batch, uint32_t index, const char *alias, bool has_ipv6);
int dnet_put_route_localnet(struct dnet_batch *batch, bool is_new, uint32_t index);
int dnet_put_arp_notify(struct dnet_batch *batch, uint32_t index);
int dnet_put_up(struct dnet_batch *batch, uint32_t index);
int dnet_put_master(struct dnet_batch *batch, uint32_t index, uint32_t master);
int dnet_put_group(struct dnet_batch *batch, uint32_t index, uint32_t group);
int dnet_put_delete(struct dnet_batch *batch, uint32_t index);
int dnet_put_delete_group(struct dnet_batch *batch, uint32_t group);
int dnet_put_ask(struct dnet_batch *batch, uint32_t index, const char *name);
int dnet_put_dump(struct dnet_batch *batch, int type, int family);
int dnet_put_bridge(struct dnet_batch *batch, uint32_t index, const char *name, const uint8_t *mac, uint32_t mtu);
int dnet_put_bridge_port(struct dnet_batch *batch, uint32_t index, bool hairpin, bool isolated);
int dnet_put_bridge_filtering(struct dnet_batch *batch, bool is_new, uint32_t index);
int dnet_put_bridge_vlans(struct dnet_batch *batch, bool is_new, uint32_t index, bool is_bridge, const uint16_t *ranges,
                          uint32_t range_count, uint16_t untagged);
int dnet_put_mac_entry(struct dnet_batch *batch, bool is_new, uint32_t index, const uint8_t *mac);
int dnet_put_address(struct dnet_batch *batch, bool is_new, uint32_t index, int family, const uint8_t *address,
                     uint8_t prefix_length, bool is_bare);
int dnet_put_route(struct dnet_batch *batch, bool is_new, uint32_t index, int family, const uint8_t *destination,
                   uint8_t prefix_length, const uint8_t *gateway, uint32_t metric);
int dnet_put_dumped(struct dnet_batch *batch, bool is_new, uint32_t index, const uint8_t *message, size_t length);
int dnet_put_loopback_route(struct dnet_batch *batch, bool is_new, uint32_t index);
int dnet_put_clsact(struct dnet_batch *batch, bool is_new, uint32_t index, uint32_t ingress_block,
                    uint32_t egress_block);
int dnet_put_program(struct dnet_batch *batch, uint32_t block, int program_fd, const char *name);
int dnet_put_message(struct dnet_batch *batch, uint16_t type, uint16_t flags, const uint8_t *body, size_t size);

/* sandbox.c and pin.c: namespaces. */
int dnet_enter(const char *path, uint64_t inode, uint64_t cookie, int *ret_netns_fd, int *ret_socket_fd);
int dnet_build(int host_fd, struct dnet_sandbox *sandboxes, uint32_t count, bool keep_going,
               struct dnet_control *control, char *ret_text, size_t text_size);
int dnet_unpin(struct dnet_sandbox *sandboxes, uint32_t count, struct dnet_control *control);
int dnet_pin_directory(const char *path);

/* announce.c: tells the neighbours of a device in a namespace the MAC address of `count` IPv6 addresses. */
int dnet_advertise(int netns_fd, uint32_t index, const uint8_t *mac, const uint8_t *addresses, uint32_t count);

/* ethtool.c: offloads of devices. `fd` is any socket of the device's namespace. `ret_has` is 0 or 1. */
int dnet_complete_frames(int fd, const char *name);
int dnet_has_offloads(int fd, const char *name, int *ret_has);
enum { DNET_MERGES_GRO = 1, DNET_MERGES_LRO = 2 };
int dnet_get_merging(int fd, const char *name, uint32_t *ret_bits);
int dnet_set_merging(int fd, const char *name, uint32_t bits);
int dnet_put_name(struct dnet_batch *batch, const char *name);

/* conntrack.c: connection tracking entries. Addresses are 16 bytes, IPv4 mapped into IPv6; arrays are sorted. */
struct dnet_flow_filter {
    const uint8_t *addresses; /* drop every entry that has one of these at either end, */
    uint32_t address_count;
    const uint8_t *udp_targets; /* and every UDP entry that began towards one of these: */
    uint32_t udp_target_count;  /* 18 bytes each, the address and the port in network order */
};
int dnet_drop_flows(int fd, const struct dnet_flow_filter *filter, uint32_t *ret_dropped);

/* frame.c: 802.1Q and 802.1ad tags on frames in memory. `tpid` is 0x8100 or 0x88a8; `tci` holds PCP (3 bits), DEI
 * (1) and VID (12: 1 to 4094, or 0 for a priority tag). Numbers are in the host's order. */
enum {
    DNET_VLAN_TAGS_MAX = 8 /* as deep as Linux looks: VLAN_MAX_DEPTH of linux/if_vlan.h */
};

struct dnet_vlan_tag {
    uint16_t tpid;
    uint16_t tci;
};

struct dnet_vlan_stack {
    struct dnet_vlan_tag tags[DNET_VLAN_TAGS_MAX]; /* outermost first */
    uint32_t count;
    uint32_t payload_offset; /* bytes from the frame's beginning */
    uint16_t ethertype;      /* behind the last tag; below 1536 it is an IEEE 802.3 length */
};

/* One frame of a batch. All offsets are from the buffer's beginning: from `start` to `offset` is its headroom. */
struct dnet_frame {
    uint32_t start;
    uint32_t offset;
    uint32_t length;
    int32_t error; /* out: 0 or -errno of the last call */
};

/* Single frames. A pushed frame begins 4 bytes before `frame`, a popped one 4 bytes behind it. A rewrite keeps the bits
 * of the TCI that are in `keep`, and the TPID if `tpid` is 0. */
int dnet_vlan_classify(const uint8_t *frame, size_t length, struct dnet_vlan_stack *ret_stack);
int dnet_vlan_push(uint8_t *frame, size_t length, uint16_t tpid, uint16_t tci);
int dnet_vlan_pop(uint8_t *frame, size_t length);
int dnet_vlan_rewrite(uint8_t *frame, size_t length, uint16_t tpid, uint16_t tci, uint16_t keep);

/* Batches, in place. Each frame gets its own result, its offset and length are updated, and a failed one is left alone.
 * They return how many succeeded, or -EINVAL for the whole call. */
int dnet_vlan_classify_batch(const uint8_t *buffer, size_t size, struct dnet_frame *frames, uint32_t count,
                             struct dnet_vlan_stack *ret_stacks);
int dnet_vlan_push_batch(uint8_t *buffer, size_t size, struct dnet_frame *frames, uint32_t count, uint16_t tpid,
                         uint16_t tci);
int dnet_vlan_pop_batch(uint8_t *buffer, size_t size, struct dnet_frame *frames, uint32_t count);
int dnet_vlan_rewrite_batch(uint8_t *buffer, size_t size, struct dnet_frame *frames, uint32_t count, uint16_t tpid,
                            uint16_t tci, uint16_t keep);

/* bpf.c: VLANs on a bridge by the programs of bridge_vlan.bpf.c, and the map of what each device passes. */
enum {
    DNET_VLAN_INTO = 0, /* the program for frames that enter a bridge */
    DNET_VLAN_OUT = 1,  /* the one for frames that leave it */
    DNET_VLAN_PORTS_MAX = 65536,
    DNET_VLAN_TAGGED_BYTES = 512 /* a bit for each VID, 0 first */
};

struct dnet_vlan_port {
    uint32_t index;                         /* the device's own, again: see port_look_up() of bridge_vlan.bpf.c */
    uint32_t untagged;                      /* the VLAN whose frames come and leave untagged; 0: none */
    uint8_t tagged[DNET_VLAN_TAGGED_BYTES]; /* the VLANs whose frames may come tagged; all but `untagged` leave so */
};

const char *dnet_vlan_version(void);
int dnet_bpf_directory(const char *path);
int dnet_bpf_pin(int fd, const char *path);
int dnet_bpf_open(const char *path, int *ret_fd);
int dnet_vlan_map(int *ret_fd);
int dnet_vlan_program(int map_fd, int direction, int *ret_fd, char *ret_text, size_t text_size);
int dnet_vlan_set(int map_fd, const uint32_t *indexes, const struct dnet_vlan_port *ports, uint32_t count);
int dnet_vlan_forget(int map_fd, const uint32_t *indexes, uint32_t count);
int dnet_vlan_list(int map_fd, uint32_t *cursor, struct dnet_vlan_port *ret_ports, uint32_t capacity,
                   uint32_t *ret_count);

/* The C library's own. */
unsigned int if_nametoindex(const char *name);
char *if_indextoname(unsigned int index, char *ret_name);
#endif
