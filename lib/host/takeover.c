// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * The order of one message, and what a new process finds when we are killed:
 *
 *	begin		the message and the names of its fds are noted
 *	take		recvmsg() itself writes `taken`: then, and only then, it has
 *			left the socket. Before: the new process reads it. After: it
 *			handles the note.
 *	handle, save	the copy with `handled` = its number becomes the valid one,
 *			with the answer in `reply`
 *	send		`sending` before, `sent` after. In between only QEMU knows
 *			whether it has got the answer: see reply_is_due() in adopt.c
 */
#include "takeover.h"
#include "../driver.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define MAGIC "czone-1"
#define NAME "czone-takeover"
#define LINK "/memfd:" NAME " (deleted)"

#ifndef __NR_pidfd_getfd
#define __NR_pidfd_getfd 438
#endif

/* All stores before this are in memory before those after it: another process looks. */
static void in_order(void)
{
	atomic_thread_fence(memory_order_seq_cst);
}

/* When a process began, in ticks since boot; 0: there is none. */
static uint64_t process_start(pid_t pid)
{
	unsigned long long start = 0;
	char path[40], line[1024], *p = NULL;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
	f = fopen(path, "re");
	if (!f)
		return 0;
	if (fgets(line, sizeof(line), f))
		p = strrchr(line, ')');		/* its name may have blanks in it */
	fclose(f);
	if (!p || sscanf(p + 1, " %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %*u %*u %*d %*d %*d %*d %*d %*d %llu",
			 &start) != 1 || p[2] == 'Z')
		return 0;
	return start;
}

struct takeover_id takeover_fd_id(int fd)
{
	struct takeover_id id = { 0 };
	unsigned long long number = 0;
	char path[40], line[128];
	struct stat st;
	FILE *f;

	if (fd < 0 || fstat(fd, &st))
		return id;
	if (S_ISREG(st.st_mode) || S_ISSOCK(st.st_mode))
		return (struct takeover_id){ st.st_dev, st.st_ino };
	snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", fd);
	f = fopen(path, "re");
	while (f && fgets(line, sizeof(line), f))
		if (sscanf(line, "eventfd-id: %llu", &number) == 1)
			id = (struct takeover_id){ TAKEOVER_EVENTFD, number };
	if (f)
		fclose(f);
	return id;
}

static int get_fd(pid_t pid, int number)
{
	int pidfd = syscall(SYS_pidfd_open, pid, 0), fd;

	if (pidfd < 0)
		return -errno;
	fd = syscall(__NR_pidfd_getfd, pidfd, number, 0);
	if (fd < 0)
		fd = -errno;
	close(pidfd);
	return fd;
}

/* Is this descriptor of the process the one? Returns a duplicate, -ENOENT, or why not. */
typedef int match_fn(pid_t pid, int number, const char *link, const void *wanted);

static int each_fd(pid_t pid, match_fn *match, const void *wanted)
{
	char path[64], link[PATH_MAX];
	int result = -ENOENT;
	struct dirent *entry;
	DIR *dir;

	snprintf(path, sizeof(path), "/proc/%d/fd", (int)pid);
	dir = opendir(path);
	if (!dir)
		return errno == EACCES ? -EPERM : -errno;
	while (result == -ENOENT && (entry = readdir(dir))) {
		ssize_t n = readlinkat(dirfd(dir), entry->d_name, link, sizeof(link) - 1);

		if (n <= 0)
			continue;
		link[n] = 0;
		result = match(pid, atoi(entry->d_name), link, wanted);
	}
	closedir(dir);
	return result;
}

static int match_id(pid_t pid, int number, const char *link, const void *wanted)
{
	const struct takeover_id *id = wanted;
	struct takeover_id found;
	int fd;

	if ((id->dev == TAKEOVER_EVENTFD) != !strcmp(link, "anon_inode:[eventfd]"))
		return -ENOENT;
	fd = get_fd(pid, number);
	if (fd < 0)
		return fd == -EBADF ? -ENOENT : fd;
	found = takeover_fd_id(fd);
	if (found.dev == id->dev && found.ino == id->ino)
		return fd;
	close(fd);
	return -ENOENT;
}

int takeover_get_fd(pid_t pid, struct takeover_id id)
{
	return id.ino ? each_fd(pid, match_id, &id) : -ENOENT;
}

static int map(struct takeover *t, int fd)
{
	void *p = mmap(NULL, sizeof(*t->file), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

	if (p == MAP_FAILED)
		return -errno;
	t->fd = fd;
	t->file = p;
	return 0;
}

void takeover_claim(struct takeover *t)
{
	t->file->server_start = 0;
	in_order();
	t->file->server = getpid();
	t->file->server_start = process_start(getpid());
}

int takeover_new(struct takeover *t, const char *path)
{
	int fd = memfd_create(NAME, MFD_CLOEXEC | MFD_ALLOW_SEALING), error;

	if (fd < 0)
		return -errno;
	/* QEMU holds it, maybe as another user: it shall not reopen it */
	if (fchmod(fd, 0600) || ftruncate(fd, sizeof(*t->file)) || fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW))
		error = -errno;
	else
		error = map(t, fd);
	if (error) {
		close(fd);
		return error;
	}
	memcpy(t->file->magic, MAGIC, sizeof(MAGIC));
	t->file->size = sizeof(*t->file);
	snprintf(t->file->path, sizeof(t->file->path), "%s", path);
	takeover_claim(t);
	return 0;
}

void takeover_close(struct takeover *t)
{
	if (!t->file)
		return;
	munmap(t->file, sizeof(*t->file));
	close(t->fd);
	t->file = NULL;
	t->fd = -1;
}

/* Another description of the same file. Returns -1 and errno. */
static int reopen(int fd, int flags)
{
	char path[40];

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	return open(path, flags | O_CLOEXEC);
}

int takeover_reader(const struct takeover *t)
{
	return reopen(t->fd, O_RDONLY);
}

/* A process with a file for this path: a descriptor of it. */
static int match_file(pid_t pid, int number, const char *link, const void *path)
{
	const int seals = F_SEAL_SHRINK | F_SEAL_GROW;
	struct takeover t = { .fd = -1 };
	struct stat st;
	int fd, readable;

	if (strcmp(link, LINK))
		return -ENOENT;
	readable = get_fd(pid, number);
	if (readable < 0)
		return readable == -EBADF ? -ENOENT : readable;
	fd = reopen(readable, O_RDWR);
	close(readable);
	if (fd < 0)
		return -ENOENT;		/* another user's */
	/*
	 * It names processes and files that we then take descriptors of. So whoever
	 * made it has to be us: nobody else can make a file of this user.
	 */
	if (!fstat(fd, &st) && st.st_size == sizeof(*t.file) && st.st_uid == geteuid() &&
	    (fcntl(fd, F_GET_SEALS) & seals) == seals && !map(&t, fd)) {
		bool found = !memcmp(t.file->magic, MAGIC, sizeof(MAGIC)) &&
			     t.file->size == sizeof(*t.file) &&
			     !strncmp(t.file->path, path, sizeof(t.file->path));

		munmap(t.file, sizeof(*t.file));
		if (found)
			return fd;
	}
	close(fd);
	return -ENOENT;
}

int takeover_find(struct takeover *t, const char *path)
{
	DIR *proc = opendir("/proc");
	int fd = -ENOENT, refused = 0, error;
	struct dirent *entry;

	if (!proc)
		return czone_fail(-errno, "/proc: %s", strerror(errno));
	while (fd < 0 && (entry = readdir(proc))) {
		pid_t pid = atoi(entry->d_name);

		if (pid <= 0 || pid == getpid())
			continue;
		fd = each_fd(pid, match_file, path);
		/* a process that holds such a file, but keeps it from us */
		if (fd == -EPERM && !access("/proc/self/fd", R_OK))
			refused = pid;
	}
	closedir(proc);
	if (fd < 0 && refused)
		return czone_fail(-EPERM, "%s: no process that is open to us serves it; process %d is not (another user's, or /proc/sys/kernel/yama/ptrace_scope above 0: run as that user with CAP_SYS_PTRACE)",
				  path, refused);
	if (fd < 0)
		return czone_fail(-ENOENT, "%s: no VM runs that was started with it", path);
	error = map(t, fd);
	if (error) {
		close(fd);
		return czone_fail(error, "the state of %s cannot be mapped: %s", path,
				  strerror(-error));
	}
	if (t->file->server_start &&
	    process_start(t->file->server) == t->file->server_start) {
		error = czone_fail(-EBUSY, "process %d serves %s", (int)t->file->server, path);
		takeover_close(t);
	}
	return error;
}

const struct takeover_state *takeover_saved(const struct takeover *t)
{
	return &t->file->state[t->file->current & 1];
}

struct takeover_state *takeover_begin_save(struct takeover *t)
{
	struct takeover_state *next = &t->file->state[!(t->file->current & 1)];

	memset(next, 0, sizeof(*next));
	next->handled = takeover_saved(t)->handled;
	return next;
}

void takeover_end_save(struct takeover *t)
{
	in_order();
	t->file->current = !(t->file->current & 1);
	in_order();
}

static void note(struct takeover_message *to, const struct vhost_user_message *m)
{
	memset(to, 0, sizeof(*to));
	memcpy(to->payload, &m->payload, sizeof(to->payload));
	to->header = m->header;
}

void takeover_message_begin(struct takeover *t, const struct vhost_user_message *m)
{
	struct takeover_dialogue *d = &t->file->dialogue;

	/* a torn note of a message that is still in the socket does no harm */
	memset(&d->taken, 0, sizeof(d->taken));
	memset(&d->reply, 0, sizeof(d->reply));
	d->sending = d->sent = 0;
	note(&d->message, m);
	d->n_fds = m->n_fds;
	for (unsigned int i = 0; i < m->n_fds; i++)
		d->fd[i] = takeover_fd_id(m->fd[i]);
	d->number = takeover_saved(t)->handled + 1;
	in_order();
}

void takeover_message_handled(struct takeover *t, const struct vhost_user_message *reply)
{
	if (reply)
		note(&t->file->dialogue.reply, reply);
}

void takeover_message_end(struct takeover *t)
{
	in_order();
	t->file->dialogue.sent = 1;
}
