/*
 * Netlink sockets and transactions. Knows message framing and nothing of what the messages say; link.c builds
 * them, sandbox.c sends many.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "internal.h"

#include <errno.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

/* One send is one kernel buffer; 128 KiB holds about 400 veths' messages and stays far below the socket's own
 * limit (BUFFER_BYTES). */
#define SEND_BYTES (128 * 1024)
#define BUFFER_BYTES (8 * 1024 * 1024)
#define RECEIVE_BYTES (64 * 1024)

struct socket_request {
    int netns_fd;
    int protocol;
    int fd;
};

struct thread_call {
    int (*function)(void *);
    void *argument;
    int result;
};

static void *
thread_main(void *argument)
{
    struct thread_call *call = argument;

    call->result = call->function(call->argument);
    return NULL;
}

int
dnet_on_thread(int (*function)(void *), void *argument)
{
    struct thread_call call = {.function = function, .argument = argument};
    sigset_t all, before;
    pthread_t thread;
    int error;

    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    error = pthread_create(&thread, NULL, thread_main, &call);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (error)
        return -error;
    pthread_join(thread, NULL);
    return call.result;
}

static int
open_socket(void *argument)
{
    struct socket_request *request = argument;
    struct sockaddr_nl address = {.nl_family = AF_NETLINK};
    int one = 1, size = BUFFER_BYTES, fd, error;

    if (request->netns_fd >= 0 && setns(request->netns_fd, CLONE_NEWNET) < 0)
        return -errno;
    fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, request->protocol);
    if (fd < 0)
        return -errno;
    if (bind(fd, (struct sockaddr *)&address, sizeof address) < 0) {
        error = -errno;
        close(fd);
        return error;
    }
    /* Neither option is more than a convenience: without them a failure has no text and its reply is longer.
     * Without privilege the forced sizes fail and the defaults serve small batches. */
    (void)setsockopt(fd, SOL_NETLINK, NETLINK_EXT_ACK, &one, sizeof one);
    (void)setsockopt(fd, SOL_NETLINK, NETLINK_CAP_ACK, &one, sizeof one);
    (void)setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, &size, sizeof size);
    (void)setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof size);
    request->fd = fd;
    return 0;
}

int
dnet_socket(int netns_fd, int protocol, int *ret_fd)
{
    struct socket_request request = {.netns_fd = netns_fd, .protocol = protocol, .fd = -1};
    int error = netns_fd < 0 ? open_socket(&request) : dnet_on_thread(open_socket, &request);

    if (!error)
        *ret_fd = request.fd;
    return error;
}

/* Copies the extended acknowledgement's text, when `reply` has one and `text` is still empty. */
static void
copy_text(const struct nlmsghdr *reply, char *text, size_t text_size)
{
    const struct nlmsgerr *body = NLMSG_DATA(reply);
    size_t offset = NLMSG_HDRLEN + NLMSG_ALIGN(sizeof *body);
    const uint8_t *start = (const uint8_t *)reply;

    if (!(reply->nlmsg_flags & NLM_F_ACK_TLVS) || !text_size || text[0])
        return;
    if (!(reply->nlmsg_flags & NLM_F_CAPPED))
        offset += body->msg.nlmsg_len - NLMSG_HDRLEN;
    while (offset + sizeof(struct nlattr) <= reply->nlmsg_len) {
        const struct nlattr *attribute = (const struct nlattr *)(start + offset);
        size_t length = attribute->nla_len;

        if (length < sizeof *attribute || offset + length > reply->nlmsg_len)
            return;
        if ((attribute->nla_type & NLA_TYPE_MASK) == NLMSGERR_ATTR_MSG) {
            size_t size = length - NLA_HDRLEN < text_size ? length - NLA_HDRLEN : text_size;

            memcpy(text, start + offset + NLA_HDRLEN, size);
            text[text_size - 1 < size ? text_size - 1 : size] = '\0';
            return;
        }
        offset += NLA_ALIGN(length);
    }
}

static int
receive(int fd, uint8_t *buffer, size_t capacity, size_t *ret_length)
{
    ssize_t length;

    do
        length = recv(fd, buffer, capacity, 0);
    while (length < 0 && errno == EINTR);
    if (length < 0)
        return -errno;
    *ret_length = (size_t)length;
    return 0;
}

/* Sends `length` bytes that hold the messages numbered first..last and takes every reply up to the last one's.
 * rtnetlink works inside send(2): when that returns, the replies are there. */
static int
exchange(int fd, const uint8_t *data, size_t length, uint32_t first, uint32_t last, int32_t *errors, char *text,
         size_t text_size)
{
    uint8_t buffer[RECEIVE_BYTES] __attribute__((aligned(NLMSG_ALIGNTO)));
    struct sockaddr_nl kernel = {.nl_family = AF_NETLINK};
    ssize_t sent;

    do
        sent = sendto(fd, data, length, 0, (struct sockaddr *)&kernel, sizeof kernel);
    while (sent < 0 && errno == EINTR);
    if (sent < 0)
        return -errno;
    for (;;) {
        size_t received = 0;
        const struct nlmsghdr *reply = (const struct nlmsghdr *)buffer;
        int error = receive(fd, buffer, sizeof buffer, &received);

        if (error)
            return error;
        for (; NLMSG_OK(reply, received); reply = NLMSG_NEXT(reply, received)) {
            const struct nlmsgerr *body = NLMSG_DATA(reply);

            /* Unsigned distance: a late reply to an earlier, interrupted call lies outside. */
            if (reply->nlmsg_seq - first > last - first || reply->nlmsg_type != NLMSG_ERROR)
                continue;
            errors[reply->nlmsg_seq - first] = body->error;
            if (body->error)
                copy_text(reply, text, text_size);
            if (reply->nlmsg_seq == last)
                return 0;
        }
    }
}

/*
 * Sends `count` messages and stores each one's result (0 or -errno) in ret_errors; `ret_text` receives the
 * kernel's words about the first failure that has any. Only the last message of each send asks for an
 * acknowledgement: failures are reported anyway. A failed message does not stop those behind it (rtnetlink
 * batches are no transactions). Returns -errno only when the exchange itself failed.
 */
int
dnet_transact(int fd, uint8_t *data, size_t length, uint32_t count, int32_t *ret_errors, char *ret_text,
              size_t text_size)
{
    struct timespec now;
    size_t start = 0;
    uint32_t done = 0, base;

    if (text_size)
        ret_text[0] = '\0';
    clock_gettime(CLOCK_MONOTONIC, &now);
    base = (uint32_t)now.tv_nsec * 31 + (uint32_t)now.tv_sec;
    while (done < count) {
        size_t end = start;
        uint32_t first = done;
        struct nlmsghdr *message = NULL;
        int error;

        while (done < count) {
            struct nlmsghdr *next = (struct nlmsghdr *)(data + end);

            /* Both checks of the length: aligning the largest wraps around to 0. */
            if (length - end < sizeof *next || next->nlmsg_len < sizeof *next || next->nlmsg_len > length - end ||
                NLMSG_ALIGN(next->nlmsg_len) > length - end)
                return -EBADMSG;
            if (message && end - start + next->nlmsg_len > SEND_BYTES)
                break;
            message = next;
            message->nlmsg_seq = base + done;
            message->nlmsg_flags &= (uint16_t)~NLM_F_ACK;
            ret_errors[done++] = 0;
            end += NLMSG_ALIGN(message->nlmsg_len);
        }
        message->nlmsg_flags |= NLM_F_ACK;
        error = exchange(fd, data + start, end - start, base + first, base + done - 1, ret_errors + first, ret_text,
                         text_size);
        if (error)
            return error;
        start = end;
    }
    return 0;
}

/* Sends one request and appends every message of the answer to `buffer`, up to its end or acknowledgement. */
static int
collect(int fd, uint8_t *request, size_t request_length, uint16_t flags, uint8_t *buffer, size_t capacity,
        size_t *ret_length)
{
    uint8_t part[RECEIVE_BYTES] __attribute__((aligned(NLMSG_ALIGNTO)));
    struct sockaddr_nl kernel = {.nl_family = AF_NETLINK};
    struct nlmsghdr *header = (struct nlmsghdr *)request;
    struct timespec now;
    size_t used = 0;
    int result = 0;

    if (request_length < sizeof *header || header->nlmsg_len > request_length)
        return -EBADMSG;
    clock_gettime(CLOCK_MONOTONIC, &now);
    header->nlmsg_seq = (uint32_t)now.tv_nsec;
    header->nlmsg_flags |= flags;
    if (sendto(fd, request, header->nlmsg_len, 0, (struct sockaddr *)&kernel, sizeof kernel) < 0)
        return -errno;
    for (;;) {
        size_t received = 0;
        const struct nlmsghdr *message = (const struct nlmsghdr *)part;
        int error = receive(fd, part, sizeof part, &received);

        if (error)
            return error;
        for (; NLMSG_OK(message, received); message = NLMSG_NEXT(message, received)) {
            size_t size = NLMSG_ALIGN(message->nlmsg_len);

            if (message->nlmsg_seq != header->nlmsg_seq)
                continue;
            if (message->nlmsg_flags & NLM_F_DUMP_INTR)
                result = -EAGAIN;
            if (message->nlmsg_type == NLMSG_ERROR && ((const struct nlmsgerr *)NLMSG_DATA(message))->error)
                return ((const struct nlmsgerr *)NLMSG_DATA(message))->error;
            if (message->nlmsg_type == NLMSG_DONE || message->nlmsg_type == NLMSG_ERROR) {
                *ret_length = used;
                return result;
            }
            if (size > capacity - used) {
                result = -ENOBUFS;
                continue;
            }
            memcpy(buffer + used, message, size);
            used += size;
        }
    }
}

/*
 * Sends one dump request and appends every message of the answer to `buffer`. -ENOBUFS: it does not fit, ask
 * again with more; -EAGAIN: the table changed meanwhile, ask again.
 */
int
dnet_dump(int fd, uint8_t *request, size_t request_length, uint8_t *buffer, size_t capacity, size_t *ret_length)
{
    return collect(fd, request, request_length, NLM_F_DUMP, buffer, capacity, ret_length);
}

/* Sends one request for a single thing, and stores the answer in `buffer`; -ENOBUFS: it does not fit. */
int
dnet_ask(int fd, uint8_t *request, size_t request_length, uint8_t *buffer, size_t capacity, size_t *ret_length)
{
    return collect(fd, request, request_length, NLM_F_ACK, buffer, capacity, ret_length);
}
