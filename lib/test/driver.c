/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The operations of the library on a test VM, by the kernel's rules. */
#include "../handle.h"
#include "test.h"
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define SHRINK_MARGIN 32	/* as the kernel: thereof one part stays free */

int test_enter(struct czone_vm *vm, const char *call, struct test **ret_test)
{
	struct test *t = vm->priv;
	int r = 0;

	if (vm->driver != &czone_test_driver)
		return czone_fail(-EOPNOTSUPP, "only a VM of test:///default can do this");
	pthread_mutex_lock(&t->lock);
	if (t->stopped) {
		r = czone_fail(-ESHUTDOWN, "the test VM was stopped");
	} else if (call && t->fail_error && (!t->fail_call || !strcmp(t->fail_call, call))) {
		r = czone_fail(t->fail_error, "%s fails because czone_test_fail() said so", call);
		t->fail_error = 0;
	}
	if (r < 0)
		pthread_mutex_unlock(&t->lock);
	else
		*ret_test = t;
	return r;
}

int test_leave(struct test *t, int r)
{
	pthread_mutex_unlock(&t->lock);
	return r;
}

/* NULL, with a detail, is -ENOENT. */
static struct test_zone *find(struct test *t, uint32_t id)
{
	struct test_zone *zone = t->zones;

	while (zone && zone->id != id)
		zone = zone->next;
	if (!zone)
		czone_fail(-ENOENT, "no zone %" PRIu32, id);
	return zone;
}

static void free_zone(struct test_zone *zone)
{
	free(zone->cgroup);
	free(zone);
}

/* ---- cgroups: nothing but their names */

char *test_cgroup(const char *path)
{
	char *name = malloc(strlen(path) + 2), *end = name;

	if (!name)
		return NULL;
	while (*path) {
		size_t n = strcspn(path, "/");

		if (n && !(n == 1 && *path == '.')) {
			*end++ = '/';
			memcpy(end, path, n);
			end += n;
		}
		path += n + (path[n] == '/');
	}
	if (end == name)
		*end++ = '/';
	*end = 0;
	return name;
}

/* Whether a cgroup is another one or lies below it; neither is the root. */
static bool is_within(const char *cgroup, const char *other)
{
	size_t n = strlen(other);

	return !strncmp(cgroup, other, n) && (!cgroup[n] || cgroup[n] == '/');
}

struct test_zone *test_zone_of(struct test *t, const char *cgroup)
{
	for (struct test_zone *zone = t->zones; zone; zone = zone->next) {
		if (zone->cgroup && is_within(cgroup, zone->cgroup))
			return zone;
	}
	return &t->boot;
}

static bool has_tasks(struct test *t, const struct test_zone *zone)
{
	for (struct czone_test_task *task = t->tasks; task; task = task->next) {
		if (zone->cgroup && is_within(task->cgroup, zone->cgroup))
			return true;
	}
	return false;
}

/* In place of an inode: the same for the same name, never 0. */
static uint64_t cgroup_id(const char *cgroup)
{
	uint64_t hash = 0xcbf29ce484222325;	/* FNV-1a */

	while (*cgroup)
		hash = (hash ^ (unsigned char)*cgroup++) * 0x100000001b3;
	return hash >> 1 | 1;
}

/* Tasks have no memory outside of zones here: with pages there is nothing to move. */
static int attach(struct test *t, uint32_t id, char *cgroup, uint32_t flags)
{
	struct test_zone *zone = find(t, id);

	if (!zone)
		return -ENOENT;
	if (!strcmp(cgroup, "/"))
		return czone_fail(-EINVAL, "attach of zone %" PRIu32
				  ": the root cgroup cannot have a zone", id);
	if (zone->cgroup && flags & CZONE_ATTACH_MIGRATE && !strcmp(zone->cgroup, cgroup)) {
		free(cgroup);
		return 0;
	}
	if (zone->cgroup)
		return czone_fail(strcmp(zone->cgroup, cgroup) ? -EBUSY : -EEXIST,
				  "attach of zone %" PRIu32 ": it has cgroup %s", id, zone->cgroup);
	for (struct test_zone *other = t->zones; other; other = other->next) {
		if (other->cgroup && (is_within(cgroup, other->cgroup) ||
				      is_within(other->cgroup, cgroup)))
			return czone_fail(-EEXIST, "attach of zone %" PRIu32 " to %s: %s has zone %" PRIu32,
					  id, cgroup, other->cgroup, other->id);
	}
	zone->cgroup = cgroup;
	return 0;
}

static int test_attach(struct czone_vm *vm, uint32_t id, const char *path, uint32_t flags,
		       uint32_t timeout_ms, uint64_t result[__CZONE_RESULT_MAX])
{
	char *cgroup;
	struct test *t;
	int r;

	(void)timeout_ms;
	r = test_enter(vm, "attach", &t);
	if (r < 0)
		return r;
	cgroup = test_cgroup(path);
	memset(result, 0, sizeof(*result) * __CZONE_RESULT_MAX);
	r = cgroup ? attach(t, id, cgroup, flags) : czone_fail(-ENOMEM, "no memory for a cgroup's name");
	if (r < 0)
		free(cgroup);
	return test_leave(t, r);
}

/* ---- blocks */

static uint32_t free_run(struct test *t, uint32_t start, uint32_t max)
{
	uint32_t n = 0;

	while (n < max && start + n < t->blocks && t->owner[start + n] == &t->pool)
		n++;
	return n;
}

/* From the pool: next to the zone's last block, or in one run, or in as few as may be. */
static int add_blocks(struct test *t, struct test_zone *zone, uint64_t n)
{
	uint32_t start = 0, end = 0, run;

	if (n * BLOCK_PAGES > t->pool.pages[PAGE_FREE])
		return czone_fail(-ENOSPC, "the pool has %" PRIu64 " MiB left, not %" PRIu64,
				  t->pool.pages[PAGE_FREE] * TEST_PAGE >> 20, n * CZONE_BLOCK >> 20);
	for (uint32_t block = 0; block < t->blocks; block++) {
		if (t->owner[block] == zone)
			end = block + 1;
	}
	if (end && free_run(t, end, n) == n)
		start = end;
	while (n) {
		run = free_run(t, start, n);
		for (uint32_t block = 0; block < t->blocks && run < n; block++) {
			uint32_t length = free_run(t, block, n);

			if (length > run) {
				start = block;
				run = length;
			}
		}
		for (uint32_t i = 0; i < run; i++)
			test_set_owner(t, start + i, zone);
		n -= run;
	}
	return 0;
}

static bool block_is_free(const struct test *t, uint32_t block)
{
	for (uint32_t i = 0; i < BLOCK_PAGES; i++) {
		if (t->state[block * BLOCK_PAGES + i] != PAGE_FREE)
			return false;
	}
	return true;
}

/* All that is free goes back to the host, and blocks that are wholly free to the pool. */
static int give_up_free_blocks(struct test *t, struct test_zone *zone, uint64_t *ret_returned)
{
	uint64_t all = UINT64_MAX;
	int r = test_give_back(t, zone, &all, ret_returned);

	for (uint32_t block = 0; r == 0 && block < t->blocks; block++) {
		if (t->owner[block] == zone && block_is_free(t, block))
			test_set_owner(t, block, &t->pool);
	}
	return r;
}

/* Drop the file cache of a zone, and move what tasks use to another as far as that has room. */
static void evacuate(struct test *t, struct test_zone *from, struct test_zone *to,
		     uint64_t result[__CZONE_RESULT_MAX])
{
	uint32_t cursor = 0, new;

	result[CZONE_RESULT_DROPPED] += test_drop_cache(t, from, UINT64_MAX) * TEST_PAGE;
	for (struct czone_test_task *task = t->tasks; task; task = task->next) {
		for (size_t i = 0; i < task->entries && from->pages[PAGE_TASK]; i++) {
			uint32_t page = task->page[i] - 1;

			if (!task->page[i] || test_page_zone(t, page) != from)
				continue;
			if (!test_take_page(t, to, PAGE_TASK, &cursor, &new))
				return;
			memcpy(test_page_data(t, new), test_page_data(t, page), TEST_PAGE);
			test_set_page(t, page, PAGE_FREE);
			task->page[i] = new + 1;
			result[CZONE_RESULT_MIGRATED] += TEST_PAGE;
		}
	}
}

static int test_grow(struct czone_vm *vm, uint64_t bytes, uint32_t timeout_ms)
{
	struct test *t;
	int r;

	(void)timeout_ms;
	r = test_enter(vm, "grow", &t);
	if (r < 0)
		return r;
	if (bytes / CZONE_BLOCK > BLOCKS_MAX - t->blocks)
		r = czone_fail(-ENOSPC, "the pool of a test VM has 64 GiB at most");
	else
		r = test_memory_grow(t, bytes / CZONE_BLOCK);
	return test_leave(t, r);
}

/* ---- the life of a zone */

static int test_create(struct czone_vm *vm, uint64_t size, uint32_t flags, uint32_t file_zone,
		       uint32_t timeout_ms, uint32_t *ret_id)
{
	struct test_zone *zone, **link, *files = NULL;
	struct test *t;
	int r;

	(void)timeout_ms;
	r = test_enter(vm, "create", &t);
	if (r < 0)
		return r;
	if (file_zone) {
		files = find(t, file_zone);
		if (!files || files->file_zone)
			return test_leave(t, files ? czone_fail(-EINVAL, "create: zone %" PRIu32
				" shares the file cache of another one", file_zone) : -ENOENT);
	}
	zone = calloc(1, sizeof(*zone));
	if (!zone)
		return test_leave(t, czone_fail(-ENOMEM, "no memory for a zone"));
	zone->flags = flags;
	zone->file_zone = file_zone;
	r = add_blocks(t, zone, size / CZONE_BLOCK);
	if (r < 0) {
		free_zone(zone);
		return test_leave(t, r);
	}
	/* the lowest id that is free */
	zone->id = 1;
	for (link = &t->zones; *link && (*link)->id == zone->id; link = &(*link)->next)
		zone->id++;
	zone->next = *link;
	*link = zone;
	*ret_id = zone->id;
	return test_leave(t, 0);
}

/* The zone's last blocks go; what is in use there moves to the rest of it. */
static int shrink(struct test *t, struct test_zone *zone, uint64_t n)
{
	uint64_t rest = test_zone_pages(zone) - n * BLOCK_PAGES, used, returned = 0;
	uint64_t result[__CZONE_RESULT_MAX] = { 0 };
	struct test_zone leaving = { 0 };
	int r;

	rest -= rest / SHRINK_MARGIN;
	used = zone->pages[PAGE_TASK] + zone->pages[PAGE_CACHE];
	if (used > rest)
		used -= test_drop_cache(t, zone, used - rest);
	if (used > rest)
		return czone_fail(-EBUSY, "resize of zone %" PRIu32 ": tasks use %" PRIu64
				  " KiB, which do not fit into less than %" PRIu64 " KiB", zone->id,
				  used * TEST_PAGE >> 10, rest * TEST_PAGE >> 10);
	for (uint32_t block = t->blocks; n; block--) {
		if (t->owner[block - 1] == zone) {
			test_set_owner(t, block - 1, &leaving);
			n--;
		}
	}
	evacuate(t, &leaving, zone, result);
	r = give_up_free_blocks(t, &leaving, &returned);
	zone->returned += returned;
	for (uint32_t block = 0; block < t->blocks; block++) {
		if (t->owner[block] == &leaving)	/* could not be punched */
			test_set_owner(t, block, zone);
	}
	return r;
}

static int resize(struct test *t, uint32_t id, uint64_t want)
{
	struct test_zone *zone = find(t, id);
	uint64_t have;

	if (!zone)
		return -ENOENT;
	have = test_zone_pages(zone) / BLOCK_PAGES;
	if (want > have)
		return add_blocks(t, zone, want - have);
	return want < have ? shrink(t, zone, have - want) : 0;
}

static int test_resize(struct czone_vm *vm, uint32_t id, uint64_t size, uint32_t timeout_ms)
{
	struct test *t;
	int r;

	(void)timeout_ms;
	r = test_enter(vm, "resize", &t);
	return r < 0 ? r : test_leave(t, resize(t, id, size / CZONE_BLOCK));
}

static int destroy(struct test *t, struct test_zone *zone, uint32_t flags,
		   uint64_t result[__CZONE_RESULT_MAX])
{
	struct test_zone **link = &t->zones;
	uint64_t returned = 0;
	int r;

	if (!(flags & CZONE_DESTROY_FORCE) && has_tasks(t, zone))
		return czone_fail(-EBUSY, "destroy of zone %" PRIu32 ": tasks live in cgroup %s",
				  zone->id, zone->cgroup);
	free(zone->cgroup);
	zone->cgroup = NULL;
	evacuate(t, zone, &t->boot, result);
	r = give_up_free_blocks(t, zone, &returned);
	result[CZONE_RESULT_RETURNED] = result[CZONE_RESULT_REPORTED] = returned;
	result[CZONE_RESULT_STUCK_OTHER] = zone->pages[PAGE_TASK] * TEST_PAGE;
	if (r < 0)
		return r;
	if (zone->pages[PAGE_TASK])
		return czone_fail(-EBUSY, "destroy of zone %" PRIu32 ": %" PRIu64
				  " KiB that tasks use have no room in the VM's own memory", zone->id,
				  zone->pages[PAGE_TASK] * TEST_PAGE >> 10);
	while (*link != zone)
		link = &(*link)->next;
	*link = zone->next;
	for (struct test_zone *other = t->zones; other; other = other->next)
		if (other->file_zone == zone->id)
			other->file_zone = 0;
	free_zone(zone);
	return 0;
}

static int test_destroy(struct czone_vm *vm, uint32_t id, uint32_t flags, uint32_t timeout_ms,
			uint64_t result[__CZONE_RESULT_MAX])
{
	struct test_zone *zone;
	struct test *t;
	int r;

	(void)timeout_ms;
	r = test_enter(vm, "destroy", &t);
	if (r < 0)
		return r;
	zone = find(t, id);
	return test_leave(t, zone ? destroy(t, zone, flags, result) : -ENOENT);
}

/* ---- reclaim */

static int reclaim_zone(struct test *t, struct test_zone *zone, uint32_t flags, uint64_t *left,
			uint64_t result[__CZONE_RESULT_MAX])
{
	uint64_t backed = test_free_backed(t, zone);

	if ((flags & CZONE_RECLAIM_CACHE) && backed < *left)
		result[CZONE_RESULT_DROPPED] += test_drop_cache(t, zone, *left - backed) * TEST_PAGE;
	return test_give_back(t, zone, left, &result[CZONE_RESULT_RETURNED]);
}

static int reclaim_vm(struct test *t, uint32_t flags, uint64_t *left,
		      uint64_t result[__CZONE_RESULT_MAX])
{
	int r = 0;

	for (struct test_zone *zone = t->zones; zone && r == 0; zone = zone->next)
		r = reclaim_zone(t, zone, flags, left, result);
	return r < 0 ? r : reclaim_zone(t, &t->boot, 0, left, result);
}

static int test_reclaim(struct czone_vm *vm, uint32_t id, uint64_t bytes, uint32_t flags,
			uint32_t timeout_ms, uint64_t result[__CZONE_RESULT_MAX])
{
	uint64_t left = bytes ? bytes / TEST_PAGE + !!(bytes % TEST_PAGE) : UINT64_MAX;
	struct test_zone *zone;
	struct test *t;
	int r;

	(void)timeout_ms;
	r = test_enter(vm, "reclaim", &t);
	if (r < 0)
		return r;
	if (id == CZONE_ID_VM) {
		r = reclaim_vm(t, flags, &left, result);
	} else {
		zone = find(t, id);
		r = zone ? reclaim_zone(t, zone, flags, &left, result) : -ENOENT;
	}
	result[CZONE_RESULT_REPORTED] = result[CZONE_RESULT_RETURNED];
	return test_leave(t, r);
}

/* ---- what there is */

/* How many there are; copies at most max. */
static size_t list_extents(struct test *t, const struct test_zone *zone,
			   struct czone_extent *extent, size_t max)
{
	bool inside = false;
	size_t n = 0;

	for (uint32_t block = 0; block < t->blocks; block++) {
		if (t->owner[block] != zone) {
			inside = false;
			continue;
		}
		if (!inside && n++ < max)
			extent[n - 1] = (struct czone_extent) { POOL_START + (block - BOOT_BLOCKS) * CZONE_BLOCK, 0 };
		if (n <= max)
			extent[n - 1].size += CZONE_BLOCK;
		inside = true;
	}
	return n;
}

static void account(struct test *t, struct test_zone *zone, uint64_t *stat)
{
	uint64_t backed = test_free_backed(t, zone);

	stat[CZONE_STAT_SIZE] = test_zone_pages(zone) * TEST_PAGE;
	stat[CZONE_STAT_USED] = (zone->pages[PAGE_TASK] + zone->pages[PAGE_CACHE]) * TEST_PAGE;
	stat[CZONE_STAT_FREE_BACKED] = backed * TEST_PAGE;
	stat[CZONE_STAT_FREE_UNBACKED] = (zone->pages[PAGE_FREE] - backed) * TEST_PAGE;
	stat[CZONE_STAT_FILE] = zone->pages[PAGE_CACHE] * TEST_PAGE;
	stat[CZONE_STAT_RETURNED] = zone->returned;
	stat[CZONE_STAT_SPILLED] = zone->spilled;
	stat[CZONE_STAT_FLAGS] = zone->flags;
	stat[CZONE_STAT_CGROUP] = zone->cgroup ? cgroup_id(zone->cgroup) : 0;
	stat[CZONE_STAT_EXTENTS] = list_extents(t, zone, NULL, 0);
	stat[CZONE_STAT_KERNEL] = 0;
	stat[CZONE_STAT_FILE_ZONE] = zone->file_zone;
}

static void account_vm(struct test *t, uint64_t *stat)
{
	stat[CZONE_STAT_SIZE] = (t->blocks - BOOT_BLOCKS) * CZONE_BLOCK;
	stat[CZONE_STAT_USED] = stat[CZONE_STAT_SIZE] - test_zone_pages(&t->pool) * TEST_PAGE;
	stat[CZONE_STAT_FREE_BACKED] = 0;
	stat[CZONE_STAT_FREE_UNBACKED] = test_zone_pages(&t->pool) * TEST_PAGE;
	stat[CZONE_STAT_RETURNED] = t->returned;
	stat[CZONE_STAT_METADATA] = 0;
	stat[CZONE_STAT_BOOT_SIZE] = BOOT_BLOCKS * CZONE_BLOCK;
	stat[CZONE_STAT_BOOT_FREE] = t->boot.pages[PAGE_FREE] * TEST_PAGE;
	stat[CZONE_STAT_BOOT_FREE_BACKED] = test_free_backed(t, &t->boot) * TEST_PAGE;
	stat[CZONE_STAT_ZONES] = 0;
	for (struct test_zone *zone = t->zones; zone; zone = zone->next)
		stat[CZONE_STAT_ZONES]++;
}

static int test_stats(struct czone_vm *vm, uint32_t id, uint64_t stat[__CZONE_STAT_MAX])
{
	struct test_zone *zone;
	struct test *t;
	int r = test_enter(vm, "stats", &t);

	if (r < 0)
		return r;
	if (id == CZONE_ID_VM) {
		account_vm(t, stat);
		return test_leave(t, 0);
	}
	zone = find(t, id);
	if (zone)
		account(t, zone, stat);
	return test_leave(t, zone ? 0 : -ENOENT);
}

static int test_list(struct czone_vm *vm, uint32_t *ret_ids, size_t max)
{
	struct test *t;
	size_t n = 0;
	int r = test_enter(vm, "list", &t);

	if (r < 0)
		return r;
	for (struct test_zone *zone = t->zones; zone; zone = zone->next, n++) {
		if (n < max)
			ret_ids[n] = zone->id;
	}
	return test_leave(t, n);
}

static int test_extents(struct czone_vm *vm, uint32_t id, struct czone_extent *extent, size_t max)
{
	struct test_zone *zone;
	struct test *t;
	int r = test_enter(vm, "ranges", &t);

	if (r < 0)
		return r;
	zone = find(t, id);
	return test_leave(t, zone ? (int)list_extents(t, zone, extent, max) : -ENOENT);
}

static int test_host_resident(struct czone_vm *vm, const struct czone_extent *extent, size_t n,
			      uint64_t *ret_bytes)
{
	uint64_t bytes = 0;
	struct test *t;
	int r = test_enter(vm, NULL, &t);

	if (r < 0)
		return r;
	for (size_t i = 0; i < n; i++) {
		uint32_t first = (extent[i].start - POOL_START) / TEST_PAGE + BOOT_BLOCKS * BLOCK_PAGES;

		bytes += test_resident(t, first, first + extent[i].size / TEST_PAGE);
	}
	*ret_bytes = bytes;
	return test_leave(t, 0);
}

static int test_pools(struct czone_vm *vm, struct czone_extent *extent, size_t max)
{
	struct test *t = NULL;
	int r = test_enter(vm, NULL, &t);

	if (r < 0)
		return r;
	if (max)
		extent[0] = (struct czone_extent){ POOL_START, (t->blocks - BOOT_BLOCKS) * CZONE_BLOCK };
	return test_leave(t, 1);
}

/* There is nobody who could touch what is in no zone, but whoever asks may ask for it all the same. */
static int test_release(struct czone_vm *vm, const struct czone_extent *extent, size_t n,
			uint32_t timeout_ms, uint64_t *ret_bytes)
{
	uint64_t before = 0, after = 0;
	struct test *t;
	int r = test_host_resident(vm, extent, n, &before);

	(void)timeout_ms;
	if (r == 0)
		r = test_enter(vm, NULL, &t);
	if (r < 0)
		return r;
	for (size_t i = 0; i < n; i++)
		fallocate(t->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
			  extent[i].start - POOL_START + BOOT_BLOCKS * CZONE_BLOCK, extent[i].size);
	test_leave(t, 0);
	r = test_host_resident(vm, extent, n, &after);
	if (r == 0)
		*ret_bytes = before - after;
	return r;
}

static int test_set_quota(struct czone_vm *vm, uint64_t pool_bytes, uint64_t zone_bytes)
{
	(void)vm;
	(void)pool_bytes;
	(void)zone_bytes;
	return 0;	/* all zones are made by the calls, which look at it */
}

static int test_host_stats(struct czone_vm *vm, struct czone_vm_stats *stats)
{
	struct test *t;
	int r = test_enter(vm, NULL, &t);

	if (r < 0)
		return r;
	/* no process of its own: host_pss stays unknown and pid 0 */
	stats->host_boot = test_resident(t, 0, BOOT_BLOCKS * BLOCK_PAGES);
	stats->host_pool = test_resident(t, BOOT_BLOCKS * BLOCK_PAGES, t->blocks * BLOCK_PAGES);
	return test_leave(t, 0);
}

/* ---- the VM */

static int test_stop(struct czone_vm *vm)
{
	struct test *t = vm->priv;

	pthread_mutex_lock(&t->lock);
	if (!t->stopped) {
		test_memory_close(t);
		czone_event(vm, CZONE_EVENT_VM_GONE, CZONE_ID_VM, 0, 0);
	}
	t->stopped = true;
	return test_leave(t, 0);
}

static void test_close(struct czone_vm *vm)
{
	struct test *t = vm->priv;

	test_stop(vm);
	while (t->zones) {
		struct test_zone *zone = t->zones;

		t->zones = zone->next;
		free_zone(zone);
	}
	pthread_mutex_destroy(&t->lock);
	free(t);
}

const struct czone_driver czone_test_driver = {
	.name = "test",
	.close = test_close,
	.stop = test_stop,
	.grow = test_grow,
	.create = test_create,
	.attach = test_attach,
	.resize = test_resize,
	.destroy = test_destroy,
	.reclaim = test_reclaim,
	.stats = test_stats,
	.list = test_list,
	.extents = test_extents,
	.resident = test_host_resident,
	.pools = test_pools,
	.release = test_release,
	.set_quota = test_set_quota,
	.host_stats = test_host_stats,
};

int czone_test_open(struct czone_vm *vm)
{
	struct test *t = calloc(1, sizeof(*t));
	int r;

	if (!t)
		return czone_fail(-ENOMEM, "no memory for a test VM");
	r = test_memory_open(t);
	if (r < 0) {
		free(t);
		return r;
	}
	pthread_mutex_init(&t->lock, NULL);
	vm->priv = t;
	vm->driver = &czone_test_driver;
	return 0;
}

static const char *const calls[] = {
	"create", "attach", "resize", "reclaim", "destroy", "stats", "ranges", "list", "grow",
};

int czone_test_fail(czone_vm *vm, const char *call, int error)
{
	const char *known = NULL;
	struct test *t;
	int r = czone_vm_check(vm);

	for (size_t i = 0; call && i < sizeof(calls) / sizeof(calls[0]); i++) {
		if (!strcmp(call, calls[i]))
			known = calls[i];
	}
	if (r == 0 && call && !known)
		r = czone_fail(-EINVAL, "test_fail: \"%s\" is no call that can be made to fail", call);
	if (r == 0 && (error > 0 || error < -4095))
		r = czone_fail(-EINVAL, "test_fail: %d is no negative errno", error);
	if (r == 0)
		r = test_enter(vm, NULL, &t);
	if (r < 0)
		return r;
	t->fail_call = known;
	t->fail_error = error;
	return test_leave(t, 0);
}
