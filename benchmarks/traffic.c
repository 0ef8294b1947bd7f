/*
 * Traffic to one TCP port: the server in a container and the load from the LAN.
 *
 * Measures for the benchmark's topic "publish" (traffic_lan.py runs it) what the rules between the two cost.
 *
 *     traffic serve PORT                                    until standard input ends; prints "ready" when it listens
 *     traffic connect ADDRESS PORT SECONDS NAMESPACE...     blocks of CONNECTIONS, each with a byte there and back
 *     traffic send ADDRESS PORT SECONDS NAMESPACE...        blocks of BLOCK_BYTES through one connection
 *
 * A load takes turns among the network namespaces that it is given, a block of some 10 ms in each: a virtual machine's
 * processor can change its speed by a half from one tenth of a second to the next, and neighbours in time have the
 * same. It prints one JSON line, the seconds of every block by namespace. The server runs on the last processor, the
 * load on the first one, where its system calls also do the forwarding.
 *
 * Connections end by a reset (SO_LINGER of 0 s): with TIME_WAIT the client would run out of ports within two seconds.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <sched.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum {
    CONNECTIONS = 128, /* a block */
    IN_FLIGHT = 16,
    BLOCK_BYTES = 16 << 20,
    BUFFER_BYTES = 1 << 18,
    MOST_NAMESPACES = 2,
    MOST_BLOCKS = 10000, /* in each namespace */
    LEAST_BLOCKS = 2,
    BACKLOG = 1024,
    EVENTS = 64,
    MOST_DESCRIPTORS = 4096,
    TIMEOUT_MS = 5000,
};

static const char QUESTION = '?', BULK = '*';

/* Where the load goes, and what it has measured there. */
struct lane {
    int namespace_fd;
    int bulk_fd;
    double seconds[MOST_BLOCKS];
};

static void
fail(const char *what)
{
    fprintf(stderr, "traffic: %s: %s\n", what, strerror(errno));
    exit(1);
}

static double
now_s(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + (double)time.tv_nsec * 1e-9;
}

/* Stay on the first or the last of the processors that this process may use. */
static void
pin(bool last)
{
    cpu_set_t allowed, chosen;
    if (sched_getaffinity(0, sizeof allowed, &allowed) < 0)
        fail("processors");
    CPU_ZERO(&chosen);
    for (int cpu = 0; cpu < CPU_SETSIZE; cpu++)
        if (CPU_ISSET(cpu, &allowed) && (last || !CPU_COUNT(&chosen))) {
            CPU_ZERO(&chosen);
            CPU_SET(cpu, &chosen);
        }
    if (sched_setaffinity(0, sizeof chosen, &chosen) < 0)
        fail("processors");
}

static int
tcp_socket(int flags)
{
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | flags, 0);
    if (fd < 0)
        fail("socket");
    return fd;
}

static void
watch(int epoll_fd, int fd, uint32_t events)
{
    struct epoll_event event = {.events = events, .data.fd = fd};
    if (epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd, &event) < 0)
        fail("epoll");
}

static int
wait_for(int epoll_fd, struct epoll_event *ret_events)
{
    int count;
    do
        count = epoll_wait(epoll_fd, ret_events, EVENTS, TIMEOUT_MS);
    while (count < 0 && errno == EINTR);
    if (count < 0)
        fail("epoll");
    return count;
}

/* Server */

static void
accept_all(int epoll_fd, int listener)
{
    int fd;
    while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0)
        watch(epoll_fd, fd, EPOLLIN);
    if (errno != EAGAIN && errno != ECONNABORTED)
        fail("accept");
}

/* Read what has come, and answer a question or confirm a block. */
static void
serve_connection(int fd, size_t *received)
{
    static char buffer[BUFFER_BYTES];
    ssize_t size = recv(fd, buffer, sizeof buffer, 0);
    if (size < 0 && errno == EAGAIN)
        return;
    if (size <= 0) {
        received[fd] = 0;
        close(fd);
        return;
    }
    received[fd] += (size_t)size;
    if (buffer[0] != QUESTION && received[fd] < BLOCK_BYTES)
        return;
    received[fd] = 0;
    send(fd, buffer, 1, MSG_NOSIGNAL);
}

static int
serve(uint16_t port)
{
    static size_t received[MOST_DESCRIPTORS];
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port)};
    struct epoll_event events[EVENTS];
    int epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    int listener = tcp_socket(SOCK_NONBLOCK);
    if (bind(listener, (struct sockaddr *)&address, sizeof address) < 0 || listen(listener, BACKLOG) < 0)
        fail("listen");
    watch(epoll_fd, listener, EPOLLIN);
    watch(epoll_fd, STDIN_FILENO, EPOLLIN);
    puts("ready");
    fflush(stdout);
    for (;;) {
        int count = wait_for(epoll_fd, events);
        for (int i = 0; i < count; i++) {
            int fd = events[i].data.fd;
            if (fd == STDIN_FILENO)
                return 0;
            if (fd == listener)
                accept_all(epoll_fd, listener);
            else if (fd < MOST_DESCRIPTORS)
                serve_connection(fd, received);
            else
                close(fd);
        }
    }
}

/* Load */

static void
enter(const struct lane *lane)
{
    if (setns(lane->namespace_fd, CLONE_NEWNET) < 0)
        fail("network namespace");
}

static void
start_connection(int epoll_fd, const struct sockaddr_in *address)
{
    int fd = tcp_socket(SOCK_NONBLOCK);
    struct linger reset = {.l_onoff = 1};
    if (setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof reset) < 0)
        fail("linger");
    if (connect(fd, (const struct sockaddr *)address, sizeof *address) < 0 && errno != EINPROGRESS)
        fail("connect");
    watch(epoll_fd, fd, EPOLLOUT);
}

/* Take a connection a step on: ask when it stands, end it when the answer has come. Whether it is over. */
static bool
advance_connection(int epoll_fd, const struct epoll_event *event)
{
    char answer;
    int fd = event->data.fd;
    if (event->events & EPOLLOUT) {
        struct epoll_event next = {.events = EPOLLIN, .data.fd = fd};
        if (send(fd, &QUESTION, 1, MSG_NOSIGNAL) != 1)
            fail("connect");
        if (epoll_ctl(epoll_fd, EPOLL_CTL_MOD, fd, &next) < 0)
            fail("epoll");
        return false;
    }
    if (recv(fd, &answer, 1, 0) != 1)
        fail("answer");
    close(fd);
    return true;
}

static void
connect_block(int epoll_fd, const struct sockaddr_in *address)
{
    struct epoll_event events[EVENTS];
    int started = 0, over = 0;
    while (started < IN_FLIGHT) {
        start_connection(epoll_fd, address);
        started++;
    }
    while (over < CONNECTIONS) {
        int count = wait_for(epoll_fd, events);
        if (!count) {
            errno = ETIMEDOUT;
            fail("connect");
        }
        for (int i = 0; i < count; i++) {
            if (!advance_connection(epoll_fd, &events[i]))
                continue;
            over++;
            if (started < CONNECTIONS) {
                start_connection(epoll_fd, address);
                started++;
            }
        }
    }
}

static void
open_bulk(struct lane *lane, const struct sockaddr_in *address)
{
    struct timeval timeout = {.tv_sec = TIMEOUT_MS / 1000};
    lane->bulk_fd = tcp_socket(0);
    if (setsockopt(lane->bulk_fd, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof timeout) < 0 ||
        setsockopt(lane->bulk_fd, SOL_SOCKET, SO_SNDTIMEO, &timeout, sizeof timeout) < 0)
        fail("timeout");
    if (connect(lane->bulk_fd, (const struct sockaddr *)address, sizeof *address) < 0)
        fail("connect");
}

static void
send_block(int fd)
{
    static char buffer[BUFFER_BYTES];
    char confirmation;
    memset(buffer, BULK, sizeof buffer);
    for (size_t left = BLOCK_BYTES; left > 0;) {
        ssize_t sent = send(fd, buffer, left < sizeof buffer ? left : sizeof buffer, MSG_NOSIGNAL);
        if (sent < 0)
            fail("send");
        left -= (size_t)sent;
    }
    if (recv(fd, &confirmation, 1, 0) != 1)
        fail("confirmation");
}

static void
report(const char *what, int amount, const struct lane *lanes, int lane_count, int blocks)
{
    printf("{\"%s\": %d, \"seconds\": [", what, amount);
    for (int lane = 0; lane < lane_count; lane++) {
        printf("%s[", lane ? ", " : "");
        for (int block = 0; block < blocks; block++)
            printf("%s%.6f", block ? ", " : "", lanes[lane].seconds[block]);
        printf("]");
    }
    printf("]}\n");
}

static void
load(bool bulk, const struct sockaddr_in *address, double duration_s, struct lane *lanes, int lane_count)
{
    int epoll_fd = epoll_create1(EPOLL_CLOEXEC), blocks = 0;
    for (int lane = 0; bulk && lane < lane_count; lane++) {
        enter(&lanes[lane]);
        open_bulk(&lanes[lane], address);
    }
    double end_s = now_s() + duration_s;
    while (blocks < LEAST_BLOCKS || (blocks < MOST_BLOCKS && now_s() < end_s)) {
        for (int turn = 0; turn < lane_count; turn++) {
            struct lane *lane = &lanes[blocks % 2 ? lane_count - 1 - turn : turn];
            enter(lane);
            double start_s = now_s();
            if (bulk)
                send_block(lane->bulk_fd);
            else
                connect_block(epoll_fd, address);
            lane->seconds[blocks] = now_s() - start_s;
        }
        blocks++;
    }
    report(bulk ? "bytes" : "connections", bulk ? BLOCK_BYTES : CONNECTIONS, lanes, lane_count, blocks);
}

int
main(int argc, char **argv)
{
    static struct lane lanes[MOST_NAMESPACES];
    struct sockaddr_in address = {.sin_family = AF_INET};
    int lane_count = argc - 5;
    if (argc == 3 && !strcmp(argv[1], "serve")) {
        pin(true);
        return serve((uint16_t)atoi(argv[2]));
    }
    bool bulk = argc > 1 && !strcmp(argv[1], "send");
    if (lane_count < 1 || lane_count > MOST_NAMESPACES || (!bulk && strcmp(argv[1], "connect")) ||
        inet_pton(AF_INET, argv[2], &address.sin_addr) != 1) {
        fprintf(stderr, "usage: traffic serve PORT | traffic connect|send ADDRESS PORT SECONDS NAMESPACE...\n");
        return 2;
    }
    address.sin_port = htons((uint16_t)atoi(argv[3]));
    for (int lane = 0; lane < lane_count; lane++) {
        lanes[lane].namespace_fd = open(argv[5 + lane], O_RDONLY | O_CLOEXEC);
        if (lanes[lane].namespace_fd < 0)
            fail(argv[5 + lane]);
    }
    pin(false);
    load(bulk, &address, atof(argv[4]), lanes, lane_count);
    return 0;
}
