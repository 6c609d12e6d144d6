// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * stress: what the tasks of a container, and those who manage zones, can do to
 * a kernel. Runs as root in the microVM.
 *
 *   stress churn MIB SEED	forks, maps, touches, frees, locks and pins at most
 *				MIB of memory at random, and checks it; until killed
 *   stress faults		makes each allocation of each request fail once, one
 *				after the other
 *   stress requests N SEED	N requests at random, with allocations that fail at
 *				random
 *
 * The last two need a kernel with fault injection. All zones that they make are
 * gone when they end. They print what they have done, or what was wrong.
 */
#define _GNU_SOURCE
#include <czone.h>
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/io_uring.h>
#include <linux/sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define MIB ((size_t)1 << 20)
#define PAGE ((size_t)4096)
#define ROOT "/sys/fs/cgroup"
#define INJECT "/sys/kernel/debug/"

static uint64_t state;

static uint32_t below(uint32_t bound)
{
	state = state * 6364136223846793005u + 1442695040888963407u;
	return (state >> 33) % bound;
}

static void write_text(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);

	if (fd < 0 || write(fd, text, strlen(text)) < 0)
		err(1, "%s", path);
	close(fd);
}

/* ---- churn ---- */

#define AREAS 8
#define STEPS_PER_LINE 32

enum kind { ANON, HUGE, SHM, FILE_MAP, KINDS };

struct area {
	char *map;
	size_t pages;
	enum kind kind;
	uint64_t stamp;
	int ring;	/* that has it pinned, or -1 */
};

static struct area area[AREAS];

/* A few words of each page, so that most of the time is the kernel's. */
static volatile uint64_t *word(const struct area *a, size_t page, unsigned int i)
{
	return (uint64_t *)(a->map + page * PAGE + i * (PAGE / 4) + 8 * i);
}

static void fill(struct area *a, size_t from, size_t to)
{
	for (size_t page = from; page < to; page++)
		for (unsigned int i = 0; i < 4; i++)
			*word(a, page, i) = a->stamp + page;
}

static void verify(const struct area *a)
{
	for (size_t page = 0; page < a->pages; page++) {
		for (unsigned int i = 0; i < 4; i++) {
			uint64_t value = *word(a, page, i);

			if (value == a->stamp + page)
				continue;
			printf("CORRUPT kind=%d page=%zu found=%" PRIx64 " wanted=%" PRIx64 "\n",
			       a->kind, page, value, a->stamp + page);
			exit(1);
		}
	}
}

static int pin(void *map, size_t size)
{
	struct io_uring_params params = { 0 };
	struct iovec iov = { map, size };
	int ring = syscall(SYS_io_uring_setup, 1, &params);

	if (ring >= 0)
		syscall(SYS_io_uring_register, ring, IORING_REGISTER_BUFFERS, &iov, 1);
	return ring;
}

static void unmap(struct area *a)
{
	munmap(a->map, a->pages * PAGE);
	if (a->ring >= 0)
		close(a->ring);
	a->map = NULL;
}

static void map(struct area *a, size_t limit)
{
	size_t size;
	int fd = -1;
	char path[64];

	a->kind = below(KINDS);
	a->pages = 1 + below(a->kind == HUGE ? limit / 2 : limit / 4);
	a->stamp = ((uint64_t)below(UINT16_MAX) + 1) << 32;
	a->ring = -1;
	size = a->pages * PAGE;
	if (a->kind == SHM) {
		fd = memfd_create("churn", MFD_CLOEXEC);
	} else if (a->kind == FILE_MAP) {
		snprintf(path, sizeof(path), "/scratch/churn.%d", getpid());
		fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
		unlink(path);
	}
	if (fd >= 0 && ftruncate(fd, size))
		err(1, "ftruncate");
	a->map = mmap(NULL, size, PROT_READ | PROT_WRITE,
		      fd < 0 ? MAP_PRIVATE | MAP_ANONYMOUS : MAP_SHARED, fd, 0);
	if (fd >= 0)
		close(fd);
	if (a->map == MAP_FAILED)
		err(1, "mmap of %zu pages", a->pages);
	madvise(a->map, size, a->kind == HUGE ? MADV_HUGEPAGE : MADV_NOHUGEPAGE);
	fill(a, 0, a->pages);
}

/* What a child writes its parent does not see; a shared area is the exception. */
static void in_child(struct area *a)
{
	pid_t pid = fork();

	if (pid < 0)
		return;
	if (!pid) {
		verify(a);
		if (a->kind <= HUGE) {
			a->stamp ^= (uint64_t)1 << 60;
			fill(a, 0, a->pages / 2);
		}
		_exit(0);
	}
	waitpid(pid, NULL, 0);
}

/* Pages in a pipe cannot move as long as they are there. */
static void put_in_pipe(const struct area *a)
{
	struct iovec iov = { a->map, a->pages < 8 ? a->pages * PAGE : 8 * PAGE };
	int ends[2];

	if (pipe2(ends, O_CLOEXEC | O_NONBLOCK))
		return;
	vmsplice(ends[1], &iov, 1, 0);
	usleep(1000);
	close(ends[0]);
	close(ends[1]);
}

static void drop_some(struct area *a)
{
	size_t from = below(a->pages), to = from + 1 + below(a->pages - from);

	bool dropped;

	if (a->kind > HUGE)
		return;
	/* It fails at the first page that is locked, and has dropped those before. */
	dropped = !madvise(a->map + from * PAGE, (to - from) * PAGE, MADV_DONTNEED);
	for (size_t page = from; dropped && page < to; page++) {
		for (unsigned int i = 0; i < 4; i++) {
			if (!*word(a, page, i))
				continue;
			printf("CORRUPT: a new page has %" PRIx64 "\n", *word(a, page, i));
			exit(1);
		}
	}
	fill(a, from, to);
}

static void touch(struct area *a, size_t limit)
{
	if (!a->map) {
		map(a, limit);
		return;
	}
	switch (below(8)) {
	case 0:
		in_child(a);
		break;
	case 1:
		drop_some(a);
		break;
	case 2:
		put_in_pipe(a);
		break;
	case 3:
		mlock(a->map, a->pages * PAGE);
		munlock(a->map, a->pages * PAGE / 2);
		break;
	case 4:
		madvise(a->map, a->pages * PAGE, MADV_MERGEABLE);
		break;
	case 5:
		if (a->ring < 0)
			a->ring = pin(a->map, a->pages * PAGE);
		break;
	default:
		verify(a);
		unmap(a);
		return;
	}
	verify(a);
}

static void churn(size_t mib, uint64_t seed)
{
	size_t limit = mib * MIB / PAGE;

	state = seed;
	for (uint64_t step = 1;; step++) {
		size_t used = 0;
		unsigned int i = below(AREAS);

		touch(&area[i], limit / 4);
		for (unsigned int j = 0; j < AREAS; j++)
			used += area[j].map ? area[j].pages : 0;
		if (used > limit && area[i].map)
			unmap(&area[i]);
		if (step % STEPS_PER_LINE == 0)
			printf("churned steps=%" PRIu64 "\n", step);
	}
}

/* ---- requests ---- */

#define PARENT "/stress"
#define ZONES 4
#define LIMIT_MS 15000		/* of a request: the default is 10 s, and the kernel is slow */

static czone_vm *vm;
static czone *zone[ZONES];
static pid_t user[ZONES];
static int fail_nth;		/* /proc/thread-self/fail-nth */
static int make_it_fail;	/* /proc/self/make-it-fail */

/* The nth allocation from here on fails; 0 switches that off. */
static void inject(unsigned int nth)
{
	char text[16];
	int n = snprintf(text, sizeof(text), "%u", nth);

	if (pwrite(fail_nth, text, n, 0) != n)
		err(1, "fail-nth");
}

static bool injected(void)
{
	char text[16] = "";

	if (pread(fail_nth, text, sizeof(text) - 1, 0) <= 0)
		err(1, "fail-nth");
	return !atoi(text);
}

/*
 * Failures of which a request may die when it is short of memory. EIO: what
 * libnl makes of the ENFILE that the kernel has for a socket it cannot allocate.
 */
static bool no_memory(int r)
{
	return r == -ENOMEM || r == -ENOBUFS || r == -EFAULT || r == -EIO;
}

static const char *cgroup(unsigned int i, bool full)
{
	static char path[64];

	snprintf(path, sizeof(path), "%s" PARENT "/%u", full ? ROOT : "", i);
	return path;
}

/* A task that is born in the cgroup and has some memory. */
static pid_t start_user(unsigned int i, size_t bytes)
{
	int fd = open(cgroup(i, true), O_RDONLY | O_DIRECTORY | O_CLOEXEC), ready[2];
	struct clone_args args = { .flags = CLONE_INTO_CGROUP, .exit_signal = SIGCHLD };
	char byte;
	pid_t pid;

	if (fd < 0 || pipe2(ready, O_CLOEXEC))
		err(1, "%s", cgroup(i, true));
	args.cgroup = fd;
	pid = syscall(SYS_clone3, &args, sizeof(args));
	if (pid < 0)
		err(1, "clone3");
	if (!pid) {
		char *map = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
				 -1, 0);

		if (map == MAP_FAILED)
			_exit(1);
		memset(map, 0x5a, bytes);
		if (write(ready[1], "r", 1) != 1)
			_exit(1);
		for (;;)
			pause();
	}
	close(ready[1]);
	if (read(ready[0], &byte, 1) < 0)
		err(1, "read");
	close(ready[0]);
	close(fd);
	return pid;
}

static void end_user(unsigned int i)
{
	if (user[i]) {
		kill(user[i], SIGKILL);
		waitpid(user[i], NULL, 0);
	}
	user[i] = 0;
}

static int create(unsigned int i, size_t blocks)
{
	struct czone_create_opts opts = CZONE_INIT(opts);

	opts.size = blocks * CZONE_BLOCK;
	return czone_create(vm, &opts, &zone[i]);
}

static uint64_t pool_used(void)
{
	struct czone_vm_stats stats = CZONE_INIT(stats);

	if (czone_vm_stats(vm, &stats))
		errx(1, "stats: %s", czone_error_detail());
	return stats.pool_used;
}

/* Without faults: what a request has left goes away. */
static void destroy(unsigned int i)
{
	end_user(i);
	if (!zone[i])
		return;
	int r = czone_destroy(zone[i], CZONE_DESTROY_WITH_TASKS, 0, NULL);

	if (r && r != -ENOENT)
		errx(1, "destroy of zone %u: %s", czone_id(zone[i]), czone_error_detail());
	zone[i] = czone_unref(zone[i]);
}

/* Each request begins with a zone of 8 MiB in which a task has 4, but create. */
enum request {
	CREATE, ATTACH, GROW, SHRINK, RECLAIM, RECLAIM_VM, STATS, EVACUATE, DESTROY, REQUESTS
};

static const char *const request_name[] = {
	"create", "attach", "grow", "shrink", "reclaim", "reclaim of the VM", "stats",
	"destroy with tasks", "destroy",
};

static int make(enum request request, unsigned int i)
{
	struct czone_zone_stats stats = CZONE_INIT(stats);

	switch (request) {
	case CREATE:
		return create(i, 2);
	case ATTACH:
		return czone_attach_cgroup(zone[i], cgroup(i, false), 0, 0, NULL);
	case GROW:
		return czone_resize(zone[i], 4 * CZONE_BLOCK, 0);
	case SHRINK:
		return czone_resize(zone[i], 2 * CZONE_BLOCK, 0);
	case RECLAIM:
		return czone_reclaim(zone[i], UINT64_MAX, NULL, NULL);
	case RECLAIM_VM:
		return czone_vm_reclaim(vm, UINT64_MAX, NULL, NULL);
	case STATS:
		return czone_stats(zone[i], &stats);
	case EVACUATE:
		return czone_destroy(zone[i], CZONE_DESTROY_WITH_TASKS, 0, NULL);
	default:
		return czone_destroy(zone[i], 0, 0, NULL);
	}
}

static void prepare(enum request request)
{
	int r;

	if (request == CREATE)
		return;
	r = create(0, request == SHRINK ? 4 : 2);
	if (!r && request != ATTACH)
		r = czone_attach_cgroup(zone[0], cgroup(0, false), 0, 0, NULL);
	if (r)
		errx(1, "preparing %s: %s", request_name[request], czone_error_detail());
	if (request == ATTACH)
		return;
	user[0] = start_user(0, 4 * MIB);
	if (request == DESTROY)
		end_user(0);
}

/*
 * Some requests allocate by the thousand: the first zone of a section, pages for
 * KASAN's shadow of it; a destroy with tasks, a page for each that moves out. To
 * fail each of them takes minutes, and a sample will do.
 */
static unsigned int next_fault(unsigned int nth, bool sample)
{
	return nth + 1 + (sample ? nth / 4 : 0);
}

static uint64_t now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000ull + t.tv_nsec / 1000000;
}

static bool faults_in(enum request request, bool first)
{
	unsigned int nth = 1, tried = 0, failed = 0;
	uint64_t before = pool_used(), began, longest = 0;
	bool hit, good = true;
	int r;

	for (;; nth = next_fault(nth, first || request == EVACUATE)) {
		prepare(request);
		if (first)	/* idle sections go offline */
			czone_vm_reclaim(vm, UINT64_MAX, NULL, NULL);
		began = now_ms();
		inject(nth);
		r = make(request, 0);
		hit = injected();
		inject(0);
		if (now_ms() - began > longest)
			longest = now_ms() - began;
		if (r < 0 && (!hit || !no_memory(r))) {
			printf("%s, allocation %u: %d, %s\n", request_name[request], nth, r,
			       czone_error_detail());
			good = false;
		}
		tried += hit;
		failed += r < 0;
		if (r < 0 && request == CREATE)
			zone[0] = NULL;
		destroy(0);
		if (pool_used() != before) {
			printf("%s, allocation %u: %d, and %" PRIu64 " bytes of the pool are lost\n",
			       request_name[request], nth, r, pool_used() - before);
			before = pool_used();
			good = false;
		}
		if (!hit)
			break;
	}
	printf("%s%s: %u allocations failed, %u times the request, %" PRIu64 " ms at most\n",
	       first ? "first " : "", request_name[request], tried, failed, longest);
	if (longest > LIMIT_MS) {
		printf("%s: that is too long\n", request_name[request]);
		good = false;
	}
	return good && tried;
}

static bool faults(void)
{
	bool good = faults_in(CREATE, true);

	/* Keeps the section online, which takes most of the time. */
	if (create(1, 1))
		errx(1, "%s", czone_error_detail());
	for (enum request request = 0; request < REQUESTS; request++)
		good &= faults_in(request, false);
	destroy(1);
	return good;
}

static void fail_at_random(bool on)
{
	if (pwrite(make_it_fail, on ? "1" : "0", 1, 0) != 1)
		err(1, "make-it-fail");
}

static void requests(unsigned int count, uint64_t seed)
{
	unsigned int done[REQUESTS] = { 0 }, failed = 0;

	state = seed;
	for (unsigned int n = 0; n < count; n++) {
		enum request request = below(REQUESTS);
		unsigned int i = below(ZONES);
		int r;

		if ((request == CREATE) != !zone[i])
			request = zone[i] ? STATS : CREATE;
		fail_at_random(true);
		r = make(request, i);
		fail_at_random(false);
		done[request]++;
		/* Others want the pool as well, and a zone has one operation at a time. */
		if (r < 0 && !no_memory(r) && r != -EBUSY && r != -ENOSPC && r != -EEXIST)
			errx(1, "%s: %d, %s", request_name[request], r, czone_error_detail());
		failed += no_memory(r);
		if (request == CREATE && r < 0)
			zone[i] = NULL;
		if (request == EVACUATE || request == DESTROY)
			destroy(i);
		if (request == ATTACH && !user[i] && below(2))
			user[i] = start_user(i, below(6) * MIB + PAGE);
		else if (!below(4))
			end_user(i);
	}
	for (unsigned int i = 0; i < ZONES; i++)
		destroy(i);
	printf("%u requests, %u without memory:", count, failed);
	for (enum request request = 0; request < REQUESTS; request++)
		printf(" %s %u", request_name[request], done[request]);
	puts("");
}

static void begin(const char *probability)
{
	static const char *const type[] = { "failslab", "fail_page_alloc" };
	char path[128];

	for (unsigned int i = 0; i < 2; i++) {
		static const char *const option[][2] = {
			{ "task-filter", "Y" }, { "times", "-1" }, { "verbose", "0" },
			{ "interval", "1" }, { "ignore-gfp-wait", "N" }, { "probability", NULL },
		};

		for (unsigned int j = 0; j < sizeof(option) / sizeof(*option); j++) {
			snprintf(path, sizeof(path), INJECT "%s/%s", type[i], option[j][0]);
			write_text(path, option[j][1] ? option[j][1] : probability);
		}
	}
	write_text(INJECT "fail_page_alloc/min-order", "0");
	write_text(INJECT "fail_page_alloc/ignore-gfp-highmem", "N");
	fail_nth = open("/proc/thread-self/fail-nth", O_RDWR | O_CLOEXEC);
	make_it_fail = open("/proc/self/make-it-fail", O_RDWR | O_CLOEXEC);
	if (fail_nth < 0 || make_it_fail < 0)
		err(1, "fail-nth, make-it-fail");

	if (mkdir(ROOT PARENT, 0755) && errno != EEXIST)
		err(1, ROOT PARENT);
	write_text(ROOT PARENT "/cgroup.subtree_control", "+memory");
	for (unsigned int i = 0; i < ZONES; i++)
		if (mkdir(cgroup(i, true), 0755) && errno != EEXIST)
			err(1, "%s", cgroup(i, true));
	if (czone_open(NULL, &vm))
		errx(1, "%s", czone_error_detail());
}

static void end(void)
{
	czone_vm_unref(vm);
	for (unsigned int i = 0; i < ZONES; i++)
		if (rmdir(cgroup(i, true)))
			err(1, "%s", cgroup(i, true));
	if (rmdir(ROOT PARENT))
		err(1, ROOT PARENT);
}

int main(int argc, char **argv)
{
	setvbuf(stdout, NULL, _IOLBF, 0);
	if (argc == 4 && !strcmp(argv[1], "churn")) {
		churn(atoi(argv[2]), atoi(argv[3]));
	} else if (argc == 2 && !strcmp(argv[1], "faults")) {
		begin("0");
		if (!faults())
			return 1;
		end();
	} else if (argc == 4 && !strcmp(argv[1], "requests")) {
		begin("3");
		requests(atoi(argv[2]), atoi(argv[3]));
		end();
	} else {
		errx(2, "usage: stress churn MIB SEED | faults | requests N SEED");
	}
	puts("ok");
	return 0;
}
