/* Tests of conntrack.c on the real kernel, with entries made for the purpose. */
#include "check.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netfilter/nfnetlink_conntrack.h>
#include <linux/netlink.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

struct flow {
    uint8_t protocol;
    uint32_t source, destination, reply_source; /* in the machine's order */
    uint16_t source_port, destination_port;
};

static size_t
put_attribute(uint8_t *at, uint16_t type, const void *value, size_t size)
{
    struct nlattr *attribute = (struct nlattr *)at;

    attribute->nla_type = type;
    attribute->nla_len = (uint16_t)(NLA_HDRLEN + size);
    if (value)
        memcpy(at + NLA_HDRLEN, value, size);
    return NLA_ALIGN(attribute->nla_len);
}

static size_t
put_tuple(uint8_t *at, uint16_t type, const struct flow *flow, uint32_t source, uint32_t destination, bool is_reply)
{
    uint32_t from = htonl(source), to = htonl(destination);
    uint16_t ports[2] = {htons(flow->source_port), htons(flow->destination_port)};
    uint8_t ip[32] = {0}, protocol[32] = {0}, whole[96] = {0};
    size_t ip_size, protocol_size, size;

    ip_size = put_attribute(ip, CTA_IP_V4_SRC, &from, sizeof from);
    ip_size += put_attribute(ip + ip_size, CTA_IP_V4_DST, &to, sizeof to);
    protocol_size = put_attribute(protocol, CTA_PROTO_NUM, &flow->protocol, 1);
    protocol_size += put_attribute(protocol + protocol_size, CTA_PROTO_SRC_PORT, &ports[is_reply], 2);
    protocol_size += put_attribute(protocol + protocol_size, CTA_PROTO_DST_PORT, &ports[!is_reply], 2);
    size = put_attribute(whole, CTA_TUPLE_IP | NLA_F_NESTED, ip, ip_size);
    size += put_attribute(whole + size, CTA_TUPLE_PROTO | NLA_F_NESTED, protocol, protocol_size);
    return put_attribute(at, type | NLA_F_NESTED, whole, size);
}

/* Makes (IPCTNL_MSG_CT_NEW) or looks up (IPCTNL_MSG_CT_GET) an entry. */
static int
track(int fd, uint16_t verb, const struct flow *flow)
{
    uint8_t data[512] = {0};
    struct nlmsghdr *header = (struct nlmsghdr *)data;
    struct nfgenmsg *body = NLMSG_DATA(header);
    uint32_t timeout_s = htonl(600), status = htonl(1 << 3 /* IPS_CONFIRMED */);
    size_t size = NLMSG_HDRLEN + sizeof *body;
    int32_t error = 0;
    int result;

    body->nfgen_family = AF_INET;
    size += put_tuple(data + size, CTA_TUPLE_ORIG, flow, flow->source, flow->destination, false);
    if (verb == IPCTNL_MSG_CT_NEW) {
        size += put_tuple(data + size, CTA_TUPLE_REPLY, flow, flow->reply_source, flow->source, true);
        size += put_attribute(data + size, CTA_TIMEOUT, &timeout_s, sizeof timeout_s);
        size += put_attribute(data + size, CTA_STATUS, &status, sizeof status);
    }
    header->nlmsg_len = (uint32_t)size;
    header->nlmsg_type = (uint16_t)(NFNL_SUBSYS_CTNETLINK << 8 | verb);
    header->nlmsg_flags = NLM_F_REQUEST | (verb == IPCTNL_MSG_CT_NEW ? NLM_F_CREATE | NLM_F_EXCL : 0);
    result = dnet_transact(fd, data, size, 1, &error, NULL, 0);
    return result ? result : error;
}

static void
map_address(uint32_t address, uint8_t *ret_mapped)
{
    uint32_t bytes = htonl(address);

    memset(ret_mapped, 0, 16);
    ret_mapped[10] = ret_mapped[11] = 0xff;
    memcpy(ret_mapped + 12, &bytes, sizeof bytes);
}

/* Exactly the entries that the filter describes are dropped: those with a container at either end, and UDP that began
 * towards a newly published port. */
void
test_flows(void)
{
    enum { HOST = 0xc0000201, PEER = 0xc0000202, WEB = 0x0a010002, DB = 0x0a010003, OTHER = 0x0a010009 };
    static const struct {
        struct flow flow;
        bool goes;
        const char *what;
    } flows[] = {
        {{17, WEB, PEER, PEER, 1000, 53}, true, "from a container"},
        {{17, PEER, WEB, WEB, 1001, 53}, true, "to a container"},
        {{17, PEER, HOST, DB, 1002, 80}, true, "translated to a container"},
        {{6, OTHER, PEER, PEER, 1003, 80}, false, "another container's"},
        {{17, PEER, HOST, HOST, 1004, 8080}, true, "UDP to a port that is new"},
        {{17, PEER, HOST, OTHER, 1005, 8080}, true, "UDP to that port, translated to another container"},
        {{17, PEER, HOST, HOST, 1006, 8081}, false, "UDP to another port"},
        {{17, HOST, PEER, PEER, 1007, 8080}, false, "UDP to that port of another host"},
        {{6, PEER, HOST, HOST, 1008, 8080}, false, "TCP to that port"},
    };
    uint8_t containers[2][16], targets[2][18];
    struct dnet_flow_filter filter = {
        .addresses = containers[0],
        .address_count = 2,
        .udp_targets = targets[0],
        .udp_target_count = 2,
    };
    struct dnet_flow_filter nothing = {0};
    uint32_t dropped = 99;
    int fd = -1, error;

    CHECK_EQUAL(dnet_socket(-1, NETLINK_NETFILTER, &fd), 0, "netfilter");
    map_address(WEB, containers[0]);
    map_address(DB, containers[1]);
    for (int i = 0; i < 2; i++)
        map_address(HOST, targets[i]);
    memcpy(targets[0] + 16, (uint8_t[]){0, 53}, 2);
    memcpy(targets[1] + 16, (uint8_t[]){8080 >> 8, 8080 & 255}, 2);
    for (size_t i = 0; i < sizeof flows / sizeof *flows; i++) {
        error = track(fd, IPCTNL_MSG_CT_NEW, &flows[i].flow);
        CHECK_EQUAL(error, 0, "making a flow %s (CONFIG_NF_CT_NETLINK)", flows[i].what);
    }
    CHECK_EQUAL(dnet_drop_flows(fd, &nothing, &dropped), 0, "an empty filter");
    CHECK_EQUAL(dropped, 0, "an empty filter");
    CHECK_EQUAL(dnet_drop_flows(fd, &filter, &dropped), 0, "the filter");
    CHECK_EQUAL(dropped, 5, "the filter");
    for (size_t i = 0; i < sizeof flows / sizeof *flows; i++)
        CHECK_EQUAL(track(fd, IPCTNL_MSG_CT_GET, &flows[i].flow), flows[i].goes ? -ENOENT : 0, "%s", flows[i].what);
    CHECK_EQUAL(dnet_drop_flows(fd, &filter, &dropped), 0, "again");
    CHECK_EQUAL(dropped, 0, "again");
    CHECK_EQUAL(dnet_drop_flows(-1, &filter, &dropped), -EBADF, "no socket");
    close(fd);
}
