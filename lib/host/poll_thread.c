// SPDX-License-Identifier: LGPL-2.1-or-later
#include "poll_thread.h"
#include "../thread.h"

#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define EVENTS_PER_ROUND 32

struct call {
	struct call *next;
	void (*function)(void *argument);
	void *argument;
	bool done;
};

static pthread_mutex_t users_lock = PTHREAD_MUTEX_INITIALIZER;
static unsigned int users;
static pthread_t thread;
static int epoll_fd = -1, wake_fd = -1;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t call_done = PTHREAD_COND_INITIALIZER;
static struct call *calls;
static bool stop;

static void wake(void)
{
	eventfd_write(wake_fd, 1);
}

/* Returns whether to go on. */
static bool run_calls(void)
{
	struct call *call;
	bool go_on;

	pthread_mutex_lock(&lock);
	while ((call = calls)) {
		calls = call->next;
		pthread_mutex_unlock(&lock);
		call->function(call->argument);
		pthread_mutex_lock(&lock);
		call->done = true;
		pthread_cond_broadcast(&call_done);
	}
	go_on = !stop;
	pthread_mutex_unlock(&lock);
	return go_on;
}

static void *run(void *unused)
{
	struct epoll_event event[EVENTS_PER_ROUND];
	eventfd_t value;

	(void)unused;
	while (run_calls()) {
		int n = epoll_wait(epoll_fd, event, EVENTS_PER_ROUND, -1);

		for (int i = 0; i < n; i++) {
			struct poll_source *source = event[i].data.ptr;

			if (!source)
				eventfd_read(wake_fd, &value);
			else if (source->fd >= 0)	/* not removed in this round */
				source->ready(source);
		}
	}
	return NULL;
}

static void close_fds(void)
{
	if (epoll_fd >= 0)
		close(epoll_fd);
	if (wake_fd >= 0)
		close(wake_fd);
	epoll_fd = wake_fd = -1;
}

static int start(void)
{
	struct epoll_event event = { .events = EPOLLIN };
	int error;

	stop = false;
	epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (epoll_fd < 0 || wake_fd < 0 || epoll_ctl(epoll_fd, EPOLL_CTL_ADD, wake_fd, &event))
		error = -errno;
	else
		error = thread_start(&thread, "czone-device", run, NULL);
	if (error)
		close_fds();
	return error;
}

int poll_thread_get(void)
{
	int error = 0;

	pthread_mutex_lock(&users_lock);
	if (!users)
		error = start();
	if (!error)
		users++;
	pthread_mutex_unlock(&users_lock);
	return error;
}

void poll_thread_put(void)
{
	pthread_mutex_lock(&users_lock);
	if (!--users) {
		pthread_mutex_lock(&lock);
		stop = true;
		pthread_mutex_unlock(&lock);
		wake();
		pthread_join(thread, NULL);
		close_fds();
	}
	pthread_mutex_unlock(&users_lock);
}

int poll_source_add(struct poll_source *source, int fd)
{
	struct epoll_event event = { .events = EPOLLIN, .data.ptr = source };

	source->fd = fd;
	if (!epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd, &event))
		return 0;
	source->fd = -1;
	return -errno;
}

void poll_source_remove(struct poll_source *source)
{
	if (source->fd >= 0)
		epoll_ctl(epoll_fd, EPOLL_CTL_DEL, source->fd, NULL);
	source->fd = -1;
}

void poll_thread_call(void (*function)(void *argument), void *argument)
{
	struct call call = { .function = function, .argument = argument };

	pthread_mutex_lock(&lock);
	call.next = calls;
	calls = &call;
	wake();
	while (!call.done)
		pthread_cond_wait(&call_done, &lock);
	pthread_mutex_unlock(&lock);
}
