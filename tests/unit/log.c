/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "driver.h"
#include <criterion/criterion.h>
#include <criterion/redirect.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct seen {
	int count;
	enum czone_log_level level;
	char message[128];
};

static void see(enum czone_log_level level, const char *message, void *userdata)
{
	struct seen *seen = userdata;

	seen->count++;
	seen->level = level;
	snprintf(seen->message, sizeof(seen->message), "%s", message);
}

Test(log, a_callback_gets_every_level_with_its_userdata)
{
	struct seen seen = { 0 };

	czone_set_log(see, &seen);
	errno = EXDEV;
	czone_log(CZONE_LOG_DEBUG, "number %d", 3);
	cr_assert_eq(errno, EXDEV);
	cr_assert_eq(seen.count, 1);
	cr_assert_eq(seen.level, CZONE_LOG_DEBUG);
	cr_assert_str_eq(seen.message, "number 3");
}

static void all_levels(void)
{
	fflush(stderr);
	czone_log(CZONE_LOG_ERROR, "one");
	czone_log(CZONE_LOG_WARNING, "two");
	czone_log(CZONE_LOG_INFO, "three");
	czone_log(CZONE_LOG_DEBUG, "four");
	fflush(stderr);
}

static void redirect(void)
{
	cr_redirect_stderr();
}

Test(log, without_a_callback_errors_and_warnings_go_to_stderr, .init = redirect)
{
	unsetenv("CZONE_LOG");
	all_levels();
	cr_assert_stderr_eq_str("czone: error: one\nczone: warning: two\n");
}

Test(log, the_environment_asks_for_more, .init = redirect)
{
	setenv("CZONE_LOG", "info", 1);
	all_levels();
	cr_assert_stderr_eq_str("czone: error: one\nczone: warning: two\nczone: info: three\n");
}

Test(log, a_level_that_does_not_exist_is_told_of, .init = redirect)
{
	setenv("CZONE_LOG", "loud", 1);
	czone_log(CZONE_LOG_ERROR, "one");
	fflush(stderr);
	cr_assert_stderr_eq_str("czone: warning: CZONE_LOG=loud is none of error, warning, info, debug\n"
				"czone: error: one\n");
}

Test(log, null_is_nowhere, .init = redirect)
{
	czone_set_log(NULL, NULL);
	all_levels();
	fputs("end\n", stderr);
	fflush(stderr);
	cr_assert_stderr_eq_str("end\n");
}

struct slow {
	atomic_int entered, left;
};

static void slow_log(enum czone_log_level level, const char *message, void *userdata)
{
	struct slow *slow = userdata;

	(void)level;
	(void)message;
	slow->entered = 1;
	usleep(50000);
	slow->left = 1;
}

static void *log_once(void *unused)
{
	(void)unused;
	czone_log(CZONE_LOG_ERROR, "slow");
	return NULL;
}

Test(log, a_callback_is_out_of_use_once_it_is_replaced)
{
	struct slow slow = { 0 };
	pthread_t thread;

	czone_set_log(slow_log, &slow);
	cr_assert_eq(pthread_create(&thread, NULL, log_once, NULL), 0);
	while (!slow.entered)
		usleep(100);
	czone_set_log(NULL, NULL);
	cr_assert(slow.left);
	pthread_join(thread, NULL);
}
