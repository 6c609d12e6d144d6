// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * neighbours: functions that serve requests while something else happens to the guest.
 *
 *   neighbours N PORT ROUNDS
 *
 * N processes, each in the cgroup /c/nbI, get a request every 10 ms: they map
 * and touch 256 KiB, compute for 400,000 instructions and unmap. A round goes
 * from one byte from PORT to the next, and for 400 ms at least; beginning and end are
 * acknowledged with a byte each. Of each round a line with the latencies in ns of the
 * requests that came in it, from when they were due. The clock is the guest's:
 * under -icount it counts instructions, and the time that the guest is idle.
 */
#include <err.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

#define PERIOD_NS 10000000ull
#define LEAST_NS 400000000ull
#define BYTES (256 << 10)
#define PAGE 4096
#define LOOPS 200000ull		/* of two instructions */
#define WORKERS 64
#define SLOTS 65536		/* requests of a worker: 10 minutes */

struct worker {
	volatile uint32_t served;
	struct {
		uint64_t due, took;
	} request[SLOTS];
};

static uint64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000000000ull + t.tv_nsec;
}

static void serve(void)
{
	uint64_t n = LOOPS;
	char *m = mmap(NULL, BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (m == MAP_FAILED)
		_exit(1);
	for (size_t at = 0; at < BYTES; at += PAGE)
		((volatile char *)m)[at] = 1;
	__asm__ volatile("1: dec %0; jnz 1b" : "+r"(n));
	munmap(m, BYTES);
}

static void work(struct worker *w, uint64_t first)
{
	for (uint64_t due = first; w->served < SLOTS; due += PERIOD_NS) {
		struct timespec t = { .tv_sec = due / 1000000000, .tv_nsec = due % 1000000000 };

		while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &t, NULL))
			;
		serve();
		w->request[w->served].due = due;
		w->request[w->served].took = now_ns() - due;
		w->served++;
	}
}

static void wait_byte(int fd)
{
	char byte;

	if (read(fd, &byte, 1) != 1)
		errx(2, "the port has closed");
}

static void acknowledge(int fd)
{
	if (write(fd, "k", 1) != 1)
		err(2, "the port");
}

int main(int argc, char **argv)
{
	unsigned int n = argc > 3 ? atoi(argv[1]) : 0, rounds = argc > 3 ? atoi(argv[3]) : 0;
	pid_t pid[WORKERS];
	struct worker *w;
	uint64_t first;
	int port;

	if (!n || n > WORKERS || !rounds)
		errx(2, "usage: neighbours N PORT ROUNDS");
	port = open(argv[2], O_RDWR | O_CLOEXEC);
	w = mmap(NULL, n * sizeof(*w), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (port < 0 || w == MAP_FAILED)
		err(2, "%s", argv[2]);
	first = now_ns() + 100000000;
	for (unsigned int i = 0; i < n; i++) {
		char path[64];
		FILE *f;

		pid[i] = fork();
		if (pid[i] < 0)
			err(2, "fork");
		if (pid[i])
			continue;
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		snprintf(path, sizeof(path), "/sys/fs/cgroup/c/nb%u/cgroup.procs", i);
		f = fopen(path, "w");
		if (!f || fputs("0", f) < 0 || fclose(f))
			err(2, "%s", path);
		work(&w[i], first + i * PERIOD_NS / n);
		_exit(0);
	}
	for (unsigned int round = 0; round < rounds; round++) {
		uint64_t from, to;

		wait_byte(port);
		from = now_ns();
		acknowledge(port);
		wait_byte(port);
		to = now_ns();
		if (to < from + LEAST_NS) {
			usleep((from + LEAST_NS - to) / 1000);
			to = from + LEAST_NS;
		}
		/* those that came at the end must be served to be counted */
		usleep(100000);
		printf("round ns=%" PRIu64 " took", to - from);
		for (unsigned int i = 0; i < n; i++)
			for (uint32_t j = 0; j < w[i].served; j++)
				if (w[i].request[j].due >= from && w[i].request[j].due < to)
					printf(" %" PRIu64, w[i].request[j].took);
		putchar('\n');
		fflush(stdout);
		acknowledge(port);
	}
	for (unsigned int i = 0; i < n; i++)
		kill(pid[i], SIGKILL);
	return 0;
}
