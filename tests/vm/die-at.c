/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * To be preloaded into a process that serves a VM: it dies at a step of its work,
 * as if killed. The test sets what and when.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <sys/types.h>
#include <unistd.h>

#define EXPORT __attribute__((visibility("default")))

/* What the device does: tell the guest (eventfd_write), take memory (fallocate). */
enum { TELL = 1, TAKE = 2 };

EXPORT int fallocate(int fd, int mode, off_t offset, off_t size);
EXPORT int eventfd_write(int fd, uint64_t value);

EXPORT atomic_int die_what, die_after, die_in;	/* die_in: the how manieth, 0: never */

static void step(int what, int after)
{
	if (die_what == what && die_after == after && die_in && atomic_fetch_sub(&die_in, 1) == 1)
		kill(getpid(), SIGKILL);
}

int fallocate(int fd, int mode, off_t offset, off_t size)
{
	int (*real)(int, int, off_t, off_t), r;

	step(TAKE, 0);
	*(void **)&real = dlsym(RTLD_NEXT, "fallocate");
	r = real(fd, mode, offset, size);
	step(TAKE, 1);
	return r;
}

int eventfd_write(int fd, uint64_t value)
{
	int (*real)(int, uint64_t), r;

	step(TELL, 0);
	*(void **)&real = dlsym(RTLD_NEXT, "eventfd_write");
	r = real(fd, value);
	step(TELL, 1);
	return r;
}
