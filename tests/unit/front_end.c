// SPDX-License-Identifier: LGPL-2.1-or-later
#include "front_end.h"

#include <criterion/criterion.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/virtio_config.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#define BIT(n) (1ULL << (n))

/* Where the rings are; buffers come after them. */
#define RINGS 0x10000ull
#define RING_STEP 0x4000ull
#define BUFFERS 0x40000ull

uint64_t fe_now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

atomic_uint_least64_t fe_clock_skip_ms;
uint64_t __real_now_ms(void);
uint64_t __wrap_now_ms(void);

uint64_t __real_czone_now_ms(void);
uint64_t __wrap_czone_now_ms(void);

uint64_t __wrap_now_ms(void)
{
	return __real_now_ms() + fe_clock_skip_ms;
}

uint64_t __wrap_czone_now_ms(void)
{
	return __real_czone_now_ms() + fe_clock_skip_ms;
}

/* -------------------------------------------------------------- fallocate */

atomic_uint fe_punches;
static pthread_mutex_t gate_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t gate_changed = PTHREAD_COND_INITIALIZER;
static bool gate_shut;
static unsigned int gate_waiting;

atomic_uint fe_watched_at;
static atomic_ulong watched;

void fe_watch(int fd)
{
	struct stat st;

	cr_assert_eq(fstat(fd, &st), 0);
	fe_watched_at = 0;
	watched = st.st_ino;
}

int fallocate(int fd, int mode, off_t offset, off_t size)
{
	unsigned int n = atomic_fetch_add(&fe_punches, 1);
	struct stat st;

	if (watched && !fstat(fd, &st) && st.st_ino == watched) {
		fe_watched_at = n;
		watched = 0;
	}
	pthread_mutex_lock(&gate_lock);
	gate_waiting++;
	pthread_cond_broadcast(&gate_changed);
	while (gate_shut)
		pthread_cond_wait(&gate_changed, &gate_lock);
	gate_waiting--;
	pthread_mutex_unlock(&gate_lock);
	return syscall(SYS_fallocate, fd, mode, offset, size);
}

void fe_gate(bool shut)
{
	pthread_mutex_lock(&gate_lock);
	gate_shut = shut;
	pthread_cond_broadcast(&gate_changed);
	pthread_mutex_unlock(&gate_lock);
}

void fe_gate_wait(void)
{
	struct timespec until;
	int timeout = 0;

	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_sec += LIMIT_MS / 1000;
	pthread_mutex_lock(&gate_lock);
	while (!gate_waiting && !timeout)
		timeout = pthread_cond_timedwait(&gate_changed, &gate_lock, &until);
	pthread_mutex_unlock(&gate_lock);
	cr_assert_not(timeout, "nothing is being punched");
}

/* --------------------------------------------------------------- messages */

void fe_send(struct front_end *fe, uint32_t request, const void *payload, uint32_t size,
	     const int *fd, uint32_t flags)
{
	struct vhost_user_header header = { request, VHOST_USER_VERSION | flags, size };
	struct iovec iov[2] = { { &header, sizeof(header) }, { (void *)payload, size } };
	union {
		char buffer[CMSG_SPACE(sizeof(int))];
		struct cmsghdr align;
	} control;
	struct msghdr msg = { .msg_iov = iov, .msg_iovlen = 2 };

	if (fd) {
		struct cmsghdr *c;

		msg.msg_control = control.buffer;
		msg.msg_controllen = sizeof(control.buffer);
		c = CMSG_FIRSTHDR(&msg);
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(sizeof(int));
		memcpy(CMSG_DATA(c), fd, sizeof(int));
	}
	cr_assert_eq(sendmsg(fe->socket, &msg, MSG_NOSIGNAL), (ssize_t)(sizeof(header) + size),
		     "message %u: %s", request, strerror(errno));
}

static void read_all(int fd, void *to, size_t size)
{
	while (size) {
		struct pollfd p = { .fd = fd, .events = POLLIN };
		ssize_t n;

		cr_assert_eq(poll(&p, 1, LIMIT_MS), 1, "no answer");
		n = read(fd, to, size);
		cr_assert_gt(n, 0, "the connection has ended");
		to = (char *)to + n;
		size -= n;
	}
}

void fe_receive(struct front_end *fe, uint32_t request, struct vhost_user_message *reply)
{
	memset(reply, 0, sizeof(*reply));
	read_all(fe->socket, &reply->header, sizeof(reply->header));
	cr_assert_eq(reply->header.request, request, "answer to %u, not to %u",
		     reply->header.request, request);
	cr_assert_eq(reply->header.flags, VHOST_USER_VERSION | VHOST_USER_REPLY);
	cr_assert_leq(reply->header.size, sizeof(reply->payload));
	read_all(fe->socket, &reply->payload, reply->header.size);
}

uint64_t fe_ask(struct front_end *fe, uint32_t request)
{
	struct vhost_user_message reply;

	fe_send(fe, request, NULL, 0, NULL, 0);
	fe_receive(fe, request, &reply);
	cr_assert_eq(reply.header.size, sizeof(uint64_t));
	return reply.payload.u64;
}

uint64_t fe_command(struct front_end *fe, uint32_t request, const void *payload, uint32_t size,
		    const int *fd)
{
	struct vhost_user_message reply;

	fe_send(fe, request, payload, size, fd, VHOST_USER_NEED_REPLY);
	fe_receive(fe, request, &reply);
	cr_assert_eq(reply.header.size, sizeof(uint64_t));
	return reply.payload.u64;
}

static void command_u64(struct front_end *fe, uint32_t request, uint64_t value)
{
	cr_assert_eq(fe_command(fe, request, &value, sizeof(value), NULL), 0, "request %u",
		     request);
}

static void command_state(struct front_end *fe, uint32_t request, uint32_t index, uint32_t num)
{
	struct vhost_vring_state s = { index, num };

	cr_assert_eq(fe_command(fe, request, &s, sizeof(s), NULL), 0, "request %u", request);
}

/* ------------------------------------------------------------------- VMM */

uint64_t fe_pool_size = POOL_SIZE;
const char *fe_pool_dir;

static int memory_file(const char *name, uint64_t size, const char *dir, char **ret_map)
{
	int fd = dir ? open(dir, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600) :
		       memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING);

	cr_assert_geq(fd, 0, "%s", strerror(errno));
	cr_assert_eq(ftruncate(fd, size), 0);
	if (!dir)
		cr_assert_eq(fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL), 0);
	*ret_map = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	cr_assert_neq(*ret_map, MAP_FAILED);
	return fd;
}

static void connect_to(struct front_end *fe)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };

	strcpy(address.sun_path, fe->path);
	fe->socket = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	cr_assert_eq(connect(fe->socket, (struct sockaddr *)&address, sizeof(address)), 0, "%s: %s",
		     fe->path, strerror(errno));
}

void fe_open(struct front_end *fe)
{
	static atomic_uint counter;

	memset(fe, 0, sizeof(*fe));
	pthread_mutex_init(&fe->lock, NULL);
	snprintf(fe->path, sizeof(fe->path), "/tmp/czone-unit-%d-%u", getpid(), counter++);
	fe->boot_fd = memory_file("boot", BOOT_LOW_SIZE + BOOT_HIGH_SIZE, NULL, &fe->boot);
	fe->pool_fd = memory_file("pool", fe_pool_size, fe_pool_dir, &fe->pool);
	for (int i = 0; i < VHOST_USER_QUEUES; i++) {
		struct fe_queue *q = &fe->q[i];

		q->desc_gpa = RINGS + i * RING_STEP;
		q->avail_gpa = q->desc_gpa + 0x2000;
		q->used_gpa = q->desc_gpa + 0x3000;
		q->desc = fe_at(fe, q->desc_gpa);
		q->avail = fe_at(fe, q->avail_gpa);
		q->used = fe_at(fe, q->used_gpa);
		q->kick = q->call = -1;
	}
	cr_assert_eq(device_open(fe->path, &fe->device), 0);
	connect_to(fe);
	fe_ask(fe, VHOST_USER_GET_FEATURES);
	fe_ask(fe, VHOST_USER_GET_PROTOCOL_FEATURES);
	fe_send(fe, VHOST_USER_SET_PROTOCOL_FEATURES, &(uint64_t){
			BIT(VHOST_USER_PROTOCOL_F_MQ) | BIT(VHOST_USER_PROTOCOL_F_REPLY_ACK) |
			BIT(VHOST_USER_PROTOCOL_F_CONFIG) |
			BIT(VHOST_USER_PROTOCOL_F_CONFIGURE_MEM_SLOTS) |
			BIT(VHOST_USER_PROTOCOL_F_STATUS) }, sizeof(uint64_t), NULL, 0);
	fe_send(fe, VHOST_USER_SET_OWNER, NULL, 0, NULL, 0);
}

void fe_add_region(struct front_end *fe, uint64_t gpa, uint64_t size, uint64_t user,
		   uint64_t offset, int fd)
{
	struct vhost_user_mem_region r = {
		.start = gpa, .size = size, .user = user, .offset = offset,
	};

	cr_assert_eq(fe_command(fe, VHOST_USER_ADD_MEM_REG, &r, sizeof(r), &fd), 0);
}

void fe_add_memory(struct front_end *fe)
{
	fe_add_region(fe, 0, BOOT_LOW_SIZE, USER_BOOT, 0, fe->boot_fd);
	fe_add_region(fe, BOOT_HIGH, BOOT_HIGH_SIZE, USER_HIGH, BOOT_LOW_SIZE, fe->boot_fd);
	fe_add_region(fe, POOL, fe_pool_size, USER_POOL, 0, fe->pool_fd);
	fe->has_memory = true;
}

static void command_fd(struct front_end *fe, uint32_t request, uint32_t index, int *fd)
{
	uint64_t value = index;

	if (*fd >= 0)
		close(*fd);
	*fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	cr_assert_eq(fe_command(fe, request, &value, sizeof(value), fd), 0);
}

void fe_driver_start(struct front_end *fe, const uint16_t *base)
{
	uint64_t features = fe->features ? fe->features : fe_ask(fe, VHOST_USER_GET_FEATURES);

	features |= BIT(VHOST_USER_F_PROTOCOL_FEATURES) | BIT(VIRTIO_F_VERSION_1);
	command_u64(fe, VHOST_USER_SET_FEATURES, features);
	command_u64(fe, VHOST_USER_SET_STATUS, 8);
	if (!fe->has_memory && !fe->private_memory)
		fe_add_memory(fe);
	for (int i = 0; i < VHOST_USER_QUEUES; i++) {
		struct fe_queue *q = &fe->q[i];
		struct vhost_vring_addr addr = {
			.index = i, .desc_user_addr = USER_BOOT + q->desc_gpa,
			.avail_user_addr = USER_BOOT + q->avail_gpa,
			.used_user_addr = USER_BOOT + q->used_gpa,
		};

		if (!base) {
			memset(q->desc, 0, 0x2000);
			memset(q->avail, 0, 0x1000);
			memset(q->used, 0, 0x1000);
			q->next_desc = q->next_avail = q->seen_used = q->kicked_at = 0;
		}
		q->event_idx = features & BIT(VIRTIO_RING_F_EVENT_IDX);
		command_state(fe, VHOST_USER_SET_VRING_NUM, i, QUEUE_NUM);
		command_state(fe, VHOST_USER_SET_VRING_BASE, i, base ? base[i] : 0);
		cr_assert_eq(fe_command(fe, VHOST_USER_SET_VRING_ADDR, &addr, sizeof(addr), NULL),
			     0);
		command_fd(fe, VHOST_USER_SET_VRING_KICK, i, &q->kick);
		command_fd(fe, VHOST_USER_SET_VRING_CALL, i, &q->call);
	}
	for (int i = 0; i < VHOST_USER_QUEUES; i++) {
		struct vhost_vring_state s = { i, 1 };

		cr_assert_eq(fe_command(fe, VHOST_USER_SET_VRING_ENABLE, &s, sizeof(s), NULL),
			     fe->private_memory);
		command_fd(fe, VHOST_USER_SET_VRING_CALL, i, &fe->q[i].call);
	}
	if (base)
		return;
	fe->next_buffer = BUFFERS;
	for (int i = 0; i < 16; i++)
		fe->event_gpa[i] = fe_alloc(fe, sizeof(struct virtio_czone_request));
	fe->reply_gpa = fe_alloc(fe, QUEUE_NUM * sizeof(struct virtio_czone_reply));
}

void fe_driver_stop(struct front_end *fe, uint16_t *ret_base)
{
	struct vhost_user_message reply;

	for (int i = 0; i < VHOST_USER_QUEUES; i++)
		command_state(fe, VHOST_USER_SET_VRING_ENABLE, i, 0);
	for (uint32_t i = 0; i < VHOST_USER_QUEUES; i++) {
		struct vhost_vring_state s = { i, 0 };

		fe_send(fe, VHOST_USER_GET_VRING_BASE, &s, sizeof(s), NULL, 0);
		fe_receive(fe, VHOST_USER_GET_VRING_BASE, &reply);
		cr_assert_eq(reply.payload.state.index, i);
		if (ret_base)
			ret_base[i] = reply.payload.state.num;
	}
}

/* ------------------------------------------------------------ guest, rings */

void *fe_at(struct front_end *fe, uint64_t gpa)
{
	if (gpa >= POOL)
		return fe->pool + (gpa - POOL);
	if (gpa >= BOOT_HIGH)
		return fe->boot + BOOT_LOW_SIZE + (gpa - BOOT_HIGH);
	return fe->boot + gpa;
}

/* Buffers are never freed within a life of the driver; tests are short. */
uint64_t fe_alloc(struct front_end *fe, uint64_t size)
{
	size = (size + 63) & ~63ull;
	if (fe->next_buffer + size > BOOT_LOW_SIZE)
		abort();
	return atomic_fetch_add(&fe->next_buffer, size);
}

/* The next descriptor; chains are made of consecutive ones, so a flag NEXT is enough. */
uint16_t fe_desc(struct fe_queue *q, uint64_t addr, uint32_t len, uint16_t flags)
{
	uint16_t i = q->next_desc;

	q->next_desc = (i + 1) % QUEUE_NUM;
	q->desc[i] = (struct vring_desc){ addr, len, flags, q->next_desc };
	return i;
}

void fe_expose(struct fe_queue *q, uint16_t head)
{
	q->avail->ring[q->next_avail++ % QUEUE_NUM] = head;
	__atomic_store_n(&q->avail->idx, q->next_avail, __ATOMIC_SEQ_CST);
}

void fe_kick(struct fe_queue *q)
{
	uint16_t *avail_event = (uint16_t *)&q->used->ring[QUEUE_NUM];
	uint16_t old = q->kicked_at;
	bool wanted;

	__sync_synchronize();
	if (q->event_idx)
		wanted = vring_need_event(__atomic_load_n(avail_event, __ATOMIC_SEQ_CST),
					  q->next_avail, old);
	else
		wanted = !(__atomic_load_n(&q->used->flags, __ATOMIC_SEQ_CST) &
			   VRING_USED_F_NO_NOTIFY);
	q->kicked_at = q->next_avail;
	if (wanted)
		eventfd_write(q->kick, 1);
}

bool fe_wait_used(struct fe_queue *q, unsigned int timeout_ms, struct vring_used_elem *ret)
{
	uint64_t until = fe_now_ms() + timeout_ms, now;

	for (;;) {
		struct pollfd p = { .fd = q->call, .events = POLLIN };
		eventfd_t value;

		/* ask to be told about the next one, then look */
		q->avail->ring[QUEUE_NUM] = q->seen_used;
		__sync_synchronize();
		if (__atomic_load_n(&q->used->idx, __ATOMIC_ACQUIRE) != q->seen_used) {
			*ret = q->used->ring[q->seen_used++ % QUEUE_NUM];
			return true;
		}
		now = fe_now_ms();
		if (now >= until)
			return false;
		if (poll(&p, 1, until - now) == 1)
			eventfd_read(q->call, &value);
	}
}

void fe_post_events(struct front_end *fe, unsigned int from, unsigned int n)
{
	struct fe_queue *q = &fe->q[VIRTIO_CZONE_VQ_EVENT];

	for (unsigned int i = from; i < from + n; i++) {
		/* descriptor i is always that of event buffer i */
		q->desc[i] = (struct vring_desc){
			fe->event_gpa[i], sizeof(struct virtio_czone_request),
			VRING_DESC_F_WRITE, 0,
		};
		fe_expose(q, i);
	}
	fe_kick(q);
}

void fe_reply(struct front_end *fe, const struct virtio_czone_reply *r)
{
	struct fe_queue *q = &fe->q[VIRTIO_CZONE_VQ_REPLY];
	uint64_t gpa = fe->reply_gpa + q->next_desc * sizeof(*r);

	memcpy(fe_at(fe, gpa), r, sizeof(*r));
	fe_expose(q, fe_desc(q, gpa, 16 + 8 * r->count, 0));
	fe_kick(q);
}

void fe_set_answer(struct front_end *fe, struct virtio_czone_reply answer)
{
	pthread_mutex_lock(&fe->lock);
	fe->answer = answer;
	pthread_mutex_unlock(&fe->lock);
}

struct virtio_czone_request fe_last(struct front_end *fe)
{
	struct virtio_czone_request last;

	pthread_mutex_lock(&fe->lock);
	last = fe->last;
	pthread_mutex_unlock(&fe->lock);
	return last;
}

static void answer(struct front_end *fe, const struct virtio_czone_request *request)
{
	struct virtio_czone_reply r = { .id = request->id, .zone = request->zone };

	if (fe->rule && fe->rule(request, &r)) {
		fe_reply(fe, &r);
		return;
	}
	switch (request->op) {
	case VIRTIO_CZONE_OP_PING:
		break;
	case VIRTIO_CZONE_OP_ADD_REGION:
		fe->offer_flags = le64toh(request->arg[2]);
		fe->offers++;
		r.status = fe->add_region_status;
		break;
	case VIRTIO_CZONE_OP_STATS:
		r.count = 1;
		r.value[CZONE_STAT_SIZE] = fe->keeps;
		break;
	case VIRTIO_CZONE_OP_NEXT:
		if (fe->endless_ms) {
			fe_clock_skip_ms += fe->endless_ms;
			r.zone = request->zone + 1;
			break;
		}
		/* fall through */
	default:
		pthread_mutex_lock(&fe->lock);
		fe->last = *request;
		r = fe->answer;
		r.id = request->id;
		pthread_mutex_unlock(&fe->lock);
		if (fe->silent && request->op == VIRTIO_CZONE_OP_CREATE)
			return;
	}
	fe_reply(fe, &r);
}

static void *guest(void *argument)
{
	struct front_end *fe = argument;
	struct fe_queue *q = &fe->q[VIRTIO_CZONE_VQ_EVENT];

	while (!fe->guest_stop) {
		struct virtio_czone_request request;
		struct vring_used_elem used;

		if (!fe_wait_used(q, 20, &used))
			continue;
		memcpy(&request, fe_at(fe, fe->event_gpa[used.id]), sizeof(request));
		fe_post_events(fe, used.id, 1);
		answer(fe, &request);
	}
	return NULL;
}

void fe_guest_start(struct front_end *fe)
{
	fe->guest_stop = false;
	cr_assert_eq(pthread_create(&fe->guest, NULL, guest, fe), 0);
	fe->guest_runs = true;
}

void fe_guest_stop(struct front_end *fe)
{
	if (!fe->guest_runs)
		return;
	fe->guest_stop = true;
	pthread_join(fe->guest, NULL);
	fe->guest_runs = false;
}

void fe_boot(struct front_end *fe)
{
	fe_open(fe);
	cr_assert_eq(device_add_pool(fe->device, POOL, fe_pool_size, 12), 0);
	fe_driver_start(fe, NULL);
	fe_post_events(fe, 0, 16);
	fe_guest_start(fe);
	cr_assert_eq(device_wait_ready(fe->device, LIMIT_MS), 0);
}

void fe_close(struct front_end *fe)
{
	fe_guest_stop(fe);
	if (fe->socket >= 0)
		close(fe->socket);
	device_close(fe->device);
	for (int i = 0; i < VHOST_USER_QUEUES; i++) {
		if (fe->q[i].kick >= 0)
			close(fe->q[i].kick);
		if (fe->q[i].call >= 0)
			close(fe->q[i].call);
	}
	munmap(fe->boot, BOOT_LOW_SIZE + BOOT_HIGH_SIZE);
	munmap(fe->pool, fe_pool_size);
	close(fe->boot_fd);
	close(fe->pool_fd);
	pthread_mutex_destroy(&fe->lock);
}

/* ---------------------------------------------------------------- reports */

uint64_t fe_report_begin(struct front_end *fe, uint32_t zone, const struct device_range *range,
			 uint32_t n, uint32_t claimed)
{
	struct fe_queue *q = &fe->q[VIRTIO_CZONE_VQ_REPORT];
	struct virtio_czone_report *report;
	uint64_t gpa = fe_alloc(fe, sizeof(*report) + n * sizeof(*range));
	uint64_t status = fe_alloc(fe, sizeof(struct virtio_czone_report_status));
	uint16_t head;

	report = fe_at(fe, gpa);
	*report = (struct virtio_czone_report){ .zone = zone, .count = claimed };
	memcpy(report + 1, range, n * sizeof(*range));
	memset(fe_at(fe, status), 0xff, sizeof(struct virtio_czone_report_status));
	head = fe_desc(q, gpa, sizeof(*report) + n * sizeof(*range), VRING_DESC_F_NEXT);
	fe_desc(q, status, sizeof(struct virtio_czone_report_status), VRING_DESC_F_WRITE);
	fe_expose(q, head);
	fe_kick(q);
	return status;
}

struct virtio_czone_report_status fe_report_end(struct front_end *fe, uint64_t status_gpa)
{
	struct virtio_czone_report_status status;
	struct vring_used_elem used;

	cr_assert(fe_wait_used(&fe->q[VIRTIO_CZONE_VQ_REPORT], LIMIT_MS, &used),
		  "the report is not answered");
	cr_assert_eq(used.len, sizeof(status));
	memcpy(&status, fe_at(fe, status_gpa), sizeof(status));
	return status;
}

struct virtio_czone_report_status fe_report(struct front_end *fe, uint32_t zone,
					    const struct device_range *range, uint32_t n)
{
	return fe_report_end(fe, fe_report_begin(fe, zone, range, n, n));
}

/* ---------------------------------------------------------------- looking */

uint64_t fe_allocated(int fd)
{
	struct stat st;

	cr_assert_eq(fstat(fd, &st), 0);
	return (uint64_t)st.st_blocks * 512;
}

/* Every page gets its own content. */
void fe_fill(char *memory, uint64_t offset, uint64_t size)
{
	for (uint64_t at = offset; at < offset + size; at += PAGE)
		memset(memory + at, 1 + at / PAGE % 255, PAGE);
}

unsigned int fe_open_fds(void)
{
	DIR *dir = opendir("/proc/self/fd");
	unsigned int n = 0;

	while (readdir(dir))
		n++;
	closedir(dir);
	return n;
}
