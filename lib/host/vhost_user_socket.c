// SPDX-License-Identifier: LGPL-2.1-or-later
#include "vhost_user_socket.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define HEADER sizeof(struct vhost_user_header)

/* The payload as it is on the wire follows the header, without a gap. */
_Static_assert(sizeof(struct vhost_user_header) == 12, "header on the wire");

static void keep_fds(struct vhost_user_message *m, struct msghdr *msg)
{
	for (struct cmsghdr *c = CMSG_FIRSTHDR(msg); c; c = CMSG_NXTHDR(msg, c)) {
		size_t n;

		if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
			continue;
		n = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
		for (size_t i = 0; i < n; i++) {
			int fd;

			memcpy(&fd, CMSG_DATA(c) + i * sizeof(int), sizeof(fd));
			if (m->n_fds < VHOST_USER_FDS_MAX)
				m->fd[m->n_fds++] = fd;
			else
				close(fd);
		}
	}
}

/* Bytes read, 0 when there are none now, -ENOTCONN at the end. */
static ssize_t read_some(int fd, struct vhost_user_message *m, void *to, size_t size)
{
	char control[CMSG_SPACE(sizeof(int) * VHOST_USER_FDS_MAX)];
	struct iovec iov = { .iov_base = to, .iov_len = size };
	struct msghdr msg = {
		.msg_iov = &iov, .msg_iovlen = 1,
		.msg_control = control, .msg_controllen = sizeof(control),
	};
	ssize_t n;

	do
		n = recvmsg(fd, &msg, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
	while (n < 0 && errno == EINTR);
	if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
		return 0;
	if (n <= 0)
		return -ENOTCONN;
	keep_fds(m, &msg);
	return n;
}

int vhost_user_peek(int fd, struct vhost_user_message *m)
{
	char control[CMSG_SPACE(sizeof(int) * VHOST_USER_FDS_MAX)];
	struct iovec iov[2] = {
		{ .iov_base = &m->header, .iov_len = HEADER }, { .iov_base = &m->payload },
	};
	struct msghdr msg = { .msg_iov = iov, .msg_iovlen = 1 };
	ssize_t n = recvmsg(fd, &msg, MSG_PEEK | MSG_DONTWAIT);

	m->n_fds = 0;
	if (n < (ssize_t)HEADER || m->header.size > sizeof(m->payload))
		return 0;
	memset(&m->payload, 0, sizeof(m->payload));
	iov[1].iov_len = m->header.size;
	msg.msg_iovlen = 2;
	msg.msg_control = control;
	msg.msg_controllen = sizeof(control);
	n = recvmsg(fd, &msg, MSG_PEEK | MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
	if (n < 0)
		return 0;
	keep_fds(m, &msg);
	if (n == (ssize_t)(HEADER + m->header.size))
		return 1;
	while (m->n_fds)
		close(m->fd[--m->n_fds]);
	return 0;
}

int vhost_user_take(int fd, void *to, size_t size)
{
	struct iovec iov = { .iov_base = to, .iov_len = size };
	struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1 };

	return recvmsg(fd, &msg, MSG_DONTWAIT) == (ssize_t)size ? 0 : -EIO;
}

void vhost_user_reader_drop(struct vhost_user_reader *r)
{
	while (r->message.n_fds)
		close(r->message.fd[--r->message.n_fds]);
	memset(r, 0, sizeof(*r));
}

int vhost_user_receive(int fd, struct vhost_user_reader *r, struct vhost_user_message *ret)
{
	struct vhost_user_message *m = &r->message;
	char waste[4096];
	ssize_t n;

	while (r->have < HEADER) {
		n = read_some(fd, m, (char *)&m->header + r->have, HEADER - r->have);
		if (n <= 0)
			return n;
		r->have += n;
	}
	if (m->header.size > sizeof(m->payload)) {
		r->skip = m->header.size;
		m->header.size = 0;
	}
	while (r->skip) {
		n = read_some(fd, m, waste, r->skip < sizeof(waste) ? r->skip : sizeof(waste));
		if (n <= 0)
			return n;
		r->skip -= n;
	}
	while (r->have < HEADER + m->header.size) {
		size_t done = r->have - HEADER;

		n = read_some(fd, m, (char *)&m->payload + done, m->header.size - done);
		if (n <= 0)
			return n;
		r->have += n;
	}
	*ret = *m;
	memset(r, 0, sizeof(*r));
	return 1;
}

int vhost_user_send(int fd, const struct vhost_user_message *m)
{
	struct iovec iov[2] = {
		{ .iov_base = (void *)&m->header, .iov_len = HEADER },
		{ .iov_base = (void *)&m->payload, .iov_len = m->header.size },
	};
	struct msghdr msg = { .msg_iov = iov, .msg_iovlen = 2 };
	ssize_t n;

	do
		n = sendmsg(fd, &msg, MSG_DONTWAIT | MSG_NOSIGNAL);
	while (n < 0 && errno == EINTR);
	if (n < 0)
		return -errno;
	return (size_t)n == HEADER + m->header.size ? 0 : -EIO;
}
