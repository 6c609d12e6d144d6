// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * A VMM that sends anything, with any file descriptors, in any pieces.
 *
 * Input: records, each a struct record and then its bytes.
 */
#include "fuzz.h"
#include "host/vhost_user_socket.h"

#include <fcntl.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#define MEMORY_SIZE 0x10000u
#define SHORT_SIZE 0x1000u
#define POOL 0x8000u
#define POOL_SIZE 0x4000u
#define FDS_SENT_MAX 12		/* more than a message may have */

struct record {
	uint8_t request;	/* SCRIBBLE: no message, bytes go to guest memory at 16 * cut */
	uint8_t flags;
	uint16_t claimed;	/* size of the payload in the header */
	uint16_t sent;		/* size of the payload */
	uint8_t fds;		/* low half: how many, high half: of which kind */
	uint8_t cut;		/* bytes that are sent before the others */
};

#define SCRIBBLE 0xff

static int memory_fd, short_fd, null_fd;
static char *map;
static bool started[VHOST_USER_QUEUES];
static struct memory memory;

static void queue_start(struct vhost_user *vu, unsigned int index)
{
	FUZZ_CHECK(index < VHOST_USER_QUEUES && !started[index]);
	FUZZ_CHECK(vhost_user_queue_live(vu, index) && vu->queue[index].kick_fd >= 0);
	started[index] = true;
}

static void queue_stop(struct vhost_user *vu, unsigned int index)
{
	FUZZ_CHECK(index < VHOST_USER_QUEUES && started[index]);
	FUZZ_CHECK(vu->queue[index].ring.used);
	started[index] = false;
}

static void memory_changed(struct vhost_user *vu)
{
	FUZZ_CHECK(vu->memory->n_regions <= MEMORY_REGIONS_MAX);
}

static void complain(struct vhost_user *vu, const char *what, uint32_t request)
{
	(void)vu;
	(void)request;
	FUZZ_CHECK(what && *what);
}

static const struct vhost_user_ops ops = {
	.queue_start = queue_start,
	.queue_stop = queue_stop,
	.memory_added = memory_changed,
	.memory_removed = memory_changed,
	.private_memory = memory_changed,
	.complain = complain,
};

int LLVMFuzzerInitialize(int *argc, char ***argv);

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	(void)argc;
	(void)argv;
	memory_fd = memfd_create("guest", MFD_CLOEXEC);
	short_fd = memfd_create("short", MFD_CLOEXEC);
	null_fd = open("/dev/null", O_RDWR | O_CLOEXEC);
	FUZZ_CHECK(!ftruncate(memory_fd, MEMORY_SIZE) && !ftruncate(short_fd, SHORT_SIZE));
	map = mmap(NULL, MEMORY_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, memory_fd, 0);
	FUZZ_CHECK(map != MAP_FAILED);
	return 0;
}

static int fd_of_kind(unsigned int kind)
{
	switch (kind % 4) {
	case 0:
		return dup(memory_fd);
	case 1:
		return eventfd(0, EFD_CLOEXEC);
	case 2:
		return dup(short_fd);
	default:
		return dup(null_fd);
	}
}

static void send_bytes(int to, const void *bytes, size_t size, unsigned int n_fds,
		       unsigned int kind)
{
	struct iovec iov = { (void *)bytes, size };
	struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1 };
	union {
		char buffer[CMSG_SPACE(sizeof(int) * FDS_SENT_MAX)];
		struct cmsghdr align;
	} control;
	int fd[FDS_SENT_MAX];

	if (!size)
		return;
	for (unsigned int i = 0; i < n_fds; i++)
		fd[i] = fd_of_kind(kind);
	if (n_fds) {
		struct cmsghdr *c;

		msg.msg_control = control.buffer;
		msg.msg_controllen = CMSG_SPACE(sizeof(int) * n_fds);
		c = CMSG_FIRSTHDR(&msg);
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(sizeof(int) * n_fds);
		memcpy(CMSG_DATA(c), fd, sizeof(int) * n_fds);
	}
	FUZZ_CHECK(sendmsg(to, &msg, MSG_DONTWAIT | MSG_NOSIGNAL) == (ssize_t)size);
	while (n_fds)
		close(fd[--n_fds]);
}

static void handle(struct vhost_user *vu, int ours, int theirs, struct vhost_user_message *message)
{
	struct vhost_user_message reply;
	uint32_t request = message->header.request;
	char answer[sizeof(reply)];
	struct vhost_user_header header;
	ssize_t n;

	if (vhost_user_handle(vu, message, &reply)) {
		FUZZ_CHECK(reply.header.size <= sizeof(reply.payload));
		FUZZ_CHECK(!vhost_user_send(ours, &reply));
		n = recv(theirs, answer, sizeof(answer), MSG_DONTWAIT);
		FUZZ_CHECK(n == (ssize_t)(sizeof(header) + reply.header.size));
		memcpy(&header, answer, sizeof(header));
		FUZZ_CHECK(header.request == request);
		FUZZ_CHECK(header.flags == (VHOST_USER_VERSION | VHOST_USER_REPLY));
	}
	FUZZ_CHECK(!message->n_fds);
	for (unsigned int i = 0; i < VHOST_USER_QUEUES; i++) {
		FUZZ_CHECK(!!vu->queue[i].ring.used == started[i]);
		for (int left = 4; left && vhost_user_queue_live(vu, i); left--)
			if (!fuzz_serve_one(&vu->queue[i].ring))
				break;
	}
}

static void receive(struct vhost_user *vu, struct vhost_user_reader *reader, int ours, int theirs)
{
	struct vhost_user_message message;
	int got;

	while ((got = vhost_user_receive(ours, reader, &message)) > 0) {
		FUZZ_CHECK(message.header.size <= sizeof(message.payload));
		FUZZ_CHECK(message.n_fds <= VHOST_USER_FDS_MAX);
		handle(vu, ours, theirs, &message);
	}
	FUZZ_CHECK(!got);
}

static void one_record(struct fuzz_input *in, struct vhost_user *vu,
		       struct vhost_user_reader *reader, const int socket[2])
{
	struct {
		struct vhost_user_header header;
		char payload[1024];
	} wire;
	struct record r;
	size_t size, cut;

	fuzz_take(in, &r, sizeof(r));
	size = r.sent % (sizeof(wire.payload) + 1);
	if (size > in->left)
		size = in->left;
	if (r.request == SCRIBBLE) {
		fuzz_take(in, map + 16 * r.cut, size);
		return;
	}
	wire.header = (struct vhost_user_header){ r.request, r.flags, r.claimed };
	fuzz_take(in, wire.payload, size);
	size += sizeof(wire.header);
	cut = r.cut < size ? r.cut : 0;
	send_bytes(socket[1], &wire, cut, 0, 0);
	if (cut)
		receive(vu, reader, socket[0], socket[1]);
	send_bytes(socket[1], (char *)&wire + cut, size - cut, (r.fds & 15) % (FDS_SENT_MAX + 1),
		   r.fds >> 4);
	receive(vu, reader, socket[0], socket[1]);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct vhost_user vu;
	struct vhost_user_reader reader = { 0 };
	struct fuzz_input in = { data, size };
	unsigned int fds = fuzz_open_fds();
	int socket[2];

	memset(map, 0, MEMORY_SIZE);
	FUZZ_CHECK(!socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, socket));
	memory_init(&memory);
	FUZZ_CHECK(!memory_add_pool(&memory, POOL, POOL_SIZE));
	vhost_user_init(&vu, &ops, &memory, 1);
	while (in.left)
		one_record(&in, &vu, &reader, socket);
	vhost_user_reader_drop(&reader);
	vhost_user_reset(&vu);
	for (int i = 0; i < VHOST_USER_QUEUES; i++)
		FUZZ_CHECK(!started[i]);
	memory_destroy(&memory);
	close(socket[0]);
	close(socket[1]);
	FUZZ_CHECK(fuzz_open_fds() == fds);
	return 0;
}
