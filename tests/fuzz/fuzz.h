/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What the fuzz targets share: reading the input, and what must be true at all times. */
#ifndef TESTS_FUZZ_FUZZ_H
#define TESTS_FUZZ_FUZZ_H

#include "host/virtqueue.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FUZZ_FDS_MAX 128	/* a target has fewer at a time */

#define FUZZ_CHECK(what) \
	do { \
		if (!(what)) { \
			fprintf(stderr, "%s:%d: not true: %s\n", __FILE__, __LINE__, #what); \
			abort(); \
		} \
	} while (0)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct fuzz_input {
	const uint8_t *at;
	size_t left;
};

/* The next bytes of the input; zeroes beyond its end. Returns how many there were. */
static inline size_t fuzz_take(struct fuzz_input *in, void *to, size_t size)
{
	size_t n = size < in->left ? size : in->left;

	memset(to, 0, size);
	if (n)
		memcpy(to, in->at, n);
	in->at += n;
	in->left -= n;
	return n;
}

static inline uint8_t fuzz_take8(struct fuzz_input *in)
{
	uint8_t value;

	fuzz_take(in, &value, sizeof(value));
	return value;
}

/* The inputs are little endian, as the machines that this runs on. */
static inline uint16_t fuzz_take16(struct fuzz_input *in)
{
	uint16_t value;

	fuzz_take(in, &value, sizeof(value));
	return value;
}

static inline uint32_t fuzz_take32(struct fuzz_input *in)
{
	uint32_t value;

	fuzz_take(in, &value, sizeof(value));
	return value;
}

static inline uint64_t fuzz_take64(struct fuzz_input *in)
{
	uint64_t value;

	fuzz_take(in, &value, sizeof(value));
	return value;
}

/* A file descriptor that is left open shows as a difference. */
static inline unsigned int fuzz_open_fds(void)
{
	struct pollfd p[FUZZ_FDS_MAX];
	unsigned int n = 0;

	for (int i = 0; i < FUZZ_FDS_MAX; i++)
		p[i] = (struct pollfd){ .fd = i };
	FUZZ_CHECK(poll(p, FUZZ_FDS_MAX, 0) >= 0);
	for (int i = 0; i < FUZZ_FDS_MAX; i++)
		n += !(p[i].revents & POLLNVAL);
	return n;
}

/*
 * A mapping has neighbours that no sanitizer knows, so the table of regions
 * tells where a segment may be, counted in another way than the library does.
 */
static inline bool fuzz_segment_allowed(const struct memory *m, const struct virtqueue_segment *s)
{
	unsigned __int128 start = s->start, end = start + s->size;
	bool inside = false;

	for (unsigned int i = 0; i < m->n_regions; i++) {
		const struct memory_region *r = &m->region[i];

		inside |= start >= r->start && end <= (unsigned __int128)r->start + r->size &&
			  (char *)s->data == r->map + (s->start - r->start);
	}
	for (unsigned int i = 0; i < m->n_pools; i++)
		if (end > m->pool[i].start &&
		    start < (unsigned __int128)m->pool[i].start + m->pool[i].size)
			return false;
	return inside;
}

static inline void fuzz_check_buffer(const struct virtqueue *vq, const struct virtqueue_buffer *b)
{
	uint64_t size[2] = { 0, 0 };

	FUZZ_CHECK(b->head < vq->num);
	FUZZ_CHECK(b->n <= VIRTQUEUE_SEGMENTS_MAX && b->n_read <= b->n);
	for (unsigned int i = 0; i < b->n; i++) {
		FUZZ_CHECK(fuzz_segment_allowed(vq->memory, &b->segment[i]));
		size[i >= b->n_read] += b->segment[i].size;
	}
	FUZZ_CHECK(size[0] == b->read_size && size[1] == b->write_size);
}

/* Take one buffer, read and write all that can be, give it back. */
static inline bool fuzz_serve_one(struct virtqueue *vq)
{
	static struct virtqueue_buffer b;
	static char bytes[8192];
	const uint64_t most = sizeof(bytes);
	int found = virtqueue_pop(vq, &b);

	FUZZ_CHECK(found == 1 || found == 0 || found == -EPROTO);
	FUZZ_CHECK((found < 0) == !!vq->broken);
	FUZZ_CHECK((uint16_t)(vq->next_avail - vq->next_used) <= vq->num);
	if (found <= 0)
		return false;
	fuzz_check_buffer(vq, &b);
	FUZZ_CHECK(virtqueue_read(&b, 0, bytes, b.read_size < most ? b.read_size : most));
	FUZZ_CHECK(!virtqueue_read(&b, 1, bytes, b.read_size));
	if (b.read_size > 3)
		FUZZ_CHECK(virtqueue_read(&b, b.read_size - 3, bytes, 3));
	FUZZ_CHECK(virtqueue_write(&b, bytes, b.write_size < most ? b.write_size : most));
	FUZZ_CHECK(!virtqueue_write(&b, bytes, b.write_size + 1));
	virtqueue_push(vq, b.head, b.write_size);
	virtqueue_notify(vq);
	virtqueue_want_kicks(vq);
	return true;
}

#endif /* TESTS_FUZZ_FUZZ_H */
