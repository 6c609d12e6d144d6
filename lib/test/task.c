/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Tasks of a test VM: what stands for containers there, and uses memory. */
#include "../handle.h"
#include "../thread.h"
#include "test.h"
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define ADDRESS_SPACE ((uint64_t)16 << 30)

static int task_enter(struct czone_test_task *task, struct test **ret_test)
{
	if (!task)
		return czone_fail(-EINVAL, "task is NULL");
	return test_enter(task->vm, NULL, ret_test);
}

static int check_range(uint64_t offset, uint64_t bytes)
{
	if (offset > ADDRESS_SPACE || bytes > ADDRESS_SPACE - offset)
		return czone_fail(-EINVAL, "%" PRIu64 " bytes at %" PRIu64
				  ": a task has 16 GiB of address space", bytes, offset);
	return 0;
}

int czone_test_start(czone_vm *vm, const char *cgroup, czone_test_task **ret_task)
{
	struct czone_test_task *task;
	struct test *t;
	int r = czone_vm_check(vm);

	if (r == 0 && !ret_task)
		r = czone_fail(-EINVAL, "test_start: ret_task is NULL");
	if (r == 0)
		r = czone_cgroup_path_check(cgroup);
	if (r == 0)
		r = test_enter(vm, NULL, &t);
	if (r < 0)
		return r;
	task = calloc(1, sizeof(*task));
	if (task)
		task->cgroup = test_cgroup(cgroup);
	if (!task || !task->cgroup) {
		free(task);
		return test_leave(t, czone_fail(-ENOMEM, "no memory for a task"));
	}
	task->vm = czone_vm_ref(vm);
	task->next = t->tasks;
	t->tasks = task;
	*ret_task = task;
	return test_leave(t, 0);
}

/* Entries of the page table up to `entries`; 0 or -ENOMEM. */
static int extend(struct czone_test_task *task, size_t entries)
{
	uint32_t *more;

	if (entries <= task->entries)
		return 0;
	if (entries < 2 * task->entries)
		entries = 2 * task->entries;
	more = reallocarray(task->page, entries, sizeof(*more));
	if (!more)
		return czone_fail(-ENOMEM, "no memory for a page table");
	memset(more + task->entries, 0, (entries - task->entries) * sizeof(*more));
	task->page = more;
	task->entries = entries;
	return 0;
}

/* Free pages in the zone for so many, clean cache making way; or outside of one that spills. */
static int make_room(struct test *t, struct test_zone *zone, uint64_t pages)
{
	uint64_t room = zone->pages[PAGE_FREE];

	if (zone->flags & CZONE_CREATE_SPILL)
		room += t->boot.pages[PAGE_FREE];
	else if (pages > room)
		room += test_drop_cache(t, zone, pages - room);
	if (pages <= room)
		return 0;
	return czone_fail(-ENOMEM, "%s is full: %" PRIu64 " KiB more do not fit: tasks use %" PRIu64
			  " of %" PRIu64 " KiB",
			  zone == &t->boot ? "the VM's own memory" : "the zone",
			  pages * TEST_PAGE >> 10, zone->pages[PAGE_TASK] * TEST_PAGE >> 10,
			  test_zone_pages(zone) * TEST_PAGE >> 10);
}

/* As a guest would, at most once a second. */
static void tell_full(struct czone_test_task *task, struct test *t, struct test_zone *zone)
{
	uint64_t now = now_ms();

	if (zone == &t->boot || (zone->full_at && now - zone->full_at < 1000))
		return;
	zone->full_at = now;
	czone_event(task->vm, CZONE_EVENT_ZONE_FULL, zone->id, 0, 0);
}

/* Pages for all entries [first, end) that have none; those read as zero. */
static int touch(struct test *t, struct czone_test_task *task, size_t first, size_t end)
{
	struct test_zone *zone = test_zone_of(t, task->cgroup);
	uint32_t cursor = 0, boot_cursor = 0, page;
	uint64_t absent = 0;
	int r;

	r = extend(task, end);
	for (size_t i = first; r == 0 && i < end; i++)
		absent += !task->page[i];
	if (r == 0 && absent > zone->pages[PAGE_FREE])
		tell_full(task, t, zone);
	if (r == 0)
		r = make_room(t, zone, absent);
	if (r < 0)
		return r;
	for (size_t i = first; i < end; i++) {
		if (task->page[i])
			continue;
		if (!test_take_page(t, zone, PAGE_TASK, &cursor, &page)) {
			test_take_page(t, &t->boot, PAGE_TASK, &boot_cursor, &page);
			zone->spilled += TEST_PAGE;
		}
		memset(test_page_data(t, page), 0, TEST_PAGE);
		task->page[i] = page + 1;
	}
	return 0;
}

int czone_test_fill(czone_test_task *task, uint64_t offset, uint64_t bytes, uint8_t value)
{
	uint64_t end = offset + bytes;
	struct test *t;
	int r = task_enter(task, &t);

	if (r < 0)
		return r;
	r = check_range(offset, bytes);
	if (r == 0 && bytes)
		r = touch(t, task, offset / TEST_PAGE, (end + TEST_PAGE - 1) / TEST_PAGE);
	while (r == 0 && offset < end) {
		uint64_t at = offset % TEST_PAGE, n = TEST_PAGE - at;

		if (n > end - offset)
			n = end - offset;
		memset(test_page_data(t, task->page[offset / TEST_PAGE] - 1) + at, value, n);
		offset += n;
	}
	return test_leave(t, r);
}

int czone_test_read(czone_test_task *task, uint64_t offset, void *ret_data, size_t bytes)
{
	char *data = ret_data;
	struct test *t;
	int r = task_enter(task, &t);

	if (r < 0)
		return r;
	r = check_range(offset, bytes);
	if (r == 0 && bytes && !data)
		r = czone_fail(-EINVAL, "test_read: ret_data is NULL");
	while (r == 0 && bytes) {
		uint64_t entry = offset / TEST_PAGE, at = offset % TEST_PAGE, n = TEST_PAGE - at;

		if (n > bytes)
			n = bytes;
		if (entry < task->entries && task->page[entry])
			memcpy(data, test_page_data(t, task->page[entry] - 1) + at, n);
		else
			memset(data, 0, n);
		data += n;
		offset += n;
		bytes -= n;
	}
	return test_leave(t, r);
}

static void release(struct test *t, struct czone_test_task *task, size_t first, size_t end)
{
	for (size_t i = first; i < end && i < task->entries; i++) {
		if (task->page[i])
			test_set_page(t, task->page[i] - 1, PAGE_FREE);
		task->page[i] = 0;
	}
}

int czone_test_discard(czone_test_task *task, uint64_t offset, uint64_t bytes)
{
	struct test *t;
	int r = task_enter(task, &t);

	if (r < 0)
		return r;
	r = check_range(offset, bytes);
	if (r == 0)
		release(t, task, (offset + TEST_PAGE - 1) / TEST_PAGE, (offset + bytes) / TEST_PAGE);
	return test_leave(t, r);
}

int czone_test_cache(czone_test_task *task, uint64_t bytes)
{
	uint64_t pages = bytes / TEST_PAGE + !!(bytes % TEST_PAGE), room;
	uint32_t cursor = 0, page;
	struct test_zone *zone;
	struct test *t;
	int r = task_enter(task, &t);

	if (r < 0)
		return r;
	zone = test_zone_of(t, task->cgroup);
	room = zone->pages[PAGE_FREE];
	if (pages > room)
		test_drop_cache(t, zone, pages - room);
	while (pages-- && test_take_page(t, zone, PAGE_CACHE, &cursor, &page))
		memset(test_page_data(t, page), 0, TEST_PAGE);
	return test_leave(t, 0);
}

czone_test_task *czone_test_exit(czone_test_task *task)
{
	struct czone_test_task **link;
	struct test *t;

	if (!task)
		return NULL;
	t = task->vm->priv;
	pthread_mutex_lock(&t->lock);
	for (link = &t->tasks; *link != task; link = &(*link)->next)
		;
	*link = task->next;
	release(t, task, 0, task->entries);
	pthread_mutex_unlock(&t->lock);
	czone_vm_unref(task->vm);
	free(task->page);
	free(task->cgroup);
	free(task);
	return NULL;
}
