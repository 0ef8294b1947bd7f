/* What the C tests share: checks that count failures, and memory for batches. */
#ifndef DNET_CHECK_H
#define DNET_CHECK_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "internal.h"

#include <stdio.h>

#define CHECK(condition, ...)                                                                                          \
    do {                                                                                                               \
        if (!(condition)) {                                                                                            \
            failures++;                                                                                                \
            fprintf(stderr, "%s:%d: not true: %s (", __FILE__, __LINE__, #condition);                                  \
            fprintf(stderr, __VA_ARGS__);                                                                              \
            fprintf(stderr, ")\n");                                                                                    \
        }                                                                                                              \
    } while (0)
#define CHECK_EQUAL(value, expected, ...)                                                                              \
    do {                                                                                                               \
        long long value_ = (long long)(value), expected_ = (long long)(expected);                                      \
        if (value_ != expected_) {                                                                                     \
            failures++;                                                                                                \
            fprintf(stderr, "%s:%d: %s is %lld and not %lld (", __FILE__, __LINE__, #value, value_, expected_);        \
            fprintf(stderr, __VA_ARGS__);                                                                              \
            fprintf(stderr, ")\n");                                                                                    \
        }                                                                                                              \
    } while (0)

#define ABSENT_TYPE 0x7fff /* beyond every type that rtnetlink has: EOPNOTSUPP */

extern int failures;
/* A directory on a tmpfs of its own, for the tests that need root. */
extern char directory[];

void *allocate(size_t size);
struct dnet_batch new_batch(uint32_t messages);
int open_rtnetlink(void);
bool is_namespace(const char *path);

/* What an ordinary user may do ... */
void test_attributes(void);
void test_messages(void);
void test_threads(void);
void test_sockets(void);
void test_names(void);
/* ... and what needs root, in a network namespace of the test's own. */
void test_long_batch(int fd);
void test_pin_directory(void);
void test_sandboxes(int fd);
void test_namespaces(int fd);
void test_flows(void);
void test_offloads(int fd);
void test_bpf(int fd);

#endif
