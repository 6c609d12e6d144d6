/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Capabilities of this process, cgroups of this system. */
#include "guest/guest.h"
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/capability.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

/* ---- capabilities; every test is a process of its own */

static void set_caps(bool permitted, bool effective)
{
	const cap_value_t cap = CAP_SYS_ADMIN;
	cap_t caps = cap_get_proc();

	if (!permitted)
		cap_set_flag(caps, CAP_PERMITTED, 1, &cap, CAP_CLEAR);
	cap_set_flag(caps, CAP_EFFECTIVE, 1, &cap, effective ? CAP_SET : CAP_CLEAR);
	cr_assert_eq(cap_set_proc(caps), 0, "%s", strerror(errno));
	cap_free(caps);
}

static bool has(cap_flag_t flag)
{
	cap_flag_value_t value = CAP_CLEAR;
	cap_t caps = cap_get_proc();

	cap_get_flag(caps, CAP_SYS_ADMIN, flag, &value);
	cap_free(caps);
	return value == CAP_SET;
}

Test(caps, without_the_capability_the_call_is_refused_by_its_name)
{
	bool raised;

	set_caps(false, false);
	cr_assert_eq(caps_raise(&raised), -EPERM);
	cr_assert_not(raised);
	cr_assert(strstr(czone_error_detail(), "CAP_SYS_ADMIN"), "%s", czone_error_detail());
}

Test(caps, a_permitted_one_is_effective_during_the_call_only)
{
	bool raised;

	if (!has(CAP_PERMITTED))
		cr_skip_test("needs CAP_SYS_ADMIN");
	set_caps(true, false);
	cr_assert_eq(caps_raise(&raised), 0);
	cr_assert(raised);
	cr_assert(has(CAP_EFFECTIVE));
	caps_lower(raised);
	cr_assert_not(has(CAP_EFFECTIVE));
	cr_assert(has(CAP_PERMITTED));
}

Test(caps, an_effective_one_stays)
{
	bool raised;

	if (!has(CAP_EFFECTIVE))
		cr_skip_test("needs CAP_SYS_ADMIN");
	cr_assert_eq(caps_raise(&raised), 0);
	cr_assert_not(raised);
	caps_lower(raised);
	cr_assert(has(CAP_EFFECTIVE));
}

/* ---- the mount of cgroup v2 */

static int find_in(const char *text, char *path, size_t size)
{
	char name[] = "/tmp/czone-mountinfo-XXXXXX";
	int fd = mkstemp(name), r;

	cr_assert_geq(fd, 0, "%s: %s", name, strerror(errno));
	cr_assert_eq(write(fd, text, strlen(text)), (ssize_t)strlen(text));
	close(fd);
	r = cgroup_find_mount(name, path, size);
	unlink(name);
	return r;
}

#define OTHER_MOUNTS								\
	"22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw\n"		\
	"30 22 0:26 / /sys/fs/cgroup ro,nosuid - tmpfs tmpfs ro\n"		\
	"31 30 0:27 / /sys/fs/cgroup/memory rw shared:9 master:2 - cgroup cgroup rw,memory\n"

Test(mount, is_found_among_others)
{
	char path[PATH_MAX];

	cr_assert_eq(find_in(OTHER_MOUNTS "32 30 0:28 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n",
			     path, sizeof(path)), 0, "%s", czone_error_detail());
	cr_assert_str_eq(path, "/sys/fs/cgroup/unified");
}

Test(mount, may_have_optional_fields_and_an_escaped_path)
{
	char path[PATH_MAX];

	cr_assert_eq(find_in("32 30 0:28 / /mnt/a\\040b\\134c rw shared:9 master:2 - cgroup2 none rw\n",
			     path, sizeof(path)), 0);
	cr_assert_str_eq(path, "/mnt/a b\\c");
}

Test(mount, of_a_part_of_the_hierarchy_will_not_do)
{
	char path[PATH_MAX];

	cr_assert_eq(find_in("32 30 0:28 /pods /mnt rw - cgroup2 none rw\n", path, sizeof(path)),
		     -EOPNOTSUPP);
	cr_assert(strstr(czone_error_detail(), "root of its hierarchy"), "%s", czone_error_detail());
	cr_assert_eq(find_in("32 30 0:28 /pods /mnt rw - cgroup2 none rw\n"
			     "33 30 0:28 / /all rw - cgroup2 none rw\n", path, sizeof(path)), 0);
	cr_assert_str_eq(path, "/all");
}

Test(mount, that_is_missing_is_told_of)
{
	char path[PATH_MAX];

	cr_assert_eq(find_in(OTHER_MOUNTS, path, sizeof(path)), -EOPNOTSUPP);
	cr_assert(strstr(czone_error_detail(), "mount -t cgroup2"), "%s", czone_error_detail());
	cr_assert_eq(cgroup_find_mount("/nonexistent/mountinfo", path, sizeof(path)), -ENOENT);
	cr_assert(strstr(czone_error_detail(), "/nonexistent/mountinfo"), "%s", czone_error_detail());
}

Test(mount, lines_cut_short_do_no_harm)
{
	const char *line = "32 30 0:28 / /mnt rw - cgroup2 none rw\n";
	char path[PATH_MAX], cut[64];

	for (size_t n = 0; n < strlen(line); n++) {
		int r;

		snprintf(cut, sizeof(cut), "%.*s", (int)n, line);
		r = find_in(cut, path, sizeof(path));
		cr_assert(r == 0 || r == -EOPNOTSUPP, "\"%s\": %d", cut, r);
	}
	cr_assert_eq(find_in(" - cgroup2 x\n", path, sizeof(path)), -EOPNOTSUPP);
}

/* ---- cgroups */

static char directory[PATH_MAX];

static void make_directory(void)
{
	strcpy(directory, "/tmp/czone-cgroup-XXXXXX");
	cr_assert_not_null(mkdtemp(directory), "%s", strerror(errno));
}

static void remove_directory(void)
{
	char command[PATH_MAX + 16];

	snprintf(command, sizeof(command), "rm -r %s", directory);
	cr_assert_eq(system(command), 0);
}

Test(cgroup, that_is_not_there_is_named, .init = make_directory, .fini = remove_directory)
{
	cr_assert_eq(cgroup_open(directory, "/pods/a"), -ENOENT);
	cr_assert(strstr(czone_error_detail(), "/pods/a"), "%s", czone_error_detail());
	cr_assert(strstr(czone_error_detail(), directory), "%s", czone_error_detail());
}

Test(cgroup, is_not_just_any_directory, .init = make_directory, .fini = remove_directory)
{
	cr_assert_eq(cgroup_open(directory, "/"), -EOPNOTSUPP);
	cr_assert(strstr(czone_error_detail(), "not in cgroup v2"), "%s", czone_error_detail());
}

Test(cgroup, is_below_the_mount_whatever_links_say, .init = make_directory, .fini = remove_directory)
{
	char name[PATH_MAX + 16];

	snprintf(name, sizeof(name), "%s/out", directory);
	cr_assert_eq(symlink("/sys/fs/cgroup", name), 0);
	cr_assert_eq(cgroup_open(directory, "/out"), -EXDEV, "%s", czone_error_detail());
	snprintf(name, sizeof(name), "%s/file", directory);
	close(open(name, O_CREAT | O_WRONLY, 0600));
	cr_assert_eq(cgroup_open(directory, "/file"), -ENOTDIR, "%s", czone_error_detail());
}

Test(cgroup, of_this_system_is_opened_or_lacks_the_memory_controller)
{
	char mount[PATH_MAX], path[PATH_MAX + 32], controllers[1024] = "";
	FILE *file;
	int fd;

	if (cgroup_find_mount("/proc/self/mountinfo", mount, sizeof(mount)) < 0)
		cr_skip_test("no cgroup v2 here");
	snprintf(path, sizeof(path), "%s/cgroup.controllers", mount);
	file = fopen(path, "r");
	cr_assert_not_null(file, "%s: %s", path, strerror(errno));
	if (fgets(controllers, sizeof(controllers), file) == NULL)
		controllers[0] = 0;
	fclose(file);
	fd = cgroup_open(mount, "/");
	if (strstr(controllers, "memory")) {
		cr_assert_geq(fd, 0, "%s", czone_error_detail());
		close(fd);
	} else {
		cr_assert_eq(fd, -EOPNOTSUPP);
		cr_assert(strstr(czone_error_detail(), "subtree_control"), "%s", czone_error_detail());
	}
}

/* ---- a cgroup by its id, and commands in it */

/* A cgroup v2 of our own, as far as this system lets us. */
static int own_cgroup(char *ret_mount, char *ret_path, size_t size)
{
	char directory[PATH_MAX];

	if (cgroup_find_mount("/proc/self/mountinfo", ret_mount, size) < 0)
		return -1;
	snprintf(ret_path, size, "/czone-unit-%d", getpid());
	snprintf(directory, sizeof(directory), "%s%s", ret_mount, ret_path);
	return mkdir(directory, 0755);
}

Test(cgroup, is_found_by_its_id)
{
	char mount[PATH_MAX / 2], path[PATH_MAX / 2], directory[PATH_MAX], below[PATH_MAX + 8];
	struct stat st, found;
	int fd;

	if (own_cgroup(mount, path, sizeof(mount)) < 0)
		cr_skip_test("no cgroup can be made here");
	snprintf(directory, sizeof(directory), "%s%s", mount, path);
	snprintf(below, sizeof(below), "%s/below", directory);
	cr_assert_eq(mkdir(below, 0755), 0);
	cr_assert_eq(stat(below, &st), 0);
	fd = cgroup_open_id(mount, st.st_ino, NULL);
	cr_assert_geq(fd, 0, "%s", czone_error_detail());
	cr_assert_eq(fstat(fd, &found), 0);
	cr_assert_eq(found.st_ino, st.st_ino);
	close(fd);
	cr_assert_eq(rmdir(below), 0);
	fd = cgroup_open_id(mount, st.st_ino, NULL);
	cr_assert_eq(rmdir(directory), 0);
	cr_assert_eq(fd, -ENOENT);
	cr_assert(strstr(czone_error_detail(), mount), "%s", czone_error_detail());
	cr_assert_eq(cgroup_open_id("/nonexistent", 1, NULL), -ENOENT);
}

static int end_of(int pidfd)
{
	siginfo_t info = { 0 };

	cr_assert_eq(waitid(P_PIDFD, pidfd, &info, WEXITED), 0, "%s", strerror(errno));
	close(pidfd);
	return info.si_code == CLD_EXITED ? info.si_status : -info.si_status;
}

static int run(int cgroup, struct czone_spawn_opts *opts)
{
	int pidfd, r;
	pid_t pid;

	opts->timeout_ms = 10000;
	r = spawn_in(cgroup, opts, &pidfd, &pid);
	return r < 0 ? r : end_of(pidfd);
}

Test(spawn, gives_the_command_what_it_was_told)
{
	const char *argv[] = { "sh", "-c", "read x <&4; test \"$x $A $PWD\" = 'hello b /proc'", NULL };
	const char *envp[] = { "A=b", "PATH=/bin:/usr/bin", NULL };
	struct czone_spawn_opts opts = CZONE_INIT(opts);
	int to[2];

	cr_assert_eq(pipe2(to, O_CLOEXEC), 0);
	cr_assert_eq(write(to[1], "hello\n", 6), 6);
	opts.argv = argv;
	opts.envp = envp;
	opts.directory = "/proc";
	opts.fds = (int []) { -1, 2, 1, to[1], to[0] };		/* some in the place of others */
	opts.n_fds = 5;
	cr_assert_eq(run(-1, &opts), 0, "%s", czone_error_detail());
}

Test(spawn, begins_with_signals_and_descriptors_in_order)
{
	const char *argv[] = { "sh", "-c",
		"grep -q 'SigBlk:.0000000000000000' /proc/self/status || exit 2;"
		"grep -q 'SigIgn:.0000000000000000' /proc/self/status || exit 3;"
		"test ! -e /proc/self/fd/9 || exit 4; kill -TERM $$", NULL };
	struct czone_spawn_opts opts = CZONE_INIT(opts);
	sigset_t all, now;

	sigfillset(&all);
	sigprocmask(SIG_SETMASK, &all, NULL);
	signal(SIGTERM, SIG_IGN);
	cr_assert_eq(dup2(2, 9), 9);
	opts.argv = argv;
	cr_assert_eq(run(-1, &opts), -SIGTERM, "%s", czone_error_detail());
	sigprocmask(SIG_SETMASK, NULL, &now);
	cr_assert(sigismember(&now, SIGTERM), "the caller's mask is another now");
}

Test(spawn, says_why_nothing_runs_and_leaves_no_child)
{
	struct czone_spawn_opts opts = CZONE_INIT(opts);
	const char *argv[] = { "/nonexistent/command", NULL };

	opts.argv = argv;
	cr_assert_eq(run(-1, &opts), -ENOENT);
	cr_assert(strstr(czone_error_detail(), "/nonexistent/command"));
	argv[0] = "/etc/passwd";
	cr_assert_eq(run(-1, &opts), -EACCES);
	argv[0] = "true";
	opts.directory = "/nonexistent/directory";
	cr_assert_eq(run(-1, &opts), -ENOENT);
	cr_assert(strstr(czone_error_detail(), "/nonexistent/directory"));
	opts.directory = NULL;
	opts.fds = (int []) { 1000 };
	opts.n_fds = 1;
	cr_assert_eq(run(-1, &opts), -EBADF);
	cr_assert(strstr(czone_error_detail(), "descriptors"));
	opts.fds = NULL;
	opts.n_fds = 0;
	cr_assert_eq(run(1000, &opts), -EBADF);
	cr_assert(strstr(czone_error_detail(), "clone3"));
	errno = 0;
	cr_assert_eq(waitpid(-1, NULL, WNOHANG), -1);
	cr_assert_eq(errno, ECHILD);
}

/* The cgroup's last task is gone a little later than its parent knows. */
static void remove_cgroup(const char *directory)
{
	for (int i = 0; i < 100 && rmdir(directory) < 0 && errno == EBUSY; i++)
		usleep(10000);
	cr_assert_neq(access(directory, F_OK), 0);
}

Test(spawn, lets_the_command_be_born_in_the_cgroup)
{
	char mount[PATH_MAX / 2], path[PATH_MAX / 2], directory[PATH_MAX], grep[PATH_MAX];
	struct czone_spawn_opts opts = CZONE_INIT(opts);
	const char *argv[] = { "sh", "-c", grep, NULL };
	int cgroup, r;

	if (own_cgroup(mount, path, sizeof(mount)) < 0)
		cr_skip_test("no cgroup can be made here");
	snprintf(directory, sizeof(directory), "%s%s", mount, path);
	snprintf(grep, sizeof(grep), "grep -q '^0::.*%s$' /proc/self/cgroup", path);
	cgroup = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	opts.argv = argv;
	r = run(cgroup, &opts);
	close(cgroup);
	remove_cgroup(directory);
	cr_assert_eq(r, 0, "%d: %s", r, czone_error_detail());
}

/* In a frozen cgroup no child comes as far as its execve(). */
Test(spawn, waits_no_longer_than_told)
{
	char mount[PATH_MAX / 2], path[PATH_MAX / 2], directory[PATH_MAX];
	struct czone_spawn_opts opts = CZONE_INIT(opts);
	const char *argv[] = { "true", NULL };
	int cgroup, freeze, pidfd, r;
	pid_t pid;

	if (own_cgroup(mount, path, sizeof(mount)) < 0)
		cr_skip_test("no cgroup can be made here");
	snprintf(directory, sizeof(directory), "%s%s", mount, path);
	cgroup = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	freeze = openat(cgroup, "cgroup.freeze", O_WRONLY | O_CLOEXEC);
	cr_assert_eq(write(freeze, "1", 1), 1);
	close(freeze);
	opts.argv = argv;
	opts.timeout_ms = 50;
	r = spawn_in(cgroup, &opts, &pidfd, &pid);
	close(cgroup);
	cr_assert_eq(waitpid(-1, NULL, WNOHANG), -1);
	remove_cgroup(directory);
	cr_assert_eq(r, -ETIMEDOUT, "%d: %s", r, czone_error_detail());
}
