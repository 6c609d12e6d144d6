// SPDX-License-Identifier: GPL-2.0-only
/*
 * czone: zones that give idle memory back by themselves.
 *
 * What has been free and backed for a whole period, less a floor, goes to the
 * host. The zone is looked at a few times per period, and the least that was
 * seen counts: memory that is freed and used again in between stays. A sign that
 * the zone needs its memory begins the period anew.
 *
 * One zone at a time, in small batches, and never where another operation is
 * under way: the slots and the host's time belong to whoever waits for them.
 */
#include <linux/jiffies.h>
#include <linux/minmax.h>
#include <linux/mutex.h>
#include <linux/sizes.h>
#include <linux/workqueue.h>

#include "internal.h"
#include "czone_internal.h"

#define CZONE_IDLE_LOOKS	8	/* per period, after the one that begins it */
#define CZONE_IDLE_BATCH	(SZ_16M >> PAGE_SHIFT)
#define CZONE_IDLE_BATCH_MS	200	/* for one batch, the host's answer included */
#define CZONE_IDLE_NEAR_FULL	16	/* with less than this part free */
#define CZONE_IDLE_GROWN	64	/* by more than this part, from one look to the next */

static struct workqueue_struct *czone_idle_wq;

static int __init czone_idle_init(void)
{
	/* Ordered: see above. */
	czone_idle_wq = alloc_ordered_workqueue("czone_idle", 0);
	return czone_idle_wq ? 0 : -ENOMEM;
}
subsys_initcall(czone_idle_init);

static void czone_idle_sample(struct czone *cz, struct czone_idle_sample *sample)
{
	struct czone_account account;

	czone_account(cz, &account);
	sample->size = account.size;
	sample->free = account.backed + account.unbacked;
	sample->free_backed = account.backed;
	sample->backed = atomic_long_read(&cz->nr_backed);
	sample->pressure = atomic_long_read(&cz->nr_slow) + atomic_long_read(&cz->nr_spilled);
}

/* Does the zone need its memory? */
static bool czone_idle_disturbed(const struct czone_idle_sample *last,
				 const struct czone_idle_sample *now)
{
	return now->pressure != last->pressure ||
	       now->free < now->size / CZONE_IDLE_NEAR_FULL ||
	       now->backed > last->backed + now->size / CZONE_IDLE_GROWN;
}

/**
 * czone_idle_judge - how many free, backed pages have been idle for a period
 * @idle: what is known from earlier looks, updated
 * @now: how the zone stands
 *
 * Return: 0 within a period, and while the zone needs its memory.
 */
unsigned long czone_idle_judge(struct czone_idle *idle, const struct czone_idle_sample *now)
{
	bool disturbed = czone_idle_disturbed(&idle->last, now);
	unsigned long floor = PHYS_PFN(idle->floor), low = min(idle->low, now->free_backed);

	idle->last = *now;
	if (!disturbed && ++idle->looks < CZONE_IDLE_LOOKS) {
		idle->low = low;
		return 0;
	}
	/* The look that ends a period begins the next one. */
	idle->looks = 0;
	idle->low = now->free_backed;
	return disturbed || low < floor ? 0 : low - floor;
}

/* Returns how many pages the host has taken, 0 to stop. */
static unsigned long czone_idle_give_batch(struct czone *cz, unsigned long nr)
{
	u64 result[__CZONE_RESULT_MAX] = {};
	struct czone_request *req;
	unsigned long left = nr;
	int ret = -EBUSY;

	req = czone_request_alloc(CZONE_IDLE_BATCH_MS);
	if (!req)
		return 0;
	if (mutex_trylock(&cz->mutex)) {
		ret = czone_give_pages(req, cz, &left);
		mutex_unlock(&cz->mutex);
		wake_up_all(&cz->wait);
	}
	/* What the host has not answered in time comes back by itself. */
	return czone_request_finish(req, result) || ret ? 0 : nr - left;
}

static void czone_idle_give(struct czone *cz, unsigned long surplus)
{
	struct czone_idle_sample now;
	unsigned long given;

	drain_all_pages(&cz->zone);
	while (surplus) {
		given = czone_idle_give_batch(cz, min(surplus, CZONE_IDLE_BATCH));
		surplus -= min(surplus, given);
		czone_idle_sample(cz, &now);
		if (!given || czone_idle_disturbed(&cz->idle.last, &now))
			break;
		cz->idle.last = now;
	}
	czone_idle_sample(cz, &cz->idle.last);
	cz->idle.low = cz->idle.last.free_backed;
}

static void czone_idle_queue(struct czone_idle *idle)
{
	unsigned long interval = msecs_to_jiffies(idle->delay_ms) / CZONE_IDLE_LOOKS;

	queue_delayed_work(czone_idle_wq, &idle->work, max(interval, 1UL));
}

static void czone_idle_look(struct work_struct *work)
{
	struct czone_idle *idle = container_of(work, struct czone_idle, work.work);
	struct czone *cz = container_of(idle, struct czone, idle);
	struct czone_idle_sample now;
	unsigned long surplus;

	czone_idle_sample(cz, &now);
	surplus = czone_idle_judge(idle, &now);
	if (surplus && czone_have_transport())
		czone_idle_give(cz, surplus);
	czone_idle_queue(idle);
}

void czone_idle_prepare(struct czone *cz)
{
	INIT_DELAYED_WORK(&cz->idle.work, czone_idle_look);
	cz->idle.delay_ms = 0;
	cz->idle.floor = 0;
}

/* Under cz->mutex, for which the work does not wait. */
void czone_idle_stop(struct czone *cz)
{
	cancel_delayed_work_sync(&cz->idle.work);
	cz->idle.delay_ms = 0;
	cz->idle.floor = 0;
}

/**
 * czone_set_idle - let a zone give idle memory back by itself, or not any more
 * @id: the zone
 * @delay_ms: memory that was free for so long goes to the host; 0 is off
 * @floor: free bytes with memory behind them that stay
 *
 * It is off in a new zone. What becomes idle is gone after one to two delays.
 *
 * Return: 0; -EINVAL: the delay is too long, or there is a floor without one;
 * -ENOENT; -EBUSY: another operation on the zone is under way.
 */
int czone_set_idle(u32 id, u32 delay_ms, u64 floor)
{
	struct czone *cz;

	if (delay_ms > CZONE_IDLE_DELAY_MAX_MS || (!delay_ms && floor))
		return -EINVAL;
	cz = czone_get_locked(id, czone_deadline(0));
	if (IS_ERR(cz))
		return PTR_ERR(cz);

	czone_idle_stop(cz);
	if (delay_ms) {
		WRITE_ONCE(cz->idle.delay_ms, delay_ms);
		WRITE_ONCE(cz->idle.floor, floor);
		czone_idle_sample(cz, &cz->idle.last);
		cz->idle.low = cz->idle.last.free_backed;
		cz->idle.looks = 0;
		czone_idle_queue(&cz->idle);
	}
	czone_put_locked(cz);
	return 0;
}
EXPORT_SYMBOL_GPL(czone_set_idle);
