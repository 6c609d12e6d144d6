// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * container: the least that can be called one. Own cgroup, own mount, PID, UTS,
 * IPC and network namespaces, a read-only root file system with a tmpfs on /tmp
 * and a directory of the scratch disk on /data.
 *
 *   container create NAME            makes the cgroup /c/NAME
 *   container start NAME CMD ARG...  starts a command in it, prints its PID
 *   container stop NAME              kills all of it, waits until it is gone
 *   container remove NAME            deletes its files and its cgroup
 *
 * The command is born in its cgroup (clone3), so its first page already comes
 * from the zone that the cgroup has.
 */
#include <errno.h>
#include <err.h>
#include <fcntl.h>
#include <ftw.h>
#include <linux/sched.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define CGROUPS "/sys/fs/cgroup/c"
#define STOP_TIMEOUT_MS 20000

static const char *name;

static const char *path(const char *format)
{
	static char buffer[4][256];
	static unsigned int next;
	char *p = buffer[next++ % 4];

	if (snprintf(p, sizeof(buffer[0]), format, name) >= (int)sizeof(buffer[0]))
		errx(2, "name too long: %s", name);
	return p;
}

static void make_dir(const char *p)
{
	if (mkdir(p, 0755) && errno != EEXIST)
		err(2, "mkdir %s", p);
}

static void must_mount(const char *what, const char *where, const char *type, unsigned long flags,
		       const char *data)
{
	if (mount(what, where, type, flags, data))
		err(2, "mount %s on %s", what, where);
}

/* The devices that everything expects, from the VM's own /dev. */
static void devices(void)
{
	static const char *const device[] = { "null", "zero", "full", "random", "urandom" };
	char from[64], to[512];

	must_mount("tmpfs", path("/run/c/%s/dev"), "tmpfs", MS_NOSUID | MS_NOEXEC, "mode=755,size=64k");
	for (size_t i = 0; i < sizeof(device) / sizeof(*device); i++) {
		snprintf(from, sizeof(from), "/dev/%s", device[i]);
		snprintf(to, sizeof(to), "%s/%s", path("/run/c/%s/dev"), device[i]);
		close(open(to, O_WRONLY | O_CREAT | O_CLOEXEC, 0666));
		must_mount(from, to, NULL, MS_BIND, NULL);
	}
}

static void enter(char **argv)
{
	char root[256];
	int log, null = open("/dev/null", O_RDONLY | O_CLOEXEC);

	log = open(path("/run/c/%s.log"), O_WRONLY | O_CREAT | O_TRUNC | O_APPEND, 0644);
	if (log < 0 || null < 0)
		err(2, "log of %s", name);
	strcpy(root, path("/run/c/%s"));
	must_mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL);
	must_mount("/images/root", root, NULL, MS_BIND, NULL);
	must_mount("tmpfs", path("/run/c/%s/tmp"), "tmpfs", MS_NOSUID | MS_NODEV, "size=100%");
	must_mount("proc", path("/run/c/%s/proc"), "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL);
	devices();
	if (!access("/scratch/lost+found", F_OK))
		must_mount(path("/scratch/%s"), path("/run/c/%s/data"), NULL, MS_BIND, NULL);
	/* an initramfs cannot be pivoted away from */
	if (chdir(root) || mount(root, "/", NULL, MS_MOVE, NULL) || chroot(".") || chdir("/"))
		err(2, "root file system %s", root);
	if (sethostname(name, strlen(name)))
		err(2, "hostname");
	setsid();
	if (dup2(null, 0) < 0 || dup2(log, 1) < 0 || dup2(log, 2) < 0)
		err(2, "stdio");
	clearenv();
	setenv("PATH", "/bin", 1);
	execvp(argv[0], argv);
	err(127, "%s", argv[0]);
}

static void start(char **argv)
{
	struct clone_args args = {
		.flags = CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWNET |
			 CLONE_INTO_CGROUP,
		.exit_signal = SIGCHLD,
	};
	int cgroup = open(path(CGROUPS "/%s"), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	int started[2], status;
	char none;
	long pid;

	if (cgroup < 0 || pipe2(started, O_CLOEXEC))
		err(2, "cgroup of %s", name);
	make_dir("/run/c");
	make_dir(path("/run/c/%s"));
	if (!access("/scratch/lost+found", F_OK))
		make_dir(path("/scratch/%s"));
	args.cgroup = cgroup;
	pid = syscall(SYS_clone3, &args, sizeof(args));
	if (pid < 0)
		err(2, "clone3");
	if (!pid)
		enter(argv);
	/* the pipe closes when the command runs, or when the child has failed */
	close(started[1]);
	if (read(started[0], &none, 1) || waitpid(pid, &status, WNOHANG) == pid)
		errx(2, "%s did not start", name);
	printf("%ld\n", pid);
}

static int populated(void)
{
	char text[256] = "";
	int fd = open(path(CGROUPS "/%s/cgroup.events"), O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		err(2, "cgroup of %s", name);
	if (read(fd, text, sizeof(text) - 1) < 0)
		err(2, "cgroup.events of %s", name);
	close(fd);
	return !strstr(text, "populated 0");
}

static void stop(void)
{
	struct timespec pause = { .tv_nsec = 2000000 };
	int fd = open(path(CGROUPS "/%s/cgroup.kill"), O_WRONLY | O_CLOEXEC);

	if (fd < 0 || write(fd, "1", 1) != 1)
		err(2, "killing %s", name);
	close(fd);
	for (int waited = 0; populated(); waited += 2) {
		if (waited >= STOP_TIMEOUT_MS)
			errx(2, "%s still has tasks %d ms after being killed", name, STOP_TIMEOUT_MS);
		nanosleep(&pause, NULL);
	}
}

static int delete(const char *p, const struct stat *st, int type, struct FTW *ftw)
{
	(void)st, (void)type, (void)ftw;
	return remove(p);
}

int main(int argc, char **argv)
{
	if (argc < 3)
		errx(2, "usage: container create|start|stop|remove NAME [COMMAND ARG...]");
	name = argv[2];
	if (!*name || strchr(name, '/') || *name == '.')
		errx(2, "not a container's name: %s", name);
	if (!strcmp(argv[1], "create")) {
		if (mkdir(path(CGROUPS "/%s"), 0755))
			err(2, "cgroup of %s", name);
	} else if (!strcmp(argv[1], "start") && argc > 3) {
		start(argv + 3);
	} else if (!strcmp(argv[1], "stop")) {
		stop();
	} else if (!strcmp(argv[1], "remove")) {
		nftw(path("/scratch/%s"), delete, 8, FTW_DEPTH | FTW_PHYS);
		rmdir(path("/run/c/%s"));
		unlink(path("/run/c/%s.log"));
		if (rmdir(path(CGROUPS "/%s")))
			err(2, "removing the cgroup of %s", name);
	} else {
		errx(2, "unknown command: %s", argv[1]);
	}
	return 0;
}
