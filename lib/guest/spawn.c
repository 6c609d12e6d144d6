/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A command that is born in a cgroup. */
#include "guest.h"
#include <errno.h>
#include <fcntl.h>
#include <linux/close_range.h>
#include <linux/sched.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define KILL_LIMIT_MS 1000

/* What a child tells that does not become the command. */
struct complaint {
	int error;
	enum { STEP_FDS, STEP_DIRECTORY, STEP_COMMAND } step;
};

/* Between clone3() and execve() only what a signal handler may call: we may have had threads. */

static int give_fds(const struct czone_spawn_opts *opts)
{
	int moved[CZONE_SPAWN_FDS_MAX], n = opts->n_fds;
	int null = -1;

	/* first out of the way: one may stand in the place of another */
	for (int i = 0; i < n; i++) {
		int fd = opts->fds[i];

		if (fd < 0) {
			if (null < 0)
				null = open("/dev/null", O_RDWR | O_CLOEXEC);
			fd = null;
		}
		moved[i] = fcntl(fd, F_DUPFD_CLOEXEC, n);
		if (moved[i] < 0)
			return -errno;
	}
	for (int i = 0; i < n; i++) {
		if (dup2(moved[i], i) < 0)
			return -errno;
	}
	if (syscall(SYS_close_range, n > 3 ? n : 3, ~0U, CLOSE_RANGE_CLOEXEC) < 0)
		return -errno;
	return 0;
}

static void default_signals(void)
{
	const struct sigaction action = { .sa_handler = SIG_DFL };
	sigset_t none;

	for (int signal = 1; signal < NSIG; signal++)
		sigaction(signal, &action, NULL);	/* two of them refuse, and have it */
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
}

static _Noreturn void become(const struct czone_spawn_opts *opts, int report)
{
	struct complaint complaint = { .step = STEP_FDS };
	/* not where a descriptor of the command goes */
	int high = fcntl(report, F_DUPFD_CLOEXEC, (int)opts->n_fds);

	complaint.error = high < 0 ? -errno : 0;
	if (high >= 0)
		report = high;
	default_signals();
	if (complaint.error == 0)
		complaint.error = give_fds(opts);
	if (complaint.error == 0 && opts->directory && chdir(opts->directory) < 0) {
		complaint.step = STEP_DIRECTORY;
		complaint.error = -errno;
	}
	if (complaint.error == 0) {
		execvpe(opts->argv[0], (char *const *)opts->argv,
			opts->envp ? (char *const *)opts->envp : environ);
		complaint.step = STEP_COMMAND;
		complaint.error = -errno;
	}
	_exit(write(report, &complaint, sizeof(complaint)) < 0);
}

static int clone_into(int cgroup, int *ret_pidfd)
{
	struct clone_args args = {
		.flags = CLONE_PIDFD | (cgroup < 0 ? 0 : CLONE_INTO_CGROUP),
		.pidfd = (uintptr_t)ret_pidfd,
		.exit_signal = SIGCHLD,
		.cgroup = cgroup < 0 ? 0 : cgroup,
	};

	return syscall(SYS_clone3, &args, sizeof(args));
}

/* Until the child runs the command or has failed. 0, or a negative errno. */
static int wait_until_it_runs(int report, const struct czone_spawn_opts *opts)
{
	struct pollfd wait = { .fd = report, .events = POLLIN };
	struct complaint complaint;
	ssize_t n;
	int r;

	do
		r = poll(&wait, 1, opts->timeout_ms > INT32_MAX ? INT32_MAX : (int)opts->timeout_ms);
	while (r < 0 && errno == EINTR);
	if (r == 0)
		return czone_fail(-ETIMEDOUT, "spawn: %s does not run after %u ms", opts->argv[0],
				  opts->timeout_ms);
	n = r < 0 ? -1 : read(report, &complaint, sizeof(complaint));
	if (n < 0)
		return czone_fail(-errno, "spawn of %s: %s", opts->argv[0], strerror(errno));
	if (n == 0)		/* closed by execve() */
		return 0;
	switch (complaint.step) {
	case STEP_FDS:
		return czone_fail(complaint.error, "spawn of %s: descriptors: %s", opts->argv[0],
				  strerror(-complaint.error));
	case STEP_DIRECTORY:
		return czone_fail(complaint.error, "spawn of %s: directory %s: %s", opts->argv[0],
				  opts->directory, strerror(-complaint.error));
	default:
		return czone_fail(complaint.error, "spawn of %s: %s", opts->argv[0],
				  strerror(-complaint.error));
	}
}

/* Nobody will hear of this child. */
static void end_child(int pidfd)
{
	struct pollfd wait = { .fd = pidfd, .events = POLLIN };
	siginfo_t info;

	syscall(SYS_pidfd_send_signal, pidfd, SIGKILL, NULL, 0);
	if (poll(&wait, 1, KILL_LIMIT_MS) != 1 ||
	    waitid(P_PIDFD, pidfd, &info, WEXITED | WNOHANG) < 0)
		czone_log(CZONE_LOG_WARNING, "spawn: a child that did not become a command does not end");
	close(pidfd);
}

int spawn_in(int cgroup, const struct czone_spawn_opts *opts, int *ret_pidfd, pid_t *ret_pid)
{
	sigset_t all, old;
	int report[2], pidfd, r;
	pid_t pid;

	if (pipe2(report, O_CLOEXEC) < 0)
		return czone_fail(-errno, "spawn of %s: pipe: %s", opts->argv[0], strerror(errno));
	/* no handler of the caller's shall run in the child */
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	pid = clone_into(cgroup, &pidfd);
	if (pid == 0)
		become(opts, report[1]);
	r = pid < 0 ? -errno : 0;
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	close(report[1]);
	if (r == -EBUSY)
		czone_fail(r, "spawn of %s: its cgroup can have no tasks: it gives controllers to those below",
			   opts->argv[0]);
	else if (r < 0)
		czone_fail(r, "spawn of %s: clone3: %s", opts->argv[0], strerror(-r));
	if (r == 0) {
		r = wait_until_it_runs(report[0], opts);
		if (r < 0)
			end_child(pidfd);
	}
	close(report[0]);
	if (r < 0)
		return r;
	*ret_pidfd = pidfd;
	*ret_pid = pid;
	return 0;
}
