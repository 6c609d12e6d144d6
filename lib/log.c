/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "driver.h"
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *const level_names[] = {
	[CZONE_LOG_ERROR] = "error",
	[CZONE_LOG_WARNING] = "warning",
	[CZONE_LOG_INFO] = "info",
	[CZONE_LOG_DEBUG] = "debug",
};

static enum czone_log_level stderr_level = CZONE_LOG_WARNING;

static void log_to_stderr(enum czone_log_level level, const char *message, void *userdata)
{
	(void)userdata;
	if (level <= stderr_level)
		fprintf(stderr, "czone: %s: %s\n", level_names[level], message);
}

/* Held during a call, so that czone_set_log() returns when the former function is out of use. */
static pthread_rwlock_t lock = PTHREAD_RWLOCK_INITIALIZER;
static czone_log_fn *log_fn = log_to_stderr;
static void *log_userdata;

static void read_environment(void)
{
	const char *name = secure_getenv("CZONE_LOG");

	if (!name)
		return;
	for (int level = CZONE_LOG_ERROR; level <= CZONE_LOG_DEBUG; level++) {
		if (!strcmp(name, level_names[level])) {
			stderr_level = level;
			return;
		}
	}
	fprintf(stderr, "czone: warning: CZONE_LOG=%s is none of error, warning, info, debug\n", name);
}

void czone_log(enum czone_log_level level, const char *format, ...)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;
	int saved = errno;
	char message[4096];
	va_list args;

	pthread_once(&once, read_environment);
	pthread_rwlock_rdlock(&lock);
	if (log_fn && (log_fn != log_to_stderr || level <= stderr_level)) {
		va_start(args, format);
		vsnprintf(message, sizeof(message), format, args);
		va_end(args);
		log_fn(level, message, log_userdata);
	}
	pthread_rwlock_unlock(&lock);
	errno = saved;
}

void czone_set_log(czone_log_fn *fn, void *userdata)
{
	pthread_rwlock_wrlock(&lock);
	log_fn = fn;
	log_userdata = userdata;
	pthread_rwlock_unlock(&lock);
}
