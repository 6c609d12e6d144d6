/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "policy.h"
#include <criterion/criterion.h>
#include <string.h>

#define MIB ((uint64_t)1 << 20)

static struct policy policy;
static const struct sample quiet = { .free_backed = 8 * MIB, .file = 200 * MIB };
static const struct sample refaulting = { .refaults = 1000, .file = 200 * MIB };
static const struct sample stalled = { .stalled = 0.1, .file = 200 * MIB };
static const struct sample restless = { .refaults = 100, .file = 200 * MIB };

static void start(void)
{
	policy_start(&policy);
}

/* Looks until something is taken. */
static int looks_until_reclaim(const struct sample *sample)
{
	for (int looks = 1; looks < 1000; looks++) {
		if (policy_decide(&policy, sample).bytes)
			return looks;
	}
	return 0;
}

Test(policy, takes_what_is_free_and_growing_pieces_of_cache, .init = start)
{
	uint64_t last = 0;

	for (int i = 0; i < 5; i++) {
		struct decision d = policy_decide(&policy, &quiet);

		cr_assert_gt(d.bytes, last);
		cr_assert_geq(d.bytes, quiet.free_backed);
		cr_assert(d.with_cache);
		last = d.bytes;
	}
}

Test(policy, takes_no_more_cache_than_there_is, .init = start)
{
	const struct sample little = { .file = 1 };
	const struct sample none = { 0 };

	cr_assert_eq(policy_decide(&policy, &little).bytes, 1);
	cr_assert_eq(policy_decide(&policy, &none).bytes, 0);
	cr_assert_not(policy_decide(&policy, &none).with_cache);
}

Test(policy, backs_off_from_either_sign, .init = start)
{
	for (int i = 0; i < 6; i++)
		policy_decide(&policy, &quiet);
	cr_assert_str_eq(policy_decide(&policy, &refaulting).why, "back off");
	cr_assert_eq(looks_until_reclaim(&quiet), 2);
	cr_assert_str_eq(policy_decide(&policy, &stalled).why, "back off");
	policy_decide(&policy, &stalled);
	cr_assert_gt(looks_until_reclaim(&quiet), 2, "a second time it waits longer");
}

Test(policy, has_hysteresis, .init = start)
{
	/* between the limits: neither worse nor quiet, so that nothing is taken for ever */
	policy_decide(&policy, &refaulting);
	cr_assert_eq(looks_until_reclaim(&restless), 0);
	cr_assert_neq(looks_until_reclaim(&quiet), 0);
}

Test(policy, waits_no_longer_than_its_limit_and_recovers, .init = start)
{
	int looks = 0;

	for (int i = 0; i < 100; i++)
		policy_decide(&policy, &refaulting);
	cr_assert_eq(looks_until_reclaim(&quiet), 64);
	for (int i = 0; i < 100; i++)
		looks = looks_until_reclaim(&quiet);
	cr_assert_eq(looks, 1);
}
