// SPDX-License-Identifier: LGPL-2.1-or-later
#include "log_queue.h"
#include "../thread.h"
#include "../driver.h"

#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>

#define ENTRIES 64

struct entry {
	enum czone_log_level level;
	char text[240];
};

static pthread_mutex_t users_lock = PTHREAD_MUTEX_INITIALIZER;
static unsigned int users;
static pthread_t thread;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static struct entry ring[ENTRIES];
static unsigned int head, count, dropped;
static bool stop;

static void *run(void *unused)
{
	(void)unused;
	pthread_mutex_lock(&lock);
	while (count || !stop) {
		struct entry entry;
		unsigned int lost;

		if (!count) {
			pthread_cond_wait(&changed, &lock);
			continue;
		}
		entry = ring[head];
		head = (head + 1) % ENTRIES;
		count--;
		lost = dropped;
		dropped = 0;
		pthread_mutex_unlock(&lock);
		czone_log(entry.level, "%s", entry.text);
		if (lost)
			czone_log(CZONE_LOG_WARNING, "%u messages lost: too many at once", lost);
		pthread_mutex_lock(&lock);
	}
	pthread_mutex_unlock(&lock);
	return NULL;
}

int log_queue_get(void)
{
	int error = 0;

	pthread_mutex_lock(&users_lock);
	if (!users) {
		stop = false;
		error = thread_start(&thread, "czone-log", run, NULL);
	}
	if (!error)
		users++;
	pthread_mutex_unlock(&users_lock);
	return error;
}

void log_queue_put(void)
{
	pthread_mutex_lock(&users_lock);
	if (!--users) {
		pthread_mutex_lock(&lock);
		stop = true;
		pthread_cond_signal(&changed);
		pthread_mutex_unlock(&lock);
		pthread_join(thread, NULL);
	}
	pthread_mutex_unlock(&users_lock);
}

void log_later(enum czone_log_level level, const char *format, ...)
{
	va_list ap;

	pthread_mutex_lock(&lock);
	if (count == ENTRIES) {
		dropped++;
	} else {
		struct entry *entry = &ring[(head + count++) % ENTRIES];

		entry->level = level;
		va_start(ap, format);
		vsnprintf(entry->text, sizeof(entry->text), format, ap);
		va_end(ap);
		pthread_cond_signal(&changed);
	}
	pthread_mutex_unlock(&lock);
}
