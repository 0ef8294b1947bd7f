/*
 * Offloads: what a device leaves to hardware, read and set by ioctl. The ioctl acts in the namespace that its socket
 * was opened in, and any kind of socket will do; sandbox.c uses the netlink socket that it has in each sandbox.
 */
#include "internal.h"

#include <errno.h>
#include <linux/ethtool.h>
#include <linux/sockios.h>
#include <net/if.h>
#include <string.h>
#include <sys/ioctl.h>

static int
ethtool_ioctl(int fd, const char *name, struct ethtool_value *value)
{
    struct ifreq request = {.ifr_data = (char *)value};

    if (strnlen(name, IFNAMSIZ) == IFNAMSIZ)
        return -EINVAL;
    strcpy(request.ifr_name, name);
    return ioctl(fd, SIOCETHTOOL, &request) < 0 ? -errno : 0;
}

/*
 * Makes every frame leave with its checksum: switches checksum offload off, SCTP's included. That also ends
 * segmentation offload of TCP and UDP, which the kernel offers only together with it (netdev_fix_features).
 */
int
dnet_complete_frames(int fd, const char *name)
{
    struct ethtool_value value = {.cmd = ETHTOOL_STXCSUM, .data = 0};

    return ethtool_ioctl(fd, name, &value);
}

/* Reads whether the device takes frames without checksums. */
int
dnet_has_offloads(int fd, const char *name, int *ret_has)
{
    struct ethtool_value value = {.cmd = ETHTOOL_GTXCSUM};
    int error = ethtool_ioctl(fd, name, &value);

    if (!error)
        *ret_has = value.data != 0;
    return error;
}

/* Reads which receive offloads (DNET_MERGES_...) are on; they make one long frame of several received. */
int
dnet_get_merging(int fd, const char *name, uint32_t *ret_bits)
{
    struct ethtool_value gro = {.cmd = ETHTOOL_GGRO}, flags = {.cmd = ETHTOOL_GFLAGS};
    int error = ethtool_ioctl(fd, name, &gro);

    if (!error)
        error = ethtool_ioctl(fd, name, &flags);
    if (!error)
        *ret_bits = (gro.data ? DNET_MERGES_GRO : 0) | (flags.data & ETH_FLAG_LRO ? DNET_MERGES_LRO : 0);
    return error;
}

/* Sets which receive offloads are on. Succeeds on a device without LRO unless LRO is asked for. */
int
dnet_set_merging(int fd, const char *name, uint32_t bits)
{
    struct ethtool_value gro = {.cmd = ETHTOOL_SGRO, .data = bits & DNET_MERGES_GRO}, flags = {.cmd = ETHTOOL_GFLAGS};
    uint32_t lro = bits & DNET_MERGES_LRO ? ETH_FLAG_LRO : 0;
    int error = ethtool_ioctl(fd, name, &gro);

    if (!error)
        error = ethtool_ioctl(fd, name, &flags);
    if (error || (flags.data & ETH_FLAG_LRO) == lro)
        return error;
    flags.cmd = ETHTOOL_SFLAGS;
    flags.data ^= ETH_FLAG_LRO;
    return ethtool_ioctl(fd, name, &flags);
}

/* Appends a device's name, padded with zeros, to a batch that becomes a segment of names. */
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
