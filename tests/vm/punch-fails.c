/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * To be preloaded into a process that uses the host half of the library: makes
 * a host that cannot give memory back. The test sets punch_fails.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdatomic.h>
#include <sys/types.h>

#define EXPORT __attribute__((visibility("default")))

EXPORT int fallocate(int fd, int mode, off_t offset, off_t size);

/* Every so many calls fail; 0: none. */
EXPORT atomic_int punch_fails;

int fallocate(int fd, int mode, off_t offset, off_t size)
{
	static atomic_uint calls;
	unsigned int every = punch_fails;
	int (*real)(int, int, off_t, off_t);

	if (every && atomic_fetch_add(&calls, 1) % every == every - 1) {
		errno = EIO;
		return -1;
	}
	*(void **)&real = dlsym(RTLD_NEXT, "fallocate");
	return real(fd, mode, offset, size);
}
