// SPDX-License-Identifier: LGPL-2.1-or-later
#include "memory.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <unistd.h>

#define SMALL_PAGE 4096

void memory_init(struct memory *memory)
{
	memset(memory, 0, sizeof(*memory));
	pthread_mutex_init(&memory->lock, NULL);
}

void memory_destroy(struct memory *memory)
{
	memory_clear(memory);
	pthread_mutex_destroy(&memory->lock);
}

/* Without overflow: is [start, start + size) inside [outer, outer + outer_size)? */
static bool inside(uint64_t start, uint64_t size, uint64_t outer, uint64_t outer_size)
{
	return start >= outer && size <= outer_size && start - outer <= outer_size - size;
}

/* The outer one does not wrap. */
static bool overlaps(uint64_t start, uint64_t size, uint64_t outer, uint64_t outer_size)
{
	if (!size)
		return false;
	return start >= outer ? start - outer < outer_size : outer - start < size;
}

/*
 * Is it in memory? A file elsewhere gives no memory back, and touching it may
 * take as long as its file system likes.
 */
static bool file_is_memory(int fd, bool *ret_hugetlb, uint64_t *ret_granule)
{
	struct statfs fs;

	if (fstatfs(fd, &fs))
		return false;
	*ret_hugetlb = fs.f_type == HUGETLBFS_MAGIC;
	*ret_granule = *ret_hugetlb ? (uint64_t)fs.f_bsize : SMALL_PAGE;
	return *ret_hugetlb || fs.f_type == TMPFS_MAGIC;
}

static struct memory_file *file_new(int fd, const struct stat *st, bool hugetlb, uint64_t granule)
{
	struct memory_file *file = calloc(1, sizeof(*file));
	int seals;

	if (!file)
		return NULL;
	atomic_init(&file->refs, 1);
	file->fd = fd;
	file->dev = st->st_dev;
	file->ino = st->st_ino;
	seals = fcntl(fd, F_GET_SEALS);
	file->sealed = seals >= 0 && (seals & F_SEAL_SHRINK);
	file->hugetlb = hugetlb;
	file->granule = granule;
	return file;
}

void memory_file_put(struct memory_file *file)
{
	if (atomic_fetch_sub(&file->refs, 1) != 1)
		return;
	close(file->fd);
	free(file);
}

static struct memory_file *file_known(struct memory *memory, const struct stat *st)
{
	for (unsigned int i = 0; i < memory->n_regions; i++) {
		struct memory_file *file = memory->region[i].file;

		if (file->dev == st->st_dev && file->ino == st->st_ino) {
			atomic_fetch_add(&file->refs, 1);
			return file;
		}
	}
	return NULL;
}

/* A mapping begins on a page of the file system, a region need not. */
static int region_map(struct memory_region *r)
{
	uint64_t before = r->offset % r->file->granule;
	void *map;

	map = mmap(NULL, r->size + before, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE,
		   r->file->fd, r->offset - before);
	if (map == MAP_FAILED)
		return -errno;
	r->map = (char *)map + before;
	return 0;
}

static void region_free(struct memory_region *r)
{
	uint64_t granule = r->file->granule, before = r->offset % granule;

	munmap(r->map - before, (r->size + before + granule - 1) / granule * granule);
	memory_file_put(r->file);
}

int memory_add(struct memory *memory, uint64_t start, uint64_t size, uint64_t user,
	       uint64_t offset, int fd, const char **ret_why)
{
	struct memory_region r = { .start = start, .size = size, .user = user, .offset = offset };
	uint64_t end, granule;
	struct stat st;
	bool hugetlb;
	int error;

	*ret_why = "it is empty or wraps";
	error = -EINVAL;
	if (!size || __builtin_add_overflow(start, size, &end) ||
	    __builtin_add_overflow(user, size, &end) ||
	    __builtin_add_overflow(offset, size, &end) || end > INT64_MAX)
		goto refuse;
	*ret_why = "it is not of whole pages";	/* and so rings in it are aligned as they look */
	if ((start | size | user | offset) % SMALL_PAGE)
		goto refuse;
	*ret_why = "it overlaps another one";
	for (unsigned int i = 0; i < memory->n_regions; i++) {
		const struct memory_region *other = &memory->region[i];

		if (overlaps(start, size, other->start, other->size) ||
		    overlaps(user, size, other->user, other->size))
			goto refuse;
	}
	*ret_why = "there are too many";
	if (memory->n_regions == MEMORY_REGIONS_MAX)
		goto refuse;
	*ret_why = "its file is no regular one, or shorter than it";
	if (fstat(fd, &st) || !S_ISREG(st.st_mode) || end > (uint64_t)st.st_size)
		goto refuse;
	*ret_why = "its file is on no tmpfs, memfd or hugetlbfs";
	if (!file_is_memory(fd, &hugetlb, &granule))
		goto refuse;

	*ret_why = "there is no memory for it";
	r.file = file_known(memory, &st);
	if (r.file)
		close(fd);
	else
		r.file = file_new(fd, &st, hugetlb, granule);
	if (!r.file) {
		error = -ENOMEM;
		goto refuse;
	}
	error = region_map(&r);
	if (error) {
		*ret_why = "it cannot be mapped";
		memory_file_put(r.file);
		return error;
	}
	pthread_mutex_lock(&memory->lock);
	memory->region[memory->n_regions++] = r;
	pthread_mutex_unlock(&memory->lock);
	return 0;
refuse:
	close(fd);
	return error;
}

int memory_remove(struct memory *memory, uint64_t start, uint64_t size, uint64_t user)
{
	struct memory_region r;
	unsigned int i;

	pthread_mutex_lock(&memory->lock);
	for (i = 0; i < memory->n_regions; i++) {
		r = memory->region[i];
		if (r.start == start && r.size == size && r.user == user)
			break;
	}
	if (i == memory->n_regions) {
		pthread_mutex_unlock(&memory->lock);
		return -ENOENT;
	}
	memory->region[i] = memory->region[--memory->n_regions];
	pthread_mutex_unlock(&memory->lock);
	region_free(&r);
	return 0;
}

void memory_clear(struct memory *memory)
{
	while (memory->n_regions) {
		struct memory_region r;

		pthread_mutex_lock(&memory->lock);
		r = memory->region[--memory->n_regions];
		pthread_mutex_unlock(&memory->lock);
		region_free(&r);
	}
}

int memory_add_pool(struct memory *memory, uint64_t start, uint64_t size)
{
	uint64_t end;
	int error = 0;

	if (!size || __builtin_add_overflow(start, size, &end))
		return -EINVAL;
	if (memory_overlaps_pool(memory, start, size))
		return -EEXIST;
	pthread_mutex_lock(&memory->lock);
	if (memory->n_pools == MEMORY_POOLS_MAX)
		error = -ENOSPC;
	else
		memory->pool[memory->n_pools++] = (struct memory_pool){ start, size };
	pthread_mutex_unlock(&memory->lock);
	return error;
}

static bool overlaps_pool(const struct memory *memory, uint64_t start, uint64_t size)
{
	for (unsigned int i = 0; i < memory->n_pools; i++)
		if (overlaps(start, size, memory->pool[i].start, memory->pool[i].size))
			return true;
	return false;
}

bool memory_overlaps_pool(struct memory *memory, uint64_t start, uint64_t size)
{
	bool found;

	pthread_mutex_lock(&memory->lock);
	found = overlaps_pool(memory, start, size);
	pthread_mutex_unlock(&memory->lock);
	return found;
}

bool memory_in_pool(struct memory *memory, uint64_t start, uint64_t size)
{
	bool found = false;

	pthread_mutex_lock(&memory->lock);
	for (unsigned int i = 0; i < memory->n_pools; i++)
		found |= inside(start, size, memory->pool[i].start, memory->pool[i].size);
	pthread_mutex_unlock(&memory->lock);
	return found;
}

uint64_t memory_pools_size(struct memory *memory)
{
	uint64_t size = 0;

	pthread_mutex_lock(&memory->lock);
	for (unsigned int i = 0; i < memory->n_pools; i++)
		size += memory->pool[i].size;
	pthread_mutex_unlock(&memory->lock);
	return size;
}

static void *at(struct memory *memory, uint64_t address, uint64_t size, bool user)
{
	void *found = NULL;

	pthread_mutex_lock(&memory->lock);
	for (unsigned int i = 0; i < memory->n_regions && !found; i++) {
		const struct memory_region *r = &memory->region[i];
		uint64_t start = user ? r->user : r->start;

		if (inside(address, size, start, r->size) &&
		    !overlaps_pool(memory, r->start + (address - start), size))
			found = r->map + (address - start);
	}
	pthread_mutex_unlock(&memory->lock);
	return found;
}

void *memory_at(struct memory *memory, uint64_t start, uint64_t size)
{
	return at(memory, start, size, false);
}

void *memory_at_user(struct memory *memory, uint64_t user, uint64_t size)
{
	return at(memory, user, size, true);
}

bool memory_intact(struct memory *memory)
{
	bool intact = true;
	struct stat st;

	pthread_mutex_lock(&memory->lock);
	for (unsigned int i = 0; i < memory->n_regions && intact; i++) {
		const struct memory_region *r = &memory->region[i];

		if (r->file->sealed)
			continue;
		intact = !fstat(r->file->fd, &st) && (uint64_t)st.st_size >= r->offset + r->size;
	}
	pthread_mutex_unlock(&memory->lock);
	return intact;
}

struct memory_file *memory_file_at(struct memory *memory, uint64_t start, uint64_t *ret_offset,
				   uint64_t *ret_size)
{
	struct memory_file *file = NULL;

	pthread_mutex_lock(&memory->lock);
	for (unsigned int i = 0; i < memory->n_regions && !file; i++) {
		const struct memory_region *r = &memory->region[i];

		if (!inside(start, 1, r->start, r->size))
			continue;
		file = r->file;
		atomic_fetch_add(&file->refs, 1);
		*ret_offset = r->offset + (start - r->start);
		*ret_size = r->size - (start - r->start);
	}
	pthread_mutex_unlock(&memory->lock);
	return file;
}

int memory_file_resident(struct memory_file *file, uint64_t offset, uint64_t size,
			 uint64_t *ret_bytes)
{
	off_t at = offset, end = offset + size;
	uint64_t bytes = 0;

	if (file->hugetlb)	/* SEEK_DATA calls everything data there */
		return -EOPNOTSUPP;
	while (at < end) {
		off_t data = lseek(file->fd, at, SEEK_DATA);

		if (data < 0 && errno == ENXIO)
			break;
		if (data < 0)
			return -errno;
		if (data >= end)
			break;
		at = lseek(file->fd, data, SEEK_HOLE);
		if (at < 0)
			return -errno;
		if (at > end)
			at = end;
		/* freed between the two calls: the hole is where the data was */
		if (at <= data) {
			at = data + SMALL_PAGE;
			continue;
		}
		bytes += at - data;
	}
	*ret_bytes = bytes;
	return 0;
}

int memory_file_allocated(struct memory_file *file, uint64_t *ret_bytes)
{
	struct stat st;

	if (fstat(file->fd, &st))
		return -errno;
	*ret_bytes = (uint64_t)st.st_blocks * 512;
	return 0;
}

/* The C library and the kernel's headers may be older than the kernel. */
#ifndef __NR_cachestat
#define __NR_cachestat 451
#endif

struct cachestat_range_arg {
	uint64_t offset, size;
};

struct cachestat_result {
	uint64_t cached, dirty, writeback, evicted, recently_evicted;	/* pages */
};

int memory_file_cached(struct memory_file *file, uint64_t offset, uint64_t size,
		       uint64_t *ret_bytes)
{
	struct cachestat_range_arg range = { offset, size };
	struct cachestat_result result;

	if (syscall(__NR_cachestat, file->fd, &range, &result, 0))
		return -errno;
	*ret_bytes = result.cached * SMALL_PAGE;
	return 0;
}

int memory_allocated(struct memory *memory, uint64_t *ret_pool, uint64_t *ret_boot)
{
	uint64_t pool = 0, boot = 0;
	int error = 0;

	pthread_mutex_lock(&memory->lock);
	if (!memory->n_regions)
		error = -ENOTCONN;
	for (unsigned int i = 0; i < memory->n_regions && !error; i++) {
		struct memory_file *file = memory->region[i].file;
		bool is_pool = false, counted = false;
		uint64_t bytes;

		for (unsigned int k = 0; k < memory->n_regions; k++) {
			const struct memory_region *r = &memory->region[k];

			if (r->file != file)
				continue;
			counted |= k < i;
			is_pool |= overlaps_pool(memory, r->start, r->size);
		}
		if (counted)
			continue;
		error = memory_file_allocated(file, &bytes);
		if (!error)
			*(is_pool ? &pool : &boot) += bytes;
	}
	pthread_mutex_unlock(&memory->lock);
	if (error)
		return error;
	*ret_pool = pool;
	*ret_boot = boot;
	return 0;
}
