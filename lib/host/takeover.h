/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What another process needs to go on serving a VM when this one has died.
 *
 * It lies in a memfd. QEMU gets a duplicate of that, and one of our end of the
 * socket: so both live exactly as long as the VM, and QEMU never sees the
 * connection close. The memory's files and the eventfds it has anyway. A new
 * process finds all of them among QEMU's file descriptors, by inode or number.
 *
 * The poll thread writes it; a process can be killed between any two stores.
 * So the state has two copies, of which one is valid, and a message from QEMU
 * stays in the dialogue until it is answered: see takeover.c for the order.
 */
#ifndef LIB_HOST_TAKEOVER_H
#define LIB_HOST_TAKEOVER_H

#include "memory.h"
#include "vhost_user.h"

#include <limits.h>
#include <sys/un.h>

/* What names a descriptor in any process; all 0: nothing does. */
struct takeover_id {
	uint64_t dev, ino;	/* of a file or a socket; of an eventfd its number, and TAKEOVER_EVENTFD */
};

#define TAKEOVER_EVENTFD UINT64_MAX

struct takeover_queue {
	struct vhost_vring_addr addr;
	struct takeover_id kick, call;
	uint32_t num;
	uint16_t base;		/* while it does not run; else it is in the ring */
	uint8_t addr_set, enabled;
};

struct takeover_region {
	uint64_t start, size, user, offset;
	struct takeover_id file;
};

struct takeover_pool {
	uint64_t start, size;
};

struct takeover_state {
	uint64_t handled;	/* number of the last message that is in here */
	struct takeover_id socket;	/* our end */
	uint64_t features, protocol_features, status;
	uint16_t backing_shift, report_shift;
	uint32_t n_regions, n_pools;
	struct takeover_queue queue[VHOST_USER_QUEUES];
	struct takeover_region region[MEMORY_REGIONS_MAX];
	struct takeover_pool pool[MEMORY_POOLS_MAX];
};

/* A message without its file descriptors, as it is on the wire. */
struct takeover_message {
	struct vhost_user_header header;
	char payload[sizeof(((struct vhost_user_message *)0)->payload)];
};

struct takeover_dialogue {
	uint64_t number;		/* of this message, from 1 on */
	struct takeover_message message;
	struct takeover_id fd[VHOST_USER_FDS_MAX];	/* what came along */
	uint32_t n_fds;
	struct takeover_message taken;	/* its request is not 0: it is out of the socket */
	struct takeover_message reply;	/* its request is not 0: there is one to be sent */
	uint32_t sending, sent;
};

struct takeover_file {
	char magic[8];
	uint32_t size;		/* of this struct: also its version */
	uint32_t current;	/* which copy is valid: 0 or 1 */
	int64_t vmm;		/* QEMU's process */
	int64_t server;		/* ours ... */
	uint64_t server_start;	/* ... and since when it has run, in ticks since boot */
	char path[sizeof(((struct sockaddr_un *)0)->sun_path)];	/* of the socket: names the VM */
	struct takeover_state state[2];
	struct takeover_dialogue dialogue;
};

struct takeover {
	int fd;
	struct takeover_file *file;	/* mapped */
};

/* A new one for a device with this socket. */
int takeover_new(struct takeover *t, const char *path);

/*
 * The one of a running VM whose server has died. -ENOENT: there is no such VM;
 * -EBUSY: its server lives; -EPERM: its process is not open to us.
 */
int takeover_find(struct takeover *t, const char *path);
void takeover_close(struct takeover *t);

/* A descriptor for the VMM to hold, through which it cannot write. -1 and errno. */
int takeover_reader(const struct takeover *t);

/* What is saved is the state that this gives back, filled. */
struct takeover_state *takeover_begin_save(struct takeover *t);
void takeover_end_save(struct takeover *t);
const struct takeover_state *takeover_saved(const struct takeover *t);

/*
 * One message: begin, take it out of the socket into `taken`, handle, save the
 * state, answer. With `reply` NULL there is none.
 */
void takeover_message_begin(struct takeover *t, const struct vhost_user_message *m);
void takeover_message_handled(struct takeover *t, const struct vhost_user_message *reply);
void takeover_message_end(struct takeover *t);

/* Who asks is the server now. */
void takeover_claim(struct takeover *t);

struct takeover_id takeover_fd_id(int fd);

/* A duplicate of the descriptor with this name that a process has; -ENOENT, or why not. */
int takeover_get_fd(pid_t pid, struct takeover_id id);

#endif /* LIB_HOST_TAKEOVER_H */
