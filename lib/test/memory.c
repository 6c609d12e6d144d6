/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The pages of a test VM, and the file that they are in. */
#include "test.h"
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

static uint64_t file_size(uint32_t blocks)
{
	return blocks * CZONE_BLOCK;
}

/* From now on there are so many blocks, or as before. */
static int set_blocks(struct test *t, uint32_t blocks)
{
	uint64_t size = file_size(blocks);
	void *map = MAP_FAILED;

	if (!ftruncate(t->fd, size)) {
		if (t->blocks)
			map = mremap(t->map, file_size(t->blocks), size, MREMAP_MAYMOVE);
		else
			map = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE,
				   t->fd, 0);
	}
	if (map == MAP_FAILED) {
		int error = -errno;

		if (ftruncate(t->fd, file_size(t->blocks)))
			czone_log(CZONE_LOG_WARNING, "test VM: ftruncate: %s", strerror(errno));
		return czone_fail(error, "test VM: a file of %llu MiB, and room to map it: %s",
				  (unsigned long long)size >> 20, strerror(-error));
	}
	t->map = map;
	t->blocks = blocks;
	return 0;
}

static void give(struct test *t, struct test_zone *zone, uint32_t first, uint32_t blocks)
{
	for (uint32_t block = first; block < first + blocks; block++)
		t->owner[block] = zone;
	zone->pages[PAGE_FREE] += (uint64_t)blocks * BLOCK_PAGES;
}

int test_memory_open(struct test *t)
{
	int r;

	t->fd = memfd_create("czone-test", MFD_CLOEXEC);
	if (t->fd < 0)
		return czone_fail(-errno, "test VM: memfd_create: %s", strerror(errno));
	r = set_blocks(t, BOOT_BLOCKS + POOL_BLOCKS);
	if (r < 0) {
		close(t->fd);
		return r;
	}
	give(t, &t->boot, 0, BOOT_BLOCKS);
	give(t, &t->pool, BOOT_BLOCKS, POOL_BLOCKS);
	return 0;
}

int test_memory_grow(struct test *t, uint32_t blocks)
{
	uint32_t first = t->blocks;
	int r = set_blocks(t, first + blocks);

	if (r == 0)
		give(t, &t->pool, first, blocks);
	return r;
}

void test_memory_close(struct test *t)
{
	munmap(t->map, file_size(t->blocks));
	close(t->fd);
}

uint64_t test_zone_pages(const struct test_zone *zone)
{
	return zone->pages[PAGE_FREE] + zone->pages[PAGE_TASK] + zone->pages[PAGE_CACHE];
}

void test_set_page(struct test *t, uint32_t page, enum page_state state)
{
	struct test_zone *zone = test_page_zone(t, page);

	zone->pages[t->state[page]]--;
	zone->pages[state]++;
	t->state[page] = state;
}

void test_set_owner(struct test *t, uint32_t block, struct test_zone *zone)
{
	for (uint32_t i = 0; i < BLOCK_PAGES; i++) {
		uint8_t state = t->state[block * BLOCK_PAGES + i];

		t->owner[block]->pages[state]--;
		zone->pages[state]++;
	}
	t->owner[block] = zone;
}

bool test_take_page(struct test *t, struct test_zone *zone, enum page_state state,
		    uint32_t *cursor, uint32_t *ret_page)
{
	uint32_t page = *cursor;

	while (page < t->blocks * BLOCK_PAGES) {
		if (test_page_zone(t, page) != zone) {
			page = (page / BLOCK_PAGES + 1) * BLOCK_PAGES;
		} else if (t->state[page] != PAGE_FREE) {
			page++;
		} else {
			test_set_page(t, page, state);
			*ret_page = page;
			*cursor = page + 1;
			return true;
		}
	}
	*cursor = page;
	return false;
}

uint64_t test_drop_cache(struct test *t, struct test_zone *zone, uint64_t pages)
{
	uint64_t dropped = 0;

	for (uint32_t page = 0; dropped < pages && zone->pages[PAGE_CACHE]; page++) {
		if (test_page_zone(t, page) == zone && t->state[page] == PAGE_CACHE) {
			test_set_page(t, page, PAGE_FREE);
			dropped++;
		}
	}
	return dropped;
}

/* The first run of pages with memory behind them in [*first, end): now [*first, *ret_end). */
static bool next_backed(struct test *t, uint32_t *first, uint32_t end, uint32_t *ret_end)
{
	off_t limit = (off_t)end * TEST_PAGE, data, hole;

	if (*first >= end)
		return false;
	data = lseek(t->fd, (off_t)*first * TEST_PAGE, SEEK_DATA);
	if (data < 0 || data >= limit)
		return false;
	hole = lseek(t->fd, data, SEEK_HOLE);
	*first = data / TEST_PAGE;
	*ret_end = hole < 0 || hole > limit ? end : hole / TEST_PAGE;
	return true;
}

uint64_t test_resident(struct test *t, uint32_t first, uint32_t end)
{
	uint32_t run_end;
	uint64_t pages = 0;

	for (; next_backed(t, &first, end, &run_end); first = run_end)
		pages += run_end - first;
	return pages * TEST_PAGE;
}

uint64_t test_allocated(struct test *t)
{
	struct stat st;

	return fstat(t->fd, &st) == 0 ? (uint64_t)st.st_blocks * 512 : 0;
}

uint64_t test_free_backed(struct test *t, struct test_zone *zone)
{
	uint64_t pages = 0;

	for (uint32_t block = 0; block < t->blocks; block++) {
		uint32_t page = block * BLOCK_PAGES, end = page + BLOCK_PAGES, run_end;

		if (t->owner[block] != zone)
			continue;
		while (next_backed(t, &page, end, &run_end))
			for (; page < run_end; page++)
				pages += t->state[page] == PAGE_FREE;
	}
	return pages;
}

/* The free ones of pages that are all backed. */
static int punch(struct test *t, uint32_t page, uint32_t end, uint64_t *left)
{
	while (page < end && *left) {
		uint32_t first = page;

		while (page < end && t->state[page] == PAGE_FREE && page - first < *left)
			page++;
		if (page == first) {
			page++;
			continue;
		}
		if (fallocate(t->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
			      (off_t)first * TEST_PAGE, (off_t)(page - first) * TEST_PAGE))
			return czone_fail(-errno, "test VM: fallocate: %s", strerror(errno));
		*left -= page - first;
	}
	return 0;
}

int test_give_back(struct test *t, struct test_zone *zone, uint64_t *left, uint64_t *ret_returned)
{
	uint64_t before = test_allocated(t), returned;
	int r = 0;

	for (uint32_t block = 0; block < t->blocks && *left && r == 0; block++) {
		uint32_t page = block * BLOCK_PAGES, end = page + BLOCK_PAGES, run_end;

		if (t->owner[block] != zone)
			continue;
		for (; r == 0 && next_backed(t, &page, end, &run_end); page = run_end)
			r = punch(t, page, run_end, left);
	}
	returned = before - test_allocated(t);
	zone->returned += returned;
	t->returned += returned;
	*ret_returned += returned;
	return r;
}
