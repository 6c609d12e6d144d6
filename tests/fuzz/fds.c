// SPDX-License-Identifier: LGPL-2.1-or-later
#include "fds.h"
#include "fuzz.h"

#include <stdarg.h>
#include <stdbool.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#define FIRST 100000
#define MANY 1024		/* more at a time are a leak */

static struct {
	bool open;
	int file;
} table[MANY];
static unsigned int count, next;

int fds_new(int file)
{
	FUZZ_CHECK(count < MANY);
	while (table[next].open)
		next = (next + 1) % MANY;
	table[next].open = true;
	table[next].file = file;
	count++;
	return FIRST + next;
}

unsigned int fds_open(void)
{
	return count;
}

static bool ours(int fd)
{
	if (fd < FIRST)
		return false;
	FUZZ_CHECK(fd < FIRST + MANY && table[fd - FIRST].open);
	return true;
}

int fds_file(int fd)
{
	return ours(fd) ? table[fd - FIRST].file : fd;
}

/* What is no file is an eventfd, and has nothing of the kind that is asked for. */
static int file_or_fail(int fd)
{
	fd = fds_file(fd);
	if (fd < 0)
		errno = EINVAL;
	return fd;
}

int __wrap_close(int fd);
int __real_close(int fd);
int __wrap_fcntl(int fd, int command, ...);
int __real_fcntl(int fd, int command, ...);
int __wrap_fstat(int fd, struct stat *st);
int __real_fstat(int fd, struct stat *st);
int __wrap_fstatfs(int fd, struct statfs *fs);
int __real_fstatfs(int fd, struct statfs *fs);
void *__wrap_mmap(void *at, size_t size, int prot, int flags, int fd, off_t offset);
void *__real_mmap(void *at, size_t size, int prot, int flags, int fd, off_t offset);
off_t __wrap_lseek(int fd, off_t offset, int whence);
off_t __real_lseek(int fd, off_t offset, int whence);
long __wrap_syscall(long number, ...);
long __real_syscall(long number, ...);
int __wrap_eventfd_write(int fd, eventfd_t value);
int __wrap_epoll_ctl(int epoll, int op, int fd, struct epoll_event *event);

int __wrap_close(int fd)
{
	if (!ours(fd))
		return __real_close(fd);
	table[fd - FIRST].open = false;
	count--;
	return 0;
}

int __wrap_fcntl(int fd, int command, ...)
{
	va_list ap;
	long argument;

	va_start(ap, command);
	argument = va_arg(ap, long);
	va_end(ap);
	if (ours(fd) && command == F_SETFL)
		return 0;
	fd = file_or_fail(fd);
	return fd < 0 ? -1 : __real_fcntl(fd, command, argument);
}

int __wrap_fstat(int fd, struct stat *st)
{
	fd = fds_file(fd);
	if (fd >= 0)
		return __real_fstat(fd, st);
	memset(st, 0, sizeof(*st));	/* no type: like an eventfd's */
	return 0;
}

int __wrap_fstatfs(int fd, struct statfs *fs)
{
	fd = file_or_fail(fd);
	return fd < 0 ? -1 : __real_fstatfs(fd, fs);
}

void *__wrap_mmap(void *at, size_t size, int prot, int flags, int fd, off_t offset)
{
	if (flags & MAP_ANONYMOUS)
		return __real_mmap(at, size, prot, flags, fd, offset);
	fd = file_or_fail(fd);
	return fd < 0 ? MAP_FAILED : __real_mmap(at, size, prot, flags, fd, offset);
}

off_t __wrap_lseek(int fd, off_t offset, int whence)
{
	fd = file_or_fail(fd);
	return fd < 0 ? -1 : __real_lseek(fd, offset, whence);
}

/* All that the library asks for in this way while an input runs is cachestat(). */
long __wrap_syscall(long number, ...)
{
	va_list ap;
	long a[4];
	int fd;

	va_start(ap, number);
	for (int i = 0; i < 4; i++)
		a[i] = va_arg(ap, long);
	va_end(ap);
	fd = file_or_fail(a[0]);
	return fd < 0 ? -1 : __real_syscall(number, (long)fd, a[1], a[2], a[3]);
}

int __wrap_eventfd_write(int fd, eventfd_t value)
{
	FUZZ_CHECK(ours(fd) && value == 1);
	return 0;
}

int __wrap_epoll_ctl(int epoll, int op, int fd, struct epoll_event *event)
{
	(void)epoll;
	(void)event;
	FUZZ_CHECK(ours(fd) && (op == EPOLL_CTL_ADD || op == EPOLL_CTL_DEL));
	return 0;
}
