/*
 * Netlink sockets, and what is said on them: a batch of messages with a result each (dnet_transact), or one request
 * and its answer (dnet_dump, dnet_ask, nlmsg_query). Knows message framing and not what messages mean; link.c and its
 * neighbours build them, sandbox.c sends many.
 */
#include "internal.h"

#include <errno.h>
#include <sched.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

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

/* Where the results of a batch go. `errors` and `first` belong to the send that is under way. */
struct transaction {
    int32_t *errors;
    uint32_t first;
    char *text;
    size_t text_size;
};

/* Where the messages of an answer go. */
struct answer {
    uint8_t *buffer;
    size_t capacity;
    size_t length;
    int result;
};

static int
socket_open(void *argument)
{
    struct socket_request *request = argument;
    struct sockaddr_nl address = {.nl_family = AF_NETLINK};
    int one = 1, size = BUFFER_BYTES;
    AUTO_CLOSE int fd = -1;

    if (request->netns_fd >= 0 && setns(request->netns_fd, CLONE_NEWNET) < 0)
        return -errno;
    fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, request->protocol);
    if (fd < 0 || bind(fd, (struct sockaddr *)&address, sizeof address) < 0)
        return -errno;
    /* All four are best effort. Without the first two a failure has no text and its reply is longer. Without
     * privilege the forced sizes fail, and the defaults serve small batches. */
    (void)setsockopt(fd, SOL_NETLINK, NETLINK_EXT_ACK, &one, sizeof one);
    (void)setsockopt(fd, SOL_NETLINK, NETLINK_CAP_ACK, &one, sizeof one);
    (void)setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, &size, sizeof size);
    (void)setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof size);
    request->fd = fd_steal(&fd);
    return 0;
}

int
dnet_socket(int netns_fd, int protocol, int *ret_fd)
{
    struct socket_request request = {.netns_fd = netns_fd, .protocol = protocol, .fd = -1};
    int error = netns_fd < 0 ? socket_open(&request) : thread_run(socket_open, &request);

    if (!error)
        *ret_fd = request.fd;
    return error;
}

/* Receives messages and passes those numbered `first` to `last` to `handle`, up to the one that ends the answer to
 * `last`: an acknowledgement, an error or the end of a dump. */
static int
nlmsg_receive(int fd, uint32_t first, uint32_t last, void (*handle)(const struct nlmsghdr *answer, void *context),
              void *context)
{
    uint8_t buffer[RECEIVE_BYTES] __attribute__((aligned(NLMSG_ALIGNTO)));

    for (;;) {
        const struct nlmsghdr *answer = (const struct nlmsghdr *)buffer;
        ssize_t left;

        do
            left = recv(fd, buffer, sizeof buffer, 0);
        while (left < 0 && errno == EINTR);
        if (left < 0)
            return -errno;
        for (; NLMSG_OK(answer, left); answer = NLMSG_NEXT(answer, left)) {
            /* Unsigned distance: a late reply to an earlier, interrupted call lies outside. */
            if (answer->nlmsg_seq - first > last - first)
                continue;
            handle(answer, context);
            if (answer->nlmsg_seq == last && (answer->nlmsg_type == NLMSG_ERROR || answer->nlmsg_type == NLMSG_DONE))
                return 0;
        }
    }
}

static int
nlmsg_send(int fd, const void *data, size_t length)
{
    struct sockaddr_nl kernel = {.nl_family = AF_NETLINK};
    ssize_t sent;

    do
        sent = sendto(fd, data, length, 0, (struct sockaddr *)&kernel, sizeof kernel);
    while (sent < 0 && errno == EINTR);
    return sent < 0 ? -errno : 0;
}

/* Copies the text of an extended acknowledgement, if it has one and no earlier one had. */
static void
transaction_copy_text(struct transaction *transaction, const struct nlmsghdr *reply)
{
    const struct nlmsgerr *body = NLMSG_DATA(reply);
    size_t offset = NLMSG_HDRLEN + NLMSG_ALIGN(sizeof *body), room = transaction->text_size, size;
    const struct nlattr *text;

    if (!(reply->nlmsg_flags & NLM_F_ACK_TLVS) || !room || transaction->text[0])
        return;
    if (!(reply->nlmsg_flags & NLM_F_CAPPED))
        offset += body->msg.nlmsg_len - NLMSG_HDRLEN;
    if (offset > reply->nlmsg_len)
        return;
    text = nla_find((const uint8_t *)reply + offset, reply->nlmsg_len - offset, NLMSGERR_ATTR_MSG);
    if (!text)
        return;
    size = nla_length(text) < room ? nla_length(text) : room - 1;
    memcpy(transaction->text, nla_data(text), size);
    transaction->text[size] = '\0';
}

static void
transaction_take_result(const struct nlmsghdr *reply, void *context)
{
    struct transaction *transaction = context;
    const struct nlmsgerr *body = NLMSG_DATA(reply);

    if (reply->nlmsg_type != NLMSG_ERROR)
        return;
    transaction->errors[reply->nlmsg_seq - transaction->first] = body->error;
    if (body->error)
        transaction_copy_text(transaction, reply);
}

/*
 * Sends `count` messages and stores the result of each (0 or -errno) in ret_errors; `ret_text` receives the kernel's
 * words about the first failure that has any. Only the last message of each send asks for an acknowledgement, because
 * the kernel reports failures anyway. A failed message does not stop those behind it (rtnetlink batches are no
 * transactions). Returns -errno only when the exchange itself failed.
 */
int
dnet_transact(int fd, uint8_t *data, size_t length, uint32_t count, int32_t *ret_errors, char *ret_text,
              size_t text_size)
{
    struct transaction transaction = {.text = ret_text, .text_size = text_size};
    struct timespec now;
    size_t start = 0;
    uint32_t done = 0, base;

    if (text_size)
        ret_text[0] = '\0';
    clock_gettime(CLOCK_MONOTONIC, &now);
    base = (uint32_t)now.tv_nsec * 31 + (uint32_t)now.tv_sec;
    while (done < count) {
        size_t end = start;
        struct nlmsghdr *message = NULL;
        int error;

        transaction.errors = ret_errors + done;
        transaction.first = base + done;
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
        error = nlmsg_send(fd, data + start, end - start);
        /* rtnetlink works inside send(2): when that returns, the replies are there. */
        if (!error)
            error = nlmsg_receive(fd, transaction.first, base + done - 1, transaction_take_result, &transaction);
        if (error)
            return error;
        start = end;
    }
    return 0;
}

/* Sends one request and passes every message of the answer to `handle`, up to and including the one that ends it. */
int
nlmsg_query(int fd, struct nlmsghdr *request, void (*handle)(const struct nlmsghdr *answer, void *context),
            void *context)
{
    struct timespec now;
    int error;

    clock_gettime(CLOCK_MONOTONIC, &now);
    request->nlmsg_seq = (uint32_t)now.tv_nsec;
    error = nlmsg_send(fd, request, request->nlmsg_len);
    return error ? error : nlmsg_receive(fd, request->nlmsg_seq, request->nlmsg_seq, handle, context);
}

static void
answer_append(const struct nlmsghdr *message, void *context)
{
    struct answer *answer = context;
    size_t size = NLMSG_ALIGN(message->nlmsg_len);

    if (message->nlmsg_flags & NLM_F_DUMP_INTR)
        answer->result = -EAGAIN;
    if (message->nlmsg_type == NLMSG_DONE)
        return;
    if (message->nlmsg_type == NLMSG_ERROR) {
        const struct nlmsgerr *body = NLMSG_DATA(message);

        if (body->error)
            answer->result = body->error;
        return;
    }
    if (size > answer->capacity - answer->length) {
        answer->result = -ENOBUFS;
        return;
    }
    memcpy(answer->buffer + answer->length, message, size);
    answer->length += size;
}

static int
answer_collect(int fd, uint8_t *request, size_t request_length, uint16_t flags, uint8_t *buffer, size_t capacity,
               size_t *ret_length)
{
    struct answer answer = {.buffer = buffer, .capacity = capacity};
    struct nlmsghdr *header = (struct nlmsghdr *)request;
    int error;

    if (request_length < sizeof *header || header->nlmsg_len > request_length)
        return -EBADMSG;
    header->nlmsg_flags |= flags;
    error = nlmsg_query(fd, header, answer_append, &answer);
    if (!error)
        error = answer.result;
    if (!error)
        *ret_length = answer.length;
    return error;
}

/*
 * Sends a dump request and stores all messages of the answer in `buffer`. -ENOBUFS: they do not fit, ask again with
 * more room; -EAGAIN: the table changed meanwhile, ask again.
 */
int
dnet_dump(int fd, uint8_t *request, size_t request_length, uint8_t *buffer, size_t capacity, size_t *ret_length)
{
    return answer_collect(fd, request, request_length, NLM_F_DUMP, buffer, capacity, ret_length);
}

/* Sends a request for a single thing and stores the answer in `buffer`. -ENOBUFS: it does not fit. */
int
dnet_ask(int fd, uint8_t *request, size_t request_length, uint8_t *buffer, size_t capacity, size_t *ret_length)
{
    return answer_collect(fd, request, request_length, NLM_F_ACK, buffer, capacity, ret_length);
}
