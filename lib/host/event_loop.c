// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * The embedded driver wants an event loop that is registered before the first
 * connection and runs as long as there is one. Registering cannot be undone;
 * running can.
 */
#include "event_loop.h"
#include "../driver.h"

#include <errno.h>
#include <libvirt/libvirt.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <unistd.h>

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static unsigned int users;
static pthread_t thread;
static atomic_bool stopping;

static void *run(void *unused)
{
	while (!atomic_load(&stopping)) {
		if (virEventRunDefaultImpl() < 0) {
			czone_log(CZONE_LOG_ERROR, "libvirt's event loop failed, trying again in 1 s");
			sleep(1);
		}
	}
	return unused;
}

static void wake(int timer, void *unused)
{
	(void)unused;
	virEventRemoveTimeout(timer);
}

static int start(void)
{
	static bool registered;
	sigset_t all, old;
	int error;

	if (!registered) {
		if (virEventRegisterDefaultImpl() < 0)
			return czone_fail(-EIO, "libvirt's event loop cannot be registered");
		registered = true;
	}
	atomic_store(&stopping, false);
	sigfillset(&all);	/* signals are the caller's business */
	pthread_sigmask(SIG_SETMASK, &all, &old);
	error = pthread_create(&thread, NULL, run, NULL);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (error)
		return czone_fail(-error, "no thread for libvirt's event loop");
	return 0;
}

int event_loop_get(void)
{
	int error = 0;

	pthread_mutex_lock(&lock);
	if (!users)
		error = start();
	if (!error)
		users++;
	pthread_mutex_unlock(&lock);
	return error;
}

void event_loop_put(void)
{
	pthread_mutex_lock(&lock);
	if (!--users) {
		atomic_store(&stopping, true);
		virEventAddTimeout(0, wake, NULL, NULL);
		pthread_join(thread, NULL);
	}
	pthread_mutex_unlock(&lock);
}
