// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * How long the device takes for reports, and how long the bare system calls for
 * the same ranges.
 *
 * usage: report RANGE_KIB RUNS [DIR]
 *
 * Ranges of so many KiB, each with as much between it and the next one, 1 GiB in
 * all, in a pool on a memfd or in DIR, on a tmpfs. The guest is the unit tests':
 * real rings, 256 ranges a report and four reports at a time, like the driver
 * for Linux. A line for each run: `device_us bare_us`. Who is first changes.
 */
#include "front_end.h"

#include <czone.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define ALL (1024 * MIB)
#define PER_REPORT 256
#define IN_FLIGHT 4

static struct front_end fe;
static struct device_range *range;
static size_t n;

static uint64_t now_us(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000 + t.tv_nsec / 1000;
}

static void die(const char *what)
{
	perror(what);
	exit(1);
}

/*
 * Another process has the memory mapped, as a VMM has; it stays until release().
 * Threads of ours have run where it has not, so that punches cost the same from each.
 */
static pid_t fill(void)
{
	int ready[2];
	pid_t pid;
	char c;

	if (pipe(ready))
		die("pipe");
	pid = fork();
	if (pid < 0)
		die("fork");
	if (!pid) {
		for (size_t i = 0; i < n; i++)
			for (uint64_t at = 0; at < range[i].size; at += PAGE)
				fe.pool[range[i].start - POOL + at] = 1;
		if (write(ready[1], "", 1) == 1)
			pause();
		_exit(1);
	}
	close(ready[1]);
	if (read(ready[0], &c, 1) != 1 || fe_allocated(fe.pool_fd) < ALL) {
		fprintf(stderr, "only %llu bytes are there\n",
			(unsigned long long)fe_allocated(fe.pool_fd));
		exit(1);
	}
	close(ready[0]);
	return pid;
}

static void release(pid_t pid)
{
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
}

static uint64_t bare(void)
{
	pid_t vmm = fill();
	uint64_t start = now_us();

	for (size_t i = 0; i < n; i++)
		if (syscall(SYS_fallocate, fe.pool_fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
			    range[i].start - POOL, range[i].size))
			die("fallocate");
	start = now_us() - start;
	release(vmm);
	return start;
}

static uint64_t device(void)
{
	uint64_t status[IN_FLIGHT], start, back = 0;
	size_t sent = 0, answered = 0, reports = (n + PER_REPORT - 1) / PER_REPORT;
	pid_t vmm;

	vmm = fill();
	start = now_us();
	while (answered < reports) {
		if (sent < reports && sent - answered < IN_FLIGHT) {
			size_t left = n - sent * PER_REPORT;
			uint32_t count = left < PER_REPORT ? left : PER_REPORT;

			status[sent % IN_FLIGHT] = fe_report_begin(&fe, 1, range + sent * PER_REPORT,
								   count, count);
			sent++;
			continue;
		}
		back += fe_report_end(&fe, status[answered++ % IN_FLIGHT]).bytes;
	}
	start = now_us() - start;
	release(vmm);
	if (back != ALL || fe_allocated(fe.pool_fd)) {
		fprintf(stderr, "the device says %llu bytes came back, %llu are left\n",
			(unsigned long long)back, (unsigned long long)fe_allocated(fe.pool_fd));
		exit(1);
	}
	return start;
}

int main(int argc, char **argv)
{
	uint64_t size = argc > 1 ? strtoull(argv[1], NULL, 0) << 10 : 0;
	int runs = argc > 2 ? atoi(argv[2]) : 0;

	if (!size || size % PAGE || ALL % size || runs < 1) {
		fprintf(stderr, "usage: %s RANGE_KIB RUNS [DIR]\n", argv[0]);
		return 2;
	}
	/* what else the machine does is not what is measured; threads and children inherit it */
	sched_setscheduler(0, SCHED_RR, &(struct sched_param){ .sched_priority = 1 });
	n = ALL / size;
	range = calloc(n, sizeof(*range));
	for (size_t i = 0; range && i < n; i++)
		range[i] = (struct device_range){ POOL + 2 * i * size, size };
	fe_pool_size = 2 * ALL;
	fe_pool_dir = argc > 3 ? argv[3] : NULL;
	for (int i = 0; i < runs; i++) {
		uint64_t by_device, by_hand = 0;

		/* anew each time: its buffers are never freed */
		fe_boot(&fe);
		if (i % 2)
			by_hand = bare();
		by_device = device();
		if (!(i % 2))
			by_hand = bare();
		printf("%llu %llu\n", (unsigned long long)by_device, (unsigned long long)by_hand);
		fflush(stdout);
		fe_close(&fe);
	}
	return 0;
}
