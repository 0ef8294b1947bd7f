/*
 * Builds rtnetlink messages about traffic control: the hooks of a device, and the BPF programs that run there, which
 * bpf.c loads. The attributes follow linux/pkt_sched.h and linux/pkt_cls.h.
 */
#include "internal.h"

#include <arpa/inet.h>
#include <linux/if_ether.h>
#include <linux/pkt_cls.h>
#include <linux/pkt_sched.h>
#include <linux/rtnetlink.h>

/* Adds or removes a device's tc hooks (clsact). They run the filters of two blocks, which devices share. -EEXIST:
 * the device has hooks already, ours or others'; a removal takes whichever are there. */
int
dnet_put_clsact(struct dnet_batch *batch, bool is_new, uint32_t index, uint32_t ingress_block, uint32_t egress_block)
{
    struct nlmsg_writer writer;
    struct tcmsg *body = nlmsg_begin(&writer, batch, is_new ? RTM_NEWQDISC : RTM_DELQDISC,
                                     is_new ? NLM_F_CREATE | NLM_F_EXCL : 0, sizeof *body);

    if (body) {
        body->tcm_ifindex = (int)index;
        body->tcm_handle = TC_H_MAKE(TC_H_CLSACT, 0);
        body->tcm_parent = TC_H_CLSACT;
    }
    nla_put_string(&writer, TCA_KIND, "clsact");
    nla_put_u32(&writer, TCA_INGRESS_BLOCK, ingress_block);
    nla_put_u32(&writer, TCA_EGRESS_BLOCK, egress_block);
    return nlmsg_end(&writer);
}

/* Puts a BPF program into a block. It replaces the one that was there in one step, so the block is never without. A
 * block exists as long as a device that uses it. */
int
dnet_put_program(struct dnet_batch *batch, uint32_t block, int program_fd, const char *name)
{
    struct nlmsg_writer writer;
    struct tcmsg *body = nlmsg_begin(&writer, batch, RTM_NEWTFILTER, NLM_F_CREATE | NLM_F_REPLACE, sizeof *body);
    size_t options;

    if (body) {
        body->tcm_ifindex = (int)TCM_IFINDEX_MAGIC_BLOCK;
        body->tcm_block_index = block;
        body->tcm_handle = 1;
        body->tcm_info = TC_H_MAKE(1U << 16, htons(ETH_P_ALL)); /* the first in order, for every protocol */
    }
    nla_put_string(&writer, TCA_KIND, "bpf");
    options = nla_nest_open(&writer, TCA_OPTIONS);
    nla_put_u32(&writer, TCA_BPF_FD, (uint32_t)program_fd);
    nla_put_string(&writer, TCA_BPF_NAME, name);
    nla_put_u32(&writer, TCA_BPF_FLAGS, TCA_BPF_FLAG_ACT_DIRECT);
    nla_nest_close(&writer, options);
    return nlmsg_end(&writer);
}
