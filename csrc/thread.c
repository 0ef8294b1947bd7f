/*
 * Threads for work that must not happen on the caller's own: entering another namespace, or waiting for the kernel
 * while the caller goes on. Signals belong to the caller's thread, so these threads block all of them.
 */
#include "internal.h"

#include <signal.h>

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

/* Starts a thread that blocks all signals; the caller joins it. */
int
thread_start(pthread_t *ret_thread, void *(*function)(void *), void *argument)
{
    sigset_t all, before;
    int error;

    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    error = pthread_create(ret_thread, NULL, function, argument);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return -error;
}

/* Runs `function(argument)` on a thread and returns its result. A namespace that the function enters is that
 * thread's alone. */
int
thread_run(int (*function)(void *), void *argument)
{
    struct thread_call call = {.function = function, .argument = argument};
    pthread_t thread;
    int error = thread_start(&thread, thread_main, &call);

    if (error)
        return error;
    pthread_join(thread, NULL);
    return call.result;
}
