// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * libvirt has no time limit for what it asks QEMU. So a thread asks, and who
 * waits for it may go away; the thread ends with the answer, or with QEMU.
 */
#include "monitor.h"
#include "../driver.h"
#include "../thread.h"

#include <errno.h>
#include <fcntl.h>
#include <libvirt/libvirt-qemu.h>
#include <libvirt/virterror.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct question {
	pthread_mutex_t lock;
	pthread_cond_t answered;
	unsigned int users;	/* who waits, and the thread */
	bool done;
	virDomainPtr domain;
	char *command;
	int fd;
	char *answer;		/* NULL: libvirt failed, and says why */
	char *reason;
};

static void put(struct question *q)
{
	bool last;

	pthread_mutex_lock(&q->lock);
	last = !--q->users;
	pthread_mutex_unlock(&q->lock);
	if (!last)
		return;
	virDomainFree(q->domain);
	if (q->fd >= 0)
		close(q->fd);
	pthread_cond_destroy(&q->answered);
	pthread_mutex_destroy(&q->lock);
	free(q->command);
	free(q->answer);
	free(q->reason);
	free(q);
}

static void *ask(void *argument)
{
	struct question *q = argument;
	char *answer = NULL, *reason = NULL;
	int failed;

	if (q->fd >= 0)
		failed = virDomainQemuMonitorCommandWithFiles(q->domain, q->command, 1, &q->fd, NULL,
							      NULL, &answer, 0);
	else
		failed = virDomainQemuMonitorCommand(q->domain, q->command, &answer, 0);
	if (failed < 0) {
		virErrorPtr e = virGetLastError();

		free(answer);
		answer = NULL;
		reason = strdup(e && e->message ? e->message : "no reason given");
	}
	pthread_mutex_lock(&q->lock);
	q->answer = answer;
	q->reason = reason;
	q->done = true;
	pthread_cond_signal(&q->answered);
	pthread_mutex_unlock(&q->lock);
	put(q);
	return NULL;
}

static char *question_text(const char *command, json_t *arguments)
{
	json_t *question = arguments ? json_pack("{s:s,s:o}", "execute", command, "arguments", arguments)
				     : json_pack("{s:s}", "execute", command);
	char *text = question ? json_dumps(question, JSON_COMPACT) : NULL;

	json_decref(question);
	return text;
}

static struct question *question_new(virDomainPtr domain, char *text, int fd)
{
	struct question *q = calloc(1, sizeof(*q));

	if (!q || !text || virDomainRef(domain) < 0) {
		free(text);
		free(q);
		return NULL;
	}
	pthread_mutex_init(&q->lock, NULL);
	cond_init(&q->answered);
	q->users = 1;
	q->domain = domain;
	q->command = text;
	q->fd = fd < 0 ? -1 : fcntl(fd, F_DUPFD_CLOEXEC, 0);
	return q;
}

/* 0 when there is something that libvirt has said. */
static int wait_for(struct question *q, uint32_t timeout_ms)
{
	struct timespec until = at_ms(now_ms() + timeout_ms);
	pthread_t thread;
	int error;

	q->users++;
	error = thread_start(&thread, "czone-monitor", ask, q);
	if (error) {
		q->users--;
		return czone_fail(error, "a thread for QEMU's monitor does not start: %s",
				  strerror(-error));
	}
	pthread_detach(thread);
	pthread_mutex_lock(&q->lock);
	while (!q->done && error != ETIMEDOUT)
		error = pthread_cond_timedwait(&q->answered, &q->lock, &until);
	error = q->done ? 0 : -ETIMEDOUT;
	pthread_mutex_unlock(&q->lock);
	if (error)
		czone_fail(error, "QEMU has not answered its monitor for %u ms", timeout_ms);
	return error;
}

int monitor_ask(virDomainPtr domain, const char *command, json_t *arguments, int fd,
		uint32_t timeout_ms, json_t **ret_answer)
{
	struct question *q = question_new(domain, question_text(command, arguments), fd);
	int error;

	if (!q)
		return czone_fail(-ENOMEM, "no memory for a command to QEMU");
	if (fd >= 0 && q->fd < 0)
		error = czone_fail(-errno, "no file descriptor for a command to QEMU");
	else
		error = wait_for(q, timeout_ms);
	if (!error && q->reason) {
		error = czone_fail(-EIO, "%s through QEMU's monitor: libvirt says: %s", command,
				   q->reason);
	} else if (!error) {
		*ret_answer = json_loads(q->answer, 0, NULL);
		if (!*ret_answer)
			error = czone_fail(-EPROTO, "%s: QEMU's answer makes no sense: %.200s",
					   command, q->answer);
	}
	put(q);
	return error;
}

const char *monitor_error(const json_t *answer)
{
	const json_t *error = json_object_get(answer, "error");
	const char *text = json_string_value(json_object_get(error, "desc"));

	if (!error)
		return NULL;
	return text ? text : "no reason given";
}
