/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Threads of the library: all signals blocked, so that the program's handlers run in its own. */
#ifndef LIB_THREAD_H
#define LIB_THREAD_H

#include <pthread.h>
#include <stdint.h>
#include <time.h>

/* 0 or a negative errno. name has at most 15 characters. It is to be joined, or detached. */
int thread_start(pthread_t *ret_thread, const char *name, void *(*run)(void *), void *argument);

/* A condition whose timed waits are in CLOCK_MONOTONIC. */
void cond_init(pthread_cond_t *cond);

/* Now, and an absolute time for pthread_cond_timedwait(), of CLOCK_MONOTONIC. */
uint64_t now_us(void);
uint64_t now_ms(void);
struct timespec at_ms(uint64_t ms);

#endif /* LIB_THREAD_H */
