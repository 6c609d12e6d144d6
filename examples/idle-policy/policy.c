/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "policy.h"

#define MIB ((uint64_t)1 << 20)

/*
 * Two limits for each sign, so that a container that hovers about one does not
 * go to and fro: above the upper one we have taken too much; only below the
 * lower one a look counts as quiet.
 */
#define STALLED_HIGH 0.02
#define STALLED_LOW 0.002
#define REFAULTS_HIGH 200.0
#define REFAULTS_LOW 20.0

#define STEP_MIN (1 * MIB)
#define STEP_MAX (64 * MIB)
#define WAIT_MIN 1
#define WAIT_MAX 64

void policy_start(struct policy *policy)
{
	*policy = (struct policy) { .step = STEP_MIN, .wait = WAIT_MIN };
}

struct decision policy_decide(struct policy *policy, const struct sample *sample)
{
	struct decision decision = { 0 };

	if (sample->stalled > STALLED_HIGH || sample->refaults > REFAULTS_HIGH) {
		/* it hurts: take much less next time, and much later */
		policy->step = policy->step / 4 > STEP_MIN ? policy->step / 4 : STEP_MIN;
		policy->wait = policy->wait * 2 < WAIT_MAX ? policy->wait * 2 : WAIT_MAX;
		policy->quiet = 0;
		decision.why = "back off";
		return decision;
	}
	if (sample->stalled > STALLED_LOW || sample->refaults > REFAULTS_LOW) {
		policy->quiet = 0;
		decision.why = "not quiet";
		return decision;
	}
	if (++policy->quiet < policy->wait) {
		decision.why = "wait";
		return decision;
	}
	/* nobody waits for what is free, and cache goes in growing pieces as long as nobody misses it */
	policy->quiet = 0;
	policy->wait = policy->wait > WAIT_MIN ? policy->wait - 1 : WAIT_MIN;
	decision.bytes = sample->free_backed;
	decision.why = "reclaim";
	if (sample->file) {
		decision.bytes += policy->step < sample->file ? policy->step : sample->file;
		decision.with_cache = 1;
		policy->step = policy->step * 2 < STEP_MAX ? policy->step * 2 : STEP_MAX;
	}
	if (!decision.bytes)
		decision.why = "nothing left";
	return decision;
}
