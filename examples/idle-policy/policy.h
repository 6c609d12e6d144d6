/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* When to take how much from an idle container: a decision, and nothing else. */
#ifndef IDLE_POLICY_POLICY_H
#define IDLE_POLICY_POLICY_H

#include <stdint.h>

/* What was seen of a container since the last look. */
struct sample {
	double stalled;		/* share of the time in which some task waited for memory */
	double refaults;	/* pages a second that were dropped and are wanted again */
	uint64_t free_backed;	/* bytes */
	uint64_t file;		/* bytes of file cache in its zone */
};

struct policy {
	uint64_t step;		/* bytes of file cache to take next, besides what is free */
	unsigned int wait;	/* looks that have to be quiet before that */
	unsigned int quiet;	/* that have been */
};

/* What to do. */
struct decision {
	uint64_t bytes;		/* to reclaim; 0: nothing now */
	int with_cache;		/* also file cache */
	const char *why;	/* a word or two for people */
};

void policy_start(struct policy *policy);
struct decision policy_decide(struct policy *policy, const struct sample *sample);

#endif /* IDLE_POLICY_POLICY_H */
