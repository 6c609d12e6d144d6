// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * A guest that writes anything into its rings, reports anything and answers
 * anything, below the public calls of the library.
 *
 * All in one thread, so that an input does the same each time. The device's
 * thread is this one: it calls queue_work() where a kick would. The punching
 * thread's turns come when the input says so. While a call waits for an answer,
 * the guest acts; when the input is at its end, the wait is over. The clock
 * goes as the input says. The linker brings now_ms(), pthread_cond_timedwait()
 * and fallocate() of the library here (--wrap), and descriptors to fds.c.
 *
 * Input: 4 bytes of settings, then actions.
 */
#include "fds.h"
#include "fuzz.h"

/* for queue_work(), detach() and the device's start; for turn() */
#include "host/device.c"
#include "host/punch.c"

#include "driver.h"
#include "host/host.h"

#include <linux/virtio_config.h>
#include <sys/mman.h>

#define PAGE 4096
#define BOOT_SIZE 0x10000ull
#define POOL ((uint64_t)16 << 20)
#define POOL_SIZE ((uint64_t)8 << 20)
#define USER_BOOT 0x10000000ull
#define USER_POOL 0x20000000ull

/* Of queue i, from i * 0x1000. */
#define AVAIL 0x800
#define USED 0xa00
#define EVENT_BUFFERS 0x4000ull
#define N_EVENT_BUFFERS 8
#define BUFFERS 0x8000ull

/* Boot memory that cannot shrink, and some that can. */
static int boot_files[2], pool_fd;
static char *boot_maps[2];

static int boot_fd;
static char *boot;
static struct takeover takeover;

static struct fuzz_input in;
static struct device *d;
static struct czone_vm vm;
static struct czone *zone;
static uint64_t clock_ms, clock_step;
static bool waiting;		/* a call waits for the guest: it makes no other call now */

static struct guest_queue {
	unsigned int num;
	uint16_t next_desc, next_avail;
} queue[VHOST_USER_QUEUES];
static uint64_t next_buffer, features;

uint64_t __wrap_now_ms(void);
int __wrap_fallocate(int fd, int mode, off_t offset, off_t size);
int __real_fallocate(int fd, int mode, off_t offset, off_t size);
int __wrap_pthread_cond_timedwait(pthread_cond_t *cond, pthread_mutex_t *mutex,
				  const struct timespec *until);
int LLVMFuzzerInitialize(int *argc, char ***argv);

uint64_t __wrap_now_ms(void)
{
	return clock_ms += clock_step;
}

/* Nothing is taken from the guest but pool memory, and boot memory that it gave for the VM. */
int __wrap_fallocate(int fd, int mode, off_t offset, off_t size)
{
	int file = fds_file(fd);

	FUZZ_CHECK(d->up);	/* else the guest may have become another one */
	FUZZ_CHECK(mode == (FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE));
	FUZZ_CHECK(!(offset % PAGE) && !(size % PAGE) && size > 0 && offset >= 0);
	FUZZ_CHECK(offset + size <= (off_t)(file == pool_fd ? POOL_SIZE : BOOT_SIZE));
	FUZZ_CHECK(file == pool_fd || (file == boot_fd && d->punch.batch->zone == CZONE_ID_VM));
	return __real_fallocate(file, mode, offset, size);
}

/* ------------------------------------------------------------------- VMM */

static int memory_file(const char *name, uint64_t size)
{
	int fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING);

	FUZZ_CHECK(fd >= 0 && !ftruncate(fd, size));
	return fd;
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	(void)argc;
	(void)argv;
	czone_set_log(NULL, NULL);
	pool_fd = memory_file("pool", POOL_SIZE);
	for (int i = 0; i < 2; i++) {
		boot_files[i] = memory_file("boot", BOOT_SIZE);
		boot_maps[i] = mmap(NULL, BOOT_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED,
				    boot_files[i], 0);
		FUZZ_CHECK(boot_maps[i] != MAP_FAILED);
	}
	FUZZ_CHECK(!fcntl(boot_files[0], F_ADD_SEALS, F_SEAL_SHRINK));
	FUZZ_CHECK(!takeover_new(&takeover, "fuzz"));
	return 0;
}

static uint64_t message(uint32_t request, const void *payload, uint32_t size, int fd)
{
	struct vhost_user_message m = {
		.header = { request, VHOST_USER_VERSION, size }, .fd = { fd }, .n_fds = fd >= 0,
	}, reply;

	memcpy(&m.payload, payload, size);
	pthread_mutex_lock(&d->lock);
	vhost_user_handle(&d->vu, &m, &reply);
	pthread_mutex_unlock(&d->lock);
	return reply.payload.u64;
}

static void state(uint32_t request, uint32_t index, uint32_t num)
{
	struct vhost_vring_state s = { index, num };

	message(request, &s, sizeof(s), -1);
}

static void region(uint32_t request, bool pool)
{
	struct vhost_user_mem_region r = {
		.start = pool ? POOL : 0, .size = pool ? POOL_SIZE : BOOT_SIZE,
		.user = pool ? USER_POOL : USER_BOOT,
	};

	message(request, &r, sizeof(r),
		request == VHOST_USER_ADD_MEM_REG ? fds_new(pool ? pool_fd : boot_fd) : -1);
}

static void driver_start(const uint16_t *base)
{
	message(VHOST_USER_SET_FEATURES, &features, sizeof(features), -1);
	for (uint64_t i = 0; i < VHOST_USER_QUEUES; i++) {
		struct vhost_vring_addr addr = {
			.index = i, .desc_user_addr = USER_BOOT + i * 0x1000,
			.avail_user_addr = USER_BOOT + i * 0x1000 + AVAIL,
			.used_user_addr = USER_BOOT + i * 0x1000 + USED,
		};

		state(VHOST_USER_SET_VRING_NUM, i, queue[i].num);
		state(VHOST_USER_SET_VRING_BASE, i, base[i]);
		message(VHOST_USER_SET_VRING_ADDR, &addr, sizeof(addr), -1);
		message(VHOST_USER_SET_VRING_KICK, &i, sizeof(i), fds_new(-1));
		message(VHOST_USER_SET_VRING_CALL, &i, sizeof(i), fds_new(-1));
	}
	for (unsigned int i = 0; i < VHOST_USER_QUEUES; i++)
		state(VHOST_USER_SET_VRING_ENABLE, i, 1);
}

static void driver_stop(uint16_t *ret_base)
{
	for (unsigned int i = 0; i < VHOST_USER_QUEUES; i++) {
		struct vhost_vring_state s = { i, 0 };
		uint64_t answer = message(VHOST_USER_GET_VRING_BASE, &s, sizeof(s), -1);

		ret_base[i] = answer >> 32;
	}
}

/* As device_open() does it, without a socket and threads; its state is in the same file each time. */
static void open_device(void)
{
	d = device_new("fuzz");
	FUZZ_CHECK(d);
	memset(takeover.file->state, 0, sizeof(takeover.file->state));
	memset(&takeover.file->dialogue, 0, sizeof(takeover.file->dialogue));
	d->takeover = takeover;
}

static void close_device(void)
{
	detach(d);
	FUZZ_CHECK(!d->requests && !d->users && !d->memory.n_regions);
	punch_queue_close(&d->punch);
	FUZZ_CHECK(!turns && !d->punch.first && !d->punch.batch);
	d->takeover = (struct takeover){ .fd = -1 };
	device_free(d);
}

/* ----------------------------------------------------------------- guest */

static void serve(unsigned int index)
{
	pthread_mutex_lock(&d->lock);
	queue_work(d, index);
	pthread_mutex_unlock(&d->lock);
}

/* All that the guest writes is inside its memory, whatever the input says. */
static void *at(uint64_t offset, size_t size)
{
	FUZZ_CHECK(offset + size <= BOOT_SIZE);
	return boot + offset;
}

static uint64_t alloc(size_t size)
{
	uint64_t at;

	size = (size + 63) & ~63ull;
	if (next_buffer + size > BOOT_SIZE)
		next_buffer = BUFFERS;
	at = next_buffer;
	next_buffer += size;
	return at;
}

static uint16_t add_desc(unsigned int i, uint64_t addr, uint32_t len, uint16_t flags)
{
	struct guest_queue *q = &queue[i];
	struct vring_desc *desc = at(i * 0x1000, sizeof(*desc) * q->num);
	uint16_t n = q->next_desc;

	q->next_desc = (n + 1) % q->num;
	desc[n] = (struct vring_desc){ addr, len, flags, q->next_desc };
	return n;
}

static void expose(unsigned int i, uint16_t head)
{
	struct guest_queue *q = &queue[i];
	struct vring_avail *avail = at(i * 0x1000 + AVAIL, 6 + 2 * q->num);

	avail->ring[q->next_avail++ % q->num] = head;
	avail->idx = q->next_avail;
}

static void post_events(void)
{
	for (unsigned int i = 0; i < N_EVENT_BUFFERS; i++)
		expose(0, add_desc(0, EVENT_BUFFERS + i * sizeof(struct virtio_czone_request),
				   sizeof(struct virtio_czone_request), VRING_DESC_F_WRITE));
}

static void scribble(void)
{
	size_t offset = fuzz_take16(&in), size = fuzz_take8(&in);

	if (size > in.left)
		size = in.left;
	if (size > BOOT_SIZE - offset)
		size = BOOT_SIZE - offset;
	fuzz_take(&in, at(offset, size), size);
}

static void chain(void)
{
	unsigned int i = fuzz_take8(&in) % VHOST_USER_QUEUES, n = fuzz_take8(&in) % 8 + 1;
	uint16_t head = queue[i].next_desc;

	while (n--) {
		uint64_t addr = fuzz_take32(&in);
		uint32_t len = fuzz_take32(&in);

		add_desc(i, addr, len, fuzz_take8(&in));
	}
	expose(i, head);
}

static void report(void)
{
	uint32_t of_zone = fuzz_take8(&in), n = fuzz_take8(&in) % 16, extra = fuzz_take8(&in);
	size_t size = sizeof(struct virtio_czone_report) + n * sizeof(struct virtio_czone_range);
	uint64_t gpa = alloc(size), status = alloc(sizeof(struct virtio_czone_report_status));
	struct virtio_czone_report *r = at(gpa, size);
	struct virtio_czone_range *range = (struct virtio_czone_range *)(r + 1);
	uint16_t head;

	*r = (struct virtio_czone_report){ .zone = of_zone, .count = n + extra };
	for (uint32_t i = 0; i < n; i++) {
		range[i].start = fuzz_take64(&in);
		range[i].size = fuzz_take64(&in);
	}
	head = add_desc(VIRTIO_CZONE_VQ_REPORT, gpa, size, VRING_DESC_F_NEXT);
	add_desc(VIRTIO_CZONE_VQ_REPORT, status, sizeof(struct virtio_czone_report_status),
		 VRING_DESC_F_WRITE);
	expose(VIRTIO_CZONE_VQ_REPORT, head);
	serve(VIRTIO_CZONE_VQ_REPORT);
}

static void reply(void)
{
	uint32_t back = fuzz_take8(&in), status = fuzz_take32(&in), of_zone = fuzz_take32(&in);
	uint32_t n = fuzz_take8(&in), cut = fuzz_take8(&in);
	uint32_t size = offsetof(struct virtio_czone_reply, value) + n * sizeof(uint64_t);
	uint64_t gpa = alloc(size);
	uint32_t *head = at(gpa, size);

	head[0] = d->last_id - back;
	head[1] = status;
	head[2] = of_zone;
	head[3] = n;
	fuzz_take(&in, head + 4, n * sizeof(uint64_t));
	expose(VIRTIO_CZONE_VQ_REPLY,
	       add_desc(VIRTIO_CZONE_VQ_REPLY, gpa, size > cut ? size - cut : size, 0));
	serve(VIRTIO_CZONE_VQ_REPLY);
}

/* Some of the punching thread's turns. */
static void punching(void)
{
	pthread_mutex_lock(&lock);
	for (int i = 0; i < 4 && turn(); i++)
		;
	pthread_mutex_unlock(&lock);
}

/* Paused and resumed, or a driver that knows nothing of the one before. */
static void restart(void)
{
	uint16_t base[VHOST_USER_QUEUES];
	uint8_t how = fuzz_take8(&in);

	driver_stop(base);
	if (how & 2)
		punching();
	if (how & 1) {
		memset(base, 0, sizeof(base));
		memset(boot, 0, VHOST_USER_QUEUES * 0x1000);
		for (unsigned int i = 0; i < VHOST_USER_QUEUES; i++)
			queue[i].next_desc = queue[i].next_avail = 0;
	}
	driver_start(base);
}

/* The file of the boot memory has shrunk: touching it would be SIGBUS. */
static void shrink(unsigned int index)
{
	if (boot_fd == boot_files[0])
		return;
	FUZZ_CHECK(!ftruncate(boot_fd, 0));
	serve(index);
	FUZZ_CHECK(!ftruncate(boot_fd, BOOT_SIZE));
}

/* ----------------------------------------------------------------- calls */

static void forget_zone(void)
{
	zone = czone_unref(zone);
}

static void create(void)
{
	struct czone_create_opts opts = CZONE_INIT(opts);
	struct czone *made;

	opts.size = fuzz_take32(&in);
	opts.cgroup = fuzz_take8(&in) & 1 ? "/fuzz" : NULL;
	if (czone_create(&vm, &opts, &made))
		return;
	forget_zone();
	zone = made;
	FUZZ_CHECK(czone_id(zone) != CZONE_ID_VM);
}

static int call(uint8_t which)
{
	struct czone_destroy_report destroyed = CZONE_INIT(destroyed);
	struct czone_zone_stats stats = CZONE_INIT(stats);
	struct czone_vm_stats vm_stats = CZONE_INIT(vm_stats);
	struct czone_range range[3] = { 0 };
	struct czone *found;
	uint64_t returned;
	uint32_t ids[3];
	int n;

	switch (which % 12) {
	case 0:
		return czone_vm_stats(&vm, &vm_stats);
	case 1:
		return czone_stats(zone, &stats);
	case 2:
		return czone_ranges(zone, range, 3);
	case 3:
		n = czone_list(&vm, ids, 3);
		for (int i = 1; i < n && i < 3; i++)
			FUZZ_CHECK(ids[i] > ids[i - 1]);
		return n;
	case 4:
		create();
		return 0;
	case 5:
		return czone_reclaim(zone, 1 << 20, NULL, &returned);
	case 6:
		return czone_vm_reclaim(&vm, UINT64_MAX, NULL, &returned);
	case 7:
		return czone_destroy(zone, 0, 1000, &destroyed);
	case 8:
		n = czone_lookup(&vm, fuzz_take8(&in), &found);
		if (n)
			return n;
		forget_zone();
		zone = found;
		return 0;
	case 9:
		return czone_attach_cgroup(zone, "/fuzz", 0, 0, NULL);
	case 10:
		return czone_resize(zone, fuzz_take64(&in), 1000);
	default:
		return device_wait_ready(d, 1000);
	}
}

/* ---------------------------------------------------------------- actions */

/* The next action; false at the end of the input. */
static bool act(void)
{
	uint8_t kind = fuzz_take8(&in);

	switch (kind % 12) {
	case 0:
		scribble();
		break;
	case 1:
		chain();
		break;
	case 2:
		serve(fuzz_take8(&in) % VHOST_USER_QUEUES);
		break;
	case 3:
		report();
		break;
	case 4:
		reply();
		break;
	case 5:
		punching();
		break;
	case 6:
		post_events();
		serve(VIRTIO_CZONE_VQ_EVENT);
		break;
	case 7:
		if (!waiting) {
			int result = call(fuzz_take8(&in));

			FUZZ_CHECK(result > -4096);
		}
		break;
	case 8:
		restart();
		break;
	case 9:
		region(fuzz_take8(&in) & 1 ? VHOST_USER_ADD_MEM_REG : VHOST_USER_REM_MEM_REG,
		       fuzz_take8(&in) & 1);
		break;
	case 10:
		clock_ms += fuzz_take16(&in);
		clock_step = fuzz_take8(&in);
		break;
	case 11:
		shrink(fuzz_take8(&in) % VHOST_USER_QUEUES);
		break;
	}
	return in.left;
}

/* A call waits: the guest's time. */
int __wrap_pthread_cond_timedwait(pthread_cond_t *cond, pthread_mutex_t *mutex,
				  const struct timespec *until)
{
	bool more;

	(void)until;
	FUZZ_CHECK(cond == &d->changed && mutex == &d->lock && !waiting);
	pthread_mutex_unlock(mutex);
	waiting = true;
	more = act();
	waiting = false;
	pthread_mutex_lock(mutex);
	return more ? 0 : ETIMEDOUT;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const uint16_t from_zero[VHOST_USER_QUEUES];
	static unsigned int inputs;
	bool count_all = !(inputs++ % 256);
	unsigned int fds = fds_open(), all = count_all ? fuzz_open_fds() : 0;
	struct host_vm host = { 0 };
	uint8_t flags;

	in = (struct fuzz_input){ data, size };
	flags = fuzz_take8(&in);
	boot_fd = boot_files[(flags & 56) == 8];	/* costs a system call each time it is used */
	boot = boot_maps[(flags & 56) == 8];
	memset(boot, 0, BOOT_SIZE);
	clock_ms = 1000;
	clock_step = 0;
	next_buffer = BUFFERS;
	for (unsigned int i = 0; i < VHOST_USER_QUEUES; i++)
		queue[i] = (struct guest_queue){ .num = 1u << (fuzz_take8(&in) % 8) };
	open_device();
	host.device = d;
	vm = (struct czone_vm){ .driver = &czone_host_driver, .refs = 1, .priv = &host };
	pthread_mutex_init(&vm.lock, NULL);
	features = (1ull << VIRTIO_F_VERSION_1) | (1ull << VHOST_USER_F_PROTOCOL_FEATURES) |
		   (flags & 1 ? 1ull << VIRTIO_RING_F_EVENT_IDX : 0) |
		   (flags & 2 ? 1ull << VIRTIO_RING_F_INDIRECT_DESC : 0);
	if (flags & 4)
		device_add_pool(d, POOL, POOL_SIZE, 12);
	if (flags & 64)		/* zones that it makes are asked about, and destroyed */
		device_set_quota(d, flags & 128 ? CZONE_BLOCK_SIZE : 0, CZONE_BLOCK_SIZE);
	region(VHOST_USER_ADD_MEM_REG, false);
	region(VHOST_USER_ADD_MEM_REG, true);
	FUZZ_CHECK(pwrite(pool_fd, "memory", 6, 0) == 6);
	post_events();
	driver_start(from_zero);
	FUZZ_CHECK(d->up);
	while (act())
		;
	/* what the last calls have left */
	for (int i = 0; i < 9; i++)
		punching();
	forget_zone();
	FUZZ_CHECK(vm.refs == 1 && !vm.zones);
	close_device();
	pthread_mutex_destroy(&vm.lock);
	FUZZ_CHECK(fds_open() == fds && (!count_all || fuzz_open_fds() == all));
	return 0;
}
