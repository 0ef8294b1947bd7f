/*
 * VLANs on a Linux bridge that does not filter them: two tc programs that make its ports behave as IEEE 802.1Q says.
 * `make bpf` compiles them into bridge_vlan.bpf.h, bpf.c loads them.
 *
 * Inside the bridge every frame carries a C-tag. dnet_vlan_into runs where frames enter the bridge: at the ingress
 * of a port, and at the egress of the bridge's own device, where the host's frames come from. dnet_vlan_out runs
 * where they leave it: at the egress of a port, and at the ingress of the bridge's device. Both drop a frame if the
 * device has no entry in the map, or if a helper fails.
 *
 * Linux 5.10 has all that they use. The context's layout is the kernel's ABI (linux/bpf.h); it stands here so that
 * the result does not depend on the machine's headers.
 */
#include "dnet.cdef.h"

#define PROGRAM __attribute__((section("tc"), used))
#define HELPER(number) ((void *)(number))

enum {
    PASS = -1, /* TC_ACT_UNSPEC: programs that others attached run next */
    DROP = 2,  /* TC_ACT_SHOT */
    VID_MASK = 0xfff,
    TCI_OFFSET = 14, /* bytes from the beginning of a frame with a tag */
};

/* In network order, as the context has EtherTypes. */
#define C_TAG __builtin_bswap16(0x8100)
#define S_TAG __builtin_bswap16(0x88a8)

struct __sk_buff {
    uint32_t len;
    uint32_t pkt_type;
    uint32_t mark;
    uint32_t queue_mapping;
    uint32_t protocol; /* behind the tag of the metadata, if there is one */
    uint32_t vlan_present;
    uint32_t vlan_tci;
    uint32_t vlan_proto;
    uint32_t priority;
    uint32_t ingress_ifindex;
    uint32_t ifindex;
};

/* A device's entry in the map, as far as it concerns one VID. */
struct membership {
    uint32_t untagged;
    uint32_t is_tagged; /* no bool, which would change the instructions and so the version of the programs */
};

static const void *(*const bpf_map_lookup_elem)(const void *map, const void *key) = HELPER(1);
static int (*const bpf_skb_vlan_push)(struct __sk_buff *frame, uint16_t tpid, uint16_t tci) = HELPER(18);
static int (*const bpf_skb_vlan_pop)(struct __sk_buff *frame) = HELPER(19);
static int (*const bpf_skb_load_bytes)(const struct __sk_buff *frame, uint32_t offset, void *to,
                                       uint32_t size) = HELPER(26);

/* Stands for the map; bpf.c replaces the address by the map's descriptor. */
extern char dnet_vlan_ports;

static inline bool
is_tag(uint32_t ethertype)
{
    return ethertype == C_TAG || ethertype == S_TAG;
}

/*
 * Moves the outermost tag from the packet to the metadata. The kernel has done so for all that a device receives, but
 * not for what the host sends through a packet socket.
 */
static inline int
frame_lift_tag(struct __sk_buff *frame)
{
    uint32_t tpid = frame->protocol;
    uint16_t tci;

    if (frame->vlan_present || !is_tag(tpid))
        return 0;
    if (bpf_skb_load_bytes(frame, TCI_OFFSET, &tci, sizeof tci) || bpf_skb_vlan_pop(frame))
        return -1;
    return bpf_skb_vlan_push(frame, tpid, __builtin_bswap16(tci));
}

/*
 * Reads a device's entry. From Linux 6.1 on (bpf_mem_alloc) the kernel may give its memory to another device's entry
 * meanwhile, which would put a frame into that one's VLAN. The kernel writes an entry from its beginning on, so the
 * index tells.
 */
static inline int
port_look_up(const struct __sk_buff *frame, uint32_t vid, struct membership *ret_membership)
{
    uint32_t index = frame->ifindex;
    const volatile struct dnet_vlan_port *port = bpf_map_lookup_elem(&dnet_vlan_ports, &index);

    if (!port)
        return -1;
    ret_membership->untagged = port->untagged;
    ret_membership->is_tagged = port->tagged[vid / 8] >> vid % 8 & 1;
    return port->index == index ? 0 : -1;
}

static inline int
frame_push_tag(struct __sk_buff *frame, uint32_t tci)
{
    return bpf_skb_vlan_push(frame, C_TAG, tci) ? DROP : PASS;
}

PROGRAM int
dnet_vlan_into(struct __sk_buff *frame)
{
    struct membership port;
    uint32_t tci, vid;

    if (frame_lift_tag(frame))
        return DROP;
    tci = frame->vlan_present ? frame->vlan_tci : 0;
    vid = tci & VID_MASK;
    if (port_look_up(frame, vid, &port))
        return DROP;
    if (frame->vlan_present && frame->vlan_proto != C_TAG)
        return DROP;
    if (vid)
        return port.is_tagged ? PASS : DROP;
    if (!port.untagged)
        return DROP;
    /* Replace a priority tag, and keep the priority. With another tag behind it, the frame's VLAN is ambiguous. */
    if (frame->vlan_present && (is_tag(frame->protocol) || bpf_skb_vlan_pop(frame)))
        return DROP;
    return frame_push_tag(frame, tci | port.untagged);
}

PROGRAM int
dnet_vlan_out(struct __sk_buff *frame)
{
    struct membership port;
    uint32_t vid;

    if (!frame->vlan_present || frame->vlan_proto != C_TAG)
        return DROP;
    vid = frame->vlan_tci & VID_MASK;
    if (!vid || port_look_up(frame, vid, &port))
        return DROP;
    if (vid != port.untagged)
        return port.is_tagged ? PASS : DROP;
    /* Without the outer tag, an inner one would name another VLAN to the next receiver. */
    return is_tag(frame->protocol) || bpf_skb_vlan_pop(frame) ? DROP : PASS;
}
