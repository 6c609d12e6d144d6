/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * One thread for the sockets and kicks of all devices of this process. What it
 * calls must not block: every VM of the process stands still meanwhile.
 */
#ifndef LIB_HOST_POLL_THREAD_H
#define LIB_HOST_POLL_THREAD_H

/* Watched while fd >= 0; ready() runs when there is something to read. */
struct poll_source {
	int fd;
	void (*ready)(struct poll_source *source);
};

int poll_thread_get(void);
void poll_thread_put(void);	/* not from the thread itself */

int poll_source_add(struct poll_source *source, int fd);

/*
 * Only in the thread. Does not close the fd. The source may still be looked at
 * until the thread has done with the events it has fetched: free it after
 * poll_thread_call().
 */
void poll_source_remove(struct poll_source *source);

/* Run a function in the thread, between two rounds of events, and wait for it. */
void poll_thread_call(void (*function)(void *argument), void *argument);

#endif /* LIB_HOST_POLL_THREAD_H */
