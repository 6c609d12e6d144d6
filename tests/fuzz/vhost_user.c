// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * A VMM that sends anything, with any file descriptors, in any pieces.
 *
 * There is no socket: recvmsg() and sendmsg() of the library come here (--wrap),
 * as its other calls with a descriptor go to fds.c.
 *
 * Input: records, each a struct record and then its bytes.
 */
#include "fds.h"
#include "fuzz.h"
#include "host/vhost_user_socket.h"

#include <fcntl.h>
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
	uint8_t flags;		/* NO_PEEK: also, the library does not look first */
	uint16_t claimed;	/* size of the payload in the header */
	uint16_t sent;		/* size of the payload */
	uint8_t fds;		/* low half: how many, high half: of which kind */
	uint8_t cut;		/* bytes that are sent before the others */
};

#define SCRIBBLE 0xff
#define NO_PEEK 0x80
#define OURS 7			/* the socket */

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
	const int file[] = { memory_fd, -1, short_fd, null_fd };

	return fds_new(file[kind % 4]);
}

/* ---------------------------------------------------------------- socket */

/* What is on its way to the library. Descriptors come with the first byte after `with`. */
static struct {
	char bytes[2048];
	size_t at, end, with;
	unsigned int n_fds, kind;
} wire;

/* The answer of the library, if there is one. */
static char answer[sizeof(struct vhost_user_message)];
static size_t answered;

ssize_t __wrap_recvmsg(int fd, struct msghdr *msg, int flags);
ssize_t __wrap_sendmsg(int fd, const struct msghdr *msg, int flags);

static void deliver_fds(struct msghdr *msg, bool again)
{
	size_t room = msg->msg_controllen;
	struct cmsghdr *c = msg->msg_control;
	unsigned int n = room < CMSG_LEN(sizeof(int)) ? 0 : (room - CMSG_LEN(0)) / sizeof(int);

	msg->msg_controllen = 0;
	if (n > wire.n_fds)
		n = wire.n_fds;		/* else the others are lost: MSG_CTRUNC */
	if (n) {
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(n * sizeof(int));
		for (unsigned int i = 0; i < n; i++) {
			int fd = fd_of_kind(wire.kind);

			memcpy(CMSG_DATA(c) + i * sizeof(int), &fd, sizeof(fd));
		}
		msg->msg_controllen = CMSG_SPACE(n * sizeof(int));
	}
	if (!again)
		wire.n_fds = 0;
}

/* As a stream of AF_UNIX does it: no more at once than up to what has descriptors. */
ssize_t __wrap_recvmsg(int fd, struct msghdr *msg, int flags)
{
	size_t at = wire.at, end = at < wire.with ? wire.with : wire.end;

	FUZZ_CHECK(fd == OURS && (flags & MSG_DONTWAIT));
	if (at == wire.end) {
		errno = EAGAIN;
		return -1;
	}
	for (size_t i = 0; i < msg->msg_iovlen; i++) {
		struct iovec *v = &msg->msg_iov[i];
		size_t n = v->iov_len < end - at ? v->iov_len : end - at;

		memcpy(v->iov_base, wire.bytes + at, n);
		at += n;
	}
	if (at > wire.with && wire.n_fds)
		deliver_fds(msg, flags & MSG_PEEK);
	else
		msg->msg_controllen = 0;
	if (flags & MSG_PEEK)
		return at - wire.at;
	at -= wire.at;
	wire.at += at;
	return at;
}

ssize_t __wrap_sendmsg(int fd, const struct msghdr *msg, int flags)
{
	FUZZ_CHECK(fd == OURS && (flags & MSG_DONTWAIT) && (flags & MSG_NOSIGNAL));
	answered = 0;
	for (size_t i = 0; i < msg->msg_iovlen; i++) {
		FUZZ_CHECK(msg->msg_iov[i].iov_len <= sizeof(answer) - answered);
		memcpy(answer + answered, msg->msg_iov[i].iov_base, msg->msg_iov[i].iov_len);
		answered += msg->msg_iov[i].iov_len;
	}
	return answered;
}

static void send_bytes(const void *bytes, size_t size, unsigned int n_fds, unsigned int kind)
{
	if (wire.at == wire.end)
		wire.at = wire.end = 0;
	FUZZ_CHECK(size <= sizeof(wire.bytes) - wire.end);
	wire.with = wire.end;
	wire.n_fds = size ? n_fds : 0;
	wire.kind = kind;
	memcpy(wire.bytes + wire.end, bytes, size);
	wire.end += size;
}

/* --------------------------------------------------------------- library */

static void handle(struct vhost_user *vu, struct vhost_user_message *message)
{
	struct vhost_user_message reply;
	uint32_t request = message->header.request;
	struct vhost_user_header header;

	if (vhost_user_handle(vu, message, &reply)) {
		FUZZ_CHECK(reply.header.size <= sizeof(reply.payload));
		FUZZ_CHECK(!vhost_user_send(OURS, &reply));
		FUZZ_CHECK(answered == sizeof(header) + reply.header.size);
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

/* As the device does it: a whole message is looked at first. */
static int next_message(struct vhost_user_reader *reader, bool peek,
			struct vhost_user_message *message)
{
	char taken[sizeof(*message)];

	if (!peek || reader->have || reader->skip || !vhost_user_peek(OURS, message))
		return vhost_user_receive(OURS, reader, message);
	FUZZ_CHECK(!vhost_user_take(OURS, taken, sizeof(message->header) + message->header.size));
	FUZZ_CHECK(!memcmp(taken, &message->header, sizeof(message->header)));
	FUZZ_CHECK(!memcmp(taken + sizeof(message->header), &message->payload,
			   message->header.size));
	return 1;
}

static void receive(struct vhost_user *vu, struct vhost_user_reader *reader, bool peek)
{
	struct vhost_user_message message;
	int got;

	while ((got = next_message(reader, peek, &message)) > 0) {
		FUZZ_CHECK(message.header.size <= sizeof(message.payload));
		FUZZ_CHECK(message.n_fds <= VHOST_USER_FDS_MAX);
		handle(vu, &message);
	}
	FUZZ_CHECK(!got);
	FUZZ_CHECK(wire.at == wire.end || !reader->have);
}

static void one_record(struct fuzz_input *in, struct vhost_user *vu,
		       struct vhost_user_reader *reader)
{
	struct {
		struct vhost_user_header header;
		char payload[1024];
	} sent;
	bool peek;
	struct record r;
	size_t size, cut;

	fuzz_take(in, &r, sizeof(r));
	size = r.sent % (sizeof(sent.payload) + 1);
	if (size > in->left)
		size = in->left;
	if (r.request == SCRIBBLE) {
		fuzz_take(in, map + 16 * r.cut, size);
		return;
	}
	peek = !(r.flags & NO_PEEK);
	sent.header = (struct vhost_user_header){ r.request, r.flags, r.claimed };
	fuzz_take(in, sent.payload, size);
	size += sizeof(sent.header);
	cut = r.cut < size ? r.cut : 0;
	send_bytes(&sent, cut, 0, 0);
	if (cut)
		receive(vu, reader, peek);
	send_bytes((char *)&sent + cut, size - cut, (r.fds & 15) % (FDS_SENT_MAX + 1), r.fds >> 4);
	receive(vu, reader, peek);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct vhost_user vu;
	struct vhost_user_reader reader = { 0 };
	struct fuzz_input in = { data, size };
	static unsigned int inputs;
	bool count_all = !(inputs++ % 256);
	unsigned int fds = fds_open(), all = count_all ? fuzz_open_fds() : 0;

	memset(map, 0, MEMORY_SIZE);
	memset(&wire, 0, sizeof(wire));
	memory_init(&memory);
	FUZZ_CHECK(!memory_add_pool(&memory, POOL, POOL_SIZE));
	vhost_user_init(&vu, &ops, &memory, 1);
	while (in.left)
		one_record(&in, &vu, &reader);
	vhost_user_reader_drop(&reader);
	vhost_user_reset(&vu);
	for (int i = 0; i < VHOST_USER_QUEUES; i++)
		FUZZ_CHECK(!started[i]);
	memory_destroy(&memory);
	FUZZ_CHECK(fds_open() == fds && (!count_all || fuzz_open_fds() == all));
	return 0;
}
