/*
 * What a device leaves to hardware, asked and set by ioctl. Any socket serves, also a netlink one: what counts is the
 * namespace that it was opened in, so that inside a sandbox the one that is open there already does.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "internal.h"

#include <errno.h>
#include <linux/ethtool.h>
#include <linux/sockios.h>
#include <net/if.h>
#include <string.h>
#include <sys/ioctl.h>

static int
ethtool(int fd, const char *name, struct ethtool_value *value)
{
    struct ifreq request = {.ifr_data = (char *)value};

    if (strnlen(name, IFNAMSIZ) == IFNAMSIZ)
        return -EINVAL;
    strcpy(request.ifr_name, name);
    return ioctl(fd, SIOCETHTOOL, &request) < 0 ? -errno : 0;
}

/*
 * Switches off what would let frames leave without checksums. That also ends segmentation offload, of TCP and UDP,
 * since the kernel offers it only together with checksums (netdev_fix_features); SCTP's checksums belong to it.
 */
int
dnet_complete_frames(int fd, const char *name)
{
    struct ethtool_value value = {.cmd = ETHTOOL_STXCSUM, .data = 0};

    return ethtool(fd, name, &value);
}

/* Whether frames to be sent may be handed to the device without checksums. */
int
dnet_has_offloads(int fd, const char *name, int *ret_has)
{
    struct ethtool_value value = {.cmd = ETHTOOL_GTXCSUM};
    int error = ethtool(fd, name, &value);

    if (!error)
        *ret_has = value.data != 0;
    return error;
}

/* By what a device makes one long frame of several that it receives: DNET_MERGES_... */
int
dnet_get_merging(int fd, const char *name, uint32_t *ret_bits)
{
    struct ethtool_value gro = {.cmd = ETHTOOL_GGRO}, flags = {.cmd = ETHTOOL_GFLAGS};
    int error = ethtool(fd, name, &gro);

    if (!error)
        error = ethtool(fd, name, &flags);
    if (!error)
        *ret_bits = (gro.data ? DNET_MERGES_GRO : 0) | (flags.data & ETH_FLAG_LRO ? DNET_MERGES_LRO : 0);
    return error;
}

/* A device that cannot do what it is not asked to do is no failure. */
int
dnet_set_merging(int fd, const char *name, uint32_t bits)
{
    struct ethtool_value gro = {.cmd = ETHTOOL_SGRO, .data = bits & DNET_MERGES_GRO}, flags = {.cmd = ETHTOOL_GFLAGS};
    uint32_t lro = bits & DNET_MERGES_LRO ? ETH_FLAG_LRO : 0;
    int error = ethtool(fd, name, &gro);

    if (!error)
        error = ethtool(fd, name, &flags);
    if (error || (flags.data & ETH_FLAG_LRO) == lro)
        return error;
    flags.cmd = ETHTOOL_SFLAGS;
    flags.data ^= ETH_FLAG_LRO;
    return ethtool(fd, name, &flags);
}

/* Appends a device's name, filled up with zeros, to a batch that becomes a segment of names. */
int
dnet_put_name(struct dnet_batch *batch, const char *name)
{
    size_t length = strlen(name);

    if (length == 0 || length >= DNET_NAME_BYTES)
        return -EINVAL;
    if (batch->capacity - batch->length < DNET_NAME_BYTES)
        return -ENOBUFS;
    memset(batch->data + batch->length, 0, DNET_NAME_BYTES);
    memcpy(batch->data + batch->length, name, length);
    batch->length += DNET_NAME_BYTES;
    batch->count++;
    return 0;
}
