/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* test:///default: the rules of zones, and that the memory behind them is real. */
#include "fake.h"
#include <criterion/criterion.h>
#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#define MIB ((uint64_t)1 << 20)
#define PAGE 4096
#define POOL (4096 * MIB)
#define BOOT (256 * MIB)

/* A failed call says what is wrong: the result, and a word of the detail. */
#define refused(call, error, word) do {						\
	int result_ = (call);							\
	cr_assert_eq(result_, (error), "%s: %d (%s)", #call, result_,		\
		     czone_error_detail());					\
	cr_assert(strstr(czone_error_detail(), (word)), "%s: \"%s\" lacks \"%s\"", #call, \
		  czone_error_detail(), (word));				\
} while (0)

#define works(call) do {							\
	int result_ = (call);							\
	cr_assert_eq(result_, 0, "%s: %d (%s)", #call, result_, czone_error_detail()); \
} while (0)

static czone_vm *vm;
static czone *zones[1024];	/* given up at the end */
static int n_zones;

static void begin(void)
{
	works(czone_open("test:///default", &vm));
}

static void end(void)
{
	while (n_zones)
		czone_unref(zones[--n_zones]);
	vm = czone_vm_unref(vm);
}

TestSuite(test, .init = begin, .fini = end);

static int try_create(uint64_t size, const char *cgroup, uint32_t flags, czone **ret_zone)
{
	struct czone_create_opts opts = CZONE_INIT(opts);

	opts.size = size;
	opts.cgroup = cgroup;
	opts.flags = flags;
	return czone_create(vm, &opts, ret_zone);
}

static czone *create(uint64_t size, const char *cgroup)
{
	czone *zone = NULL;

	works(try_create(size, cgroup, 0, &zone));
	zones[n_zones++] = zone;
	return zone;
}

static czone_test_task *start(const char *cgroup)
{
	czone_test_task *task = NULL;

	works(czone_test_start(vm, cgroup, &task));
	return task;
}

/* What must hold at any moment. */
static struct czone_zone_stats stats_of(czone *zone)
{
	struct czone_zone_stats s = CZONE_INIT(s);

	works(czone_stats(zone, &s));
	cr_assert_eq(s.size, s.used + s.free_backed + s.free_unbacked);
	cr_assert_eq(s.host_resident, s.used + s.free_backed);
	cr_assert_leq(s.file, s.used);
	return s;
}

static struct czone_vm_stats stats_of_vm(void)
{
	struct czone_vm_stats s = CZONE_INIT(s);

	works(czone_vm_stats(vm, &s));
	return s;
}

static uint64_t reclaim(czone *zone, uint64_t bytes)
{
	uint64_t returned = 0;

	works(czone_reclaim(zone, bytes, NULL, &returned));
	return returned;
}

static void expect_bytes(czone_test_task *task, uint64_t offset, uint64_t bytes, uint8_t value)
{
	uint8_t *data = malloc(bytes);

	cr_assert(data);
	memset(data, ~value, bytes);
	works(czone_test_read(task, offset, data, bytes));
	for (uint64_t i = 0; i < bytes; i++)
		cr_assert_eq(data[i], value, "byte %" PRIu64 " is %u, not %u", offset + i, data[i],
			     value);
	free(data);
}

static void destroy(czone *zone)
{
	works(czone_destroy(zone, 0, 0, NULL));
}

/* ---- a life */

Test(test, what_a_task_dirties_and_frees_comes_back_page_by_page)
{
	struct czone_destroy_report report = CZONE_INIT(report);
	czone *zone = create(64 * MIB, "/pods/a");
	czone_test_task *task = start("/pods/a/child");
	struct czone_zone_stats s = stats_of(zone);

	cr_assert_eq(s.free_unbacked, 64 * MIB);
	cr_assert_neq(s.cgroup_id, 0);
	cr_assert_eq(stats_of_vm().host_pool, 0);

	works(czone_test_fill(task, 0, 32 * MIB, 'x'));
	s = stats_of(zone);
	cr_assert_eq(s.used, 32 * MIB);
	cr_assert_eq(stats_of_vm().host_pool, 32 * MIB);
	cr_assert_eq(reclaim(zone, UINT64_MAX), 0, "what is in use was taken");

	works(czone_test_discard(task, 8 * MIB, 24 * MIB));
	s = stats_of(zone);
	cr_assert_eq(s.used, 8 * MIB);
	cr_assert_eq(s.free_backed, 24 * MIB);
	cr_assert_eq(reclaim(zone, UINT64_MAX), 24 * MIB);
	s = stats_of(zone);
	cr_assert_eq(s.free_backed, 0);
	cr_assert_eq(s.returned, 24 * MIB);
	cr_assert_eq(stats_of_vm().host_pool, 8 * MIB);
	expect_bytes(task, 0, 8 * MIB, 'x');
	expect_bytes(task, 8 * MIB, MIB, 0);

	cr_assert_null(czone_test_exit(task));
	cr_assert_eq(stats_of(zone).free_backed, 8 * MIB);
	works(czone_destroy(zone, 0, 0, &report));
	cr_assert_eq(report.returned, 8 * MIB);
	cr_assert_eq(report.migrated + report.dropped + report.stuck_other, 0);
	cr_assert_eq(stats_of_vm().host_pool, 0);
	cr_assert_eq(stats_of_vm().pool_used, 0);
	cr_assert_eq(stats_of_vm().returned, 32 * MIB);
}

Test(test, the_vm_is_of_a_known_size_and_private)
{
	struct czone_vm_stats s = stats_of_vm();
	czone_vm *first = vm;

	cr_assert_eq(s.pool_size, POOL);
	cr_assert_eq(s.boot_size, BOOT);
	cr_assert_eq(s.boot_free, BOOT);
	cr_assert_eq(s.host_pool + s.host_boot + s.zones + s.metadata, 0);
	cr_assert_eq(s.host_pss, CZONE_UNKNOWN);
	cr_assert_eq(s.pid, 0);
	create(MIB, NULL);
	begin();
	cr_assert_eq(stats_of_vm().zones, 0, "two test VMs are one");
	czone_vm_unref(vm);
	vm = first;
	cr_assert_eq(stats_of_vm().zones, 1);
}

static int open_files(void)
{
	DIR *dir = opendir("/proc/self/fd");
	int n = 0;

	while (readdir(dir))
		n++;
	closedir(dir);
	return n;
}

Test(test, the_last_reference_takes_the_memory_with_it)
{
	czone_vm *first = vm;
	czone_test_task *task;
	int before = open_files();
	czone *zone;

	begin();
	works(try_create(8 * MIB, "/a", 0, &zone));
	task = start("/a");
	works(czone_test_fill(task, 0, MIB, 1));
	czone_vm_unref(vm);
	works(czone_test_fill(task, MIB, MIB, 1));
	cr_assert_eq(stats_of(zone).used, 2 * MIB);
	czone_unref(zone);
	works(czone_test_fill(task, MIB, MIB, 2));
	cr_assert_eq(open_files(), before + 1);
	czone_test_exit(task);
	cr_assert_eq(open_files(), before);
	vm = first;
}

Test(test, what_it_cannot_have_it_says)
{
	static const struct { int resource, error; const char *word; } table[] = {
		{ RLIMIT_FSIZE, -EFBIG, "file of 4352 MiB" },
		{ RLIMIT_NOFILE, -EMFILE, "memfd_create" },
	};
	czone_vm *other = (czone_vm *)&vm;

	signal(SIGXFSZ, SIG_IGN);
	for (int i = 0; i < 2; i++) {
		struct rlimit old, low;

		cr_assert_eq(getrlimit(table[i].resource, &old), 0);
		low = old;
		low.rlim_cur = 3;
		cr_assert_eq(setrlimit(table[i].resource, &low), 0);
		refused(czone_open("test:///default", &other), table[i].error, table[i].word);
		cr_assert_eq(setrlimit(table[i].resource, &old), 0);
	}
	cr_assert_eq(other, (czone_vm *)&vm, "an output was touched on failure");
}

/* ---- reclaim */

Test(test, reclaim_gives_what_was_asked_for_in_whole_pages)
{
	static const struct { uint64_t asked, came; } steps[] = {
		{ 1, PAGE }, { PAGE, PAGE }, { PAGE + 1, 2 * PAGE }, { MIB, MIB }, { 0, 0 },
		{ UINT64_MAX - 1, 3 * MIB - 4 * PAGE }, { UINT64_MAX, 0 },
	};
	czone *zone = create(8 * MIB, "/a");
	czone_test_task *task = start("/a");

	works(czone_test_fill(task, 0, 6 * MIB, 7));
	works(czone_test_discard(task, MIB, 4 * MIB));
	for (size_t i = 0; i < sizeof(steps) / sizeof(steps[0]); i++)
		cr_assert_eq(reclaim(zone, steps[i].asked), steps[i].came, "step %zu", i);
	cr_assert_eq(stats_of(zone).used, 2 * MIB);
	czone_test_exit(task);
}

Test(test, reclaim_finds_single_pages)
{
	czone *zone = create(4 * MIB, "/a");
	czone_test_task *task = start("/a");

	works(czone_test_fill(task, 0, 2 * MIB, 9));
	for (uint64_t page = 0; page < 512; page += 2)
		works(czone_test_discard(task, page * PAGE, PAGE));
	cr_assert_eq(reclaim(zone, 100 * PAGE), 100 * PAGE);
	cr_assert_eq(reclaim(zone, UINT64_MAX), 156 * PAGE);
	for (uint64_t page = 0; page < 512; page++)
		expect_bytes(task, page * PAGE, PAGE, page % 2 ? 9 : 0);
	czone_test_exit(task);
}

Test(test, reclaim_of_the_vm_takes_from_all_of_it)
{
	czone *a = create(8 * MIB, "/a"), *b = create(8 * MIB, "/b");
	czone_test_task *tasks[] = { start("/a"), start("/b"), start("/elsewhere") };
	uint64_t returned = 0;

	for (int i = 0; i < 3; i++) {
		works(czone_test_fill(tasks[i], 0, 4 * MIB, i));
		works(czone_test_discard(tasks[i], MIB, 3 * MIB));
	}
	works(czone_vm_reclaim(vm, 5 * MIB, NULL, &returned));
	cr_assert_eq(returned, 5 * MIB);
	cr_assert_eq(stats_of(a).free_backed, 0);
	cr_assert_eq(stats_of(b).free_backed, MIB);
	cr_assert_eq(stats_of_vm().host_boot, 4 * MIB);
	works(czone_vm_reclaim(vm, UINT64_MAX, NULL, &returned));
	cr_assert_eq(returned, 4 * MIB);
	cr_assert_eq(stats_of_vm().host_boot, MIB);
	cr_assert_eq(stats_of_vm().host_pool, 2 * MIB);
	cr_assert_eq(stats_of_vm().returned, 9 * MIB);
	for (int i = 0; i < 3; i++) {
		expect_bytes(tasks[i], 0, MIB, i);
		czone_test_exit(tasks[i]);
	}
}

Test(test, reclaim_drops_file_cache_only_when_told_and_as_needed)
{
	struct czone_reclaim_opts opts = CZONE_INIT(opts);
	struct czone_destroy_report report = CZONE_INIT(report);
	czone *zone = create(8 * MIB, "/a");
	czone_test_task *task = start("/a");
	uint64_t returned = 0;

	works(czone_test_cache(task, 3 * MIB));
	works(czone_test_fill(task, 0, 2 * MIB, 1));
	works(czone_test_discard(task, 0, MIB));
	czone_test_exit(task);
	cr_assert_eq(stats_of(zone).file, 3 * MIB, "cache went with the task");
	cr_assert_eq(reclaim(zone, MIB / 2), MIB / 2);
	opts.flags = CZONE_RECLAIM_WITH_CACHE;
	works(czone_reclaim(zone, MIB, &opts, &returned));
	cr_assert_eq(returned, MIB);
	cr_assert_eq(stats_of(zone).file, 3 * MIB);
	works(czone_reclaim(zone, MIB, &opts, &returned));
	cr_assert_eq(returned, MIB);
	cr_assert_eq(stats_of(zone).file, 2 * MIB + MIB / 2);
	works(czone_destroy(zone, 0, 0, &report));
	cr_assert_eq(report.dropped, 2 * MIB + MIB / 2);
	cr_assert_eq(report.returned, 2 * MIB + MIB / 2);
}

/* ---- attach */

Test(test, a_cgroup_has_one_zone_with_all_above_and_below)
{
	static const struct { const char *path; int error; const char *word; } table[] = {
		{ "/", -EINVAL, "root" },
		{ "//.//", -EINVAL, "root" },
		{ "/pods/a", -EEXIST, "/pods/a" },
		{ "/pods//a/", -EEXIST, "/pods/a" },
		{ "/pods", -EEXIST, "has zone 1" },
		{ "/pods/a/b/c", -EEXIST, "has zone 1" },
		{ "/pods/ab", 0, "" },
		{ "/pods/.a", 0, "" },
	};

	create(MIB, "/pods/a");
	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		czone *zone = create(MIB, NULL);

		refused(czone_attach_cgroup(zone, table[i].path, 0, 0, NULL), table[i].error, table[i].word);
		cr_assert_eq(!stats_of(zone).cgroup_id, table[i].error != 0, "%s", table[i].path);
		destroy(zone);
	}
}

Test(test, a_zone_has_one_cgroup)
{
	czone *zone = create(MIB, "/a");

	refused(czone_attach_cgroup(zone, "/a", 0, 0, NULL), -EEXIST, "has cgroup /a");
	refused(czone_attach_cgroup(zone, "/b", 0, 0, NULL), -EBUSY, "has cgroup /a");
	destroy(zone);
	zone = create(MIB, "/a");
	destroy(zone);
}

Test(test, creating_with_a_cgroup_that_has_a_zone_leaves_nothing)
{
	czone *zone = (czone *)&vm;

	create(MIB, "/a");
	refused(try_create(MIB, "/a/b", 0, &zone), -EEXIST, "/a has zone 1");
	cr_assert_eq(zone, (czone *)&vm, "an output was touched on failure");
	cr_assert_eq(stats_of_vm().zones, 1);
	cr_assert_eq(stats_of_vm().pool_used, CZONE_BLOCK);
}

Test(test, pages_come_from_the_zone_at_the_time_and_stay)
{
	czone_test_task *task = start("/a/b"), *stranger = start("/ab");
	czone *zone;

	works(czone_test_fill(task, 0, MIB, 1));
	zone = create(8 * MIB, "/a");
	cr_assert_eq(stats_of(zone).used, 0);
	works(czone_test_fill(task, 0, 2 * MIB, 2));
	works(czone_test_fill(stranger, 0, MIB, 3));
	cr_assert_eq(stats_of(zone).used, MIB);
	cr_assert_eq(stats_of_vm().boot_free, BOOT - 2 * MIB);
	expect_bytes(task, 0, 2 * MIB, 2);
	czone_test_exit(stranger);
	czone_test_exit(task);
	cr_assert_eq(stats_of_vm().boot_free, BOOT);
	cr_assert_eq(stats_of_vm().host_boot, 2 * MIB);
}

/* ---- full zones */

Test(test, a_full_strict_zone_gives_up_cache_and_then_says_so)
{
	czone *zone = create(4 * MIB, "/a");
	czone_test_task *task = start("/a");

	works(czone_test_fill(task, 0, 2 * MIB, 1));
	works(czone_test_cache(task, 8 * MIB));
	cr_assert_eq(stats_of(zone).file, 2 * MIB);
	works(czone_test_fill(task, 2 * MIB, MIB, 2));
	cr_assert_eq(stats_of(zone).file, MIB);
	refused(czone_test_fill(task, 2 * MIB, 3 * MIB, 3), -ENOMEM, "zone is full");
	expect_bytes(task, 2 * MIB, MIB, 2);
	expect_bytes(task, 3 * MIB, MIB, 0);
	works(czone_test_fill(task, 3 * MIB, MIB, 4));
	cr_assert_eq(stats_of(zone).used, 4 * MIB);
	cr_assert_eq(stats_of(zone).spilled, 0);
	cr_assert_eq(stats_of_vm().boot_free, BOOT);
	czone_test_exit(task);
}

Test(test, a_full_zone_that_spills_goes_on_outside)
{
	czone_test_task *task = start("/a");
	czone *zone;

	works(try_create(4 * MIB, "/a", CZONE_CREATE_SPILL_ZONE, &zone));
	cr_assert_eq(stats_of(zone).flags, CZONE_CREATE_SPILL_ZONE);
	works(czone_test_fill(task, 0, 6 * MIB, 1));
	cr_assert_eq(stats_of(zone).used, 4 * MIB);
	cr_assert_eq(stats_of(zone).spilled, 2 * MIB);
	cr_assert_eq(stats_of_vm().boot_free, BOOT - 2 * MIB);
	refused(czone_test_fill(task, 0, 4 * MIB + BOOT + 1, 1), -ENOMEM, "full");
	cr_assert_eq(stats_of_vm().boot_free, BOOT - 2 * MIB);
	expect_bytes(task, 0, 6 * MIB, 1);
	czone_test_exit(task);
	czone_unref(zone);
}

Test(test, memory_outside_is_finite)
{
	czone_test_task *task = start("/");

	refused(czone_test_fill(task, 0, BOOT + 1, 1), -ENOMEM, "own memory is full");
	cr_assert_eq(stats_of_vm().boot_free, BOOT);
	czone_test_exit(task);
}

/* ---- resize and the pool */

Test(test, a_zone_grows_next_to_itself_or_elsewhere)
{
	struct czone_range ranges[2];
	czone *zone = create(8 * MIB, NULL), *next;

	works(czone_resize(zone, 12 * MIB, 0));
	cr_assert_eq(czone_ranges(zone, ranges, 2), 1);
	cr_assert_eq(ranges[0].size, 12 * MIB);
	next = create(4 * MIB, NULL);
	works(czone_resize(zone, 20 * MIB, 0));
	cr_assert_eq(czone_ranges(zone, ranges, 2), 2);
	cr_assert_eq(ranges[0].size, 12 * MIB);
	cr_assert_eq(ranges[1].size, 8 * MIB);
	cr_assert_eq(ranges[1].start, ranges[0].start + 16 * MIB);
	cr_assert_eq(stats_of(zone).size, 20 * MIB);
	destroy(zone);
	works(czone_resize(next, 8 * MIB, 0));
	cr_assert_eq(czone_ranges(next, ranges, 2), 1, "it grew into the hole before it");
	cr_assert_eq(ranges[0].size, 8 * MIB);
	destroy(next);
}

Test(test, a_pool_in_pieces_is_used_up)
{
	struct czone_range ranges[3];
	czone *a = create(POOL - 12 * MIB, NULL), *b = create(4 * MIB, NULL);
	czone *c = create(4 * MIB, NULL), *zone = NULL;

	refused(try_create(5 * MIB, NULL, 0, &zone), -ENOSPC, "4 MiB left, not 8");
	refused(czone_resize(c, 12 * MIB, 0), -ENOSPC, "4 MiB left, not 8");
	cr_assert_null(zone);
	cr_assert_eq(stats_of_vm().zones, 3);
	destroy(b);
	zone = create(8 * MIB, NULL);
	cr_assert_eq(czone_ranges(zone, ranges, 3), 2);
	cr_assert_eq(stats_of_vm().pool_used, POOL);
	destroy(a);
	destroy(c);
	destroy(zone);
	zone = create(POOL, NULL);
	cr_assert_eq(czone_ranges(zone, ranges, 3), 1);
	destroy(zone);
}

Test(test, the_pool_grows_for_good)
{
	czone *first = create(POOL, "/a"), *second;
	czone_test_task *task = start("/a"), *other = start("/b");

	works(czone_test_fill(task, 0, 8 * MIB, 3));
	refused(try_create(4 * MIB, "/b", 0, &second), -ENOSPC, "0 MiB left");
	works(czone_pool_grow(vm, 256 * MIB, 0));
	cr_assert_eq(stats_of_vm().pool_size, POOL + 256 * MIB);
	cr_assert_eq(stats_of_vm().host_pool, 8 * MIB);
	second = create(256 * MIB, "/b");
	works(czone_test_fill(other, 0, 256 * MIB, 4));
	expect_bytes(task, 0, 8 * MIB, 3);
	expect_bytes(other, 255 * MIB, MIB, 4);
	cr_assert_eq(stats_of(second).host_resident, 256 * MIB);

	refused(czone_pool_grow(vm, 64 * 1024 * MIB, 0), -ENOSPC, "64 GiB");
	refused(czone_pool_grow(vm, MIB, 0), -EINVAL, "1048576 is not a multiple of 128 MiB");
	refused(czone_pool_grow(vm, 0, 0), -EINVAL, "128 MiB");
	refused(czone_pool_grow(NULL, 128 * MIB, 0), -EINVAL, "vm is NULL");
	czone_test_exit(task);
	czone_test_exit(other);
	destroy(first);
	destroy(second);
	cr_assert_eq(stats_of_vm().host_pool, 0);
	works(czone_pool_grow(vm, 64 * 1024 * MIB - POOL - 256 * MIB, 0));
	destroy(create(64 * 1024 * MIB, NULL));
}

Test(test, shrinking_moves_what_is_in_use)
{
	czone *zone = create(16 * MIB, "/a");
	czone_test_task *first = start("/a"), *last = start("/a");

	works(czone_test_fill(first, 0, 12 * MIB, 1));
	works(czone_test_fill(last, 0, 2 * MIB, 2));
	works(czone_test_discard(first, 0, 10 * MIB));
	refused(czone_resize(zone, 4 * MIB, 0), -EBUSY, "do not fit");
	cr_assert_eq(stats_of(zone).size, 16 * MIB);
	cr_assert_eq(stats_of(zone).free_backed, 10 * MIB);
	works(czone_test_cache(first, 4 * MIB));
	works(czone_resize(zone, 8 * MIB, 0));
	cr_assert_eq(stats_of(zone).size, 8 * MIB);
	cr_assert_eq(stats_of(zone).used - stats_of(zone).file, 4 * MIB);
	cr_assert_eq(stats_of_vm().host_pool, stats_of(zone).host_resident);
	expect_bytes(first, 10 * MIB, 2 * MIB, 1);
	expect_bytes(last, 0, 2 * MIB, 2);
	cr_assert_gt(stats_of(zone).returned, 0);
	czone_test_exit(first);
	czone_test_exit(last);
	works(czone_resize(zone, 8 * MIB, 0));
	works(czone_resize(zone, 1, 0));
	cr_assert_eq(stats_of(zone).size, CZONE_BLOCK);
	destroy(zone);
}

/* ---- destroy */

Test(test, destroy_respects_live_tasks_unless_forced)
{
	struct czone_destroy_report report = CZONE_INIT(report);
	czone *zone = create(8 * MIB, "/a");
	czone_test_task *task = start("/a/b");

	works(czone_test_fill(task, 0, 3 * MIB, 5));
	refused(czone_destroy(zone, 0, 0, &report), -EBUSY, "tasks live in cgroup /a");
	cr_assert_eq(report.returned + report.migrated, 0);
	cr_assert_eq(stats_of(zone).used, 3 * MIB);
	works(czone_destroy(zone, CZONE_DESTROY_WITH_TASKS, 0, &report));
	cr_assert_eq(report.migrated, 3 * MIB);
	cr_assert_eq(report.returned, 3 * MIB);
	expect_bytes(task, 0, 3 * MIB, 5);
	cr_assert_eq(stats_of_vm().boot_free, BOOT - 3 * MIB);
	cr_assert_eq(stats_of_vm().host_pool, 0);
	czone_test_exit(task);
}

Test(test, destroy_says_what_is_stuck_and_can_be_repeated)
{
	struct czone_destroy_report report = CZONE_INIT(report);
	czone *zone = create(16 * MIB, "/a");
	czone_test_task *task = start("/a"), *hog = start("/hog");

	works(czone_test_fill(task, 0, 6 * MIB, 5));
	works(czone_test_fill(hog, 0, BOOT - MIB, 1));
	refused(czone_destroy(zone, CZONE_DESTROY_WITH_TASKS, 0, &report), -EBUSY, "no room");
	cr_assert_eq(report.migrated, MIB);
	cr_assert_eq(report.returned, MIB);
	cr_assert_eq(report.stuck_other, 5 * MIB);
	cr_assert_eq(stats_of(zone).size, 8 * MIB, "blocks that are free did not go");
	cr_assert_eq(stats_of(zone).cgroup_id, 0);
	expect_bytes(task, 0, 6 * MIB, 5);
	czone_test_exit(hog);
	works(czone_destroy(zone, 0, 0, &report));
	cr_assert_eq(report.migrated, 5 * MIB);
	expect_bytes(task, 0, 6 * MIB, 5);
	czone_test_exit(task);
}

Test(test, what_the_next_zone_gets_reads_as_zero)
{
	czone *zone = create(4 * MIB, "/a");
	czone_test_task *task = start("/a");

	works(czone_test_fill(task, 0, MIB, 0xff));
	czone_test_exit(task);
	task = start("/a");
	works(czone_test_fill(task, 100, 1, 1));
	expect_bytes(task, 0, 100, 0);
	expect_bytes(task, 101, PAGE - 101, 0);
	czone_test_exit(task);
	destroy(zone);
}

/* ---- ids */

Test(test, ids_are_the_lowest_that_are_free)
{
	uint32_t ids[600];
	czone *zone[512], *other;

	for (int i = 0; i < 512; i++) {
		zone[i] = create(MIB, NULL);
		cr_assert_eq(czone_id(zone[i]), i + 1);
	}
	cr_assert_eq(czone_list(vm, ids, 600), 512);
	for (int i = 0; i < 512; i++)
		cr_assert_eq(ids[i], i + 1);
	destroy(zone[9]);
	refused(czone_lookup(vm, 10, &other), -ENOENT, "no zone 10");
	cr_assert_eq(czone_list(vm, ids, 3), 511);
	zone[9] = create(MIB, NULL);
	cr_assert_eq(czone_id(zone[9]), 10);
	works(czone_lookup(vm, 10, &other));
	cr_assert_eq(other, zone[9]);
	czone_unref(other);
	for (int i = 0; i < 512; i++)
		destroy(zone[i]);
	cr_assert_eq(stats_of_vm().pool_used, 0);
}

/* ---- the test calls themselves */

Test(test, calls_check_their_arguments)
{
	czone_test_task *task = start("/a"), *other = (czone_test_task *)&vm;
	char data[1];

	refused(czone_test_start(NULL, "/a", &other), -EINVAL, "vm is NULL");
	refused(czone_test_start(vm, NULL, &other), -EINVAL, "path is NULL");
	refused(czone_test_start(vm, "a", &other), -EINVAL, "does not begin with /");
	refused(czone_test_start(vm, "/a", NULL), -EINVAL, "ret_task");
	cr_assert_eq(other, (czone_test_task *)&vm, "an output was touched on failure");
	refused(czone_test_fill(NULL, 0, 1, 0), -EINVAL, "task is NULL");
	refused(czone_test_fill(task, 0, ((uint64_t)16 << 30) + 1, 0), -EINVAL, "16 GiB");
	refused(czone_test_fill(task, UINT64_MAX, 2, 0), -EINVAL, "16 GiB");
	refused(czone_test_read(NULL, 0, data, 1), -EINVAL, "task is NULL");
	refused(czone_test_read(task, 0, NULL, 1), -EINVAL, "ret_data");
	refused(czone_test_read(task, (uint64_t)16 << 30, data, 1), -EINVAL, "16 GiB");
	refused(czone_test_discard(NULL, 0, 1), -EINVAL, "task is NULL");
	refused(czone_test_discard(task, 1, UINT64_MAX), -EINVAL, "16 GiB");
	refused(czone_test_cache(NULL, 1), -EINVAL, "task is NULL");
	cr_assert_null(czone_test_exit(NULL));
	works(czone_test_fill(task, 5, 0, 1));
	works(czone_test_read(task, 5, NULL, 0));
	works(czone_test_discard(task, 5, 0));
	cr_assert_eq(stats_of_vm().boot_free, BOOT);
	czone_test_exit(task);
}

Test(test, discard_keeps_pages_that_are_only_touched_upon)
{
	czone *zone = create(4 * MIB, "/a");
	czone_test_task *task = start("/a");

	works(czone_test_fill(task, 0, 4 * PAGE, 1));
	works(czone_test_discard(task, 1, PAGE));
	works(czone_test_discard(task, PAGE + 1, 2 * PAGE - 1));
	cr_assert_eq(stats_of(zone).used, 3 * PAGE);
	expect_bytes(task, PAGE, PAGE, 1);
	works(czone_test_discard(task, 0, (uint64_t)16 << 30));
	cr_assert_eq(stats_of(zone).used, 0);
	czone_test_exit(task);
}

Test(other_vms, have_no_test_calls)
{
	czone_test_task *task;
	struct fake fake;

	vm = fake_vm(&fake, &fake_driver);
	refused(czone_test_start(vm, "/a", &task), -EOPNOTSUPP, "test:///default");
	refused(czone_test_fail(vm, NULL, -EIO), -EOPNOTSUPP, "test:///default");
	czone_vm_unref(vm);
}

/* ---- failures on purpose */

static int call(const char *name, czone *zone)
{
	struct czone_zone_stats stats = CZONE_INIT(stats);
	struct czone_vm_stats vm_stats = CZONE_INIT(vm_stats);
	struct czone_range range;
	uint64_t returned = 77;
	uint32_t id;
	czone *other = NULL;
	int r;

	if (!strcmp(name, "create"))
		r = try_create(MIB, NULL, 0, &other);
	else if (!strcmp(name, "attach"))
		r = czone_attach_cgroup(zone, "/a", 0, 0, NULL);
	else if (!strcmp(name, "resize"))
		r = czone_resize(zone, 8 * MIB, 0);
	else if (!strcmp(name, "reclaim"))
		r = czone_reclaim(zone, MIB, NULL, &returned);
	else if (!strcmp(name, "vm_reclaim"))
		r = czone_vm_reclaim(vm, MIB, NULL, &returned);
	else if (!strcmp(name, "stats"))
		r = czone_stats(zone, &stats);
	else if (!strcmp(name, "vm_stats"))
		r = czone_vm_stats(vm, &vm_stats);
	else if (!strcmp(name, "lookup"))
		r = czone_lookup(vm, czone_id(zone), &other);
	else if (!strcmp(name, "ranges"))
		r = czone_ranges(zone, &range, 1);
	else if (!strcmp(name, "list"))
		r = czone_list(vm, &id, 1);
	else if (!strcmp(name, "grow"))
		r = czone_pool_grow(vm, CZONE_POOL_STEP, 0);
	else
		r = czone_destroy(zone, 0, 0, NULL);
	cr_assert(r >= 0 || (returned == 77 || r == -ETIMEDOUT), "%s: an output was touched", name);
	czone_unref(other);
	return r;
}

static const struct { const char *call, *name; } failures[] = {
	{ "create", "create" }, { "attach", "attach" }, { "resize", "resize" },
	{ "reclaim", "reclaim" }, { "vm_reclaim", "reclaim" }, { "stats", "stats" },
	{ "vm_stats", "stats" }, { "lookup", "stats" }, { "ranges", "ranges" },
	{ "list", "list" }, { "grow", "grow" }, { "destroy", "destroy" },
};

Test(test, a_call_fails_once_as_it_was_told)
{
	czone *zone = create(4 * MIB, NULL);

	for (size_t i = 0; i < sizeof(failures) / sizeof(failures[0]); i++) {
		works(czone_test_fail(vm, failures[i].name, -ETIMEDOUT));
		if (strcmp(failures[i].name, "list"))
			cr_assert_geq(call("list", zone), 0, "another call failed");
		else
			works(call("stats", zone));
		refused(call(failures[i].call, zone), -ETIMEDOUT, "czone_test_fail");
		cr_assert_geq(call(failures[i].call, zone), 0, "%s: failed twice", failures[i].call);
	}
	refused(czone_test_fail(vm, "crate", -EIO), -EINVAL, "\"crate\"");
	refused(czone_test_fail(vm, NULL, 5), -EINVAL, "5 is no negative errno");
	refused(czone_test_fail(NULL, NULL, -EIO), -EINVAL, "vm is NULL");
	works(czone_test_fail(vm, NULL, -EIO));
	refused(call("create", NULL), -EIO, "czone_test_fail");
	works(czone_test_fail(vm, NULL, -EIO));
	works(czone_test_fail(vm, NULL, 0));
	works(call("create", NULL));
}

Test(test, a_create_that_cannot_attach_leaves_nothing)
{
	czone *zone;

	works(czone_test_fail(vm, "attach", -EOPNOTSUPP));
	refused(try_create(MIB, "/a", 0, &zone), -EOPNOTSUPP, "attach fails");
	cr_assert_eq(stats_of_vm().zones, 0);
}

Test(test, nothing_works_on_a_vm_that_was_stopped)
{
	czone *zone = create(4 * MIB, NULL);
	czone_test_task *task = start("/a"), *other;
	char data;

	works(czone_test_fill(task, 0, MIB, 1));
	refused(czone_vm_detach(vm), -EOPNOTSUPP, "taken over");
	works(czone_vm_stop(vm));
	works(czone_vm_stop(vm));
	for (size_t i = 0; i < sizeof(failures) / sizeof(failures[0]); i++)
		refused(call(failures[i].call, zone), -ESHUTDOWN, "stopped");
	refused(czone_test_fill(task, 0, 1, 1), -ESHUTDOWN, "stopped");
	refused(czone_test_read(task, 0, &data, 1), -ESHUTDOWN, "stopped");
	refused(czone_test_discard(task, 0, MIB), -ESHUTDOWN, "stopped");
	refused(czone_test_cache(task, 1), -ESHUTDOWN, "stopped");
	refused(czone_test_start(vm, "/a", &other), -ESHUTDOWN, "stopped");
	czone_test_exit(task);
}

/* ---- anything, in any order, from several threads */

#define THREADS 4
#define ROUNDS 400
#define SPACE 1500		/* pages of a task's address space that are used */

struct worker {
	pthread_t thread;
	unsigned int seed;
	char cgroup[16];
	uint8_t value[SPACE];	/* of each page, as it should read */
	int failures;
};

static void check(struct worker *w, bool ok, const char *what)
{
	if (!ok && !w->failures++)
		fprintf(stderr, "%s: %s (%s)\n", w->cgroup, what, czone_error_detail());
}

static void check_account(struct worker *w, czone *zone)
{
	struct czone_zone_stats s = CZONE_INIT(s);

	check(w, czone_stats(zone, &s) == 0, "stats");
	check(w, s.size == s.used + s.free_backed + s.free_unbacked, "the sum");
}

static void check_pages(struct worker *w, czone_test_task *task)
{
	uint8_t data[PAGE], expected[PAGE];

	for (int page = 0; page < SPACE; page++) {
		memset(expected, w->value[page], PAGE);
		check(w, czone_test_read(task, (uint64_t)page * PAGE, data, PAGE) == 0, "read");
		check(w, !memcmp(data, expected, PAGE), "a page is not what it was");
	}
}

static void one_step(struct worker *w, czone *zone, czone_test_task *task)
{
	uint64_t page = rand_r(&w->seed) % SPACE, n = rand_r(&w->seed) % (SPACE - page);
	uint64_t size = (1 + rand_r(&w->seed) % 4) * CZONE_BLOCK, returned;
	int r = 0;

	switch (rand_r(&w->seed) % 6) {
	case 0:
	case 1:
		r = czone_test_fill(task, page * PAGE, n * PAGE, page % 256);
		if (r == 0)
			memset(w->value + page, page % 256, n);
		check(w, r == 0 || r == -ENOMEM, "fill");
		return;
	case 2:
		r = czone_test_discard(task, page * PAGE, n * PAGE);
		if (r == 0)
			memset(w->value + page, 0, n);
		break;
	case 3:
		r = czone_test_cache(task, n * PAGE);
		break;
	case 4:
		r = czone_reclaim(zone, n * PAGE, NULL, &returned);
		check(w, r < 0 || returned <= n * PAGE, "more came back than was asked for");
		break;
	case 5:
		r = czone_resize(zone, size, 0);
		check(w, r == 0 || r == -EBUSY, "resize");
		return;
	}
	check(w, r == 0, "a step");
}

static void *come_and_go(void *userdata)
{
	struct worker *w = userdata;
	czone_test_task *task = NULL;
	czone *zone = NULL;

	for (int i = 0; i < ROUNDS && !w->failures; i++) {
		if (!zone)
			check(w, try_create(8 * MIB, w->cgroup, 0, &zone) == 0, "create");
		if (!task)
			check(w, czone_test_start(vm, w->cgroup, &task) == 0, "start");
		if (w->failures)
			break;
		one_step(w, zone, task);
		check_account(w, zone);
		if (i % 40 == 39) {
			check(w, czone_destroy(zone, CZONE_DESTROY_WITH_TASKS, 0, NULL) == 0,
			      "destroy");
			zone = czone_unref(zone);
			check_pages(w, task);
		}
		if (i % 120 == 119) {
			task = czone_test_exit(task);
			memset(w->value, 0, SPACE);
		}
	}
	if (task)
		check_pages(w, task);
	czone_test_exit(task);
	czone_unref(zone);
	return NULL;
}

Test(test, threads_keep_what_they_have_through_anything)
{
	static struct worker workers[THREADS];

	for (int i = 0; i < THREADS; i++) {
		workers[i].seed = i + 1;
		snprintf(workers[i].cgroup, sizeof(workers[i].cgroup), "/pods/%d", i);
		cr_assert_eq(pthread_create(&workers[i].thread, NULL, come_and_go, &workers[i]), 0);
	}
	for (int i = 0; i < THREADS; i++)
		pthread_join(workers[i].thread, NULL);
	for (int i = 0; i < THREADS; i++)
		cr_assert_eq(workers[i].failures, 0, "seed %d", i + 1);
	cr_assert_eq(stats_of_vm().boot_free, BOOT);
	works(czone_vm_reclaim(vm, UINT64_MAX, NULL, NULL));
	cr_assert_eq(stats_of_vm().host_boot, 0);
}
