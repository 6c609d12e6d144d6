/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The memory of one VM: regions that the VMM has handed over (guest-physical
 * address -> file and offset -> our mapping), and which ranges are pool.
 *
 * Only the poll thread and device_open/close change it, under the device's
 * lock; pointers into a mapping are good while that is held. What takes a
 * struct memory * below may otherwise be called from any thread.
 */
#ifndef LIB_HOST_MEMORY_H
#define LIB_HOST_MEMORY_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define MEMORY_REGIONS_MAX 64
#define MEMORY_POOLS_MAX 16

/* An inode with guest memory; several regions may share it. */
struct memory_file {
	atomic_uint refs;
	int fd;
	dev_t dev;
	ino_t ino;
	bool sealed;		/* cannot shrink, so touching it cannot raise SIGBUS */
	bool hugetlb;
	uint64_t granule;	/* less than this frees nothing */
};

struct memory_region {
	uint64_t start, size;	/* guest-physical */
	uint64_t user;		/* the same in the VMM's address space */
	uint64_t offset;	/* in the file */
	struct memory_file *file;
	char *map;		/* of its first byte */
};

struct memory_pool {
	uint64_t start, size;
};

struct memory {
	pthread_mutex_t lock;
	unsigned int n_regions, n_pools;
	struct memory_region region[MEMORY_REGIONS_MAX];
	struct memory_pool pool[MEMORY_POOLS_MAX];
};

void memory_init(struct memory *memory);
void memory_destroy(struct memory *memory);

/* Takes the fd, also when it fails. On failure *ret_why says why. */
int memory_add(struct memory *memory, uint64_t start, uint64_t size, uint64_t user,
	       uint64_t offset, int fd, const char **ret_why);
int memory_remove(struct memory *memory, uint64_t start, uint64_t size, uint64_t user);
void memory_clear(struct memory *memory);

int memory_add_pool(struct memory *memory, uint64_t start, uint64_t size);

/*
 * Where rings and buffers are; NULL unless inside one region and outside the
 * pools: drivers have their buffers in ordinary memory, and what this process
 * never touches in a pool it never allocates there either.
 */
void *memory_at(struct memory *memory, uint64_t start, uint64_t size);
void *memory_at_user(struct memory *memory, uint64_t user, uint64_t size);

bool memory_in_pool(struct memory *memory, uint64_t start, uint64_t size);
uint64_t memory_pools_size(struct memory *memory);
bool memory_overlaps_pool(struct memory *memory, uint64_t start, uint64_t size);

/* Are the files of what memory_at() reaches still as long as they were? */
bool memory_intact(struct memory *memory);

/*
 * The file behind guest-physical `start`, with a reference, and how far the
 * region goes on from there; NULL when there is none.
 */
struct memory_file *memory_file_at(struct memory *memory, uint64_t start, uint64_t *ret_offset,
				   uint64_t *ret_size);
void memory_file_put(struct memory_file *file);

/* Host memory allocated behind part of a file; behind all of it. Bytes. */
int memory_file_resident(struct memory_file *file, uint64_t offset, uint64_t size,
			 uint64_t *ret_bytes);
int memory_file_allocated(struct memory_file *file, uint64_t *ret_bytes);

/*
 * Bytes of a part that are in memory now, exactly and quickly: cachestat(), Linux 6.5.
 * -ENOSYS before that. What has been swapped out is not among them.
 */
int memory_file_cached(struct memory_file *file, uint64_t offset, uint64_t size,
		       uint64_t *ret_bytes);

/* memory_file_allocated() for all files with pool memory, and for all others. */
int memory_allocated(struct memory *memory, uint64_t *ret_pool, uint64_t *ret_boot);

#endif /* LIB_HOST_MEMORY_H */
