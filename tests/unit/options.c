/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A struct of a release, the same of a later one, and a library in between. */
#include "options.h"
#include "driver.h"
#include <criterion/criterion.h>
#include <errno.h>
#include <string.h>

struct first {
	size_t struct_size;
	uint64_t a;
};

struct second {
	size_t struct_size;
	uint64_t a;
	uint64_t b;
};

struct third {
	size_t struct_size;
	uint64_t a;
	uint64_t b;
	uint64_t c;
};

#define LEAST sizeof(struct first)

static int in(struct second *to, const void *from)
{
	return czone_options_in(to, sizeof(*to), from, LEAST, "options");
}

Test(options, an_older_caller_leaves_new_options_at_their_defaults)
{
	struct first from = { sizeof(from), 1 };
	struct second to;

	memset(&to, 0xee, sizeof(to));
	cr_assert_eq(in(&to, &from), 0);
	cr_assert_eq(to.a, 1);
	cr_assert_eq(to.b, 0);
	cr_assert_eq(to.struct_size, sizeof(to));
}

Test(options, a_newer_caller_who_uses_nothing_new_is_served)
{
	struct third from = { sizeof(from), 1, 2, 0 };
	struct second to;

	cr_assert_eq(in(&to, &from), 0);
	cr_assert_eq(to.a, 1);
	cr_assert_eq(to.b, 2);
}

Test(options, a_newer_caller_who_uses_something_new_is_refused)
{
	struct third from = { sizeof(from), 1, 2, 3 };
	struct second to;

	cr_assert_eq(in(&to, &from), -E2BIG);
	cr_assert(strstr(czone_error_detail(), "byte 24"), "%s", czone_error_detail());
}

Test(options, a_size_that_was_never_set_is_refused)
{
	struct second from = { 0 }, to;

	cr_assert_eq(in(&to, &from), -EINVAL);
	cr_assert(strstr(czone_error_detail(), "CZONE_INIT"), "%s", czone_error_detail());
	from.struct_size = LEAST - 1;
	cr_assert_eq(in(&to, &from), -EINVAL);
	from.struct_size = SIZE_MAX;
	cr_assert_eq(in(&to, &from), -EINVAL);
	cr_assert_eq(in(&to, NULL), -EINVAL);
}

Test(options, results_for_an_older_caller_stay_inside_its_struct)
{
	struct {
		struct first results;
		uint64_t guard;
	} to = { { sizeof(to.results), 0 }, 0x55 };
	const struct second from = { 0, 1, 2 };

	cr_assert_eq(czone_results_check(&to.results, LEAST, "results"), 0);
	czone_results_out(&to.results, &from, sizeof(from));
	cr_assert_eq(to.results.a, 1);
	cr_assert_eq(to.results.struct_size, sizeof(to.results));
	cr_assert_eq(to.guard, 0x55);
}

Test(options, results_that_a_newer_caller_knows_and_we_do_not_are_unknown)
{
	struct third to = { sizeof(to), 0, 0, 0 };
	const struct second from = { 0, 1, 2 };

	czone_results_out(&to, &from, sizeof(from));
	cr_assert_eq(to.b, 2);
	cr_assert_eq(to.c, CZONE_UNKNOWN);
	cr_assert_eq(to.struct_size, sizeof(to));
}
