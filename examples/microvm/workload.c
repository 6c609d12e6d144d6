// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * workload: dirties a known amount of memory, and can prove that it kept it.
 *
 *   workload [anon=MIB] [shm=MIB] [file=MIB] [free=PERCENT] [chunk=KIB] [thp=1] [seed=N]
 *
 * anon: anonymous memory; shm: a file on the tmpfs /tmp; file: page cache of a
 * file on the disk below /data, written and synced. Then it sleeps and obeys:
 *   SIGUSR1  frees `free` percent of the anonymous memory, in chunks of `chunk`
 *            (0: one piece at the end; otherwise spread evenly over all of it)
 *   SIGUSR2  reads everything that is left and checks every byte
 * Each step ends with a line on stdout: "ready ...", "idle freed=BYTES",
 * "verified bytes=BYTES" or "CORRUPT ...".
 */
#include <err.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#define MIB ((uint64_t)1 << 20)
#define PAGE 4096

struct area {
	const char *name;
	uint64_t bytes;
	uint64_t *map;
};

static struct area area[] = { { .name = "anon" }, { .name = "shm" }, { .name = "file" } };
static uint64_t free_percent, chunk, thp, seed = 1;

/* A value for each word that no other place has. */
static uint64_t word(unsigned int a, uint64_t index)
{
	uint64_t x = (index + seed * 0x9e3779b97f4a7c15) ^ ((uint64_t)a << 56);

	x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9;
	return x ^ (x >> 27);
}

static bool freed(uint64_t offset)
{
	uint64_t total = area[0].bytes, slot;

	if (!free_percent)
		return false;
	if (!chunk)
		return offset >= total * (100 - free_percent) / 100 / PAGE * PAGE;
	slot = offset / chunk;	/* of each 100 chunks, free_percent spread evenly */
	return (slot + 1) * free_percent / 100 != slot * free_percent / 100;
}

static void fill(unsigned int a, int fd)
{
	struct area *r = &area[a];

	r->map = mmap(NULL, r->bytes, PROT_READ | PROT_WRITE, fd < 0 ? MAP_PRIVATE | MAP_ANONYMOUS : MAP_SHARED,
		      fd, 0);
	if (r->map == MAP_FAILED)
		err(1, "%s: %llu bytes", r->name, (unsigned long long)r->bytes);
	if (fd < 0 && madvise(r->map, r->bytes, thp ? MADV_HUGEPAGE : MADV_NOHUGEPAGE))
		warn("madvise");
	for (uint64_t i = 0; i < r->bytes / 8; i++)
		r->map[i] = word(a, i);
}

static void fill_file(unsigned int a, const char *path, bool sync)
{
	int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	if (fd < 0 || ftruncate(fd, area[a].bytes))
		err(1, "%s", path);
	fill(a, fd);
	if (sync && (msync(area[a].map, area[a].bytes, MS_SYNC) || fsync(fd)))
		err(1, "%s", path);
	close(fd);
}

static void verify(bool idle)
{
	uint64_t bytes = 0;

	for (unsigned int a = 0; a < 3; a++) {
		for (uint64_t i = 0; i < area[a].bytes / 8; i++) {
			if (idle && a == 0 && freed(i * 8))
				continue;
			if (area[a].map[i] != word(a, i)) {
				printf("CORRUPT %s offset=%llu found=%llx wanted=%llx\n", area[a].name,
				       (unsigned long long)i * 8, (unsigned long long)area[a].map[i],
				       (unsigned long long)word(a, i));
				return;
			}
			bytes += 8;
		}
	}
	printf("verified bytes=%llu\n", (unsigned long long)bytes);
}

static uint64_t go_idle(void)
{
	uint64_t bytes = 0;

	for (uint64_t at = 0; at < area[0].bytes; at += PAGE) {
		if (!freed(at))
			continue;
		if (madvise((char *)area[0].map + at, PAGE, MADV_DONTNEED))
			err(1, "madvise");
		bytes += PAGE;
	}
	return bytes;
}

static void option(const char *arg)
{
	static const struct { const char *name; uint64_t *value; uint64_t unit; } known[] = {
		{ "anon", &area[0].bytes, MIB }, { "shm", &area[1].bytes, MIB },
		{ "file", &area[2].bytes, MIB }, { "free", &free_percent, 1 },
		{ "chunk", &chunk, 1024 }, { "thp", &thp, 1 }, { "seed", &seed, 1 },
	};
	const char *equals = strchr(arg, '=');
	char *end;

	for (unsigned int i = 0; equals && i < sizeof(known) / sizeof(*known); i++) {
		if (strlen(known[i].name) == (size_t)(equals - arg) &&
		    !strncmp(known[i].name, arg, equals - arg)) {
			*known[i].value = strtoull(equals + 1, &end, 10) * known[i].unit;
			if (end != equals + 1 && !*end)
				return;
		}
	}
	errx(1, "bad argument: %s", arg);
}

int main(int argc, char **argv)
{
	sigset_t set;
	int signal;
	bool idle = false;

	for (int i = 1; i < argc; i++)
		option(argv[i]);
	if (free_percent > 100 || chunk % PAGE)
		errx(1, "free is at most 100, chunk a multiple of 4");
	setvbuf(stdout, NULL, _IOLBF, 0);
	sigemptyset(&set);
	sigaddset(&set, SIGUSR1);
	sigaddset(&set, SIGUSR2);
	sigprocmask(SIG_BLOCK, &set, NULL);

	if (area[0].bytes)
		fill(0, -1);
	if (area[1].bytes)
		fill_file(1, "/tmp/shm", false);
	if (area[2].bytes)
		fill_file(2, "/data/file", true);
	printf("ready anon=%llu shm=%llu file=%llu\n", (unsigned long long)area[0].bytes,
	       (unsigned long long)area[1].bytes, (unsigned long long)area[2].bytes);
	while (!sigwait(&set, &signal)) {
		if (signal == SIGUSR1) {
			printf("idle freed=%llu\n", (unsigned long long)go_idle());
			idle = true;
		} else {
			verify(idle);
		}
	}
	return 1;
}
