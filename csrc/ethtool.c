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
