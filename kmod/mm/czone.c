// SPDX-License-Identifier: GPL-2.0-only
/*
 * czone: per-container memory zones that are made and removed while the system
 * runs. See Documentation in the project's docs/kernel.md.
 *
 * This file knows which zones there are, whose they are, and how they begin and
 * end.
 */
#include <linux/bitmap.h>
#include <linux/cgroup.h>
#include <linux/jiffies.h>
#include <linux/kref.h>
#include <linux/memcontrol.h>
#include <linux/memory_hotplug.h>
#include <linux/page-isolation.h>
#include <linux/printk.h>
#include <linux/rcupdate.h>
#include <linux/sched.h>
#include <linux/slab.h>
#include <linux/swap.h>
#include <linux/vmstat.h>
#include <linux/xarray.h>

#include "internal.h"
#include "czone_internal.h"

#define CZONE_REMOVE_TRIES	3
#define CZONE_SHRINK_MARGIN	32	/* thereof one part stays free */

/* By id; changed under czone_lock. A reserved entry: the id is not to be had yet. */
static DEFINE_XARRAY_FLAGS(czones, XA_FLAGS_ALLOC1 | XA_FLAGS_LOCK_IRQ);
static unsigned int czone_count;

static LIST_HEAD(czone_spares);		/* structs that nothing refers to */
static DEFINE_SPINLOCK(czone_spares_lock);

/* Ties czone->memcg and mem_cgroup->czone. */
static DEFINE_SPINLOCK(czone_memcg_lock);

/*
 * Life and death of a struct czone
 */
static struct czone *czone_alloc(void)
{
	struct czone *cz;
	unsigned long flags;

	spin_lock_irqsave(&czone_spares_lock, flags);
	cz = list_first_entry_or_null(&czone_spares, struct czone, list);
	if (cz)
		list_del(&cz->list);
	spin_unlock_irqrestore(&czone_spares_lock, flags);

	if (!cz) {
		cz = kvzalloc(sizeof(*cz), GFP_KERNEL);
		if (!cz)
			return NULL;
		if (czone_zone_init(cz, czone_pool.nid)) {
			kvfree(cz);
			return NULL;
		}
		mutex_init(&cz->mutex);
		init_waitqueue_head(&cz->wait);
		czone_idle_prepare(cz);
	}

	czone_zone_reset(cz);
	kref_init(&cz->ref);
	INIT_LIST_HEAD(&cz->list);
	cz->dead = false;
	cz->closing = false;
	cz->host_slow = false;
	cz->flags = 0;
	cz->file_zone = NULL;
	atomic_long_set(&cz->nr_backed, 0);
	atomic_long_set(&cz->nr_spilled, 0);
	atomic_long_set(&cz->nr_slow, 0);
	cz->full_told = jiffies - HZ;
	atomic64_set(&cz->returned, 0);
	return cz;
}

static void czone_recycle(struct rcu_head *rcu)
{
	struct czone *cz = container_of(rcu, struct czone, rcu);
	unsigned long flags;

	spin_lock_irqsave(&czone_spares_lock, flags);
	list_add(&cz->list, &czone_spares);
	spin_unlock_irqrestore(&czone_spares_lock, flags);
}

/*
 * The last reference is gone, from any context. An allocation that was routed
 * to this zone may have been preempted before it looked at its free lists: wait
 * until every task has gone to sleep once, or run in user mode. That covers
 * readers of the list as well.
 */
static void czone_release(struct kref *ref)
{
	struct czone *cz = container_of(ref, struct czone, ref);

	unsigned long flags;

	if (cz->id) {
		xa_lock_irqsave(&czones, flags);
		__xa_erase(&czones, cz->id);
		xa_unlock_irqrestore(&czones, flags);
	}
	/* It has none of its own, so this is no recursion. */
	if (cz->file_zone)
		czone_put(cz->file_zone);
	call_rcu_tasks(&cz->rcu, czone_recycle);
}

void czone_put(struct czone *cz)
{
	kref_put(&cz->ref, czone_release);
}

/* The first zone with an id above @id. Under czone_lock, or RCU. */
struct czone *czone_after(u32 id)
{
	unsigned long index = id;

	return xa_find_after(&czones, &index, ULONG_MAX, XA_PRESENT);
}

struct czone *czone_get(u32 id)
{
	struct czone *cz;

	mutex_lock(&czone_lock);
	cz = xa_load(&czones, id);
	if (cz)
		kref_get(&cz->ref);
	mutex_unlock(&czone_lock);
	return cz;
}

void czone_put_locked(struct czone *cz)
{
	mutex_unlock(&cz->mutex);
	wake_up_all(&cz->wait);
	czone_put(cz);
}

/*
 * A reference and the mutex. -ENOENT: there is no such zone (any more). -EBUSY:
 * another operation was under way until @deadline. -ERESTARTSYS: killed.
 */
struct czone *czone_get_locked(u32 id, unsigned long deadline)
{
	struct czone *cz = czone_get(id);
	long ret;

	if (!cz)
		return ERR_PTR(-ENOENT);
	ret = wait_event_killable_timeout(cz->wait, mutex_trylock(&cz->mutex),
					  max(0L, (long)(deadline - jiffies)));
	if (ret <= 0) {
		czone_put(cz);
		return ERR_PTR(ret ?: -EBUSY);
	}
	if (cz->dead) {
		czone_put_locked(cz);
		return ERR_PTR(-ENOENT);
	}
	return cz;
}

unsigned long czone_deadline(unsigned int timeout_ms)
{
	timeout_ms = min(timeout_ms ?: CZONE_TIMEOUT_MS, CZONE_TIMEOUT_MAX_MS);
	return jiffies + msecs_to_jiffies(timeout_ms);
}

/**
 * czone_next - walk over all zones
 * @after: an id, 0 to begin with
 *
 * Return: the smallest id above @after, or 0.
 */
u32 czone_next(u32 after)
{
	struct czone *cz;
	u32 id;

	mutex_lock(&czone_lock);
	cz = czone_after(after);
	id = cz ? cz->id : 0;
	mutex_unlock(&czone_lock);
	return id;
}
EXPORT_SYMBOL_GPL(czone_next);

/*
 * The zone after @prev, or the first, with a reference; the one on @prev is
 * dropped. For walks that sleep.
 */
struct zone *czone_next_zone(struct zone *prev)
{
	struct czone *last = prev ? zone_to_czone(prev) : NULL;
	struct czone *cz;

	mutex_lock(&czone_lock);
	cz = czone_after(last ? last->id : 0);
	if (cz)
		kref_get(&cz->ref);
	mutex_unlock(&czone_lock);
	if (last)
		czone_put(last);
	return cz ? &cz->zone : NULL;
}

static int czone_blocks(u64 size, unsigned long *nr)
{
	if (!size || !IS_ALIGNED(size, CZONE_BLOCK_SIZE))
		return -EINVAL;
	*nr = size >> CZONE_BLOCK_SHIFT;
	return 0;
}

/* Let @cz put the cache of read-only file systems into zone @id. */
static int czone_set_file_zone(struct czone *cz, u32 id)
{
	struct czone *file_zone;

	if (!id)
		return 0;
	file_zone = xa_load(&czones, id);
	if (!file_zone)
		return -ENOENT;
	/* One step: what is shared lies where everybody says that it does. */
	if (file_zone->file_zone)
		return -EINVAL;
	kref_get(&file_zone->ref);
	cz->file_zone = file_zone;
	return 0;
}

/**
 * czone_create - make a zone
 * @size: a multiple of CZONE_BLOCK_SIZE
 * @flags: CZONE_CREATE_*
 * @file_zone: the zone for the page cache of read-only file systems, 0: this one
 * @ret_id: gets its id
 *
 * Return: 0, -ENODEV: there is no region, -ENOSPC: not that much is left of it,
 * -ENOENT: there is no @file_zone, -EINVAL: @file_zone shares that of another.
 */
int czone_create(u64 size, u32 flags, u32 file_zone, u32 *ret_id)
{
	unsigned long nr;
	struct czone *cz;
	u32 id;
	int ret;

	ret = czone_blocks(size, &nr);
	if (ret || flags & ~CZONE_CREATE_SPILL)
		return -EINVAL;

	mutex_lock(&czone_lock);
	if (!czone_pool.nr_blocks) {
		ret = -ENODEV;
		goto unlock;
	}
	cz = czone_alloc();
	if (!cz) {
		ret = -ENOMEM;
		goto unlock;
	}
	cz->id = 0;
	ret = xa_alloc_irq(&czones, &id, NULL, XA_LIMIT(1, CZONE_ID_MAX), GFP_KERNEL);
	if (ret) {
		ret = ret == -EBUSY ? -ENOSPC : ret;
		goto put;
	}
	cz->id = id;
	cz->flags = flags;
	snprintf(cz->name, sizeof(cz->name), "czone%u", cz->id);

	ret = czone_set_file_zone(cz, file_zone) ?: czone_add_blocks(cz, nr);
	if (ret)
		goto put;
	/* In the place that was reserved: this needs no memory. */
	xa_store_irq(&czones, cz->id, cz, GFP_KERNEL);
	czone_count++;
	*ret_id = cz->id;
	goto unlock;
put:
	czone_put(cz);
unlock:
	mutex_unlock(&czone_lock);
	return ret;
}
EXPORT_SYMBOL_GPL(czone_create);

/*
 * Cgroups
 *
 * A zone belongs to one memory cgroup and serves it and everything below it. The
 * pointers are read without a lock: a memcg lives until a grace period after its
 * last use, a struct czone for ever, and a request that finds a zone which is
 * about to go turns round in the slow path.
 */
void czone_memcg_online(struct mem_cgroup *memcg)
{
	struct mem_cgroup *parent = parent_mem_cgroup(memcg);

	if (!parent)
		return;
	spin_lock(&czone_memcg_lock);
	WRITE_ONCE(memcg->czone, parent->czone);
	spin_unlock(&czone_memcg_lock);
}

void czone_memcg_offline(struct mem_cgroup *memcg)
{
	spin_lock(&czone_memcg_lock);
	/* The zone stays, with nobody to serve. */
	if (memcg->czone && memcg->czone->memcg == memcg)
		WRITE_ONCE(memcg->czone->memcg, NULL);
	WRITE_ONCE(memcg->czone, NULL);
	spin_unlock(&czone_memcg_lock);
}

struct mem_cgroup *czone_get_memcg(struct czone *cz)
{
	struct mem_cgroup *memcg;

	rcu_read_lock();
	memcg = READ_ONCE(cz->memcg);
	if (memcg && !css_tryget(&memcg->css))
		memcg = NULL;
	rcu_read_unlock();
	return memcg;
}

static struct mem_cgroup *czone_next_memcg(struct mem_cgroup *root, struct mem_cgroup *prev)
{
	struct cgroup_subsys_state *css;

	css = css_next_descendant_pre(prev ? &prev->css : NULL, &root->css);
	return css ? mem_cgroup_from_css(css) : NULL;
}

static int czone_tie(struct czone *cz, struct mem_cgroup *root)
{
	struct mem_cgroup *memcg;
	int ret = 0;

	spin_lock(&czone_memcg_lock);
	rcu_read_lock();
	if (cz->memcg) {
		ret = cz->memcg == root ? -EEXIST : -EBUSY;
		goto unlock;
	}
	/* Nor may a zone be above or below another. */
	for (memcg = root; memcg; memcg = czone_next_memcg(root, memcg)) {
		if (memcg->czone) {
			ret = -EEXIST;
			goto unlock;
		}
	}
	WRITE_ONCE(cz->memcg, root);
	/* What is going offline has had, or is about to have, its pointer cleared. */
	for (memcg = root; memcg; memcg = czone_next_memcg(root, memcg))
		if (!css_is_dying(&memcg->css))
			WRITE_ONCE(memcg->czone, cz);
unlock:
	rcu_read_unlock();
	spin_unlock(&czone_memcg_lock);
	return ret;
}

static void czone_untie(struct czone *cz)
{
	struct mem_cgroup *memcg;

	spin_lock(&czone_memcg_lock);
	rcu_read_lock();
	for (memcg = cz->memcg; memcg; memcg = czone_next_memcg(cz->memcg, memcg))
		if (memcg->czone == cz)
			WRITE_ONCE(memcg->czone, NULL);
	WRITE_ONCE(cz->memcg, NULL);
	rcu_read_unlock();
	spin_unlock(&czone_memcg_lock);
}

/**
 * czone_attach - user pages of a cgroup come from a zone from now on
 * @id: the zone
 * @cgrp: the cgroup, and all below it
 * @flags: CZONE_ATTACH_*
 * @timeout_ms: until when, 0 is the default
 * @result: what was moved and what was not, indexed by enum czone_result
 *
 * With CZONE_ATTACH_MIGRATE the pages that are charged to the cgroup by now
 * move into the zone; a zone that has this cgroup already takes in what has
 * come to lie elsewhere since.
 *
 * Return: 0.
 * -EBUSY: the zone has another cgroup, or another operation is under way.
 * -EEXIST: the cgroup has a zone.
 * -EOPNOTSUPP: the memory controller is not enabled for this cgroup.
 * -ENOSPC, -ETIMEDOUT: the cgroup is attached, but not all pages have been
 * moved, because the zone is full or the time was over.
 */
int czone_attach(u32 id, struct cgroup *cgrp, u32 flags, unsigned int timeout_ms,
		 u64 result[__CZONE_RESULT_MAX])
{
	unsigned long deadline = czone_deadline(timeout_ms);
	struct cgroup_subsys_state *css;
	struct mem_cgroup *memcg;
	struct czone *cz;
	int ret;

	memset(result, 0, sizeof(u64) * __CZONE_RESULT_MAX);
	if (flags & ~CZONE_ATTACH_MIGRATE)
		return -EINVAL;
	cz = czone_get_locked(id, deadline);
	if (IS_ERR(cz))
		return PTR_ERR(cz);

	css = cgroup_get_e_css(cgrp, &memory_cgrp_subsys);
	if (!css) {
		ret = -EOPNOTSUPP;
	} else if (css->cgroup != cgrp) {
		pr_debug("czone: no memory controller in the cgroup for zone %u\n", id);
		ret = -EOPNOTSUPP;
	} else if (mem_cgroup_is_root(mem_cgroup_from_css(css))) {
		ret = -EINVAL;
	} else if (css_is_dying(css)) {
		ret = -ENOENT;
	} else {
		memcg = mem_cgroup_from_css(css);
		ret = czone_tie(cz, memcg);
		/* Going offline at the same time: its hook may have run before us. */
		if (!ret && css_is_dying(css)) {
			czone_untie(cz);
			ret = -ENOENT;
		}
		if (flags & CZONE_ATTACH_MIGRATE &&
		    (!ret || (ret == -EEXIST && READ_ONCE(cz->memcg) == memcg)))
			ret = czone_move_in(cz, deadline, result);
	}
	if (css)
		css_put(css);
	czone_put_locked(cz);
	return ret;
}
EXPORT_SYMBOL_GPL(czone_attach);

static bool czone_has_tasks(struct czone *cz)
{
	bool populated;

	spin_lock(&czone_memcg_lock);
	populated = cz->memcg && cgroup_is_populated(cz->memcg->css.cgroup);
	spin_unlock(&czone_memcg_lock);
	return populated;
}

/*
 * From now on no request is served but those in their fast path right now.
 * Returns false, and nothing has changed, if there are tasks and no @force.
 */
static bool czone_close(struct czone *cz, bool force)
{
	if (!force && czone_has_tasks(cz))
		return false;
	WRITE_ONCE(cz->closing, true);
	/* Pairs with __czone_slowpath_begin(). */
	smp_mb();
	/* Who came meanwhile has no page here yet, and is not to be evicted. */
	if (!force && czone_has_tasks(cz)) {
		WRITE_ONCE(cz->closing, false);
		return false;
	}
	czone_untie(cz);
	wake_up_all(&cz->wait);
	return true;
}

/*
 * Removal
 */

/* All memory in the zone is free and at home, as far as it could be arranged. */
static void czone_empty(struct czone *cz, struct czone_request *req, u64 *result)
{
	unsigned long deadline = czone_request_deadline(req);

	wait_event_killable_timeout(cz->wait,
				    !atomic_read(&cz->users) && !READ_ONCE(cz->nr_isolated),
				    max(0L, (long)(deadline - jiffies)));
	if (!czone_all_free(&cz->zone))
		czone_evacuate(cz, cz->zone.zone_start_pfn, zone_end_pfn(&cz->zone), deadline,
			       result);
}

/*
 * Blocks that are no longer the zone's go to the host. They come after
 * czone_empty(): nobody who sleeps is still looking at their struct pages.
 */
static void czone_remove_blocks(struct czone *cz, struct czone_request *req,
				const struct czone_blocks *taken)
{
	unsigned long backed;

	mutex_lock(&czone_lock);
	backed = czone_drop_blocks(cz, taken);
	mutex_unlock(&czone_lock);

	czone_give_blocks(req, cz, taken, backed);
}

static int czone_destroy_locked(struct czone *cz, struct czone_request *req, bool force,
				u64 *result)
{
	struct czone_blocks *taken = czone_removal(cz);
	int tries = CZONE_REMOVE_TRIES;
	unsigned long nr, total;
	bool in_use;

	if (!czone_close(cz, force))
		return -EBUSY;
	total = zone_managed_pages(&cz->zone) >> CZONE_BLOCK_ORDER;
	nr = 0;
	/* An allocation that was in its fast path may have got a page since. */
	do {
		czone_empty(cz, req, result);
		/* Who sleeps in the slow path would wake up in another's zone. */
		in_use = atomic_read(&cz->users);
		if (!in_use)
			nr += czone_take_free_blocks(&cz->zone, taken);
	} while ((nr < total || in_use) && --tries && !czone_request_expired(req));

	if (nr == total && !in_use) {
		cz->dead = true;
		czone_idle_stop(cz);
		mutex_lock(&czone_lock);
		/* The id stays reserved until the last reference has gone. */
		xa_store_irq(&czones, cz->id, XA_ZERO_ENTRY, GFP_KERNEL);
		czone_count--;
		mutex_unlock(&czone_lock);
	}
	czone_remove_blocks(cz, req, taken);
	if (cz->dead) {
		czone_put(cz);		/* the list's */
		return 0;
	}
	czone_count_stuck(cz, result);
	/* And what the host would not give back in time. */
	result[CZONE_RESULT_STUCK_OTHER] += PFN_PHYS(READ_ONCE(cz->nr_isolated));
	WRITE_ONCE(cz->closing, false);
	return -EBUSY;
}

/**
 * czone_destroy - remove a zone
 * @id: the zone
 * @flags: CZONE_DESTROY_*
 * @timeout_ms: until when, 0 is the default
 * @result: what was done, indexed by enum czone_result
 *
 * Return: 0.
 * -EBUSY: its cgroup has tasks, or another operation is under way; or pages
 * could not be moved, or an allocation has not left the zone yet: then the zone
 * is left with the blocks that these are in, and without a cgroup.
 * -ETIMEDOUT: the zone is gone, but its memory will be had again only when the
 * host answers.
 */
int czone_destroy(u32 id, u32 flags, unsigned int timeout_ms, u64 result[__CZONE_RESULT_MAX])
{
	struct czone_request *req;
	struct czone *cz;
	int ret, err;

	memset(result, 0, sizeof(u64) * __CZONE_RESULT_MAX);
	if (flags & ~CZONE_DESTROY_FORCE)
		return -EINVAL;
	req = czone_request_alloc(timeout_ms);
	if (!req)
		return -ENOMEM;
	cz = czone_get_locked(id, czone_request_deadline(req));
	ret = PTR_ERR_OR_ZERO(cz);
	if (!ret)
		ret = czone_destroy_locked(cz, req, flags & CZONE_DESTROY_FORCE, result);
	/* A host that refuses memory has it still: that is no reason to fail. */
	err = czone_request_finish(req, result);
	if (!ret && (err == -ETIMEDOUT || err == -EINTR))
		ret = err;
	if (!IS_ERR(cz))
		czone_put_locked(cz);
	return ret;
}
EXPORT_SYMBOL_GPL(czone_destroy);

/*
 * Resize
 */

/* Choose the zone's last @nr blocks. */
static void czone_last_blocks(struct czone *cz, unsigned long nr, struct czone_blocks *blocks)
{
	unsigned long block = czone_end_block(cz);

	while (nr && block-- > czone_first_block(cz)) {
		if (czone_block_zone(block) == &cz->zone) {
			czone_blocks_add(blocks, block, 1);
			nr--;
		}
	}
}

/* The first @nr of the window that @blocks has. */
static void czone_undo_isolation(const struct czone_blocks *blocks, unsigned long nr)
{
	unsigned long start, end;

	for_each_set_bitrange(start, end, blocks->bits, nr)
		undo_isolate_page_range(czone_block_pfn(blocks->first + start),
					czone_block_pfn(blocks->first + end), MIGRATE_MOVABLE);
}

/* Nothing is allocated in these blocks from here on. */
static int czone_isolate_blocks(const struct czone_blocks *blocks)
{
	unsigned long start, end;
	int ret;

	for_each_set_bitrange(start, end, blocks->bits, blocks->nr) {
		ret = start_isolate_page_range(czone_block_pfn(blocks->first + start),
					       czone_block_pfn(blocks->first + end),
					       MIGRATE_MOVABLE, MEMORY_OFFLINE, GFP_KERNEL);
		if (ret) {
			czone_undo_isolation(blocks, start);
			return ret;
		}
	}
	return 0;
}

static bool czone_block_is_free(unsigned long block)
{
	unsigned long pfn = czone_block_pfn(block), end = czone_block_pfn(block + 1);

	while (pfn < end && PageBuddy(pfn_to_page(pfn)))
		pfn += 1UL << buddy_order(pfn_to_page(pfn));
	return pfn >= end;
}

/*
 * All of them or none: these are isolated, and off the lists afterwards. In one
 * hold of the lock, for hwpoison takes pages of isolated blocks as well. What is
 * free has merged, so these are a few steps per block.
 */
static bool czone_take_isolated(struct czone *cz, const struct czone_blocks *blocks)
{
	unsigned long block, pfn, flags;
	struct zone *zone = &cz->zone;
	bool taken = false;

	spin_lock_irqsave(&zone->lock, flags);
	for_each_block_in(blocks, block)
		if (!czone_block_is_free(block))
			goto unlock;

	for_each_block_in(blocks, block) {
		for (pfn = czone_block_pfn(block); pfn < czone_block_pfn(block + 1);) {
			struct page *page = pfn_to_page(pfn);
			unsigned int order = buddy_order(page);

			czone_take_free_page(zone, page, order);
			pfn += 1UL << order;
		}
		for (pfn = czone_block_pfn(block); pfn < czone_block_pfn(block + 1);
		     pfn += pageblock_nr_pages) {
			set_pageblock_migratetype(pfn_to_page(pfn), MIGRATE_MOVABLE);
			zone->nr_isolate_pageblock--;
		}
	}
	taken = true;
unlock:
	spin_unlock_irqrestore(&zone->lock, flags);
	return taken;
}

/* How many pages in use do not fit into all but @nr blocks, with some to spare. */
static unsigned long czone_excess(struct czone *cz, unsigned long nr)
{
	struct zone *zone = &cz->zone;
	unsigned long rest, used, flags;

	spin_lock_irqsave(&zone->lock, flags);
	rest = zone_managed_pages(zone) - (nr << CZONE_BLOCK_ORDER);
	used = zone_managed_pages(zone) - zone_page_state(zone, NR_FREE_PAGES) - cz->nr_isolated;
	spin_unlock_irqrestore(&zone->lock, flags);
	rest -= rest / CZONE_SHRINK_MARGIN;
	return used - min(used, rest);
}

/* All but @nr blocks must have room for what is in use; clean cache may go. */
static int czone_make_room(struct czone *cz, unsigned long nr, struct czone_request *req,
			   u64 *result)
{
	struct mem_cgroup *memcg = czone_get_memcg(cz);
	unsigned long excess, freed = 1;

	drain_all_pages(&cz->zone);
	while ((excess = czone_excess(cz, nr)) && memcg && freed && !czone_request_expired(req)) {
		freed = try_to_free_mem_cgroup_pages(memcg, excess, GFP_KERNEL, 0, NULL);
		result[CZONE_RESULT_DROPPED] += PFN_PHYS(freed);
		drain_all_pages(&cz->zone);
	}
	if (memcg)
		css_put(&memcg->css);
	return excess ? -EBUSY : 0;
}

static int czone_shrink(struct czone *cz, unsigned long nr, struct czone_request *req,
			u64 *result)
{
	struct czone_blocks *blocks = czone_removal(cz);
	int tries = CZONE_REMOVE_TRIES;
	unsigned long start, end;
	int ret;

	czone_last_blocks(cz, nr, blocks);
	/* The zone's own rest is where the pages go; it must not overflow. */
	ret = czone_make_room(cz, nr, req, result);
	if (ret)
		return ret;
	/* It may be full for a while all the same: nobody is killed for that. */
	WRITE_ONCE(cz->shrinker, current);
	ret = czone_isolate_blocks(blocks);
	if (ret)
		goto end;

	ret = -EBUSY;
	for (;;) {
		if (czone_take_isolated(cz, blocks)) {
			ret = 0;
			break;
		}
		if (!tries-- || czone_request_expired(req))
			break;
		for_each_set_bitrange(start, end, blocks->bits, blocks->nr)
			czone_evacuate(cz, czone_block_pfn(blocks->first + start),
				       czone_block_pfn(blocks->first + end),
				       czone_request_deadline(req), result);
	}

	if (ret)
		czone_undo_isolation(blocks, blocks->nr);
	else
		czone_remove_blocks(cz, req, blocks);
end:
	WRITE_ONCE(cz->shrinker, NULL);
	return ret;
}

/**
 * czone_resize - make a zone larger or smaller
 * @id: the zone
 * @size: the new size
 *
 * A zone loses its last blocks; pages there move to the rest of the zone. If
 * there is no room for them, or they cannot be moved, nothing has changed.
 *
 * Return: 0, -EBUSY: see above, -ENOSPC: the pool has no room, -ETIMEDOUT: the
 * zone is smaller, but the host has not answered yet.
 */
int czone_resize(u32 id, u64 size)
{
	u64 result[__CZONE_RESULT_MAX] = {};
	struct czone_request *req;
	unsigned long nr, have;
	struct czone *cz;
	int ret, err;

	ret = czone_blocks(size, &nr);
	if (ret)
		return ret;
	cz = czone_get_locked(id, czone_deadline(0));
	if (IS_ERR(cz))
		return PTR_ERR(cz);

	have = zone_managed_pages(&cz->zone) >> CZONE_BLOCK_ORDER;
	if (nr >= have) {
		mutex_lock(&czone_lock);
		ret = nr > have ? czone_add_blocks(cz, nr - have) : 0;
		mutex_unlock(&czone_lock);
		goto put;
	}
	ret = -ENOMEM;
	req = czone_request_alloc(0);
	if (req) {
		ret = czone_shrink(cz, have - nr, req, result);
		err = czone_request_finish(req, result);
		if (!ret && (err == -ETIMEDOUT || err == -EINTR))
			ret = err;
	}
put:
	czone_put_locked(cz);
	return ret;
}
EXPORT_SYMBOL_GPL(czone_resize);

/*
 * Statistics
 */

void czone_account(struct czone *cz, struct czone_account *a)
{
	struct zone *zone = &cz->zone;
	unsigned long flags, free, backed;

	spin_lock_irqsave(&zone->lock, flags);
	a->size = zone_managed_pages(zone);
	free = zone_page_state(zone, NR_FREE_PAGES) + cz->nr_isolated + czone_nr_pcp(zone);
	backed = atomic_long_read(&cz->nr_backed);
	spin_unlock_irqrestore(&zone->lock, flags);

	/* Per-cpu lists and allocations do not stand still meanwhile. */
	a->used = a->size - min(a->size, free);
	a->backed = backed - min(backed, a->used);
	a->backed = min(a->backed, a->size - a->used);
	a->unbacked = a->size - a->used - a->backed;
}

static void czone_pool_stats(u64 *stat)
{
	unsigned long nr_blocks = czone_pool.nr_blocks - czone_pool.nr_meta;
	unsigned long nr, managed = czone_pool.nr_owned << CZONE_BLOCK_ORDER;
	unsigned long boot_free = 0;
	struct czone_region *region;
	struct zone *zone;

	lockdep_assert_held(&czone_lock);
	for_each_populated_zone(zone)
		boot_free += zone_page_state(zone, NR_FREE_PAGES) + czone_nr_pcp(zone);
	list_for_each_entry(region, &czone_regions, list) {
		stat[CZONE_STAT_EXTENTS]++;
		for (nr = 0; nr < (region->end - region->first) / CZONE_SECTION_BLOCKS; nr++)
			if (region->section[nr].memmap_backed)
				stat[CZONE_STAT_METADATA] += CZONE_MEMMAP_SIZE;
	}

	stat[CZONE_STAT_SIZE] = (u64)nr_blocks << CZONE_BLOCK_SHIFT;
	stat[CZONE_STAT_USED] = PFN_PHYS(managed);
	stat[CZONE_STAT_FREE_BACKED] = PFN_PHYS(czone_pool_backed());
	stat[CZONE_STAT_FREE_UNBACKED] = stat[CZONE_STAT_SIZE] - stat[CZONE_STAT_USED] -
					 stat[CZONE_STAT_FREE_BACKED];
	stat[CZONE_STAT_BOOT_SIZE] = PFN_PHYS(totalram_pages() - managed);
	stat[CZONE_STAT_BOOT_FREE] = PFN_PHYS(boot_free);
	stat[CZONE_STAT_BOOT_FREE_BACKED] = czone_boot_mapped() ?
					    PFN_PHYS(czone_boot_backed(boot_free)) : U64_MAX;
	stat[CZONE_STAT_ZONES] = czone_count;
	stat[CZONE_STAT_RETURNED] = czone_returned_vm();
}

/* Under czone_lock. */
static int czone_list_extents(struct czone *cz, unsigned int first, struct czone_extent *extent,
			      unsigned int max)
{
	unsigned long block, last = ULONG_MAX;
	unsigned int n = 0;

	for_each_czone_block(cz, block) {
		if (!n || block != last + 1) {
			n++;
			if (n > first && n - first <= max) {
				extent[n - first - 1].start = PFN_PHYS(czone_block_pfn(block));
				extent[n - first - 1].size = 0;
			}
		}
		if (n > first && n - first <= max)
			extent[n - first - 1].size += CZONE_BLOCK_SIZE;
		last = block;
	}
	return n;
}

/**
 * czone_stats - what a zone, or the VM, has
 * @id: the zone, or CZONE_ID_VM
 * @stat: indexed by enum czone_stat
 *
 * Return: 0, -ENOENT: there is no such zone.
 */
int czone_stats(u32 id, u64 stat[__CZONE_STAT_MAX])
{
	struct czone_account account;
	struct mem_cgroup *memcg;
	struct czone *cz;

	memset(stat, 0, sizeof(u64) * __CZONE_STAT_MAX);
	if (id == CZONE_ID_VM) {
		mutex_lock(&czone_lock);
		czone_pool_stats(stat);
		mutex_unlock(&czone_lock);
		return 0;
	}

	cz = czone_get(id);
	if (!cz)
		return -ENOENT;
	czone_account(cz, &account);
	stat[CZONE_STAT_SIZE] = PFN_PHYS(account.size);
	stat[CZONE_STAT_USED] = PFN_PHYS(account.used);
	stat[CZONE_STAT_FREE_BACKED] = PFN_PHYS(account.backed);
	stat[CZONE_STAT_FREE_UNBACKED] = PFN_PHYS(account.unbacked);
	stat[CZONE_STAT_RETURNED] = atomic64_read(&cz->returned);
	stat[CZONE_STAT_SPILLED] = PFN_PHYS(atomic_long_read(&cz->nr_spilled));
	stat[CZONE_STAT_FLAGS] = cz->flags;
	if (cz->file_zone && !READ_ONCE(cz->file_zone->dead))
		stat[CZONE_STAT_FILE_ZONE] = cz->file_zone->id;
	stat[CZONE_STAT_IDLE_DELAY_MS] = READ_ONCE(cz->idle.delay_ms);
	stat[CZONE_STAT_IDLE_FLOOR] = READ_ONCE(cz->idle.floor);
	mutex_lock(&czone_lock);
	stat[CZONE_STAT_EXTENTS] = czone_list_extents(cz, 0, NULL, 0);
	mutex_unlock(&czone_lock);

	memcg = czone_get_memcg(cz);
	if (memcg) {
		mem_cgroup_flush_stats(memcg);
		stat[CZONE_STAT_FILE] = PFN_PHYS(memcg_page_state(memcg, NR_FILE_PAGES));
		stat[CZONE_STAT_KERNEL] = PFN_PHYS(memcg_page_state(memcg, MEMCG_KMEM));
		stat[CZONE_STAT_CGROUP] = cgroup_id(memcg->css.cgroup);
		css_put(&memcg->css);
	}
	czone_put(cz);
	return 0;
}
EXPORT_SYMBOL_GPL(czone_stats);

/**
 * czone_extents - where a zone is
 * @id: the zone
 * @first: index of the first extent that is wanted
 * @extent: gets them
 * @max: how many at most
 *
 * Return: how many were copied, -ENOENT: there is no such zone.
 */
int czone_extents(u32 id, unsigned int first, struct czone_extent *extent, unsigned int max)
{
	struct czone *cz;
	int ret = -ENOENT;

	mutex_lock(&czone_lock);
	cz = xa_load(&czones, id);
	if (cz) {
		ret = czone_list_extents(cz, first, extent, max);
		ret = clamp(ret - (int)first, 0, (int)max);
	}
	mutex_unlock(&czone_lock);
	return ret;
}
EXPORT_SYMBOL_GPL(czone_extents);

/*
 * Reclaim
 */

/* Free clean file pages of the zone's cgroup until @want backed pages are free. */
static void czone_drop_cache(struct czone *cz, struct czone_request *req, unsigned long want,
			     u64 *result)
{
	struct mem_cgroup *memcg = czone_get_memcg(cz);
	struct czone_account account;
	unsigned long freed;

	if (!memcg)
		return;
	for (;;) {
		czone_account(cz, &account);
		if (account.backed >= want || czone_request_expired(req))
			break;
		freed = min(want - account.backed, CZONE_BLOCK_PAGES);
		freed = try_to_free_mem_cgroup_pages(memcg, freed, GFP_KERNEL, 0, NULL);
		if (!freed)
			break;
		result[CZONE_RESULT_DROPPED] += PFN_PHYS(freed);
		cond_resched();
	}
	css_put(&memcg->css);
}

static int czone_reclaim_zone(struct czone *cz, struct czone_request *req, u32 flags,
			      unsigned long *left, u64 *result)
{
	if (flags & CZONE_RECLAIM_CACHE)
		czone_drop_cache(cz, req, *left, result);
	drain_all_pages(&cz->zone);
	return czone_give_pages(req, cz, left);
}

static int czone_reclaim_vm(struct czone_request *req, u64 bytes, u32 flags,
			    unsigned long *left, u64 *result)
{
	struct czone *cz;
	u32 id = 0;
	int ret;

	while (*left && (id = czone_next(id))) {
		/* One where another operation is under way must not hold up the rest. */
		cz = czone_get_locked(id, jiffies);
		if (IS_ERR(cz))
			continue;
		ret = czone_reclaim_zone(cz, req, flags, left, result);
		czone_put_locked(cz);
		if (ret)
			return ret;
	}
	if (!*left)
		return 0;
	if (czone_pool.nr_blocks) {
		czone_give_pool(req);
		czone_give_idle_sections(req, 0);
	}
	ret = czone_give_boot(req, bytes);
	czone_wait_sections(czone_request_deadline(req));
	return ret;
}

/**
 * czone_reclaim - give free memory back to the host
 * @id: the zone, or CZONE_ID_VM for all zones, the pool, and boot memory
 * @bytes: how much, 0 is all
 * @flags: CZONE_RECLAIM_*
 * @timeout_ms: until when, 0 is the default
 * @result: what was done, indexed by enum czone_result
 *
 * Less than @bytes is no error.
 *
 * Return: 0, -ETIMEDOUT: what is still with the host comes back when it answers,
 * -EBUSY: another operation on the zone is under way, -ENODEV: no host to give to.
 */
int czone_reclaim(u32 id, u64 bytes, u32 flags, unsigned int timeout_ms,
		  u64 result[__CZONE_RESULT_MAX])
{
	unsigned long left = bytes ? PHYS_PFN(bytes) + !!offset_in_page(bytes) : ULONG_MAX;
	struct czone_request *req;
	struct czone *cz;
	int ret, err;

	memset(result, 0, sizeof(u64) * __CZONE_RESULT_MAX);
	if (flags & ~CZONE_RECLAIM_CACHE)
		return -EINVAL;
	if (!czone_have_transport())
		return -ENODEV;
	req = czone_request_alloc(timeout_ms);
	if (!req)
		return -ENOMEM;

	if (id == CZONE_ID_VM) {
		ret = czone_reclaim_vm(req, bytes, flags, &left, result);
	} else {
		cz = czone_get_locked(id, czone_request_deadline(req));
		ret = PTR_ERR_OR_ZERO(cz);
		if (!ret) {
			ret = czone_reclaim_zone(cz, req, flags, &left, result);
			/* Batches on their way have references of their own. */
			czone_put_locked(cz);
		}
	}
	err = czone_request_finish(req, result);
	return ret ?: err;
}
EXPORT_SYMBOL_GPL(czone_reclaim);
