// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * demo: the main job of libczone, start to end. One microVM, eight containers,
 * each in a memory zone of its own; some go idle and their free memory is taken
 * back; they end one by one and the host's memory follows. script/demo builds
 * what it needs and runs it.
 *
 * Everything about memory goes through libczone; the containers themselves are
 * started by the guest's own means (examples/microvm).
 */
#include "guest.h"

#include <czone.h>
#include <err.h>
#include <getopt.h>
#include <inttypes.h>
#include <jansson.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define MIB ((uint64_t)1 << 20)
#define STEP_MS 120000		/* limit of a step inside the guest */
#define OVERHEAD (12 * MIB)	/* of a zone over what its workload dirties: code, stacks, page lists */

struct container {
	const char *name;
	unsigned int anon, shm, file;	/* MiB that it dirties */
	unsigned int idle_percent;	/* of anon, freed when it goes idle; 0: it stays busy */
	unsigned int chunk;		/* KiB; how scattered it is when freed, 0: in one piece */
	czone *zone;
	char pid[16];
	uint64_t dirtied, freed, kept, returned;
};

static struct container containers[] = {
	{ .name = "thumbnail", .anon = 48, .file = 16 },
	{ .name = "json",      .anon = 32, .idle_percent = 50 },
	{ .name = "inference", .anon = 224, .file = 32, .idle_percent = 75 },
	{ .name = "gzip",      .anon = 16, .file = 48 },
	{ .name = "pagerank",  .anon = 128, .idle_percent = 60, .chunk = 2048 },
	{ .name = "template",  .anon = 24, .shm = 16 },
	{ .name = "aes",       .anon = 64, .shm = 32, .idle_percent = 40, .chunk = 64 },
	{ .name = "matrix",    .anon = 192 },
};
#define CONTAINERS (sizeof(containers) / sizeof(containers[0]))

static czone_vm *_Atomic vm;
static int guest = -1;
static json_t *figures;
static bool terminal;

static void stop_vm(void)
{
	czone_vm_unref(atomic_exchange(&vm, NULL));
}

static atomic_bool interrupted;

/* The VM does not end by itself when we are interrupted. */
static void *wait_signal(void *set)
{
	int signal;

	if (!sigwait(set, &signal)) {
		interrupted = true;
		fprintf(stderr, "\ndemo: stopped by signal %d\n", signal);
		/* while it starts there is nothing to stop yet */
		for (int i = 0; !vm && i < 1200; i++)
			usleep(100000);
		if (vm)
			czone_vm_stop(vm);
		_exit(128 + signal);
	}
	return NULL;
}

static void __attribute__((format(printf, 1, 2), noreturn)) fail(const char *format, ...)
{
	va_list ap;

	if (interrupted)	/* what fails now fails because of that; wait_signal() ends us */
		pause();
	va_start(ap, format);
	fputs("\ndemo: ", stderr);
	vfprintf(stderr, format, ap);
	fputc('\n', stderr);
	va_end(ap);
	exit(1);
}

static void must(int error, const char *what, const char *name)
{
	if (error < 0)
		fail("%s %s: %s: %s", what, name, czone_strerror(error), czone_error_detail());
}

static double seconds(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec + t.tv_nsec / 1e9;
}

static double mib(uint64_t bytes)
{
	return bytes / (double)MIB;
}

static void record(const char *name, uint64_t bytes)
{
	json_object_set_new(figures, name, json_integer(bytes));
}

/* What the host has given to the VM, by the host's own books. */
static struct czone_vm_stats host_memory(const char *when)
{
	struct czone_vm_stats s = CZONE_INIT(s);

	must(czone_vm_stats(vm, &s), "statistics of", "the VM");
	if (when)
		printf("  %-42s %8.1f %8.1f %8.1f %8.1f\n", when, mib(s.host_boot), mib(s.host_pool),
		       mib(s.host_boot + s.host_pool), mib(s.host_pss));
	return s;
}

static void host_memory_head(void)
{
	printf("  %-42s %8s %8s %8s %8s\n", "host memory of the VM, MiB", "boot", "pool", "total", "PSS");
}

static void run(const char *format, const char *name)
{
	char line[256], *output;

	snprintf(line, sizeof(line), format, name);
	output = guest_run(guest, STEP_MS, "%s", line);
	if (!output)
		fail("the guest could not do: %s", line);
	free(output);
}

/* Wait until a container's log has a line that begins with `word`; the number behind `key` in it. */
static uint64_t wait_line(struct container *c, const char *word, const char *key)
{
	double end = seconds() + STEP_MS / 1e3;
	struct timespec pause = { .tv_nsec = 100000000 };

	for (;;) {
		char *log = guest_run(guest, STEP_MS, "cat /run/c/%s.log", c->name), *line, *value;

		if (!log || strstr(log, "CORRUPT"))
			fail("container %s: %s", c->name, log ? log : "no log");
		line = strstr(log, word);
		if (line && strchr(line, '\n')) {
			value = strstr(line, key);
			uint64_t number = value ? strtoull(value + strlen(key), NULL, 10) : 0;

			free(log);
			return number;
		}
		if (seconds() > end)
			fail("container %s did not say '%s' within %d s: %s", c->name, word, STEP_MS / 1000, log);
		free(log);
		if (terminal) {
			struct czone_vm_stats s = host_memory(NULL);

			fprintf(stderr, "\r  ... %s; the pool has %.0f MiB of the host\033[K", c->name,
				mib(s.host_pool));
		}
		nanosleep(&pause, NULL);
	}
}

static void progress_end(void)
{
	if (terminal)
		fputs("\r\033[K", stderr);
}

static void create(struct container *c)
{
	struct czone_create_opts o = CZONE_INIT(o);
	char cgroup[64], line[256], *output;

	run("container create %s", c->name);
	snprintf(cgroup, sizeof(cgroup), "/c/%s", c->name);
	o.size = (c->anon + c->shm + c->file) * MIB + OVERHEAD;
	must(czone_create(vm, &o, &c->zone), "creating the zone of", c->name);
	must(czone_attach_cgroup(c->zone, cgroup, 0, 0, NULL), "attaching", c->name);
	snprintf(line, sizeof(line), "container start %s workload anon=%u shm=%u file=%u free=%u chunk=%u seed=%u",
		 c->name, c->anon, c->shm, c->file, c->idle_percent, c->chunk, (unsigned int)(c - containers));
	output = guest_run(guest, STEP_MS, "%s", line);
	if (!output)
		fail("container %s did not start", c->name);
	snprintf(c->pid, sizeof(c->pid), "%d", atoi(output));
	free(output);
}

static uint64_t page_faults(struct container *c)
{
	char *output = guest_run(guest, STEP_MS, "cut -d' ' -f10,12 /proc/%s/stat", c->pid);
	uint64_t minor = 0, major = 0;

	if (!output || sscanf(output, "%" SCNu64 " %" SCNu64, &minor, &major) != 2)
		fail("no page-fault counts of container %s", c->name);
	free(output);
	return minor + major;
}

static void table(void)
{
	printf("\n  %-10s %8s %8s %8s %14s %9s   %s\n", "container", "dirtied", "zone", "used",
	       "host-resident", "returned", "MiB");
	for (struct container *c = containers; c < containers + CONTAINERS; c++) {
		struct czone_zone_stats s = CZONE_INIT(s);

		must(czone_stats(c->zone, &s), "statistics of", c->name);
		printf("  %-10s %8.1f %8.1f %8.1f %14.1f %9.1f\n", c->name, mib(c->dirtied), mib(s.size),
		       mib(s.used), mib(s.host_resident), mib(c->returned));
	}
	putchar('\n');
}

static uint64_t idle(void)
{
	uint64_t freed = 0, got = 0, faults = 0;
	double slowest = 0;

	for (struct container *c = containers; c < containers + CONTAINERS; c++) {
		if (!c->idle_percent)
			continue;
		run("kill -USR1 %s", c->pid);
		c->freed = wait_line(c, "idle ", "freed=");
		freed += c->freed;
	}
	progress_end();
	for (struct container *c = containers; c < containers + CONTAINERS; c++) {
		uint64_t before = page_faults(c);
		double t = seconds();

		if (!c->idle_percent)
			continue;
		must(czone_reclaim(c->zone, UINT64_MAX, NULL, &c->returned), "reclaiming from", c->name);
		t = seconds() - t;
		slowest = t > slowest ? t : slowest;
		faults += page_faults(c) - before;
		got += c->returned;
		printf("  reclaimed from %-10s %6.1f MiB in %4.0f ms (it had freed %.1f MiB)\n", c->name,
		       mib(c->returned), t * 1e3, mib(c->freed));
	}
	record("idle_freed_bytes", freed);
	record("idle_returned_bytes", got);
	record("idle_page_faults", faults);
	for (struct container *c = containers; c < containers + CONTAINERS; c++)
		run("kill -USR2 %s", c->pid);
	for (struct container *c = containers; c < containers + CONTAINERS; c++)
		c->kept = wait_line(c, "verified ", "bytes=");
	progress_end();
	got = 0;
	for (struct container *c = containers; c < containers + CONTAINERS; c++)
		got += c->kept;
	printf("  all %zu containers live; page faults that the reclaim cost them: %" PRIu64
	       "; they checked each of the %.0f MiB they kept\n", CONTAINERS, faults, mib(got));
	return freed;
}

static void end(struct container *c)
{
	struct czone_destroy_report r = CZONE_INIT(r);
	char text[64];
	double t;

	run("container stop %s", c->name);
	run("container remove %s", c->name);
	t = seconds();
	must(czone_destroy(c->zone, 0, 0, &r), "destroying the zone of", c->name);
	t = seconds() - t;
	c->returned += r.returned;
	c->zone = czone_unref(c->zone);
	snprintf(text, sizeof(text), "%s gone: %.0f MiB back in %.0f ms", c->name, mib(r.returned), t * 1e3);
	host_memory(text);
}

static void usage(void)
{
	fputs("usage: demo --state-dir DIR --kernel FILE --initrd FILE --rootfs FILE --scratch FILE\n"
	      "            [--pool-dir DIR] [--json FILE]\n", stderr);
	exit(2);
}

int main(int argc, char **argv)
{
	static const struct option known[] = {
		{ "state-dir", 1, NULL, 's' }, { "kernel", 1, NULL, 'k' }, { "initrd", 1, NULL, 'i' },
		{ "rootfs", 1, NULL, 'r' }, { "scratch", 1, NULL, 'c' }, { "pool-dir", 1, NULL, 'p' },
		{ "json", 1, NULL, 'j' }, { NULL, 0, NULL, 0 },
	};
	struct czone_vm_opts o = CZONE_INIT(o);
	const char *rootfs = NULL, *scratch = NULL, *json = NULL;
	char channel[108], disk[4096];
	struct czone_vm_stats before, peak, after_idle, after;
	uint64_t dirtied = 0, left, returned, grown;
	czone_vm *started;
	double t, share;
	pthread_t thread;
	sigset_t set;
	int c;

	while ((c = getopt_long(argc, argv, "", known, NULL)) != -1) {
		switch (c) {
		case 's': o.state_dir = optarg; break;
		case 'k': o.kernel = optarg; break;
		case 'i': o.initrd = optarg; break;
		case 'r': rootfs = optarg; break;
		case 'c': scratch = optarg; break;
		case 'p': o.pool_dir = optarg; break;
		case 'j': json = optarg; break;
		default: usage();
		}
	}
	if (!o.state_dir || !o.kernel || !o.initrd || !rootfs || !scratch)
		usage();
	terminal = isatty(2);
	setvbuf(stdout, NULL, _IOLBF, 0);
	signal(SIGPIPE, SIG_IGN);
	sigemptyset(&set);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGTERM);
	pthread_sigmask(SIG_BLOCK, &set, NULL);
	if (pthread_create(&thread, NULL, wait_signal, &set))
		fail("no thread for signals");
	figures = json_object();
	if (snprintf(channel, sizeof(channel), "%s/exec", o.state_dir) >= (int)sizeof(channel))
		fail("state directory's name is too long: %s", o.state_dir);
	snprintf(disk, sizeof(disk), "ro:%s", rootfs);
	o.disks = (const char *[]) { disk, scratch, NULL };
	o.channel = channel;
	o.vcpus = 2;
	o.cmdline = "quiet";
	o.pool_backing = o.pool_dir ? CZONE_POOL_FILE : CZONE_POOL_MEMFD;

	printf("libczone %s: %zu containers in one microVM, each in a memory zone of its own\n\n",
	       czone_version(), CONTAINERS);
	t = seconds();
	atexit(stop_vm);
	must(czone_vm_start(&o, &started), "starting", "the VM");
	vm = started;
	guest = guest_connect(channel, STEP_MS);
	if (guest < 0)
		fail("no connection to the guest's init");
	run("true%s", "");
	t = seconds() - t;
	json_object_set_new(figures, "vm_start_s", json_real(t));
	json_object_set_new(figures, "containers", json_integer(CONTAINERS));
	json_object_set_new(figures, "host_page_bytes", json_integer(o.pool_dir ? 2 * MIB : 4096));
	printf("1. The VM runs, %.1f s after we asked for it: 256 MiB of boot memory, a 4 GiB pool on %s host pages\n\n",
	       t, o.pool_dir ? "2 MiB" : "4 KiB");
	must(czone_vm_reclaim(vm, UINT64_MAX, NULL, NULL), "giving back what booting left in", "the VM");
	host_memory_head();
	before = host_memory("before the first container");

	printf("\n2. Containers start and dirty their memory\n");
	t = seconds();
	for (struct container *k = containers; k < containers + CONTAINERS; k++)
		create(k);
	for (struct container *k = containers; k < containers + CONTAINERS; k++) {
		wait_line(k, "ready ", "anon=");
		k->dirtied = (k->anon + k->shm + k->file) * MIB;
		dirtied += k->dirtied;
	}
	progress_end();
	printf("   %.0f MiB dirtied in %.1f s\n", mib(dirtied), seconds() - t);
	table();
	host_memory_head();
	peak = host_memory("peak");

	printf("\n3. Some go idle: they free memory but stay alive, and the host takes it back\n");
	idle();
	table();
	host_memory_head();
	after_idle = host_memory("after idle reclaim");

	printf("\n4. They end one by one\n\n");
	host_memory_head();
	for (struct container *k = containers; k < containers + CONTAINERS; k++)
		end(k);
	must(czone_vm_reclaim(vm, UINT64_MAX, NULL, NULL), "giving back what they left in", "the VM");
	after = host_memory("all gone, kernel's share too");

	left = after.host_pool > before.host_pool ? after.host_pool - before.host_pool : 0;
	share = left < dirtied ? 1 - left / (double)dirtied : 0;
	returned = peak.host_pool - after.host_pool;
	record("dirtied_bytes", dirtied);
	record("host_bytes_before", before.host_boot + before.host_pool);
	record("host_bytes_peak", peak.host_boot + peak.host_pool);
	record("host_bytes_after_idle_reclaim", after_idle.host_boot + after_idle.host_pool);
	record("host_bytes_after", after.host_boot + after.host_pool);
	record("host_pss_before", before.host_pss);
	record("host_pss_peak", peak.host_pss);
	record("host_pss_after", after.host_pss);
	record("pool_bytes_peak", peak.host_pool);
	record("pool_bytes_after", after.host_pool);
	record("returned_bytes", returned);
	json_object_set_new(figures, "returned_share", json_real(share));
	grown = after.host_boot + after.host_pool - before.host_boot - before.host_pool;
	if (json && json_dump_file(figures, json, JSON_INDENT(2) | JSON_REAL_PRECISION(6)))
		fail("%s cannot be written", json);
	json_decref(figures);
	printf("\n%.2f %% of the %.0f MiB that the containers dirtied is back on the host; "
	       "the VM uses %+.1f MiB against before the first of them.\n",
	       share * 100, mib(dirtied),
	       mib(after.host_boot + after.host_pool) - mib(before.host_boot + before.host_pool));
	close(guest);
	must(czone_vm_stop(vm), "stopping", "the VM");
	if (share < 0.99 || (int64_t)grown > (int64_t)(8 * MIB))
		fail("that is less than it promises: 99 %%, and at most 8 MiB more than before");
	return 0;
}
