// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * insn: counts what an operation costs in guest instructions.
 *
 * For a VM with one vCPU under QEMU's -icount shift=0, where an instruction
 * takes a nanosecond of the guest's time. Time passes while the vCPU is idle as
 * well, so what the kernel counts as idle is subtracted: its exact figure is in
 * /proc/timer_list.
 *
 *   insn verify                  a loop of known length, and a sleep
 *   insn boot                    all since the kernel's clock began
 *   insn window MS               everything that the guest does in this time
 *   insn until PORT              the same until a byte comes from a port
 *   insn keep MIB EVERY          a process that touches so much, keeps every so-manieth page of
 *                                4 KiB and its life; 0: all of it
 *   insn marks N FIFO COMMAND... runs it; from its beginning to each of N bytes from the FIFO
 *   insn dirty MIB               a process touches so much memory, and exits
 *   insn zones N [FROM]          makes zones of 4 MiB, each with its cgroup, that stay
 *   insn create MIB N            N zones made, destroyed, and made again
 *   insn destroy MIB N WINDOW    zones whose process dirtied all and died, N times;
 *                                WINDOW: ms, until everything has settled
 *   insn fault MIB ROUNDS [zone] faults of 4 KiB; in a zone that is new each round
 *
 * Output: a line per measurement, of words and of key=value pairs.
 */
#include <czone.h>
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define MIB ((uint64_t)1 << 20)
#define PAGE 4096
#define LOOPS 50000000ull
#define SETTLE_MS 300
#define MARKS_LIMIT_S 300
#define CGROUPS "/sys/fs/cgroup"
#define GROUP "/c/insn"

struct sample {
	uint64_t now, idle;
};

static uint64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000000000ull + t.tv_nsec;
}

/* Time that the only CPU has been idle so far, in ns of the same clock. */
static uint64_t idle_ns(void)
{
	static const char *const field[] = { ".idle_sleeptime :", ".iowait_sleeptime:" };
	FILE *f = fopen("/proc/timer_list", "re");
	unsigned int found = 0, cpus = 0;
	uint64_t sum = 0, value;
	char line[256];

	if (!f)
		err(2, "/proc/timer_list");
	while (fgets(line, sizeof(line), f)) {
		cpus += !strncmp(line, "cpu:", 4);
		for (size_t i = 0; i < 2; i++) {
			char *p = strstr(line, field[i]);

			if (p && sscanf(p + strlen(field[i]), "%" SCNu64, &value) == 1) {
				sum += value;
				found++;
			}
		}
	}
	fclose(f);
	if (cpus != 1 || found != 2)
		errx(2, "/proc/timer_list: %u CPUs, %u idle times; one vCPU is needed", cpus, found);
	return sum;
}

/* Reading the file costs instructions itself: it is outside of what is measured. */
static struct sample begin(void)
{
	struct sample s = { .idle = idle_ns() };

	s.now = now_ns();
	return s;
}

static uint64_t end(const struct sample *s)
{
	uint64_t now = now_ns(), idle = idle_ns();

	return now - s->now - (idle - s->idle);
}

static void sleep_ms(uint64_t ms)
{
	struct timespec t = { .tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000 };

	while (nanosleep(&t, &t))
		;
}

static uint64_t number(const char *text, uint64_t max)
{
	char *rest;
	uint64_t n = strtoull(text, &rest, 10);

	if (!n || n > max || *rest)
		errx(2, "not a number from 1 to %" PRIu64 ": %s", max, text);
	return n;
}

static void verify(void)
{
	uint64_t n = LOOPS;
	struct sample s = begin();

	__asm__ volatile("1: dec %0; jnz 1b" : "+r"(n));
	printf("loop expected=%llu insn=%" PRIu64 "\n", 2 * LOOPS, end(&s));
	for (unsigned int i = 0; i < 5; i++) {
		s = begin();
		sleep_ms(100);
		printf("sleep ms=100 insn=%" PRIu64 "\n", end(&s));
	}
}

static void window(uint64_t ms)
{
	struct sample s = begin();

	sleep_ms(ms);
	printf("window ms=%" PRIu64 " insn=%" PRIu64 "\n", ms, end(&s));
}

static void until(const char *port)
{
	int fd = open(port, O_RDONLY | O_CLOEXEC);
	struct sample s;
	uint64_t now;
	char byte;

	if (fd < 0)
		err(2, "%s", port);
	s = begin();
	if (read(fd, &byte, 1) != 1)
		err(2, "%s", port);
	now = now_ns();
	printf("until insn=%" PRIu64 " ns=%" PRIu64 "\n", end(&s), now - s.now);
}

static void boot(void)
{
	struct sample s = { 0 };
	uint64_t insn = end(&s);

	printf("boot insn=%" PRIu64 " ns=%" PRIu64 "\n", insn, now_ns());
}

/* Several vCPUs: only the guest's clock, which is the host's where instructions are not counted. */
static void marks(uint64_t n, const char *fifo, char **command)
{
	int fd = open(fifo, O_RDWR | O_CLOEXEC);	/* never at its end */
	bool counted = sysconf(_SC_NPROCESSORS_ONLN) == 1;
	struct sample s;
	pid_t pid;
	char mark;

	if (fd < 0)
		err(2, "%s", fifo);
	fflush(stdout);
	s = counted ? begin() : (struct sample){ .now = now_ns() };
	pid = fork();
	if (!pid) {
		execvp(command[0], command);
		err(127, "%s", command[0]);
	}
	if (pid < 0)
		err(2, "fork");
	alarm(MARKS_LIMIT_S);	/* ends us when the command fails */
	for (uint64_t i = 0; i < n; i++) {
		uint64_t now;

		if (read(fd, &mark, 1) != 1)
			err(2, "%s", fifo);
		now = now_ns();
		printf("%c ns=%" PRIu64, mark, now - s.now);
		if (counted)
			printf(" insn=%" PRIu64, end(&s));
		putchar('\n');
	}
	waitpid(pid, NULL, 0);
}

static void make_group(const char *path)
{
	char full[256];

	snprintf(full, sizeof(full), CGROUPS "%s", path);
	if (mkdir(full, 0755) && errno != EEXIST)
		err(2, "%s", full);
}

static czone_vm *open_vm(void)
{
	czone_vm *vm;

	if (czone_open(NULL, &vm) < 0)
		errx(2, "czone_open: %s", czone_error_detail());
	return vm;
}

static czone *make_zone(czone_vm *vm, uint64_t size, const char *group)
{
	struct czone_create_opts opts = CZONE_INIT(opts);
	czone *zone;

	opts.size = size;
	opts.cgroup = group;
	if (czone_create(vm, &opts, &zone) < 0)
		errx(2, "czone_create: %s", czone_error_detail());
	return zone;
}

static void destroy_zone(czone *zone, struct czone_destroy_report *report)
{
	if (czone_destroy(zone, 0, 0, report) < 0)
		errx(2, "czone_destroy: %s", czone_error_detail());
}

static void zones(uint64_t n, uint64_t from)
{
	czone_vm *vm = open_vm();
	char group[64];

	for (uint64_t i = from; i < from + n; i++) {
		snprintf(group, sizeof(group), "/c/other%" PRIu64, i);
		make_group(group);
		czone_unref(make_zone(vm, CZONE_BLOCK, group));
	}
	printf("zones made=%" PRIu64 "\n", n);
}

static void create(uint64_t size, uint64_t n)
{
	static const char *const turn[] = { "first", "again" };
	czone_vm *vm = open_vm();
	czone *zone[64];
	char group[64];

	for (size_t t = 0; t < 2; t++) {
		for (uint64_t i = 0; i < n; i++) {
			struct sample s;

			snprintf(group, sizeof(group), GROUP "%" PRIu64, i);
			make_group(group);
			sleep_ms(SETTLE_MS);
			s = begin();
			zone[i] = make_zone(vm, size, group);
			printf("%s insn=%" PRIu64 "\n", turn[t], end(&s));
		}
		for (uint64_t i = 0; i < n; i++) {
			destroy_zone(zone[i], NULL);
			czone_unref(zone[i]);
		}
		sleep_ms(SETTLE_MS);
	}
}

/* In the cgroup from its birth on. */
static pid_t spawn(const char *group)
{
	struct clone_args args = { .flags = CLONE_INTO_CGROUP, .exit_signal = SIGCHLD };
	char full[256];
	int fd;
	pid_t pid;

	snprintf(full, sizeof(full), CGROUPS "%s", group);
	fd = open(full, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		err(2, "%s", full);
	args.cgroup = fd;
	fflush(stdout);
	pid = syscall(SYS_clone3, &args, sizeof(args));
	if (pid < 0)
		err(2, "clone3");
	close(fd);
	return pid;
}

static void join(pid_t pid)
{
	int status;

	if (waitpid(pid, &status, 0) != pid || status)
		errx(2, "a child failed: %#x", status);
}

/* Instructions to touch each page of fresh memory, which stays mapped. */
static uint64_t touch(uint64_t size)
{
	char *m = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	struct sample s;

	if (m == MAP_FAILED)
		err(2, "mmap");
	if (madvise(m, size, MADV_NOHUGEPAGE))
		err(2, "madvise");
	s = begin();
	for (uint64_t at = 0; at < size; at += PAGE)
		((volatile char *)m)[at] = 1;
	return end(&s);
}

static void dirty(uint64_t size)
{
	pid_t pid;

	make_group(GROUP);
	pid = spawn(GROUP);
	if (!pid) {
		touch(size);
		_exit(0);
	}
	join(pid);
	sleep_ms(SETTLE_MS);
}

/* Free memory between pages in use, as a process leaves it that shared a zone with a live one. */
static void keep(uint64_t size, uint64_t every)
{
	char *m;
	pid_t pid;
	int done[2];
	char byte;

	make_group("/c/keep");
	if (pipe2(done, O_CLOEXEC))
		err(2, "pipe");
	pid = spawn("/c/keep");
	if (pid) {
		close(done[1]);
		if (read(done[0], &byte, 1) != 1)
			errx(2, "the keeper failed");
		printf("keep pid=%d\n", pid);
		return;
	}
	m = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (m == MAP_FAILED || madvise(m, size, MADV_NOHUGEPAGE))
		err(2, "mmap");
	for (uint64_t at = 0; at < size; at += PAGE)
		((volatile char *)m)[at] = 1;
	for (uint64_t at = 0; every && at + every * PAGE <= size; at += every * PAGE)
		if (madvise(m + at + PAGE, (every - 1) * PAGE, MADV_DONTNEED))
			err(2, "madvise");
	setsid();
	for (int fd = 0; fd < 3; fd++)
		close(fd);
	if (write(done[1], "r", 1) == 1)
		pause();
	_exit(0);
}

static void destroy(uint64_t size, uint64_t n, uint64_t window_ms)
{
	struct czone_destroy_report report = CZONE_INIT(report);
	czone_vm *vm = open_vm();

	make_group(GROUP);
	for (uint64_t i = 0; i < n; i++) {
		/* what the process has besides: its text, its stack */
		czone *zone = make_zone(vm, size + 4 * CZONE_BLOCK, GROUP);
		struct sample all, call;
		uint64_t insn;

		dirty(size);
		all = call = begin();
		destroy_zone(zone, &report);
		insn = end(&call);
		sleep_ms(window_ms);
		printf("destroy insn=%" PRIu64 " window_insn=%" PRIu64 " returned=%" PRIu64 "\n", insn,
		       end(&all), report.returned);
		all = call = begin();
		end(&call);	/* as above: reading the counter is no part of the operation */
		sleep_ms(window_ms);
		printf("background insn=%" PRIu64 "\n", end(&all));
		czone_unref(zone);
	}
}

static void fault(uint64_t size, uint64_t rounds, bool in_zone)
{
	czone_vm *vm = in_zone ? open_vm() : NULL;

	make_group(GROUP);
	for (uint64_t i = 0; i < rounds; i++) {
		czone *zone = in_zone ? make_zone(vm, size + 4 * CZONE_BLOCK, GROUP) : NULL;

		/* the second process finds memory that the first has used */
		for (unsigned int again = 0; again < 2; again++) {
			pid_t pid = spawn(GROUP);

			if (!pid) {
				printf("%s insn=%" PRIu64 " faults=%" PRIu64 "\n",
				       again ? "again" : "first", touch(size), size / PAGE);
				fflush(stdout);
				_exit(0);
			}
			join(pid);
			sleep_ms(SETTLE_MS);
		}
		if (zone) {
			destroy_zone(zone, NULL);
			czone_unref(zone);
		}
	}
}

int main(int argc, char **argv)
{
	const char *what = argc > 1 ? argv[1] : "";

	if (!strcmp(what, "verify") && argc == 2)
		verify();
	else if (!strcmp(what, "window") && argc == 3)
		window(number(argv[2], 3600000));
	else if (!strcmp(what, "until") && argc == 3)
		until(argv[2]);
	else if (!strcmp(what, "keep") && argc == 4)
		keep(number(argv[2], 1 << 20) * MIB, strcmp(argv[3], "0") ? number(argv[3], 4096) : 0);
	else if (!strcmp(what, "boot") && argc == 2)
		boot();
	else if (!strcmp(what, "marks") && argc > 4)
		marks(number(argv[2], 1000), argv[3], argv + 4);
	else if (!strcmp(what, "dirty") && argc == 3)
		dirty(number(argv[2], 1 << 20) * MIB);
	else if (!strcmp(what, "zones") && (argc == 3 || argc == 4))
		zones(number(argv[2], 4096), argc == 4 ? number(argv[3], 4096) : 0);
	else if (!strcmp(what, "create") && argc == 4)
		create(number(argv[2], 1 << 20) * MIB, number(argv[3], 64));
	else if (!strcmp(what, "destroy") && argc == 5)
		destroy(number(argv[2], 1 << 20) * MIB, number(argv[3], 1000),
			number(argv[4], 60000));
	else if (!strcmp(what, "fault") && (argc == 4 || (argc == 5 && !strcmp(argv[4], "zone"))))
		fault(number(argv[2], 1 << 20) * MIB, number(argv[3], 1000), argc == 5);
	else
		errx(2, "usage: insn verify | boot | window MS | until PORT | keep MIB EVERY | marks N FIFO COMMAND... | dirty MIB | zones N [FROM] | create MIB N | "
		     "destroy MIB N MS | fault MIB ROUNDS [zone]");
	return 0;
}
