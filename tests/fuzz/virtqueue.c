// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * A guest that has any bytes in its rings, and changes them between buffers.
 *
 * Input: 4 bytes of settings, an image of the beginning of guest memory after
 * its length, then writes to it: offset, length, bytes. Before each, and at the
 * end, the device serves buffers.
 */
#include "fuzz.h"

#include <sys/mman.h>
#include <unistd.h>

/* Two regions of one file that are no neighbours for the guest; a pool inside the first. */
#define LOW_SIZE 0x8000ull
#define HIGH 0x100000ull
#define HIGH_SIZE 0x4000ull
#define POOL 0x6000ull
#define POOL_SIZE 0x1000ull
#define USER 0x10000000ull
#define USER_HIGH 0x20000000ull

#define DESC 0x0000ull
#define AVAIL 0x0400ull
#define USED 0x0600ull

static int file;
static char *map;
static struct memory memory;

int LLVMFuzzerInitialize(int *argc, char ***argv);

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	const char *why;

	(void)argc;
	(void)argv;
	file = memfd_create("guest", MFD_CLOEXEC);
	FUZZ_CHECK(!ftruncate(file, LOW_SIZE + HIGH_SIZE));
	map = mmap(NULL, LOW_SIZE + HIGH_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
	FUZZ_CHECK(map != MAP_FAILED);
	memory_init(&memory);
	FUZZ_CHECK(!memory_add(&memory, 0, LOW_SIZE, USER, 0, dup(file), &why));
	FUZZ_CHECK(!memory_add(&memory, HIGH, HIGH_SIZE, USER_HIGH, LOW_SIZE, dup(file), &why));
	FUZZ_CHECK(!memory_add_pool(&memory, POOL, POOL_SIZE));
	return 0;
}

static void write_memory(struct fuzz_input *in, size_t offset, size_t size)
{
	offset %= LOW_SIZE;
	if (size > LOW_SIZE - offset)
		size = LOW_SIZE - offset;
	if (size > in->left)
		size = in->left;
	fuzz_take(in, map + offset, size);
}

static void serve(struct virtqueue *vq)
{
	unsigned int left = 2 * vq->num;

	while (left-- && fuzz_serve_one(vq))
		;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fuzz_input in = { data, size };
	struct virtqueue vq = { .call_fd = -1 };
	uint8_t flags = fuzz_take8(&in);
	unsigned int num = 1u << (fuzz_take8(&in) % 7);
	uint16_t base = fuzz_take16(&in);

	memset(map, 0, LOW_SIZE);
	write_memory(&in, 0, fuzz_take16(&in));
	FUZZ_CHECK(!virtqueue_start(&vq, &memory, num, USER + DESC, USER + AVAIL, USER + USED, base,
				    flags & 1, flags & 2));
	do {
		serve(&vq);
		if (in.left) {
			size_t offset = fuzz_take16(&in);

			write_memory(&in, offset, fuzz_take8(&in));
		}
	} while (in.left);
	serve(&vq);
	virtqueue_stop(&vq);
	FUZZ_CHECK(vq.next_avail == vq.next_used);
	return 0;
}
