// SPDX-License-Identifier: LGPL-2.1-or-later
/* The device against a VMM and a guest that behave; device_hostile.c has those that do not. */
#include "front_end.h"
#include "host/device_internal.h"

#include <criterion/criterion.h>
#include <czone.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <linux/virtio_config.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#define BIT(n) (1ULL << (n))

TestSuite(device, .timeout = 60);

static struct front_end fe;

static int try_connect(const char *path)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0), error = 0;

	strcpy(address.sun_path, path);
	if (connect(fd, (struct sockaddr *)&address, sizeof(address)))
		error = -errno;
	close(fd);
	return error;
}

/* A call of its own thread, whose result is waited for. */
struct call {
	pthread_t thread;
	struct device *device;
	struct device_request request;
	uint32_t timeout_ms;
	struct device_reply reply;
	int result;
	uint64_t took_ms;
};

static void *call_run(void *argument)
{
	struct call *c = argument;
	uint64_t start = fe_now_ms();

	c->result = device_ask(c->device, &c->request, c->timeout_ms, &c->reply);
	c->took_ms = fe_now_ms() - start;
	return NULL;
}

static void call_start(struct call *c, uint16_t op, uint32_t zone, uint32_t timeout_ms)
{
	c->device = fe.device;
	c->request.op = op;
	c->request.zone = zone;
	c->timeout_ms = timeout_ms;
	cr_assert_eq(pthread_create(&c->thread, NULL, call_run, c), 0);
}

/* Until so many wait in the device. */
static void wait_for_requests(unsigned int n)
{
	uint64_t until = fe_now_ms() + LIMIT_MS;
	unsigned int found;

	do {
		pthread_mutex_lock(&fe.device->lock);
		found = 0;
		for (struct request *r = fe.device->requests; r; r = r->next)
			found++;
		pthread_mutex_unlock(&fe.device->lock);
	} while (found < n && fe_now_ms() < until && !usleep(1000));
	cr_assert_eq(found, n);
}

static int call_end(struct call *c)
{
	pthread_join(c->thread, NULL);
	return c->result;
}

static int ping(uint32_t timeout_ms)
{
	struct device_request request = { .op = VIRTIO_CZONE_OP_PING };

	return device_ask(fe.device, &request, timeout_ms, NULL);
}

/* The VMM dies, and the device has noticed. */
static void hang_up(void)
{
	uint64_t until = fe_now_ms() + LIMIT_MS;

	close(fe.socket);
	fe.socket = -1;
	while (ping(100) != -ESHUTDOWN)
		cr_assert_lt(fe_now_ms(), until, "the device does not notice");
}

/* The next request, by hand, without the guest's thread. */
static struct virtio_czone_request take_request(void)
{
	struct virtio_czone_request request;
	struct vring_used_elem used;

	cr_assert(fe_wait_used(&fe.q[VIRTIO_CZONE_VQ_EVENT], LIMIT_MS, &used), "no request comes");
	cr_assert_eq(used.len, sizeof(request));
	memcpy(&request, fe_at(&fe, fe.event_gpa[used.id]), sizeof(request));
	return request;
}

/* ------------------------------------------------------------- the socket */

Test(device, socket_is_private_and_for_one)
{
	struct stat st;

	fe_open(&fe);
	cr_assert_eq(stat(fe.path, &st), 0);
	cr_assert(S_ISSOCK(st.st_mode));
	cr_assert_eq(st.st_mode & 0777, 0600, "mode %o", st.st_mode & 0777);
	fe_ask(&fe, VHOST_USER_GET_FEATURES);
	cr_assert_eq(try_connect(fe.path), -ECONNREFUSED);
	cr_assert_eq(device_peer(fe.device), getpid());
	fe_close(&fe);
	cr_assert_eq(stat(fe.path, &st), -1);
	cr_assert_eq(errno, ENOENT);
}

Test(device, socket_in_use_is_refused_and_a_stale_one_replaced)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	const char *path = address.sun_path;
	struct device *first, *second;
	int fd;

	snprintf(address.sun_path, sizeof(address.sun_path), "/tmp/czone-unit-stale-%d", getpid());
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	cr_assert_eq(bind(fd, (struct sockaddr *)&address, sizeof(address)), 0);
	close(fd);	/* the file stays */
	cr_assert_eq(device_open(path, &first), 0);
	cr_assert_eq(device_open(path, &second), -EADDRINUSE);
	for (int i = 0; i < 20; i++) {	/* nor does it take who only looks for the VMM */
		cr_assert_eq(try_connect(path), 0, "the first one does not listen any more");
		usleep(5000);
	}
	device_close(first);

	fd = creat(path, 0600);	/* not a socket: not ours to remove */
	close(fd);
	cr_assert_eq(device_open(path, &first), -EADDRINUSE);
	cr_assert_eq(unlink(path), 0);
}

Test(device, socket_path_too_long)
{
	struct device *device;
	char path[200];

	memset(path, 'x', sizeof(path));
	path[sizeof(path) - 1] = 0;
	cr_assert_eq(device_open(path, &device), -ENAMETOOLONG);
	cr_assert_eq(device_open("/nonexistent/socket", &device), -ENOENT);
	device_close(NULL);
}

Test(device, nothing_is_left_open)
{
	unsigned int before = fe_open_fds();

	for (int i = 0; i < 3; i++) {
		fe_boot(&fe);
		fe_driver_stop(&fe, NULL);
		fe_close(&fe);
	}
	cr_assert_eq(fe_open_fds(), before);
}

Test(device, threads_block_all_signals)
{
	unsigned int device_threads = 0;
	char path[64], line[256];
	struct dirent *entry;
	DIR *tasks;

	fe_open(&fe);
	tasks = opendir("/proc/self/task");
	while ((entry = readdir(tasks))) {
		unsigned long long blocked = 0;
		bool ours = false;
		FILE *f;

		snprintf(path, sizeof(path), "/proc/self/task/%.20s/status", entry->d_name);
		f = fopen(path, "r");
		if (!f)
			continue;
		while (fgets(line, sizeof(line), f)) {
			ours |= !strncmp(line, "Name:\tczone-", 12);
			sscanf(line, "SigBlk: %llx", &blocked);
		}
		fclose(f);
		if (!ours)
			continue;
		device_threads++;
		/* all but KILL, STOP and the two that glibc keeps to itself */
		blocked |= BIT(8) | BIT(18) | BIT(31) | BIT(32);
		cr_assert_eq(blocked, ~0ull, "%llx", blocked);
	}
	closedir(tasks);
	cr_assert_eq(device_threads, 3);
	fe_close(&fe);
}

/* ------------------------------------------------- negotiation and config */

Test(device, features)
{
	uint64_t features, protocol;

	fe_open(&fe);
	features = fe_ask(&fe, VHOST_USER_GET_FEATURES);
	cr_assert_eq(features, BIT(VIRTIO_CZONE_F_ZEROES) | BIT(VIRTIO_RING_F_INDIRECT_DESC) |
		     BIT(VIRTIO_RING_F_EVENT_IDX) | BIT(VHOST_USER_F_PROTOCOL_FEATURES) |
		     BIT(VIRTIO_F_VERSION_1), "%llx", (unsigned long long)features);
	protocol = fe_ask(&fe, VHOST_USER_GET_PROTOCOL_FEATURES);
	cr_assert_eq(protocol, BIT(0) | BIT(3) | BIT(9) | BIT(15) | BIT(16));
	cr_assert_eq(fe_ask(&fe, VHOST_USER_GET_QUEUE_NUM), 3);
	cr_assert_geq(fe_ask(&fe, VHOST_USER_GET_MAX_MEM_SLOTS), 32);
	cr_assert_eq(fe_ask(&fe, VHOST_USER_GET_STATUS), 0);
	fe_command(&fe, VHOST_USER_SET_STATUS, &(uint64_t){ 8 }, 8, NULL);
	cr_assert_eq(fe_ask(&fe, VHOST_USER_GET_STATUS), 8);
	/* what was not offered cannot be had */
	cr_assert_neq(fe_command(&fe, VHOST_USER_SET_FEATURES, &(uint64_t){ BIT(34) }, 8, NULL), 0);
	fe_close(&fe);
}

static uint32_t read_config(uint32_t offset, uint32_t size, void *to)
{
	struct vhost_user_config ask = { .offset = offset, .size = size };
	struct vhost_user_message reply;

	fe_send(&fe, VHOST_USER_GET_CONFIG, &ask, 12 + (size < 256 ? size : 256), NULL, 0);
	fe_receive(&fe, VHOST_USER_GET_CONFIG, &reply);
	if (reply.header.size)
		memcpy(to, reply.payload.config.data, size);
	return reply.header.size;
}

Test(device, config)
{
	struct virtio_czone_config config;
	struct vhost_user_config write = { .offset = 0, .size = 4 };

	fe_open(&fe);
	cr_assert_eq(read_config(0, sizeof(config), &config), 12 + sizeof(config));
	cr_assert_eq(config.magic, VIRTIO_CZONE_MAGIC);
	cr_assert_eq(config.version, VIRTIO_CZONE_VERSION);
	cr_assert_eq(config.report_shift, 12);
	cr_assert_eq(config.backing_shift, 12);
	cr_assert_eq(config.max_ranges, 256);

	/* the pool's pages are known before the guest looks */
	cr_assert_eq(device_add_pool(fe.device, POOL, POOL_SIZE, 21), 0);
	read_config(0, sizeof(config), &config);
	cr_assert_eq(config.backing_shift, 21);

	/* writes are ignored */
	cr_assert_eq(fe_command(&fe, VHOST_USER_SET_CONFIG, &write, 16, NULL), 0);
	read_config(0, sizeof(config), &config);
	cr_assert_eq(config.magic, VIRTIO_CZONE_MAGIC);

	cr_assert_eq(read_config(200, 100, &config), 0);
	cr_assert_eq(read_config(0, 0xffffffff, &config), 0);
	cr_assert_eq(read_config(0xfffffff0, 0x20, &config), 0);
	fe_close(&fe);
}

Test(device, pool_arguments)
{
	fe_open(&fe);
	cr_assert_eq(device_add_pool(fe.device, POOL, 0, 12), -EINVAL);
	cr_assert_eq(device_add_pool(fe.device, POOL + PAGE, POOL_SIZE, 12), -EINVAL);
	cr_assert_eq(device_add_pool(fe.device, POOL, POOL_SIZE, 11), -EINVAL);
	cr_assert_eq(device_add_pool(fe.device, -CZONE_BLOCK_SIZE, 2 * CZONE_BLOCK_SIZE, 12),
		     -EINVAL);
	cr_assert_eq(device_add_pool(fe.device, POOL, POOL_SIZE, 12), 0);
	cr_assert_eq(device_add_pool(fe.device, POOL + POOL_SIZE / 2, POOL_SIZE, 12), -EEXIST);
	fe_close(&fe);
}

/* --------------------------------------------------------------- requests */

static void boot_and_ping(uint64_t features)
{
	fe_open(&fe);
	fe.features = features;
	cr_assert_eq(device_add_pool(fe.device, POOL, POOL_SIZE, 12), 0);
	cr_assert_eq(device_wait_ready(fe.device, 50), -ETIMEDOUT);
	cr_assert_eq(ping(100), -ENOTCONN);
	fe_driver_start(&fe, NULL);
	fe_post_events(&fe, 0, 16);
	fe_guest_start(&fe);
	cr_assert_eq(device_wait_ready(fe.device, LIMIT_MS), 0);
	cr_assert_eq(fe.offers, 1);
	for (int i = 0; i < 1000; i++)	/* the rings wrap around */
		cr_assert_eq(ping(LIMIT_MS), 0);
	fe_close(&fe);
}

Test(device, ping) { boot_and_ping(0); }
Test(device, ping_without_event_idx) { boot_and_ping(BIT(VIRTIO_CZONE_F_ZEROES)); }

Test(device, request_and_reply_arrive_whole)
{
	struct device_request request = {
		.op = VIRTIO_CZONE_OP_ATTACH, .zone = 7,
		.arg = { 1, UINT64_MAX, 0x1122334455667788, 4 },
	};
	struct virtio_czone_reply answer = { .zone = 9, .count = 30 };
	char path[VIRTIO_CZONE_PATH_MAX + 2];
	struct virtio_czone_request last;
	struct device_reply reply;

	fe_boot(&fe);
	memset(path, 'p', sizeof(path));
	path[VIRTIO_CZONE_PATH_MAX] = 0;
	request.path = path;
	for (int i = 0; i < 30; i++)
		answer.value[i] = 1000 + i;
	fe_set_answer(&fe, answer);
	cr_assert_eq(device_ask(fe.device, &request, 5000, &reply), 0);
	last = fe_last(&fe);
	cr_assert_eq(last.op, VIRTIO_CZONE_OP_ATTACH);
	cr_assert_eq(last.zone, 7);
	cr_assert(last.timeout_ms > 4000 && last.timeout_ms <= 5000);
	cr_assert_arr_eq(last.arg, request.arg, sizeof(request.arg));
	cr_assert_eq(last.path_len, VIRTIO_CZONE_PATH_MAX);
	cr_assert_arr_eq(last.path, path, VIRTIO_CZONE_PATH_MAX);
	cr_assert_eq(reply.zone, 9);
	cr_assert_eq(reply.count, 30);
	for (int i = 0; i < 30; i++)
		cr_assert_eq(reply.value[i], 1000u + i);

	path[VIRTIO_CZONE_PATH_MAX] = 'p';
	path[VIRTIO_CZONE_PATH_MAX + 1] = 0;
	cr_assert_eq(device_ask(fe.device, &request, 5000, &reply), -ENAMETOOLONG);

	/* a failure brings its values, too */
	request.path = NULL;
	request.op = VIRTIO_CZONE_OP_DESTROY;
	answer = (struct virtio_czone_reply){ .status = EBUSY, .count = 1, .value = { 42 } };
	fe_set_answer(&fe, answer);
	cr_assert_eq(device_ask(fe.device, &request, 5000, &reply), -EBUSY);
	cr_assert_eq(reply.count, 1);
	cr_assert_eq(reply.value[0], 42);
	cr_assert_eq(reply.value[1], 0);
	fe_close(&fe);
}

Test(device, requests_wait_for_event_buffers_in_order)
{
	struct call call[4] = { 0 };

	fe_open(&fe);
	fe_driver_start(&fe, NULL);
	/* without a pool the driver is enough */
	cr_assert_eq(device_wait_ready(fe.device, LIMIT_MS), 0);
	for (uint32_t i = 0; i < 4; i++) {
		call_start(&call[i], VIRTIO_CZONE_OP_CREATE, i, 30000);
		wait_for_requests(i + 1);	/* so that they come in this order */
	}
	fe_post_events(&fe, 0, 1);
	cr_assert_eq(take_request().zone, 0);
	fe_post_events(&fe, 0, 1);
	cr_assert_eq(take_request().zone, 1);
	fe_post_events(&fe, 0, 2);
	cr_assert_eq(take_request().zone, 2);
	cr_assert_eq(take_request().zone, 3);
	fe_driver_stop(&fe, NULL);
	for (int i = 0; i < 4; i++)
		cr_assert_eq(call_end(&call[i]), -ENOTCONN);
	fe_close(&fe);
}

Test(device, silent_guest_is_a_timeout_and_a_late_reply_no_harm)
{
	struct device_request request = { .op = VIRTIO_CZONE_OP_CREATE };
	struct virtio_czone_request seen;
	struct virtio_czone_reply late = { 0 };
	struct device_reply reply = { .zone = 77 };
	struct fe_queue *q = &fe.q[VIRTIO_CZONE_VQ_REPLY];
	struct vring_used_elem used;
	uint64_t start, took, gpa;

	fe_boot(&fe);
	fe.silent = 1;
	start = fe_now_ms();
	cr_assert_eq(device_ask(fe.device, &request, 200, &reply), -ETIMEDOUT);
	took = fe_now_ms() - start;
	cr_assert(took >= 200 && took < 3000, "%llu ms", (unsigned long long)took);
	cr_assert_eq(reply.zone, 77, "the reply is touched although none came");

	fe_guest_stop(&fe);
	seen = fe_last(&fe);
	late.id = seen.id;
	gpa = fe_alloc(&fe, sizeof(late));
	memcpy(fe_at(&fe, gpa), &late, sizeof(late));
	while (fe_wait_used(q, 0, &used))
		;
	fe_expose(q, fe_desc(q, gpa, 16, 0));
	fe_kick(q);
	cr_assert(fe_wait_used(q, LIMIT_MS, &used));
	fe_guest_start(&fe);
	cr_assert_eq(ping(LIMIT_MS), 0);
	fe_close(&fe);
}

Test(device, expired_requests_are_not_sent)
{
	struct device_request request = { .op = VIRTIO_CZONE_OP_CREATE };

	fe_open(&fe);
	fe_driver_start(&fe, NULL);
	cr_assert_eq(device_wait_ready(fe.device, LIMIT_MS), 0);
	cr_assert_eq(device_ask(fe.device, &request, 50, NULL), -ETIMEDOUT);
	fe_post_events(&fe, 0, 16);
	fe_guest_start(&fe);
	cr_assert_eq(ping(LIMIT_MS), 0);
	cr_assert_eq(fe_last(&fe).id, 0, "the guest got a request that nobody waits for");
	fe_close(&fe);
}

Test(device, vmm_dies_while_a_request_waits)
{
	struct call call = { 0 };

	fe_boot(&fe);
	fe.silent = 1;
	call_start(&call, VIRTIO_CZONE_OP_CREATE, 0, 30000);
	wait_for_requests(1);
	close(fe.socket);
	fe.socket = -1;
	cr_assert_eq(call_end(&call), -ESHUTDOWN);
	cr_assert_lt(call.took_ms, 2000);
	cr_assert_eq(ping(100), -ESHUTDOWN);
	cr_assert_eq(device_wait_ready(fe.device, 100), -ESHUTDOWN);
	cr_assert_eq(device_resident(fe.device, NULL, 0, &(uint64_t){ 0 }), -ESHUTDOWN);
	fe_close(&fe);
}

Test(device, close_while_a_request_waits)
{
	struct call call[8] = { 0 };

	fe_boot(&fe);
	fe.silent = 1;
	for (int i = 0; i < 8; i++)
		call_start(&call[i], VIRTIO_CZONE_OP_CREATE, 0, 30000);
	usleep(50000);
	fe_close(&fe);
	for (int i = 0; i < 8; i++) {
		cr_assert_eq(call_end(&call[i]), -ESHUTDOWN);
		cr_assert_lt(call[i].took_ms, 3000);
	}
}

Test(device, memory_is_let_go_when_the_vmm_dies)
{
	char path[64], target[128];
	unsigned int held;

	fe_boot(&fe);
	hang_up();
	held = 0;
	for (int fd = 0; fd < 256; fd++) {
		ssize_t n;

		snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
		n = readlink(path, target, sizeof(target) - 1);
		target[n > 0 ? n : 0] = 0;
		held += !strncmp(target, "/memfd:pool", 11) && fd != fe.pool_fd;
	}
	cr_assert_eq(held, 0);
	fe_close(&fe);
}

/* ---------------------------------------------------------------- reports */

Test(device, report_frees_exactly_its_ranges)
{
	const struct device_range range[] = {
		{ POOL + 4 * MIB, 2 * MIB }, { POOL + 1 * MIB, PAGE }, { POOL + 3 * MIB, 5 * PAGE },
	};
	const uint64_t freed = 2 * MIB + 6 * PAGE;
	struct virtio_czone_report_status status;
	uint64_t before, pool, boot, resident;

	fe_boot(&fe);
	fe_fill(fe.pool, 0, 8 * MIB);
	before = fe_allocated(fe.pool_fd);
	cr_assert_eq(before, 8 * MIB);
	status = fe_report(&fe, 3, range, 3);
	cr_assert_eq(status.status, 0);
	cr_assert_eq(status.done, 3);
	cr_assert_eq(status.bytes, freed, "%llu", (unsigned long long)status.bytes);
	cr_assert_eq(fe_allocated(fe.pool_fd), before - freed);
	cr_assert_eq(device_returned(fe.device), freed);

	for (uint64_t at = 0; at < 8 * MIB; at += PAGE) {
		bool gone = false;

		for (int i = 0; i < 3; i++)
			gone |= POOL + at >= range[i].start &&
				POOL + at < range[i].start + range[i].size;
		cr_assert_eq((unsigned char)fe.pool[at], gone ? 0 : 1 + at / PAGE % 255,
			     "page %llu", (unsigned long long)(at / PAGE));
	}
	/* looking has taken memory for the holes again: now the device's own count */
	cr_assert_eq(device_allocated(fe.device, &pool, &boot), 0);
	cr_assert_eq(pool, fe_allocated(fe.pool_fd));
	cr_assert_eq(boot, fe_allocated(fe.boot_fd), "an inode of two regions counts once");
	cr_assert_eq(device_resident(fe.device, &(struct device_range){ POOL, POOL_SIZE }, 1,
				     &resident), 0);
	cr_assert_eq(resident, pool);
	fe_close(&fe);
}

Test(device, resident_counts_parts)
{
	const struct device_range range[] = { { POOL, 4 * MIB }, { POOL + 6 * MIB, 2 * MIB } };
	uint64_t resident;

	fe_boot(&fe);
	fe_fill(fe.pool, 1 * MIB, 2 * MIB);
	fe_fill(fe.pool, 5 * MIB, 2 * MIB);
	cr_assert_eq(device_resident(fe.device, range, 2, &resident), 0);
	cr_assert_eq(resident, 3 * MIB);
	cr_assert_eq(device_resident(fe.device, range, 0, &resident), 0);
	cr_assert_eq(resident, 0);
	cr_assert_eq(device_resident(fe.device, &(struct device_range){ POOL + POOL_SIZE, PAGE }, 1,
				     &resident), -EFAULT);
	fe_close(&fe);
}

/* One piece is being punched while the guest takes memory elsewhere in the same file. */
static struct virtio_czone_report_status report_while_others_fill(void)
{
	const struct device_range range = { POOL, 2 * MIB };
	uint64_t at;

	fe_boot(&fe);
	fe_fill(fe.pool, 0, 2 * MIB);
	fe_gate(true);
	at = fe_report_begin(&fe, 1, &range, 1, 1);
	fe_gate_wait();
	fe_fill(fe.pool, 32 * MIB, MIB);
	fe_gate(false);
	return fe_report_end(&fe, at);
}

Test(device, returned_is_exact_while_others_take_memory)
{
	struct virtio_czone_report_status status;

	if (syscall(451 /* cachestat */, -1, NULL, NULL, 0) && errno == ENOSYS)
		cr_skip_test("this kernel cannot count a part of a file");
	status = report_while_others_fill();
	cr_assert_eq(status.bytes, 2 * MIB, "%llu", (unsigned long long)status.bytes);
	fe_close(&fe);
}

/* On older kernels it is the file that is counted: never more than came back. */
Test(device, returned_on_a_kernel_without_cachestat)
{
	struct virtio_czone_report_status status;
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 451, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | ENOSYS),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog filter = { sizeof(code) / sizeof(code[0]), code };

	cr_assert_eq(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
	cr_assert_eq(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter), 0);
	status = report_while_others_fill();
	cr_assert_eq(status.bytes, MIB, "%llu", (unsigned long long)status.bytes);
	status = fe_report(&fe, 1, &(struct device_range){ POOL + 32 * MIB, MIB }, 1);
	cr_assert_eq(status.bytes, MIB, "%llu", (unsigned long long)status.bytes);
	fe_close(&fe);
}

/* Whatever a huge page makes of a punch: what is said to be back is what the file no longer has. */
Test(device, returned_is_what_the_file_lost_on_huge_pages)
{
	static const struct device_range range[] = {
		{ POOL, 2 * MIB },			/* one whole */
		{ POOL + 2 * MIB, PAGE },		/* the first of one */
		{ POOL + 4 * MIB + 5 * PAGE, 3 * PAGE },	/* some of one */
		{ POOL + 7 * MIB, 2 * MIB },		/* halves of two */
	};
	char dir[] = "/tmp/czone-huge-XXXXXX";
	uint64_t all, back = 0;

	cr_assert(mkdtemp(dir));
	if (mount("czone", dir, "tmpfs", 0, "huge=always,mode=0700")) {
		rmdir(dir);
		cr_skip_test("only root can mount a tmpfs");
	}
	fe_pool_dir = dir;
	fe_boot(&fe);
	umount2(dir, MNT_DETACH);
	rmdir(dir);
	fe_fill(fe.pool, 0, 16 * MIB);
	all = fe_allocated(fe.pool_fd);
	cr_assert_eq(all, 16 * MIB);
	for (size_t i = 0; i < sizeof(range) / sizeof(range[0]); i++) {
		struct virtio_czone_report_status status = fe_report(&fe, 1, &range[i], 1);

		cr_assert_eq(status.status, 0);
		cr_assert_eq(status.bytes, range[i].size, "%zu: %llu", i,
			     (unsigned long long)status.bytes);
		back += status.bytes;
		cr_assert_eq(fe_allocated(fe.pool_fd), all - back);
	}
	/* and the neighbours are whole */
	for (uint64_t at = 2 * MIB + PAGE; at < 4 * MIB; at += PAGE)
		cr_assert_eq((unsigned char)fe.pool[at], 1 + at / PAGE % 255);
	cr_assert_eq(fe.pool[7 * MIB], 0);
	fe_close(&fe);
}

Test(device, untouched_memory_brings_nothing)
{
	struct virtio_czone_report_status status;

	fe_boot(&fe);
	status = fe_report(&fe, 1, &(struct device_range){ POOL, POOL_SIZE }, 1);
	cr_assert_eq(status.status, 0);
	cr_assert_eq(status.done, 1);
	cr_assert_eq(status.bytes, 0);
	cr_assert_eq(device_returned(fe.device), 0);
	fe_close(&fe);
}

Test(device, neighbours_are_one_punch)
{
	struct virtio_czone_report_status status;
	struct device_range range[256];

	fe_boot(&fe);
	fe_fill(fe.pool, 0, MIB);
	/* every page of 1 MiB for itself, from a shuffled deck */
	for (int i = 0; i < 256; i++)
		range[i] = (struct device_range){ POOL + (i * 77 % 256) * PAGE, PAGE };
	fe_punches = 0;
	status = fe_report(&fe, 1, range, 256);
	cr_assert_eq(status.bytes, MIB);
	cr_assert_eq(fe_punches, 1, "%u calls", fe_punches);
	fe_close(&fe);
}

Test(device, neighbouring_reports_are_merged)
{
	struct virtio_czone_report_status status;
	uint64_t at[9], sum = 0;

	fe_boot(&fe);
	fe_fill(fe.pool, 0, 4 * MIB);
	/* hold the thread up in an unrelated report, so that the others queue up */
	fe_gate(true);
	at[8] = fe_report_begin(&fe, 2, &(struct device_range){ POOL + 32 * MIB, PAGE }, 1, 1);
	fe_gate_wait();
	for (int i = 0; i < 8; i++) {
		struct device_range range = { POOL + (7 - i) * MIB / 2, MIB / 2 };

		at[i] = fe_report_begin(&fe, 1, &range, 1, 1);
	}
	cr_assert_eq(ping(LIMIT_MS), 0);	/* their kicks came before its own */
	fe_punches = 0;
	fe_gate(false);
	fe_report_end(&fe, at[8]);
	for (int i = 0; i < 8; i++) {
		status = fe_report_end(&fe, at[i]);	/* in the order in which they were made */
		cr_assert_eq(status.status, 0);
		cr_assert_eq(status.bytes, MIB / 2);
		sum += status.bytes;
	}
	cr_assert_eq(sum, 4 * MIB);
	cr_assert_eq(fe_punches, 1, "%u calls", fe_punches);
	cr_assert_eq(fe_allocated(fe.pool_fd), 0);
	fe_close(&fe);
}

Test(device, large_ranges_are_punched_in_pieces)
{
	struct virtio_czone_report_status status;

	fe_boot(&fe);
	fe_fill(fe.pool, MIB, 40 * MIB);
	fe_punches = 0;
	status = fe_report(&fe, 1, &(struct device_range){ POOL + MIB, 40 * MIB }, 1);
	cr_assert_eq(status.bytes, 40 * MIB);
	cr_assert_eq(fe_punches, 11);	/* 3 MiB, 9 of 4 MiB, 1 MiB: cut at multiples of 4 MiB */
	fe_close(&fe);
}

Test(device, boot_memory_is_the_vms_only)
{
	const struct device_range boot = { BOOT_HIGH + MIB, 2 * MIB };
	struct virtio_czone_report_status status;

	fe_boot(&fe);
	fe_fill(fe.boot + BOOT_LOW_SIZE, MIB, 2 * MIB);
	status = fe_report(&fe, 5, &boot, 1);
	cr_assert_eq(status.status, EFAULT);
	cr_assert_eq(status.done, 0);
	cr_assert_eq((unsigned char)fe.boot[BOOT_LOW_SIZE + MIB], 1 + MIB / PAGE % 255);
	status = fe_report(&fe, CZONE_ID_VM, &boot, 1);
	cr_assert_eq(status.status, 0);
	cr_assert_eq(status.bytes, 2 * MIB);
	cr_assert_eq(fe.boot[BOOT_LOW_SIZE + MIB], 0);
	fe_close(&fe);
}

Test(device, many_reports)
{
	struct device_range range[256];
	uint64_t returned = 0;

	fe_boot(&fe);
	/* every other page: nothing to merge; many more reports than the ring has room for */
	for (int round = 0; round < 40; round++) {
		struct virtio_czone_report_status status;

		fe.next_buffer = 7 * MIB;
		for (int i = 0; i < 256; i++) {
			uint64_t at = (2 * i + round % 2) * PAGE;

			fe_fill(fe.pool, at, PAGE);
			range[i] = (struct device_range){ POOL + at, PAGE };
		}
		status = fe_report(&fe, 1 + round % 3, range, 256);
		cr_assert_eq(status.status, 0);
		cr_assert_eq(status.bytes, MIB);
		returned += status.bytes;
	}
	cr_assert_eq(fe_allocated(fe.pool_fd), 0);
	cr_assert_eq(device_returned(fe.device), returned);
	fe_close(&fe);
}

/* --------------------------------------------------------- what is told of it */

static struct {
	pthread_mutex_t lock;
	struct { enum czone_event_kind kind; uint32_t zone; uint64_t bytes; } item[400];
	int n;
} told = { .lock = PTHREAD_MUTEX_INITIALIZER };

static void note_news(void *userdata, enum czone_event_kind kind, uint32_t zone, uint64_t bytes,
		      int error)
{
	(void)userdata;
	(void)error;
	pthread_mutex_lock(&told.lock);
	told.item[told.n].kind = kind;
	told.item[told.n].zone = zone;
	told.item[told.n].bytes = bytes;
	told.n++;
	pthread_mutex_unlock(&told.lock);
}

static int told_of(enum czone_event_kind kind)
{
	int n = 0;

	pthread_mutex_lock(&told.lock);
	for (int i = 0; i < told.n; i++)
		n += told.item[i].kind == kind;
	pthread_mutex_unlock(&told.lock);
	return n;
}

/* Without the guest's thread. */
static void send_notice(uint32_t kind, uint32_t zone, uint64_t value)
{
	struct virtio_czone_reply notice = { .status = kind, .zone = zone, .count = 1, .value = { value } };
	struct fe_queue *q = &fe.q[VIRTIO_CZONE_VQ_REPLY];
	struct vring_used_elem used;
	uint64_t gpa = fe_alloc(&fe, sizeof(notice));

	memcpy(fe_at(&fe, gpa), &notice, sizeof(notice));
	while (fe_wait_used(q, 0, &used))
		;
	fe_expose(q, fe_desc(q, gpa, 24, 0));
	fe_kick(q);
	cr_assert(fe_wait_used(q, LIMIT_MS, &used));
}

Test(device, notices_are_passed_on)
{
	fe_boot(&fe);
	device_set_news(fe.device, note_news, NULL);
	fe_guest_stop(&fe);
	send_notice(CZONE_NOTICE_CREATED, 5, 8 * MIB);
	send_notice(CZONE_NOTICE_FULL, 5, 0);
	send_notice(CZONE_NOTICE_DESTROYED, 5, 0);
	send_notice(CZONE_NOTICE_FULL, CZONE_ID_VM, 0);	/* no zone */
	send_notice(77, 5, 0);					/* of a later version */
	send_notice(CZONE_NOTICE_NONE, 5, 0);
	pthread_mutex_lock(&told.lock);
	cr_assert_eq(told.n, 3);
	cr_assert_eq(told.item[0].kind, CZONE_EVENT_ZONE_CREATED);
	cr_assert_eq(told.item[0].zone, 5);
	cr_assert_eq(told.item[0].bytes, 8 * MIB);
	cr_assert_eq(told.item[1].kind, CZONE_EVENT_ZONE_FULL);
	cr_assert_eq(told.item[2].kind, CZONE_EVENT_ZONE_DESTROYED);
	cr_assert_eq(told.item[2].bytes, CZONE_UNKNOWN);
	pthread_mutex_unlock(&told.lock);
	fe_guest_start(&fe);
	cr_assert_eq(ping(LIMIT_MS), 0);
	fe_close(&fe);
}

Test(device, a_guest_that_notices_too_much_is_not_heard)
{
	uint64_t start = fe_now_ms();

	fe_boot(&fe);
	device_set_news(fe.device, note_news, NULL);
	fe_guest_stop(&fe);
	for (int i = 0; i < 300; i++)
		send_notice(CZONE_NOTICE_FULL, 1 + i, 0);
	cr_assert_leq(told_of(CZONE_EVENT_ZONE_FULL), 100 * (1 + (fe_now_ms() - start) / 1000));
	fe_guest_start(&fe);
	cr_assert_eq(ping(LIMIT_MS), 0);
	fe_close(&fe);
}

Test(device, news_of_a_guest_that_comes_and_goes)
{
	fe_open(&fe);
	device_set_news(fe.device, note_news, NULL);
	cr_assert_eq(device_add_pool(fe.device, POOL, POOL_SIZE, 12), 0);
	fe_driver_start(&fe, NULL);
	fe_post_events(&fe, 0, 16);
	fe_guest_start(&fe);
	cr_assert_eq(device_wait_ready(fe.device, LIMIT_MS), 0);
	cr_assert_eq(told_of(CZONE_EVENT_GUEST_READY), 1);
	fe_guest_stop(&fe);
	fe_driver_stop(&fe, NULL);
	cr_assert_eq(device_wait_ready(fe.device, 10), -ETIMEDOUT);
	cr_assert_eq(told_of(CZONE_EVENT_GUEST_LOST), 1);
	fe_driver_start(&fe, NULL);
	fe_post_events(&fe, 0, 16);
	fe_guest_start(&fe);
	cr_assert_eq(device_wait_ready(fe.device, LIMIT_MS), 0);
	cr_assert_eq(told_of(CZONE_EVENT_GUEST_READY), 2);
	fe_guest_stop(&fe);
	close(fe.socket);
	fe.socket = -1;
	for (int i = 0; i < LIMIT_MS && !told_of(CZONE_EVENT_VM_GONE); i++)
		usleep(1000);
	fe_close(&fe);
	cr_assert_eq(told_of(CZONE_EVENT_GUEST_LOST), 1);
	cr_assert_eq(told_of(CZONE_EVENT_VM_GONE), 1);
	cr_assert_eq(told.item[told.n - 1].kind, CZONE_EVENT_VM_GONE);
}

/* -------------------------------------------- the driver goes, comes again */

Test(device, reboot_fails_requests_and_empties_the_pool)
{
	struct call call = { 0 };

	fe_boot(&fe);
	fe.silent = 1;
	fe_fill(fe.pool, 0, 32 * MIB);
	call_start(&call, VIRTIO_CZONE_OP_CREATE, 0, 30000);
	usleep(50000);
	fe_guest_stop(&fe);
	fe_driver_stop(&fe, NULL);
	cr_assert_eq(call_end(&call), -ENOTCONN);
	cr_assert_lt(call.took_ms, 2000);
	cr_assert_eq(ping(100), -ENOTCONN);
	cr_assert_eq(device_wait_ready(fe.device, 50), -ETIMEDOUT);
	cr_assert_eq(fe_allocated(fe.pool_fd), 32 * MIB, "punched although nobody is there");

	fe_driver_start(&fe, NULL);
	fe_post_events(&fe, 0, 16);
	fe_guest_start(&fe);	/* a new kernel: it says that it has no pool */
	cr_assert_eq(device_wait_ready(fe.device, LIMIT_MS), 0);
	cr_assert_eq(fe.offers, 2);
	cr_assert_eq(fe_allocated(fe.pool_fd), 0, "the new kernel finds old data");
	cr_assert_eq(fe.offer_flags, VIRTIO_CZONE_REGION_ZERO);
	cr_assert_eq(device_returned(fe.device), 0, "cleaning is no return");
	cr_assert_eq(ping(LIMIT_MS), 0);
	fe_close(&fe);
}

Test(device, driver_bound_again_keeps_its_zones)
{
	fe_boot(&fe);
	fe_fill(fe.pool, 0, 4 * MIB);
	fe_guest_stop(&fe);
	fe_driver_stop(&fe, NULL);
	fe.keeps = POOL_SIZE;		/* the same kernel: its zones are alive */
	fe.add_region_status = EEXIST;
	fe_driver_start(&fe, NULL);
	fe_post_events(&fe, 0, 16);
	fe_guest_start(&fe);
	cr_assert_eq(device_wait_ready(fe.device, LIMIT_MS), 0);
	cr_assert_eq(fe.offers, 2);
	cr_assert_eq(fe_allocated(fe.pool_fd), 4 * MIB, "live zones were punched");
	cr_assert_eq(fe.offer_flags, 0, "said to be zero without having been released");
	fe_close(&fe);
}

Test(device, pause_is_no_reboot)
{
	const struct device_range range = { POOL, MIB };
	struct virtio_czone_report_status status;
	uint16_t base[VHOST_USER_QUEUES];
	uint64_t at[3], bytes = 0;

	fe_boot(&fe);
	fe_fill(fe.pool, 0, 4 * MIB);
	for (int i = 0; i < 5; i++)
		cr_assert_eq(ping(LIMIT_MS), 0);
	fe_guest_stop(&fe);
	fe_gate(true);
	for (int i = 0; i < 3; i++) {
		struct device_range one = { POOL + i * MIB, MIB };

		at[i] = fe_report_begin(&fe, 1, &one, 1, 1);
		fe_gate_wait();	/* the first one is alone */
	}
	/* the device must not let go before its thread has come to rest */
	for (int i = 0; i < VHOST_USER_QUEUES; i++) {
		struct vhost_vring_state s = { i, 0 };

		fe_send(&fe, VHOST_USER_SET_VRING_ENABLE, &s, sizeof(s), NULL,
			VHOST_USER_NEED_REPLY);
		if (!i) {
			struct pollfd p = { .fd = fe.socket, .events = POLLIN };

			cr_assert_eq(poll(&p, 1, 100), 0, "stopped while a hole is being punched");
			fe_gate(false);
		}
		fe_receive(&fe, VHOST_USER_SET_VRING_ENABLE, &(struct vhost_user_message){ 0 });
	}
	fe_driver_stop(&fe, base);
	cr_assert_eq(base[VIRTIO_CZONE_VQ_REPORT], 0, "reports in flight are seen again");
	cr_assert_gt(base[VIRTIO_CZONE_VQ_EVENT], 5);
	cr_assert_eq(fe_allocated(fe.pool_fd), 3 * MIB, "reports went on while the VM stood");

	fe_driver_start(&fe, base);
	fe_kick(&fe.q[VIRTIO_CZONE_VQ_REPORT]);
	fe_guest_start(&fe);
	for (int i = 0; i < 3; i++) {
		status = fe_report_end(&fe, at[i]);
		cr_assert_eq(status.status, 0);
		bytes += status.bytes;
	}
	/* the first was punched before the pause, and nobody was told */
	cr_assert_eq(bytes, 2 * MIB);
	cr_assert_eq(device_wait_ready(fe.device, LIMIT_MS), 0);
	cr_assert_eq(fe.offers, 1, "the pool is offered again");
	cr_assert_eq(fe_allocated(fe.pool_fd), MIB, "the pool was punched");
	status = fe_report(&fe, 1, &range, 1);
	cr_assert_eq(status.status, 0);
	cr_assert_eq(ping(LIMIT_MS), 0);
	fe_close(&fe);
}

/* The VM is paused between the start of its driver and the first event buffer, for long. */
Test(device, pool_is_offered_however_late_the_guest_can_take_it)
{
	fe_open(&fe);
	cr_assert_eq(device_add_pool(fe.device, POOL, POOL_SIZE, 12), 0);
	fe_driver_start(&fe, NULL);
	cr_assert_eq(device_wait_ready(fe.device, 100), -ETIMEDOUT);
	fe_clock_skip_ms = 3600 * 1000;
	fe_post_events(&fe, 0, 16);
	fe_guest_start(&fe);
	cr_assert_eq(device_wait_ready(fe.device, LIMIT_MS), 0, "%s", czone_error_detail());
	cr_assert_eq(fe.offers, 1);
	fe_clock_skip_ms = 0;
	fe_close(&fe);
}

Test(device, reports_of_the_old_kernel_die_with_it)
{
	fe_boot(&fe);
	fe_fill(fe.boot + BOOT_LOW_SIZE, 0, 4 * MIB);
	fe_guest_stop(&fe);
	fe_gate(true);
	for (int i = 0; i < 4; i++) {
		struct device_range one = { BOOT_HIGH + i * MIB, MIB };

		fe_report_begin(&fe, CZONE_ID_VM, &one, 1, 1);
		fe_gate_wait();
	}
	fe_send(&fe, VHOST_USER_SET_VRING_ENABLE, &(struct vhost_vring_state){ 2, 0 },
		sizeof(struct vhost_vring_state), NULL, VHOST_USER_NEED_REPLY);
	usleep(50000);
	fe_gate(false);
	fe_receive(&fe, VHOST_USER_SET_VRING_ENABLE, &(struct vhost_user_message){ 0 });
	/* the new kernel writes where the old one had reported */
	fe_fill(fe.boot + BOOT_LOW_SIZE, 0, 4 * MIB);
	fe_driver_stop(&fe, NULL);
	fe_driver_start(&fe, NULL);
	fe_post_events(&fe, 0, 16);
	fe_guest_start(&fe);
	cr_assert_eq(device_wait_ready(fe.device, LIMIT_MS), 0);
	for (uint64_t at = 0; at < 4 * MIB; at += PAGE)
		cr_assert_eq((unsigned char)fe.boot[BOOT_LOW_SIZE + at], 1 + at / PAGE % 255);
	fe_close(&fe);
}

Test(device, pool_that_comes_later)
{
	fe_open(&fe);
	cr_assert_eq(device_add_pool(fe.device, POOL, POOL_SIZE, 12), 0);
	fe_add_region(&fe, 0, BOOT_LOW_SIZE, USER_BOOT, 0, fe.boot_fd);
	fe.has_memory = true;
	fe_driver_start(&fe, NULL);
	fe_post_events(&fe, 0, 16);
	fe_guest_start(&fe);
	cr_assert_eq(device_wait_ready(fe.device, 200), -ETIMEDOUT);
	cr_assert_eq(fe.offers, 0, "offered without the memory behind it");
	fe_add_region(&fe, POOL, POOL_SIZE, USER_POOL, 0, fe.pool_fd);	/* hot-added */
	cr_assert_eq(device_wait_ready(fe.device, LIMIT_MS), 0);
	cr_assert_eq(fe.offers, 1);
	fe_close(&fe);
}

Test(device, guest_that_refuses_the_pool)
{
	fe_open(&fe);
	fe.add_region_status = ENOMEM;
	cr_assert_eq(device_add_pool(fe.device, POOL, POOL_SIZE, 12), 0);
	fe_driver_start(&fe, NULL);
	fe_post_events(&fe, 0, 16);
	fe_guest_start(&fe);
	cr_assert_eq(device_wait_ready(fe.device, LIMIT_MS), -ENOMEM);
	fe_close(&fe);
}

/* A second pool, in the same file: it is the guest's view of it that counts. */
#define MORE (POOL + POOL_SIZE)
#define MORE_SIZE (32 * MIB)
#define USER_MORE (USER_POOL + POOL_SIZE)

static int more_fd;

static void plug_more(void)
{
	more_fd = memfd_create("more", MFD_CLOEXEC);
	cr_assert_geq(more_fd, 0);
	cr_assert_eq(ftruncate(more_fd, MORE_SIZE), 0);
	fe_add_region(&fe, MORE, MORE_SIZE, USER_MORE, 0, more_fd);
}

Test(device, pool_that_grows)
{
	struct virtio_czone_report_status status;
	uint64_t pool, boot;

	fe_boot(&fe);
	cr_assert_eq(device_pool_state(fe.device, POOL), 1);
	cr_assert_eq(device_pool_state(fe.device, MORE), -ENOENT);
	plug_more();
	cr_assert_eq(fe_report(&fe, 1, &(struct device_range){ MORE, MIB }, 1).status, EFAULT);
	cr_assert_eq(device_add_pool(fe.device, MORE, MORE_SIZE, 12), 0);
	cr_assert_eq(device_wait_pool(fe.device, MORE, LIMIT_MS), 0);
	cr_assert_eq(fe.offers, 2);
	cr_assert_eq(fe.offer_flags, VIRTIO_CZONE_REGION_ZERO);
	cr_assert_eq(device_add_pool(fe.device, MORE, MORE_SIZE, 12), 0, "it is the same one");
	cr_assert_eq(device_add_pool(fe.device, MORE, MIB, 12), -EINVAL);
	cr_assert_eq(device_wait_ready(fe.device, LIMIT_MS), 0);
	cr_assert_eq(fe.offers, 2);

	cr_assert_eq(fallocate(more_fd, 0, 0, 4 * MIB), 0);
	cr_assert_eq(device_allocated(fe.device, &pool, &boot), 0);
	cr_assert_eq(pool, 4 * MIB);
	status = fe_report(&fe, 1, (struct device_range[]){ { POOL, MIB }, { MORE, 3 * MIB } }, 2);
	cr_assert_eq(status.status, 0);
	cr_assert_eq(status.bytes, 3 * MIB);
	cr_assert_eq(fe_allocated(more_fd), MIB);
	close(more_fd);
	fe_close(&fe);
}

Test(device, guest_that_refuses_what_was_added)
{
	fe_boot(&fe);
	fe.add_region_status = ENOMEM;
	plug_more();
	cr_assert_eq(device_add_pool(fe.device, MORE, MORE_SIZE, 12), 0);
	cr_assert_eq(device_wait_pool(fe.device, MORE, LIMIT_MS), -ENOMEM);
	cr_assert_eq(device_pool_state(fe.device, MORE), -ENOMEM);
	cr_assert_eq(device_wait_ready(fe.device, LIMIT_MS), 0, "it has the first one");
	cr_assert_eq(ping(LIMIT_MS), 0);

	fe.add_region_status = 0;
	cr_assert_eq(device_add_pool(fe.device, MORE, MORE_SIZE, 12), 0);
	cr_assert_eq(device_wait_pool(fe.device, MORE, LIMIT_MS), 0);
	cr_assert_eq(fe.offers, 3);
	close(more_fd);
	fe_close(&fe);
}

Test(device, pool_that_nobody_takes_in_time)
{
	fe_boot(&fe);
	cr_assert_eq(device_add_pool(fe.device, MORE, MORE_SIZE, 12), 0);
	cr_assert_eq(device_wait_pool(fe.device, MORE, 50), -ETIMEDOUT);
	fe_guest_stop(&fe);
	fe_driver_stop(&fe, NULL);
	cr_assert_eq(device_wait_pool(fe.device, MORE, 50), -ETIMEDOUT);
	cr_assert(strstr(czone_error_detail(), "driver"));
	plug_more();
	fe.keeps = POOL_SIZE;
	fe_driver_start(&fe, NULL);
	fe_post_events(&fe, 0, 16);
	fe_guest_start(&fe);
	cr_assert_eq(device_wait_pool(fe.device, MORE, LIMIT_MS), 0);
	close(more_fd);
	fe_close(&fe);
}

Test(device, removed_region)
{
	struct vhost_user_mem_region r = { .start = POOL, .size = POOL_SIZE, .user = USER_POOL };
	struct virtio_czone_report_status status;

	fe_boot(&fe);
	fe_fill(fe.pool, 0, MIB);
	cr_assert_eq(fe_command(&fe, VHOST_USER_REM_MEM_REG, &r, sizeof(r), NULL), 0);
	cr_assert_neq(fe_command(&fe, VHOST_USER_REM_MEM_REG, &r, sizeof(r), NULL), 0);
	status = fe_report(&fe, 1, &(struct device_range){ POOL, MIB }, 1);
	cr_assert_eq(status.status, EFAULT);
	cr_assert_eq(fe_allocated(fe.pool_fd), MIB);
	cr_assert_eq(ping(LIMIT_MS), 0);
	fe_close(&fe);
}

/* ------------------------------------------------------------- many at once */

static void *ping_many(void *unused)
{
	intptr_t failed = 0;

	(void)unused;
	for (int i = 0; i < 200; i++)
		failed += ping(LIMIT_MS) != 0;
	return (void *)failed;
}

Test(device, many_threads)
{
	pthread_t thread[8];
	uint64_t resident;

	fe_boot(&fe);
	for (int i = 0; i < 8; i++)
		cr_assert_eq(pthread_create(&thread[i], NULL, ping_many, NULL), 0);
	for (int i = 0; i < 200; i++) {
		struct device_range range = { POOL + i % 8 * 2 * MIB, 2 * MIB };

		fe.next_buffer = 7 * MIB;
		fe_fill(fe.pool, range.start - POOL, MIB);
		cr_assert_eq(fe_report(&fe, 1, &range, 1).bytes, MIB);
		cr_assert_eq(device_resident(fe.device, &range, 1, &resident), 0);
		cr_assert_eq(resident, 0);
	}
	for (int i = 0; i < 8; i++) {
		void *failed;

		pthread_join(thread[i], &failed);
		cr_assert_null(failed);
	}
	fe_close(&fe);
}

Test(device, two_vms)
{
	static struct front_end other;
	struct virtio_czone_report_status status;
	uint64_t slow;

	fe_boot(&fe);
	fe_boot(&other);
	fe_fill(fe.pool, 0, POOL_SIZE);
	fe_fill(other.pool, 0, PAGE);
	/* a large one ahead of it in the thread's list does not hold up the other VM's */
	slow = fe_report_begin(&fe, 1, &(struct device_range){ POOL, POOL_SIZE }, 1, 1);
	status = fe_report(&other, 1, &(struct device_range){ POOL, PAGE }, 1);
	cr_assert_eq(status.bytes, PAGE);
	status = fe_report_end(&fe, slow);
	cr_assert_eq(status.bytes, POOL_SIZE);
	cr_assert_eq(device_returned(other.device), PAGE);
	hang_up();
	cr_assert_eq(device_wait_ready(other.device, LIMIT_MS), 0, "one VM's end is the other's");
	fe_close(&fe);
	fe_close(&other);
}

/* A VM that gives back much, in many pieces, does not hold up another one that gives back a page. */
Test(device, two_vms_take_turns)
{
	static struct device_range range[256];
	struct front_end other;
	unsigned int before;
	uint64_t status;

	fe_boot(&fe);
	fe_boot(&other);
	for (int i = 0; i < 256; i++)
		range[i] = (struct device_range){ POOL + 2 * i * PAGE, PAGE };
	fe_gate(true);
	for (uint32_t i = 0; i < 16; i++)	/* zones of their own are punched each by itself */
		fe_report_begin(&fe, i + 1, range, 256, 256);
	fe_gate_wait();
	fe_watch(other.pool_fd);
	status = fe_report_begin(&other, 1, range, 1, 1);
	cr_assert_eq(ping(LIMIT_MS), 0);	/* both have been seen */
	usleep(100000);
	before = fe_punches;
	fe_gate(false);
	cr_assert_eq(fe_report_end(&other, status).status, 0);
	cr_assert_leq(fe_watched_at - before, 64, "%u other punches came first",
		      fe_watched_at - before);
	fe_close(&other);
	fe_close(&fe);
}

/* As many as a process may well have: each is served, and all at once. */
Test(device, thirty_two_vms)
{
	static struct front_end vm[32];
	unsigned int before = fe_open_fds(), n = sizeof(vm) / sizeof(vm[0]);
	struct device_request request = { .op = VIRTIO_CZONE_OP_PING };
	uint64_t status[32];

	for (unsigned int i = 0; i < n; i++) {
		fe_boot(&vm[i]);
		fe_fill(vm[i].pool, 0, MIB);
	}
	for (unsigned int round = 0; round < 3; round++) {
		struct device_range range = { POOL + round * 64 * PAGE, 64 * PAGE };

		for (unsigned int i = 0; i < n; i++)
			status[i] = fe_report_begin(&vm[i], 1, &range, 1, 1);
		for (unsigned int i = 0; i < n; i++) {
			cr_assert_eq(device_ask(vm[i].device, &request, LIMIT_MS, NULL), 0);
			cr_assert_eq(fe_report_end(&vm[i], status[i]).bytes, 64 * PAGE);
			cr_assert_eq(fe_allocated(vm[i].pool_fd), MIB - (round + 1) * 64 * PAGE);
		}
	}
	for (unsigned int i = 0; i < n; i++)
		fe_close(&vm[i]);
	cr_assert_eq(fe_open_fds(), before);
}
