/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What a VM has to tell the program: notices wait here until czone_dispatch()
 * delivers them in a thread of the program's choice.
 */
#ifndef LIB_INBOX_H
#define LIB_INBOX_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>

struct czone_vm;

/* deliver() runs without a lock, and frees the notice. discard() frees it untold. */
struct notice {
	struct notice *next;
	void (*deliver)(struct notice *notice, struct czone_vm *vm);
	void (*discard)(struct notice *notice);
};

struct inbox {
	pthread_mutex_t lock;
	pthread_cond_t changed;
	struct notice *first, **end;
	size_t count;
	int fd;			/* eventfd, readable while there is something; -1: nobody asked */
	pthread_t thread;	/* the library's own that dispatches, if threaded */
	bool threaded;
	unsigned int thread_number;	/* one of another number is to end */
};

void inbox_init(struct inbox *inbox);

/* The last reference on the VM has gone: no more notices, and the thread ends. */
void inbox_destroy(struct inbox *inbox);

/* Any thread; never waits for the program. */
void inbox_post(struct inbox *inbox, struct notice *notice);

#endif /* LIB_INBOX_H */
