/* Tests of socket.c: sockets, transactions, dumps. */
#include "check.h"

#include <errno.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static void
test_open(void)
{
    int fd = -7;

    CHECK_EQUAL(dnet_socket(9999, NETLINK_ROUTE, &fd), -EBADF, "no such namespace");
    CHECK_EQUAL(dnet_socket(-1, 31, &fd), -EPROTONOSUPPORT, "no such protocol");
    CHECK_EQUAL(fd, -7, "no result after a failure");
}

static void
check_transact(int fd, const void *data, size_t length, uint32_t count, int expected, const char *what)
{
    uint8_t *copy = allocate(length);
    int32_t *errors = allocate(count * sizeof *errors);
    char text[8];

    memset(text, 'x', sizeof text);
    memcpy(copy, data, length);
    CHECK_EQUAL(dnet_transact(fd, copy, length, count, errors, text, sizeof text), expected, "%s", what);
    CHECK(memchr(text, '\0', sizeof text), "%s: the text is terminated", what);
    free(errors);
    free(copy);
}

static void
test_malformed_batches(void)
{
    struct dnet_batch batch = new_batch(3);
    struct nlmsghdr *header = (struct nlmsghdr *)batch.data;
    uint32_t whole;
    int fd = open_rtnetlink();

    dnet_put_dump(&batch, RTM_GETLINK, AF_UNSPEC);
    header->nlmsg_flags = NLM_F_REQUEST;
    ((struct ifinfomsg *)NLMSG_DATA(header))->ifi_index = 1;
    whole = header->nlmsg_len;
    check_transact(fd, batch.data, 0, 0, 0, "nothing");
    check_transact(fd, batch.data, batch.length, 0, 0, "no message asked for");
    check_transact(fd, batch.data, batch.length, 1, 0, "one message");
    check_transact(fd, batch.data, batch.length, 2, -EBADMSG, "fewer messages than asked for");
    for (size_t length = 0; length < batch.length; length++)
        check_transact(fd, batch.data, length, 1, -EBADMSG, "a message cut off");
    for (uint32_t length = 0; length < NLMSG_HDRLEN; length++) {
        header->nlmsg_len = length;
        check_transact(fd, batch.data, batch.length, 1, -EBADMSG, "a message shorter than its header");
    }
    header->nlmsg_len = UINT32_MAX;
    check_transact(fd, batch.data, batch.length, 1, -EBADMSG, "a message longer than all");
    for (uint32_t cut = 1; cut < NLMSG_ALIGNTO; cut++) {
        header->nlmsg_len = whole - cut;
        check_transact(fd, batch.data, whole - cut, 2, -EBADMSG, "a last message without padding, and one asked more");
    }
    close(fd);
    free(batch.data);
}

/* [good, bad, good] gives [0, -errno, 0]: a failed message does not stop those behind it. */
static void
test_results(void)
{
    struct dnet_batch batch = new_batch(3);
    int32_t errors[3] = {1, 1, 1};
    char text[64];
    int fd = open_rtnetlink();

    for (int i = 0; i < 3; i++) {
        struct nlmsghdr *header = (struct nlmsghdr *)(batch.data + batch.length);

        dnet_put_dump(&batch, RTM_GETLINK, AF_UNSPEC);
        header->nlmsg_flags = NLM_F_REQUEST;
        ((struct ifinfomsg *)NLMSG_DATA(header))->ifi_index = 1;
        if (i == 1)
            header->nlmsg_type = ABSENT_TYPE;
    }
    CHECK_EQUAL(dnet_transact(fd, batch.data, batch.length, 3, errors, text, sizeof text), 0, "exchange");
    CHECK_EQUAL(errors[0], 0, "first");
    CHECK_EQUAL(errors[1], -EOPNOTSUPP, "second");
    CHECK_EQUAL(errors[2], 0, "third");
    CHECK_EQUAL(dnet_transact(-1, batch.data, batch.length, 3, errors, text, sizeof text), -EBADF, "no socket");
    close(fd);
    free(batch.data);
}

/* Finds the link of an index in a dump of links. */
static const struct ifinfomsg *
find_link(const uint8_t *data, size_t length, int index)
{
    for (size_t at = 0; at < length;) {
        const struct nlmsghdr *header = (const struct nlmsghdr *)(data + at);
        const struct ifinfomsg *link = NLMSG_DATA(header);

        if (header->nlmsg_type == RTM_NEWLINK && link->ifi_index == index)
            return link;
        at += NLMSG_ALIGN(header->nlmsg_len);
    }
    return NULL;
}

static void
test_dump(void)
{
    struct dnet_batch request = new_batch(1);
    uint8_t *buffer = allocate(1 << 20);
    size_t length = 0, needed;
    int fd = open_rtnetlink();

    dnet_put_dump(&request, RTM_GETLINK, AF_UNSPEC);
    CHECK_EQUAL(dnet_dump(fd, request.data, request.length, buffer, 1 << 20, &length), 0, "links");
    CHECK(find_link(buffer, length, 1), "the loopback is among %zu bytes", length);
    needed = length;
    for (size_t capacity = 0; capacity < needed; capacity += needed / 5) {
        uint8_t *small = allocate(capacity);

        CHECK_EQUAL(dnet_dump(fd, request.data, request.length, small, capacity, &length), -ENOBUFS, "in %zu",
                    capacity);
        free(small);
    }
    CHECK_EQUAL(dnet_dump(fd, request.data, request.length, buffer, needed + 4096, &length), 0,
                "again, on that socket");
    CHECK_EQUAL(length, needed, "as much as before");
    for (size_t cut = 0; cut < request.length; cut++)
        CHECK_EQUAL(dnet_dump(fd, request.data, cut, buffer, 1 << 20, &length), -EBADMSG, "a request of %zu", cut);
    ((struct nlmsghdr *)request.data)->nlmsg_type = ABSENT_TYPE;
    CHECK_EQUAL(dnet_dump(fd, request.data, request.length, buffer, 1 << 20, &length), -EOPNOTSUPP, "no such dump");
    close(fd);
    free(buffer);
    free(request.data);
}

/* A batch longer than one send gives each message its own result. */
void
test_long_batch(int fd)
{
    enum { COUNT = 5000 };
    struct dnet_batch batch = {.data = allocate(COUNT * 64), .capacity = COUNT * 64};
    int32_t *errors = allocate(COUNT * sizeof *errors);
    uint32_t wrong = 0;

    for (uint32_t i = 0; i < COUNT; i++)
        dnet_put_up(&batch, i % 7 == 3 ? 987654 : 1);
    CHECK(batch.length > 128 * 1024, "%zu bytes are one send", batch.length);
    CHECK_EQUAL(dnet_transact(fd, batch.data, batch.length, COUNT, errors, NULL, 0), 0, "exchange");
    for (uint32_t i = 0; i < COUNT; i++)
        wrong += errors[i] != (i % 7 == 3 ? -ENODEV : 0);
    CHECK_EQUAL(wrong, 0, "results of the wrong message");
    free(errors);
    free(batch.data);
}

void
test_sockets(void)
{
    test_open();
    test_malformed_batches();
    test_results();
    test_dump();
}
