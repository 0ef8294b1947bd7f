/* Tests of thread.c. */
#include "check.h"

#include <pthread.h>
#include <signal.h>

static int
answer(void *argument)
{
    sigset_t blocked;

    pthread_sigmask(SIG_SETMASK, NULL, &blocked);
    return sigismember(&blocked, SIGINT) == 1 ? *(int *)argument : -1;
}

void
test_threads(void)
{
    int number = 42;
    sigset_t blocked;

    CHECK_EQUAL(thread_run(answer, &number), 42, "its result, and no signals");
    pthread_sigmask(SIG_SETMASK, NULL, &blocked);
    CHECK(!sigismember(&blocked, SIGINT), "the caller's mask is as before");
}
