/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A driver that keeps zones in a table and says what it was asked, to test what
 * the public calls do before and after they ask one.
 */
#ifndef TESTS_UNIT_FAKE_H
#define TESTS_UNIT_FAKE_H

#include "driver.h"

#define FAKE_ZONES 64

struct fake {
	pthread_mutex_t lock;
	uint64_t size[FAKE_ZONES + 1];	/* of zone i, 0: none */
	uint32_t last_id;		/* ids rise, and begin again at the end */
	int extents;			/* of each zone */
	bool closed;

	/* what the next calls of this kind return, 0: do it */
	int attach_error, destroy_error, reclaim_error, stats_error, next_error, idle_error;
	uint32_t next_answer;		/* always this one, right or wrong; 0: the right one */

	/* what was asked last */
	int destroys, reclaims;
	uint64_t bytes;
	uint32_t flags, attach_flags, file_zone, timeout_ms, delay_ms;
	char path[1000];
	struct czone_spawn_opts spawn;
};

extern const struct czone_driver fake_driver;		/* as a guest: list, spawn, no host figures; no set_idle */
extern const struct czone_driver fake_host_driver;	/* as a host: next, resident, host_stats */

/* A VM on this fake, which the caller owns. */
czone_vm *fake_vm(struct fake *fake, const struct czone_driver *driver);

#endif /* TESTS_UNIT_FAKE_H */
