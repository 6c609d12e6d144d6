// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * mm-load: one way each of having memory that somebody else works on as well.
 *
 *   mm-load ksm MIB		pages that ksmd may merge with those of other processes
 *   mm-load collapse MIB	4 KiB pages that khugepaged may collapse
 *   mm-load compact MIB HUGE	MIB with every other page freed, then HUGE MIB of huge pages
 *   mm-load mlock MIB		locked memory
 *   mm-load register MIB	buffers registered with io_uring: a long-term pin
 *   mm-load splice KIB		pages in a pipe (vmsplice), which cannot move
 *   mm-load async PATH		a file that io_uring's workers read into the page cache, then mapped
 *   mm-load sqpoll PATH	the same by io_uring's polling thread
 *   mm-load poison MIB		one page of which fails
 *   mm-load offline MIB	one page of which is taken out of use
 *
 *   mm-load make PATH MIB	makes such a file, and ends
 *
 * Then it prints "ready", sleeps, and obeys: SIGUSR1 lets the pages go ("gone"),
 * SIGUSR2 checks every byte ("verified bytes=..." or "CORRUPT ...").
 */
#define _GNU_SOURCE
#include <err.h>
#include <fcntl.h>
#include <linux/io_uring.h>
#include <setjmp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#ifndef MADV_SOFT_OFFLINE
#define MADV_SOFT_OFFLINE 101
#endif

#define MIB ((size_t)1 << 20)
#define PAGE ((size_t)4096)
#define HUGE_PAGE (2 * MIB)
#define WORDS (PAGE / sizeof(uint64_t))

static uint64_t *map;
static size_t bytes;
static size_t step = PAGE;	/* from one page that counts to the next */
static int pipe_end = -1, ring = -1;

/* The same in every process, so that ksmd finds something to merge. */
static uint64_t word(size_t page)
{
	return (page + 1) * 0x9e3779b97f4a7c15;
}

static void fill(void)
{
	for (size_t i = 0; i < bytes / sizeof(*map); i++)
		map[i] = word(i / WORDS);
}

static void verify(void)
{
	for (size_t at = 0; at < bytes; at += step) {
		const uint64_t *p = map + at / sizeof(*map);

		for (size_t i = 0; i < WORDS; i++) {
			if (p[i] != word(at / PAGE)) {
				printf("CORRUPT offset=%zu found=%llx\n", at + i * sizeof(*p),
				       (unsigned long long)p[i]);
				return;
			}
		}
	}
	printf("verified bytes=%zu\n", bytes / step * PAGE);
}

/* Aligned to huge pages, without any so far. */
static uint64_t *reserve(size_t size)
{
	char *p = mmap(NULL, size + HUGE_PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
		       -1, 0);

	if (p == MAP_FAILED)
		err(1, "mmap");
	p += -(uintptr_t)p % HUGE_PAGE;
	if (madvise(p, size, MADV_NOHUGEPAGE))
		err(1, "MADV_NOHUGEPAGE");
	return (uint64_t *)p;
}

static void advise(void *p, size_t size, int advice)
{
	if (madvise(p, size, advice))
		err(1, "madvise %d", advice);
}

static void anonymous(size_t size)
{
	bytes = size;
	map = reserve(size);
	fill();
}

static void compact(size_t size, size_t huge)
{
	char *p;

	anonymous(size);
	step = 2 * PAGE;
	for (size_t at = PAGE; at < bytes; at += step)
		advise((char *)map + at, PAGE, MADV_DONTNEED);
	p = (char *)reserve(huge);
	advise(p, huge, MADV_HUGEPAGE);
	memset(p, 1, huge);
}

static int ring_setup(unsigned int flags, struct io_uring_params *params)
{
	int fd;

	memset(params, 0, sizeof(*params));
	params->flags = flags;
	fd = syscall(SYS_io_uring_setup, 1, params);
	if (fd < 0)
		err(1, "io_uring_setup");
	return fd;
}

static void register_buffer(size_t size)
{
	struct io_uring_params params;
	struct iovec iov;

	anonymous(size);
	iov = (struct iovec){ map, bytes };
	ring = ring_setup(0, &params);
	if (syscall(SYS_io_uring_register, ring, IORING_REGISTER_BUFFERS, &iov, 1))
		err(1, "registering a buffer");
}

static void splice_pages(size_t size)
{
	struct iovec iov;
	int ends[2];

	anonymous(size);
	iov = (struct iovec){ map, bytes };
	if (pipe2(ends, O_CLOEXEC) || fcntl(ends[1], F_SETPIPE_SZ, bytes) < 0)
		err(1, "pipe of %zu bytes", bytes);
	if (vmsplice(ends[1], &iov, 1, SPLICE_F_NONBLOCK) != (ssize_t)bytes)
		err(1, "vmsplice");
	close(ends[1]);
	pipe_end = ends[0];
}

static void make_file(const char *path, size_t size)
{
	int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	bytes = size;
	if (fd < 0 || ftruncate(fd, bytes))
		err(1, "%s", path);
	map = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (map == MAP_FAILED)
		err(1, "mmap");
	fill();
	if (fsync(fd))
		err(1, "%s", path);
}

/* Read a file through io_uring alone, so that not we but its threads fill the page cache. */
static void read_file(const char *path, bool sqpoll)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	struct io_uring_params params;
	struct io_uring_cqe *cqe;
	struct io_uring_sqe *sqe;
	char *sq, *buffer;
	struct stat st;

	if (fd < 0 || fstat(fd, &st))
		err(1, "%s", path);
	ring = ring_setup(sqpoll ? IORING_SETUP_SQPOLL : 0, &params);
	if (!(params.features & IORING_FEAT_SINGLE_MMAP))
		errx(1, "io_uring is too old");
	sq = mmap(NULL, params.cq_off.cqes + params.cq_entries * sizeof(*cqe),
		  PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, ring, IORING_OFF_SQ_RING);
	sqe = mmap(NULL, sizeof(*sqe), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, ring,
		   IORING_OFF_SQES);
	buffer = malloc(MIB);
	if (sq == MAP_FAILED || sqe == MAP_FAILED || !buffer)
		err(1, "io_uring's rings");
	cqe = (void *)(sq + params.cq_off.cqes);

	for (size_t at = 0, n = 0; at < (size_t)st.st_size; n++) {
		*sqe = (struct io_uring_sqe){
			.opcode = IORING_OP_READ, .flags = sqpoll ? 0 : IOSQE_ASYNC, .fd = fd,
			.addr = (uintptr_t)buffer, .len = MIB, .off = at,
		};
		((unsigned int *)(sq + params.sq_off.array))[0] = 0;
		__atomic_store_n((unsigned int *)(sq + params.sq_off.tail), n + 1, __ATOMIC_SEQ_CST);
		if (syscall(SYS_io_uring_enter, ring, 1, 1, IORING_ENTER_GETEVENTS |
			    (sqpoll ? IORING_ENTER_SQ_WAKEUP : 0), NULL, 0) < 0)
			err(1, "io_uring_enter");
		if (__atomic_load_n((unsigned int *)(sq + params.cq_off.tail), __ATOMIC_ACQUIRE) != n + 1)
			errx(1, "no completion");
		if (cqe[n % params.cq_entries].res <= 0)
			errx(1, "read: %s", strerror(-cqe[n % params.cq_entries].res));
		at += cqe[n % params.cq_entries].res;
		__atomic_store_n((unsigned int *)(sq + params.cq_off.head), n + 1, __ATOMIC_RELEASE);
	}

	bytes = st.st_size / PAGE * PAGE;
	map = mmap(NULL, bytes, PROT_READ, MAP_SHARED | MAP_POPULATE, fd, 0);
	if (map == MAP_FAILED)
		err(1, "mmap");
}

static sigjmp_buf after_failure;

static void on_bus_error(int signal)
{
	(void)signal;
	siglongjmp(after_failure, 1);
}

/* The page in the middle fails: whoever has it mapped is told so by SIGBUS. */
static void poison(size_t size)
{
	signal(SIGBUS, on_bus_error);
	anonymous(size);
	if (!sigsetjmp(after_failure, 1)) {
		advise((char *)map + size / 2, PAGE, MADV_HWPOISON);
		(void)*(volatile uint64_t *)((char *)map + size / 2);
		errx(1, "the page has not failed");
	}
	bytes = size / 2;
}

static void let_go(void)
{
	if (pipe_end >= 0)
		close(pipe_end);
	if (ring >= 0)
		close(ring);
	pipe_end = -1;
	ring = -1;
	puts("gone");
}

int main(int argc, char **argv)
{
	const char *what = argc > 2 ? argv[1] : "";
	size_t number = argc > 2 ? strtoul(argv[2], NULL, 10) : 0;
	sigset_t set;
	int signal;

	setvbuf(stdout, NULL, _IOLBF, 0);
	sigemptyset(&set);
	sigaddset(&set, SIGUSR1);
	sigaddset(&set, SIGUSR2);
	sigprocmask(SIG_BLOCK, &set, NULL);

	if (!strcmp(what, "ksm")) {
		anonymous(number * MIB);
		advise(map, bytes, MADV_MERGEABLE);
	} else if (!strcmp(what, "collapse")) {
		anonymous(number * MIB);
		advise(map, bytes, MADV_HUGEPAGE);
	} else if (!strcmp(what, "compact") && argc == 4) {
		compact(number * MIB, strtoul(argv[3], NULL, 10) * MIB);
	} else if (!strcmp(what, "mlock")) {
		anonymous(number * MIB);
		if (mlock(map, bytes))
			err(1, "mlock");
	} else if (!strcmp(what, "register")) {
		register_buffer(number * MIB);
	} else if (!strcmp(what, "splice")) {
		splice_pages(number * 1024);
	} else if (!strcmp(what, "async") || !strcmp(what, "sqpoll")) {
		read_file(argv[2], *what == 's');
	} else if (!strcmp(what, "make") && argc == 4) {
		make_file(argv[2], strtoul(argv[3], NULL, 10) * MIB);
		return 0;
	} else if (!strcmp(what, "poison")) {
		poison(number * MIB);
	} else if (!strcmp(what, "offline")) {
		anonymous(number * MIB);
		advise((char *)map + bytes / 2, PAGE, MADV_SOFT_OFFLINE);
	} else {
		errx(2, "usage: mm-load WHAT MIB|PATH [MIB]");
	}

	puts("ready");
	while (!sigwait(&set, &signal)) {
		if (signal == SIGUSR1)
			let_go();
		else
			verify();
	}
	return 1;
}
