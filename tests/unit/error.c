/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "driver.h"
#include <criterion/criterion.h>
#include <ctype.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

static int errno_of(const char *name)
{
	for (int e = 1; e < 200; e++) {
		const char *known = strerrorname_np(e);

		if (known && !strcmp(known, name))
			return e;
	}
	return 0;
}

Test(error, every_errno_in_the_header_has_words_of_its_own)
{
	FILE *header = fopen(CZONE_HEADER, "r");
	char line[1024], name[32];
	int found = 0;

	cr_assert_not_null(header, "%s: %s", CZONE_HEADER, strerror(errno));
	while (fgets(line, sizeof(line), header)) {
		for (char *p = line; (p = strstr(p, "-E")); p += 2) {
			int n = 0, e;

			while (n < 31 && (isupper(p[1 + n]) || isdigit(p[1 + n]))) {
				name[n] = p[1 + n];
				n++;
			}
			name[n] = 0;
			if (n < 4)
				continue;
			e = errno_of(name);
			cr_assert_neq(e, 0, "%s in the header is no errno", name);
			cr_assert_str_neq(czone_strerror(-e), "unknown error", "%s", name);
			cr_assert_str_neq(czone_strerror(-e), strerrordesc_np(e),
					  "%s has only the system's words", name);
			found++;
		}
	}
	fclose(header);
	cr_assert(found > 15, "only %d in %s", found, CZONE_HEADER);
}

Test(error, any_other_errno_has_the_system_s_words)
{
	cr_assert_str_eq(czone_strerror(-EXDEV), strerrordesc_np(EXDEV));
	cr_assert_str_eq(czone_strerror(-EINTR), strerrordesc_np(EINTR));
}

Test(error, strerror_never_returns_null)
{
	const int odd[] = { 0, 1, EINVAL, INT_MAX, INT_MIN, -100000, -4095, -134 };

	for (size_t i = 0; i < sizeof(odd) / sizeof(*odd); i++)
		cr_assert_not_null(czone_strerror(odd[i]), "%d", odd[i]);
	cr_assert_str_eq(czone_strerror(0), "success");
	cr_assert_str_eq(czone_strerror(INT_MIN), "unknown error");
	cr_assert_str_eq(czone_strerror(1), "unknown error");
}

Test(error, detail_is_empty_before_a_failure)
{
	cr_assert_str_empty(czone_error_detail());
}

Test(error, fail_returns_the_error_and_keeps_errno)
{
	errno = EXDEV;
	cr_assert_eq(czone_fail(-EBUSY, "zone %d", 7), -EBUSY);
	cr_assert_eq(errno, EXDEV);
	cr_assert_str_eq(czone_error_detail(), "zone 7");
}

Test(error, a_detail_that_is_too_long_is_cut)
{
	char text[5000];

	memset(text, 'x', sizeof(text) - 1);
	text[sizeof(text) - 1] = 0;
	czone_fail(-EINVAL, "%s", text);
	cr_assert_gt(strlen(czone_error_detail()), 1000);
	cr_assert_lt(strlen(czone_error_detail()), sizeof(text) - 1);
}

static void *fail_elsewhere(void *ret_empty)
{
	*(bool *)ret_empty = !*czone_error_detail();
	czone_fail(-EINVAL, "elsewhere");
	return NULL;
}

Test(error, every_thread_has_its_own_detail)
{
	bool empty = false;
	pthread_t thread;

	czone_fail(-EINVAL, "here");
	cr_assert_eq(pthread_create(&thread, NULL, fail_elsewhere, &empty), 0);
	pthread_join(thread, NULL);
	cr_assert(empty);
	cr_assert_str_eq(czone_error_detail(), "here");
}
