/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* vhost-user messages on a stream socket, without ever waiting for it. */
#ifndef LIB_HOST_VHOST_USER_SOCKET_H
#define LIB_HOST_VHOST_USER_SOCKET_H

#include "vhost_user.h"

/* A message that is still coming in. Start with zeroes. */
struct vhost_user_reader {
	struct vhost_user_message message;
	size_t have;		/* bytes of header and payload so far */
	uint64_t skip;		/* bytes of an oversized payload still to be thrown away */
};

/*
 * 1: *ret is a message; 0: nothing more to read now; -ENOTCONN: the other side
 * has gone. A payload longer than any that we know is thrown away, so that the
 * message comes out with none.
 */
int vhost_user_receive(int fd, struct vhost_user_reader *reader, struct vhost_user_message *ret);

/*
 * Look at the next message without taking it out: 1 if all of it is there, 0 if
 * not, or if it is one that vhost_user_receive() has to make sense of. *ret gets
 * duplicates of its file descriptors.
 */
int vhost_user_peek(int fd, struct vhost_user_message *ret);

/* Take the message of `size` bytes out that was looked at, into `to`. */
int vhost_user_take(int fd, void *to, size_t size);

/* Close what a half-read message has brought. */
void vhost_user_reader_drop(struct vhost_user_reader *reader);

int vhost_user_send(int fd, const struct vhost_user_message *message);

#endif /* LIB_HOST_VHOST_USER_SOCKET_H */
