/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * zero-check anon|thp|shm MIB SECONDS SEED: is new memory zero, and does memory
 * that is kept keep what was written to it?
 *
 * Works on pages in random order. A page that is new gets one word; all others
 * must be zero. Then it is filled, later found as it was left, and freed, alone
 * or with its neighbours, so that the kernel has pieces of all sizes to give to
 * the host. Ends with "checked pages=N" on stdout, or with "CORRUPT ...".
 */
#define _GNU_SOURCE
#include <err.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#define PAGE 4096
#define WORDS (PAGE / sizeof(uint64_t))
#define HUGE_PAGES 512

static uint64_t state;
static uint64_t *map;
static bool *filled;
static uint64_t pages;
static bool shared;

static uint64_t rnd(uint64_t below)
{
	state ^= state << 13;
	state ^= state >> 7;
	state ^= state << 17;
	return state % below;
}

/* Never 0. */
static uint64_t pattern(uint64_t page, uint64_t word)
{
	return (page * WORDS + word) * 0x9e3779b97f4a7c15 | 1;
}

static void corrupt(const char *what, uint64_t page, uint64_t word, uint64_t wanted)
{
	printf("CORRUPT %s page=%llu word=%llu found=%llx wanted=%llx\n", what,
	       (unsigned long long)page, (unsigned long long)word,
	       (unsigned long long)map[page * WORDS + word], (unsigned long long)wanted);
	exit(1);
}

static void take(uint64_t page)
{
	uint64_t *p = map + page * WORDS, first = rnd(WORDS);

	p[first] = pattern(page, first);
	for (uint64_t i = 0; i < WORDS; i++)
		if (i != first && p[i])
			corrupt("new", page, i, 0);
	for (uint64_t i = 0; i < WORDS; i++)
		p[i] = pattern(page, i);
	filled[page] = true;
}

static void check(uint64_t page)
{
	for (uint64_t i = 0; i < WORDS; i++)
		if (map[page * WORDS + i] != pattern(page, i))
			corrupt("kept", page, i, pattern(page, i));
}

static void release(uint64_t page)
{
	uint64_t n = 1ULL << rnd(11), start = page / n * n, end = start + n < pages ? start + n : pages;

	for (uint64_t i = start; i < end; i++) {
		if (filled[i])
			check(i);
		filled[i] = false;
	}
	if (madvise(map + start * WORDS, (end - start) * PAGE, shared ? MADV_REMOVE : MADV_DONTNEED))
		err(1, "madvise");
}

int main(int argc, char **argv)
{
	uint64_t bytes, checked = 0;
	time_t end;
	int fd = -1;

	if (argc != 5)
		errx(1, "usage: zero-check anon|thp|shm MIB SECONDS SEED");
	shared = !strcmp(argv[1], "shm");
	bytes = strtoull(argv[2], NULL, 0) << 20;
	pages = bytes / PAGE;
	end = time(NULL) + strtoull(argv[3], NULL, 0);
	state = strtoull(argv[4], NULL, 0) * 0x2545f4914f6cdd1d + 1;
	filled = calloc(pages, sizeof(*filled));
	if (shared) {
		fd = memfd_create("zero-check", MFD_CLOEXEC);
		if (fd < 0 || ftruncate(fd, bytes))
			err(1, "memfd");
	}
	/* room to begin on a huge page */
	map = mmap(NULL, bytes + HUGE_PAGES * PAGE, PROT_READ | PROT_WRITE,
		   MAP_NORESERVE | (shared ? MAP_SHARED : MAP_PRIVATE | MAP_ANONYMOUS), fd, 0);
	if (!filled || map == MAP_FAILED)
		err(1, "memory");
	if (!shared) {
		map = (uint64_t *)(((uintptr_t)map + HUGE_PAGES * PAGE - 1) & ~(HUGE_PAGES * PAGE - 1ULL));
		if (madvise(map, bytes, strcmp(argv[1], "thp") ? MADV_NOHUGEPAGE : MADV_HUGEPAGE))
			err(1, "madvise");
	}

	while (time(NULL) < end) {
		for (int i = 0; i < 100; i++, checked++) {
			uint64_t page = rnd(pages);

			if (!filled[page])
				take(page);
			else if (rnd(100) < 2)
				release(page);
			else
				check(page);
		}
	}
	for (uint64_t i = 0; i < pages; i++)
		if (filled[i])
			check(i);
	printf("checked pages=%llu\n", (unsigned long long)checked);
	return 0;
}
