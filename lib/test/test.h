/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * test:///default: a VM that is a data structure in this process. Its memory is
 * a file without a name, so what is in use and what has come back is real, and
 * counted by the kernel we run on. Everything happens under one lock, and
 * nothing waits for anybody.
 */
#ifndef LIB_TEST_TEST_H
#define LIB_TEST_TEST_H

#include "../driver.h"

#define TEST_PAGE	4096u
#define BLOCK_PAGES	((uint32_t)(CZONE_BLOCK / TEST_PAGE))
#define BOOT_BLOCKS	64u		/* 256 MiB */
#define POOL_BLOCKS	1024u		/* 4 GiB to begin with */
#define POOL_BLOCKS_MAX	16384u		/* 64 GiB */
#define BLOCKS_MAX	(BOOT_BLOCKS + POOL_BLOCKS_MAX)
#define POOL_START	((uint64_t)4 << 30)	/* where a guest would see the pool */

enum page_state {
	PAGE_FREE,
	PAGE_TASK,		/* one entry of one task's page table refers to it */
	PAGE_CACHE,		/* clean file cache */
	PAGE_STATES,
};

struct test_zone {
	struct test_zone *next;	/* by id */
	uint32_t id, flags;
	uint32_t file_zone;	/* 0: none; nothing here reads files from it */
	char *cgroup;		/* as test_cgroup() makes it, or NULL */
	uint64_t pages[PAGE_STATES];	/* how many it has in each state */
	uint64_t returned, spilled;	/* bytes so far */
	uint64_t full_at;	/* ms, when that was told last */
};

struct test {
	pthread_mutex_t lock;
	bool stopped;
	const char *fail_call;	/* what is to fail next, NULL: anything */
	int fail_error;		/* and how, 0: nothing is */

	int fd;			/* the boot memory, and after it the pool */
	char *map;
	uint32_t blocks;	/* of both */
	uint8_t state[BLOCKS_MAX * BLOCK_PAGES];	/* enum page_state */
	struct test_zone *owner[BLOCKS_MAX];	/* of those that there are: never NULL */
	struct test_zone pool;	/* owns the blocks that no zone has */
	struct test_zone boot;
	struct test_zone *zones;
	struct czone_test_task *tasks;
	uint64_t returned;
};

/* Something that runs in a cgroup. Its memory is what its page table refers to. */
struct czone_test_task {
	struct czone_vm *vm;
	struct czone_test_task *next;
	char *cgroup;
	uint32_t *page;		/* page + 1 behind each 4 KiB of its address space, 0: none */
	size_t entries;
};

extern const struct czone_driver czone_test_driver;

/* ---- driver.c */

/*
 * Lock the VM for one call. Its name is for czone_test_fail(); NULL is one that
 * cannot be made to fail. -EOPNOTSUPP: it is no test VM; -ESHUTDOWN: stopped.
 */
int test_enter(struct czone_vm *vm, const char *call, struct test **ret_test);

/* Unlock; returns r. */
int test_leave(struct test *t, int r);

/* A path in its one form: "//a/./b/" is "/a/b". free() it; NULL without memory. */
char *test_cgroup(const char *path);

/* Where the memory of a cgroup's tasks comes from. */
struct test_zone *test_zone_of(struct test *t, const char *cgroup);

/* ---- memory.c; all but the first two under the lock */

int test_memory_open(struct test *t);
void test_memory_close(struct test *t);

/* So many more blocks for the pool. */
int test_memory_grow(struct test *t, uint32_t blocks);

static inline struct test_zone *test_page_zone(const struct test *t, uint32_t page)
{
	return t->owner[page / BLOCK_PAGES];
}

static inline char *test_page_data(const struct test *t, uint32_t page)
{
	return t->map + (uint64_t)page * TEST_PAGE;
}

/* All of its pages. */
uint64_t test_zone_pages(const struct test_zone *zone);

void test_set_page(struct test *t, uint32_t page, enum page_state state);
void test_set_owner(struct test *t, uint32_t block, struct test_zone *zone);

/*
 * The zone's free page with the lowest number, from *cursor on, which moves along:
 * begin with 0. False when there is none.
 */
bool test_take_page(struct test *t, struct test_zone *zone, enum page_state state,
		    uint32_t *cursor, uint32_t *ret_page);

/* Drop so many pages of the zone's file cache, or all; how many it were. */
uint64_t test_drop_cache(struct test *t, struct test_zone *zone, uint64_t pages);

/* What the kernel we run on has behind these pages, and behind all. Bytes. */
uint64_t test_resident(struct test *t, uint32_t first, uint32_t end);
uint64_t test_allocated(struct test *t);

/* How many free pages of the zone have memory behind them. */
uint64_t test_free_backed(struct test *t, struct test_zone *zone);

/*
 * Punch at most *left of them out of the file, in the order of their addresses.
 * *left falls by as many. What came back is counted for the zone and the VM.
 */
int test_give_back(struct test *t, struct test_zone *zone, uint64_t *left,
		   uint64_t *ret_returned);

#endif /* LIB_TEST_TEST_H */
