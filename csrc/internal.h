/* What the C files share with each other and nobody else. */
#ifndef DNET_INTERNAL_H
#define DNET_INTERNAL_H

#include "dnet.cdef.h"

/* rtnl.c: writes `netns_fd` into every veth message of a segment, as the namespace its peer is born in. */
void dnet_set_peer_namespace(uint8_t *data, size_t length, int netns_fd);

/* nl.c: runs `function(argument)` on a thread of its own, all signals blocked, and returns its result. What
 * the thread does to its namespaces ends with it. */
int dnet_on_thread(int (*function)(void *), void *argument);

#endif
