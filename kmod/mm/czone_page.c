// SPDX-License-Identifier: GPL-2.0-only
/*
 * czone: the page allocator's side. Which zone serves an allocation, what
 * happens when that zone is full, and the struct zone itself.
 */
#include <linux/cpuset.h>
#include <linux/fs.h>
#include <linux/memcontrol.h>
#include <linux/memory_hotplug.h>
#include <linux/oom.h>
#include <linux/page-isolation.h>
#include <linux/percpu.h>
#include <linux/printk.h>
#include <linux/sched/signal.h>
#include <linux/seqlock.h>
#include <linux/swap.h>
#include <linux/swap_cgroup.h>
#include <linux/vmstat.h>

#include "internal.h"
#include "czone_internal.h"

/* Per-cpu lists hide free pages from everybody else: keep them short. */
#define CZONE_PCP_HIGH		256
#define CZONE_PCP_BATCH		63

#define CZONE_TAKE_BLOCKS	64	/* per hold of zone->lock */

/*
 * How long an allocation waits for pages that are with the host; a page that
 * somebody else frees is noticed after each step.
 */
#define CZONE_ISOLATED_STEP	(HZ / 10)
#define CZONE_ISOLATED_STEPS	20

/* How often a reclaim without result waits for writeback, 0.1 s each time. */
#define CZONE_WRITEBACK_STEPS	10

/*
 * Routing
 *
 * A request whose pages may live in ZONE_MOVABLE is for user memory: it comes
 * from the zone of the memory cgroup that will be charged for it. A test for
 * __GFP_MOVABLE alone would let in metadata of file systems.
 *
 * The zone's struct is not pinned between here and the first look at its free
 * lists. Nothing sleeps in between, and czone_release() waits for everybody who
 * was preempted there. The slow path sleeps, and counts itself in cz->users.
 */
bool czone_wants_gfp(gfp_t gfp)
{
	return gfp_zone(gfp) == ZONE_MOVABLE;
}

static struct czone *czone_of_request(void)
{
	struct mem_cgroup *memcg;
	struct czone *cz = NULL;

	if (!in_task())
		return NULL;

	rcu_read_lock();
	memcg = current->active_memcg;
	if (!memcg && current->mm && !(current->flags & PF_KTHREAD))
		memcg = mem_cgroup_from_task(current);
	if (memcg)
		cz = READ_ONCE(memcg->czone);
	rcu_read_unlock();

	return cz && !czone_closing(cz) ? cz : NULL;
}

void __czone_route(struct alloc_context *ac)
{
	struct czone *cz = czone_of_request();

	if (!cz)
		return;
	ac->zonelist = (struct zonelist *)cz->zonelist;
	ac->nodemask = NULL;
	/* Dirty limits of the node must not keep a zone's pages unused. */
	ac->spread_dirty_pages = false;
}

/*
 * Files of a read-only file system are the same for everybody, so a zone may
 * leave their cache to another zone, and to the charge of that zone's cgroup:
 * it is there once, and stays when one of its readers goes. Where something can
 * be written the cache is one container's: its data, its dirty pages.
 *
 * Returns NULL where the cache is to be private. A shared zone that is full
 * makes room in its own cache, but it has nobody to kill, and no reader is to
 * fail because of it.
 */
struct folio *__czone_alloc_shared(struct address_space *mapping, gfp_t gfp, unsigned int order)
{
	struct mem_cgroup *memcg, *old;
	struct folio *folio;
	struct czone *cz;

	if (!mapping->host || !sb_rdonly(mapping->host->i_sb) || !czone_wants_gfp(gfp))
		return NULL;
	cz = czone_of_request();
	if (!cz || !cz->file_zone)
		return NULL;
	memcg = czone_get_memcg(cz->file_zone);
	if (!memcg)
		return NULL;

	gfp = (gfp & ~__GFP_NOFAIL) | __GFP_NORETRY | __GFP_NOWARN;
	old = set_active_memcg(memcg);
	folio = filemap_alloc_folio(gfp, order);
	if (folio && mem_cgroup_charge(folio, NULL, gfp)) {
		folio_put(folio);
		folio = NULL;
	}
	set_active_memcg(old);
	css_put(&memcg->css);
	return folio;
}

static void czone_unroute(gfp_t gfp, int nid, nodemask_t *nodemask, struct alloc_context *ac)
{
	ac->zonelist = node_zonelist(nid, gfp);
	ac->nodemask = nodemask;
	ac->preferred_zoneref = first_zones_zonelist(ac->zonelist, ac->highest_zoneidx,
						     ac->nodemask);
}

/* Not when only large pages are short: smaller ones will do. */
static void czone_tell_full(struct czone *cz)
{
	unsigned long last = READ_ONCE(cz->full_told), now = jiffies;

	if (time_before(now, last + HZ) ||
	    zone_page_state(&cz->zone, NR_FREE_PAGES) >= SWAP_CLUSTER_MAX)
		return;
	if (cmpxchg(&cz->full_told, last, now) == last)
		czone_tell(CZONE_NOTICE_FULL, cz->id, 0);
}

/* A zone without memory left: may the request go elsewhere? */
struct czone *__czone_spill(gfp_t gfp, int nid, nodemask_t *nodemask,
			    struct alloc_context *ac)
{
	struct czone *cz = czone_serving(ac);

	czone_tell_full(cz);
	/* A request that must not fail cannot be left to a full zone. */
	if (!(cz->flags & CZONE_CREATE_SPILL) && !(gfp & __GFP_NOFAIL))
		return NULL;

	if (!nodemask && cpusets_enabled())
		nodemask = &cpuset_current_mems_allowed;
	czone_unroute(gfp, nid, nodemask, ac);
	return cz;
}

/*
 * The slow path of a strict zone
 */
void __czone_slowpath_begin(gfp_t gfp, int nid, nodemask_t *nodemask,
			    struct alloc_context *ac)
{
	struct czone *cz;

	/* The zone may have gone, or the task moved, while nothing held it. */
	czone_unroute(gfp, nid, nodemask, ac);
	__czone_route(ac);
	cz = czone_serving(ac);
	if (!cz)
		return;

	atomic_long_inc(&cz->nr_slow);
	atomic_inc(&cz->users);
	/* Pairs with czone_close(): either we see closing, or it sees us. */
	smp_mb__after_atomic();
	if (czone_closing(cz)) {
		if (atomic_dec_and_test(&cz->users))
			wake_up_all(&cz->wait);
		czone_unroute(gfp, nid, nodemask, ac);
		return;
	}
	ac->preferred_zoneref = first_zones_zonelist(ac->zonelist, ac->highest_zoneidx, NULL);
}

/* Returns true if the request must be routed and tried again. */
bool __czone_slowpath_end(struct alloc_context *ac, struct page *page)
{
	struct czone *cz = czone_serving(ac);
	bool again = !page && czone_of_request() != cz;

	if (atomic_dec_and_test(&cz->users) && czone_closing(cz))
		wake_up_all(&cz->wait);
	return again;
}

/*
 * Free pages on their way to the host come back by themselves. Returns whether
 * it was of use to wait. A host that let one wait in vain is not waited for
 * again until it has answered: the zone's cgroup has to help itself then.
 */
static bool czone_wait_isolated(struct czone *cz, unsigned int order)
{
	int step;

	if (!READ_ONCE(cz->nr_isolated) || READ_ONCE(cz->host_slow))
		return false;
	for (step = 0; step < CZONE_ISOLATED_STEPS; step++) {
		if (fatal_signal_pending(current))
			return false;
		/* That there are free pages does not mean that they are in one piece. */
		if (wait_event_timeout(cz->wait,
				       !READ_ONCE(cz->nr_isolated) || czone_closing(cz) ||
				       (!order && zone_page_state(&cz->zone, NR_FREE_PAGES)),
				       CZONE_ISOLATED_STEP))
			return true;
	}
	WRITE_ONCE(cz->host_slow, true);
	return false;
}

/*
 * Reclaim has found nothing. Pages that are being written will do, once they
 * are: without the wait a slow disk would have tasks killed.
 */
static bool czone_wait_writeback(struct czone *cz, gfp_t gfp, int step)
{
	/* Writeback may need what this task holds: then not for long. */
	if (step >= (gfp & __GFP_FS ? CZONE_WRITEBACK_STEPS : 1))
		return false;
	if (!zone_page_state(&cz->zone, NR_ZONE_WRITE_PENDING) || fatal_signal_pending(current) ||
	    czone_closing(cz))
		return false;
	reclaim_throttle(cz->zone.zone_pgdat, VMSCAN_THROTTLE_WRITEBACK);
	return true;
}

/*
 * Make room in a strict zone: only its own cgroup's pages count. Clean file
 * pages go before anything is killed, as for a cgroup at its limit.
 */
unsigned long czone_try_to_free_pages(struct czone *cz, unsigned int order, gfp_t gfp)
{
	struct mem_cgroup *memcg;
	unsigned long progress;
	int step = 0;

	if (czone_wait_isolated(cz, order))
		return 1;

	drain_all_pages(&cz->zone);
	if (!order && zone_page_state(&cz->zone, NR_FREE_PAGES))
		return 1;

	memcg = czone_get_memcg(cz);
	if (!memcg)
		return 0;
	do {
		progress = try_to_free_mem_cgroup_pages(memcg, max(1UL << order, SWAP_CLUSTER_MAX),
							gfp, MEMCG_RECLAIM_MAY_SWAP, NULL);
	} while (!progress && czone_wait_writeback(cz, gfp, step++));
	css_put(&memcg->css);
	return progress;
}

/* Kill in the zone's cgroup, and nowhere else. */
bool czone_out_of_memory(struct czone *cz, struct oom_control *oc)
{
	struct task_struct *shrinker = READ_ONCE(cz->shrinker);
	struct mem_cgroup *memcg;
	bool killed;

	/* Full because it is made smaller: that ends, with or without success. */
	if (shrinker) {
		if (shrinker == current)
			return false;
		schedule_timeout_uninterruptible(1);
		return true;
	}
	memcg = czone_get_memcg(cz);
	if (!memcg)
		return false;
	oc->zonelist = NULL;
	oc->nodemask = NULL;
	oc->memcg = memcg;
	memcg_memory_event(memcg, MEMCG_OOM);
	killed = out_of_memory(oc);
	css_put(&memcg->css);
	return killed;
}

/*
 * The task that charges and the task that allocates should agree. Used where
 * one works on the memory of another: remote faults, ksm, khugepaged.
 */
struct mem_cgroup *__czone_enter_mm(struct mm_struct *mm)
{
	struct mem_cgroup *memcg;

	if (current->active_memcg || (mm == current->mm && !(current->flags & PF_KTHREAD)))
		return NULL;
	memcg = get_mem_cgroup_from_mm(mm);
	if (memcg)
		set_active_memcg(memcg);
	return memcg;
}

void __czone_leave_mm(struct mem_cgroup *entered)
{
	set_active_memcg(NULL);
	mem_cgroup_put(entered);
}

/*
 * The same for swap-in, where the swap entry remembers who will be charged. If
 * that cgroup has gone, mem_cgroup_swapin_charge_folio() takes whoever is
 * active already, and so do we.
 */
struct mem_cgroup *__czone_enter_swap(swp_entry_t entry)
{
	struct mem_cgroup *memcg, *old = current->active_memcg;

	rcu_read_lock();
	memcg = mem_cgroup_from_id(lookup_swap_cgroup_id(entry));
	if (memcg && memcg != old && css_tryget_online(&memcg->css))
		set_active_memcg(memcg);
	rcu_read_unlock();
	return old;
}

void __czone_leave_swap(struct mem_cgroup *old)
{
	struct mem_cgroup *entered = set_active_memcg(old);

	if (entered != old)
		mem_cgroup_put(entered);
}

/*
 * How many more pages the cgroup can have, as far as its zone limits that. One
 * that may spill does not: the VM's other memory has limits of its own. A small
 * zone is full before the cgroup's statistics are flushed in the usual course.
 */
unsigned long __czone_dirty_headroom(struct mem_cgroup *memcg)
{
	unsigned long nr = PAGE_COUNTER_MAX;
	struct czone *cz;

	rcu_read_lock();
	cz = READ_ONCE(memcg->czone);
	if (cz && !(cz->flags & CZONE_CREATE_SPILL))
		nr = zone_page_state(&cz->zone, NR_FREE_PAGES);
	rcu_read_unlock();
	if (nr != PAGE_COUNTER_MAX)
		mem_cgroup_flush_stats(memcg);
	return nr;
}

/*
 * The pages that killing @task would free in its strict zone, and nowhere else.
 * Where zones may spill nobody knows which page of a task lies where.
 */
unsigned long __czone_rss(struct task_struct *task)
{
	struct mem_cgroup *memcg;
	unsigned long rss = 0;
	struct czone *cz;

	task = find_lock_task_mm(task);
	if (!task)
		return 0;
	__acquire(&task->alloc_lock);	/* for sparse, which does not look inside */
	rcu_read_lock();
	memcg = mem_cgroup_from_task(task);
	cz = memcg ? READ_ONCE(memcg->czone) : NULL;
	if (cz && !(cz->flags & CZONE_CREATE_SPILL))
		rss = get_mm_rss(task->mm);
	rcu_read_unlock();
	task_unlock(task);
	return rss;
}

/* Free memory that is counted for the VM, but only containers can have. */
unsigned long __czone_free_pages(void)
{
	unsigned long nr = 0;
	struct zone *zone;

	rcu_read_lock();
	for_each_czone(zone)
		nr += zone_page_state(zone, NR_FREE_PAGES);
	rcu_read_unlock();
	return nr;
}

/* And file cache, counted at the node's movable zone; if that has pages, unknown. */
unsigned long __czone_file_pages(void)
{
	struct zone *movable = &NODE_DATA(czone_pool.nid)->node_zones[ZONE_MOVABLE];

	if (managed_zone(movable))
		return 0;
	return zone_page_state(movable, NR_ZONE_ACTIVE_FILE) +
	       zone_page_state(movable, NR_ZONE_INACTIVE_FILE);
}

/*
 * Free lists
 */

/* Put a range that was taken off the free lists back, at their tails. */
void czone_putback(struct zone *zone, unsigned long pfn, unsigned long nr)
{
	unsigned long end = pfn + nr;

	lockdep_assert_held(&zone->lock);
	while (pfn < end) {
		unsigned int order = min_t(unsigned int, pageblock_order,
					   ilog2(end - pfn));
		struct page *page = pfn_to_page(pfn);

		if (pfn)
			order = min_t(unsigned int, order, __ffs(pfn));
		__putback_isolated_page(page, order, get_pageblock_migratetype(page));
		pfn += 1UL << order;
	}
}

/* Is no page of the zone in use? What is on per-cpu lists is not. */
bool czone_all_free(struct zone *zone)
{
	return zone_page_state(zone, NR_FREE_PAGES) + czone_nr_pcp(zone) ==
	       zone_managed_pages(zone);
}

/* Empty a CPU's lists. Returns how many pages they had. */
static unsigned long czone_take_pcp(struct per_cpu_pages *pcp, struct list_head *list)
{
	unsigned long nr;
	int i;

	spin_lock(&pcp->lock);
	nr = pcp->count;
	if (nr) {
		for (i = 0; i < NR_PCP_LISTS; i++)
			list_splice_tail_init(&pcp->lists[i], &list[i]);
		WRITE_ONCE(pcp->count, 0);
	}
	spin_unlock(&pcp->lock);
	return nr;
}

static void czone_putback_pcp(struct list_head *list)
{
	struct page *page, *next;
	unsigned int order;
	int i;

	for (i = 0; i < NR_PCP_LISTS; i++) {
		/* As order_to_pindex() puts them; the last are for huge pages. */
		order = i < NR_LOWORDER_PCP_LISTS ? i / MIGRATE_PCPTYPES : pageblock_order;
		list_for_each_entry_safe(page, next, &list[i], pcp_list)
			__putback_isolated_page(page, order, get_pageblock_migratetype(page));
	}
}

static void czone_take_page(struct page *page)
{
	__ClearPageBuddy(page);
	set_page_private(page, 0);
}

static unsigned long czone_mark_taken(struct page *page, struct czone_blocks *taken)
{
	return !__test_and_set_bit(czone_pfn_block(page_to_pfn(page)) - taken->first, taken->bits);
}

/*
 * All pages of the zone are free: blocks that are in pieces, some of them on
 * @pcp, are whole although nobody has put them together. Under zone->lock.
 */
static unsigned long czone_take_pieces(struct zone *zone, const struct list_head *pcp,
				       struct czone_blocks *taken)
{
	unsigned long nr = 0;
	unsigned int order, type;
	struct page *page;
	long free = 0;

	for (order = 0; order < CZONE_BLOCK_ORDER; order++) {
		struct free_area *area = &zone->free_area[order];

		if (!area->nr_free)
			continue;
		for (type = 0; type < MIGRATE_TYPES; type++) {
			list_for_each_entry(page, &area->free_list[type], buddy_list) {
				czone_take_page(page);
				nr += czone_mark_taken(page, taken);
			}
			INIT_LIST_HEAD(&area->free_list[type]);
		}
		free += area->nr_free << order;
		area->nr_free = 0;
	}
	for (type = 0; type < NR_PCP_LISTS; type++)
		list_for_each_entry(page, &pcp[type], pcp_list)
			nr += czone_mark_taken(page, taken);
	__mod_zone_page_state(zone, NR_FREE_PAGES, -free);
	return nr;
}

/*
 * Blocks in pieces, as long as no page of the zone is in use. The usual way, to
 * drain the per-cpu lists and let the buddy allocator merge, costs more than all
 * the rest of a destroy.
 */
static unsigned long czone_take_broken_blocks(struct zone *zone, struct czone_blocks *taken)
{
	struct list_head pcp[NR_PCP_LISTS];
	unsigned long flags, nr = 0, nr_pcp = 0;
	int i, cpu;

	if (!czone_all_free(zone))
		return 0;
	for (i = 0; i < NR_PCP_LISTS; i++)
		INIT_LIST_HEAD(&pcp[i]);
	for_each_possible_cpu(cpu)
		nr_pcp += czone_take_pcp(per_cpu_ptr(zone->per_cpu_pageset, cpu), pcp);

	spin_lock_irqsave(&zone->lock, flags);
	if (zone_page_state(zone, NR_FREE_PAGES) + nr_pcp == zone_managed_pages(zone))
		nr = czone_take_pieces(zone, pcp, taken);
	else	/* somebody was quicker */
		czone_putback_pcp(pcp);
	spin_unlock_irqrestore(&zone->lock, flags);
	return nr;
}

/**
 * czone_take_free_blocks - take all free blocks of a zone off its lists
 * @zone: nobody can allocate from it any more
 * @taken: gets their bits
 *
 * Return: how many.
 */
unsigned long czone_take_free_blocks(struct zone *zone, struct czone_blocks *taken)
{
	struct free_area *area = &zone->free_area[CZONE_BLOCK_ORDER];
	unsigned long flags, nr = czone_take_broken_blocks(zone, taken);
	unsigned int type;
	struct page *page;
	long n;

	for (type = 0; type < MIGRATE_TYPES; type++) {
		do {
			spin_lock_irqsave(&zone->lock, flags);
			for (n = 0; n < CZONE_TAKE_BLOCKS; n++) {
				page = list_first_entry_or_null(&area->free_list[type],
								struct page, buddy_list);
				if (!page)
					break;
				list_del(&page->buddy_list);
				czone_take_page(page);
				czone_mark_taken(page, taken);
			}
			area->nr_free -= n;
			__mod_zone_page_state(zone, NR_FREE_PAGES, -(n << CZONE_BLOCK_ORDER));
			spin_unlock_irqrestore(&zone->lock, flags);
			nr += n;
			cond_resched();
		} while (n == CZONE_TAKE_BLOCKS);
	}
	return nr;
}

bool czone_has_pcps(int cpu)
{
	struct zone *zone;
	bool found = false;

	rcu_read_lock();
	for_each_czone(zone) {
		if (per_cpu_ptr(zone->per_cpu_pageset, cpu)->count) {
			found = true;
			break;
		}
	}
	rcu_read_unlock();
	return found;
}

unsigned long czone_nr_pcp(struct zone *zone)
{
	unsigned long nr = 0;
	int cpu;

	for_each_possible_cpu(cpu)
		nr += READ_ONCE(per_cpu_ptr(zone->per_cpu_pageset, cpu)->count);
	return nr;
}

void czone_show_mem(void)
{
	unsigned long nr = 0, managed = 0, free = 0, free_pcp = 0, backed = 0;
	struct zone *zone;

	/* There may be a thousand: one line for all. */
	rcu_read_lock();
	for_each_czone(zone) {
		nr++;
		managed += zone_managed_pages(zone);
		free += zone_page_state(zone, NR_FREE_PAGES);
		free_pcp += czone_nr_pcp(zone);
		backed += atomic_long_read(&zone_to_czone(zone)->nr_backed);
	}
	rcu_read_unlock();
	if (nr)
		pr_info("%lu czones: managed:%lukB free:%lukB free_pcp:%lukB backed:%lukB\n",
			nr, K(managed), K(free), K(free_pcp), K(backed));
}

/*
 * The struct zone
 */

/* Short lists for small zones: no CPU may sit on more than 1/8 of its share. */
static void czone_set_pcp(struct zone *zone)
{
	unsigned long share = zone_managed_pages(zone) / 8 / num_possible_cpus();
	int high = clamp(share, 8UL, CZONE_PCP_HIGH);
	int batch = clamp(high / 4, 1, CZONE_PCP_BATCH);
	int cpu;

	zone->pageset_high_min = high;
	zone->pageset_high_max = high;
	zone->pageset_batch = batch;
	for_each_possible_cpu(cpu) {
		struct per_cpu_pages *pcp = per_cpu_ptr(zone->per_cpu_pageset, cpu);

		WRITE_ONCE(pcp->batch, batch);
		WRITE_ONCE(pcp->high_min, high);
		WRITE_ONCE(pcp->high_max, high);
	}
}

void czone_zone_resized(struct czone *cz)
{
	czone_set_pcp(&cz->zone);
}

/* What a struct czone keeps from one life to the next. */
int czone_zone_init(struct czone *cz, int nid)
{
	struct zone *zone = &cz->zone;
	unsigned int order, type;
	int cpu;

	zone->per_cpu_pageset = alloc_percpu(struct per_cpu_pages);
	if (!zone->per_cpu_pageset)
		return -ENOMEM;
	/* The thresholds stay 0: every change is folded at once, sums are exact. */
	zone->per_cpu_zonestats = alloc_percpu(struct per_cpu_zonestat);
	if (!zone->per_cpu_zonestats) {
		free_percpu(zone->per_cpu_pageset);
		return -ENOMEM;
	}
	for_each_possible_cpu(cpu) {
		struct per_cpu_pages *pcp = per_cpu_ptr(zone->per_cpu_pageset, cpu);

		spin_lock_init(&pcp->lock);
		for (type = 0; type < NR_PCP_LISTS; type++)
			INIT_LIST_HEAD(&pcp->lists[type]);
	}

	zone->is_czone = true;
	zone->zone_pgdat = NODE_DATA(nid);
	zone_set_nid(zone, nid);
	zone->name = cz->name;
	spin_lock_init(&zone->lock);
	zone_seqlock_init(zone);
	for_each_migratetype_order(order, type)
		INIT_LIST_HEAD(&zone->free_area[order].free_list[type]);
#ifdef CONFIG_UNACCEPTED_MEMORY
	INIT_LIST_HEAD(&zone->unaccepted_pages);
#endif
	zone->initialized = 1;

	cz->zonelist[0].zone = zone;
	cz->zonelist[0].zone_idx = ZONE_MOVABLE;
	return 0;
}

/* An empty zone is about to begin a new life. */
void czone_zone_reset(struct czone *cz)
{
	struct zone *zone = &cz->zone;

	zone->flags = 0;
	zone->watermark_boost = 0;
	zone->nr_reserved_highatomic = 0;
	zone->nr_free_highatomic = 0;
	memset(zone->_watermark, 0, sizeof(zone->_watermark));
#ifdef CONFIG_COMPACTION
	zone->compact_considered = 0;
	zone->compact_defer_shift = 0;
	zone->compact_order_failed = 0;
	zone->compact_blockskip_flush = false;
#endif
	zone->contiguous = false;
}
