// SPDX-License-Identifier: GPL-2.0-only
/*
 * czone: the regions of physical memory that zones are made of, cut into blocks
 * of the largest buddy order.
 *
 * The memmap of a whole region lies at the region's own head, so that a large
 * region costs boot memory next to nothing. The struct pages of a section are
 * undefined until the first zone needs a block of it, and become undefined again
 * some time after the last one has gone: then the host gets that memory back as
 * well.
 */
#include <linux/bitmap.h>
#include <linux/cpu.h>
#include <linux/init.h>
#include <linux/ioport.h>
#include <linux/jiffies.h>
#include <linux/memory.h>
#include <linux/memory_hotplug.h>
#include <linux/memremap.h>
#include <linux/moduleparam.h>
#include <linux/numa.h>
#include <linux/mm.h>
#include <linux/page-isolation.h>
#include <linux/rcupdate.h>
#include <linux/sched.h>
#include <linux/slab.h>
#include <linux/wait.h>
#include <linux/workqueue.h>

#include "internal.h"
#include "czone_internal.h"

/* Blocks that are filled into free lists, or looked at, in one hold of a lock. */
#define CZONE_FILL_BLOCKS	64

static_assert(CZONE_SECTION_BLOCKS <= 32);	/* czone_section.held */

DEFINE_STATIC_KEY_FALSE(czone_key);
EXPORT_SYMBOL(czone_key);

struct zone **czone_map __read_mostly;
EXPORT_SYMBOL(czone_map);

unsigned long czone_base_pfn __read_mostly;
EXPORT_SYMBOL(czone_base_pfn);

struct czone_section **czone_sections __read_mostly;
unsigned long czone_nr_sections __read_mostly;

LIST_HEAD(czone_regions);
static struct czone_tables *czone_tables;	/* under czone_lock; what the above is in */

#undef MODULE_PARAM_PREFIX
#define MODULE_PARAM_PREFIX "czone."

/* Long enough for the next container, short enough for an idle VM. */
static unsigned int section_delay_ms __read_mostly = 1000;
module_param(section_delay_ms, uint, 0644);
MODULE_PARM_DESC(section_delay_ms, "How long a section without zones keeps its memory map");

DEFINE_MUTEX(czone_lock);	/* who owns what, see czone_internal.h */

/* One section after the other goes on- or offline: what notifiers expect. */
static DEFINE_MUTEX(czone_hotplug_lock);

static DECLARE_WAIT_QUEUE_HEAD(czone_section_wait);	/* none is retiring any more */

static void czone_section_fn(struct work_struct *work);
static DECLARE_DELAYED_WORK(czone_section_work, czone_section_fn);

struct czone_pool czone_pool = {
	.lock = __SPIN_LOCK_UNLOCKED(czone_pool.lock),
};

/* Owner of all blocks that no zone owns; spans all regions, has no free pages. */
static struct czone *czone_park;

phys_addr_t czone_section_memmap(const struct czone_section *section)
{
	const struct czone_region *region = section->region;

	return PFN_PHYS(czone_block_pfn(region->first)) +
	       (section - region->section) * CZONE_MEMMAP_SIZE;
}

/* The number of the section whose memmap is at @addr, in the head of @region. */
unsigned long czone_memmap_section(const struct czone_region *region, phys_addr_t addr)
{
	return region->first / CZONE_SECTION_BLOCKS +
	       (addr - PFN_PHYS(czone_block_pfn(region->first))) / CZONE_MEMMAP_SIZE;
}

static struct czone_section *czone_block_section(unsigned long block)
{
	return czone_section_at(block / CZONE_SECTION_BLOCKS);
}

/* Of the blocks from @block to before @end, those in the first one's section. */
static unsigned long czone_in_section(unsigned long block, unsigned long end)
{
	return min(end - block, CZONE_SECTION_BLOCKS - block % CZONE_SECTION_BLOCKS);
}

/* What notifiers of memory hotplug expect to be held; no other hotplug, either. */
static void czone_notify_begin(void)
{
	mutex_lock(&czone_hotplug_lock);
	cpus_read_lock();
	get_online_mems();
}

static void czone_notify_end(void)
{
	put_online_mems();
	cpus_read_unlock();
	mutex_unlock(&czone_hotplug_lock);
}

/*
 * Write the struct pages of a section. They are all alike but for their list
 * heads, so copying one costs much less than initialising each.
 */
static void __ref czone_section_init(const struct czone_region *region, unsigned long start,
				     unsigned long end)
{
	unsigned long meta_end = czone_block_pfn(region->first + region->nr_meta), pfn;
	struct page *page = pfn_to_page(start), first;

	__init_single_page(page, start, ZONE_MOVABLE, czone_pool.nid);
	page->flags |= CZONE_MARK;
	set_page_count(page, 0);
	first = *page;

	for (pfn = start; pfn < end; pfn += pageblock_nr_pages) {
		struct page *block_end = pfn_to_page(pfn) + pageblock_nr_pages;

		for (page = pfn_to_page(pfn); page < block_end; page++) {
			*page = first;
			INIT_LIST_HEAD(&page->lru);
			set_page_address(page, page_to_virt(page));
		}
		set_pageblock_migratetype(pfn_to_page(pfn), MIGRATE_MOVABLE);
		cond_resched();
	}
	for (pfn = start; pfn < min(end, meta_end); pfn++) {
		init_page_count(pfn_to_page(pfn));
		__SetPageReserved(pfn_to_page(pfn));
	}
}

/* The order of the steps matters: each relies on the ones before it. */
static int czone_section_online(unsigned long nr)
{
	struct czone_section *section = czone_section_at(nr);
	unsigned long start = nr * PAGES_PER_SECTION;
	unsigned long end = start + PAGES_PER_SECTION;
	struct memory_notify arg = {
		.start_pfn = start,
		.nr_pages = PAGES_PER_SECTION,
		.status_change_nid = NUMA_NO_NODE,
		.status_change_nid_normal = NUMA_NO_NODE,
	};
	int ret;

	if (WARN_ON_ONCE(section->retiring))
		return -EBUSY;
	if (section->online)
		return 0;

	ret = czone_section_alloc_maps(section, section->region->zeroed);
	if (ret)
		return ret;

	czone_notify_begin();
	section->memmap_backed = true;
	czone_section_init(section->region, start, end);
	if (highest_memmap_pfn < end - 1)
		highest_memmap_pfn = end - 1;

	/* page_ext, and the shadow of KASAN */
	ret = notifier_to_errno(memory_notify(MEM_GOING_ONLINE, &arg));
	if (ret) {
		memory_notify(MEM_CANCEL_ONLINE, &arg);
		/* NOTIFY_BAD, which some return, would be EPERM. */
		ret = -ENOMEM;
	} else {
		online_mem_sections(start, end);
		section->online = true;
		memory_notify(MEM_ONLINE, &arg);
	}
	czone_notify_end();
	return ret;
}

/* No zone is left in it, or it never went online, or the host did not take its memmap. */
static bool czone_section_is_idle(const struct czone_section *section)
{
	return !section->nr_blocks && !section->retiring && section->memmap_backed;
}

/* Nobody gets a block of this section any more. Under czone_lock. */
static void czone_section_hold(unsigned long nr)
{
	struct czone_section *section = czone_section_at(nr);
	unsigned long bit, first;

	spin_lock_irq(&czone_pool.lock);
	section->retiring = true;
	czone_pool.nr_retiring++;
	first = nr * CZONE_SECTION_BLOCKS - czone_pool.used.first;
	for (bit = 0; bit < CZONE_SECTION_BLOCKS; bit++) {
		if (__test_and_set_bit(first + bit, czone_pool.used.bits))
			continue;
		section->held |= 1U << bit;
		czone_pool.nr_free--;
	}
	spin_unlock_irq(&czone_pool.lock);
}

/* Its blocks may be had again: the host has answered, or was not asked. Any context. */
void czone_section_released(unsigned long nr, bool released)
{
	struct czone_section *section = czone_section_at(nr);
	unsigned long flags, held, bit, first;

	spin_lock_irqsave(&czone_pool.lock, flags);
	section->retiring = false;
	czone_pool.nr_retiring--;
	section->memmap_backed = !released;
	held = section->held;
	section->held = 0;
	first = nr * CZONE_SECTION_BLOCKS - czone_pool.used.first;
	for_each_set_bit(bit, &held, CZONE_SECTION_BLOCKS)
		__clear_bit(first + bit, czone_pool.used.bits);
	czone_pool.nr_free += hweight_long(held);
	spin_unlock_irqrestore(&czone_pool.lock, flags);
	wake_up_all(&czone_section_wait);
}

/* Wait for the sections that anybody has begun to give up, until @deadline. */
void czone_wait_sections(unsigned long deadline)
{
	wait_event_timeout(czone_section_wait, !READ_ONCE(czone_pool.nr_retiring),
			   max(0L, (long)(deadline - jiffies)));
}

/* A run of sections that are held. */
static int czone_sections_offline(unsigned long nr, unsigned long end)
{
	unsigned long start_pfn = nr * PAGES_PER_SECTION;
	struct memory_notify arg = {
		.start_pfn = start_pfn,
		.nr_pages = (end - nr) * PAGES_PER_SECTION,
		.status_change_nid = NUMA_NO_NODE,
		.status_change_nid_normal = NUMA_NO_NODE,
	};
	int ret;

	czone_notify_begin();
	/* Stops ksmd, among others, which must not meet MEM_OFFLINE unprepared. */
	ret = notifier_to_errno(memory_notify(MEM_GOING_OFFLINE, &arg));
	if (ret) {
		memory_notify(MEM_CANCEL_OFFLINE, &arg);
		goto end;
	}
	for (; nr < end; nr++)
		czone_section_at(nr)->online = false;
	offline_mem_sections(start_pfn, start_pfn + arg.nr_pages);
	/*
	 * Who found one of these pages in an RCU section, as a lookup in a page
	 * cache does, or in GUP-fast, may still look at its count.
	 */
	synchronize_rcu_expedited();
	memory_notify(MEM_OFFLINE, &arg);
end:
	czone_notify_end();
	return ret;
}

static void czone_sections_retire(unsigned long *retired, unsigned long nr_sections)
{
	unsigned long nr, end;

	for (nr = find_first_bit(retired, nr_sections); nr < nr_sections;
	     nr = find_next_bit(retired, nr_sections, end)) {
		end = nr + 1;
		if (!czone_section_at(nr)->online)
			continue;
		while (end < nr_sections && test_bit(end, retired) &&
		       czone_section_at(end)->online)
			end++;
		if (!czone_sections_offline(nr, end))
			continue;
		/* Somebody wants them to stay for now. */
		for (; nr < end; nr++) {
			czone_section_released(nr, false);
			__clear_bit(nr, retired);
		}
		czone_sections_changed();
	}
}

/* Look for idle sections in @delay at the latest; what is due earlier stays. */
static void czone_look_in(unsigned long delay)
{
	if (!queue_delayed_work(system_unbound_wq, &czone_section_work, delay) &&
	    time_before(jiffies + delay, READ_ONCE(czone_section_work.timer.expires)))
		mod_delayed_work(system_unbound_wq, &czone_section_work, delay);
}

/**
 * czone_give_idle_sections - give the host the memmap of sections without a zone
 * @req: on whose behalf
 * @idle: only of those that have been so for this long, in jiffies
 *
 * Nobody gets a block of these sections until the host has answered. What it
 * does not take stays idle, and is offered again in the next call.
 */
void czone_give_idle_sections(struct czone_request *req, unsigned long idle)
{
	unsigned long nr, left, nr_sections, next = ULONG_MAX;
	struct czone_section *section;
	unsigned long *retired;

	/* Pairs with czone_tables_publish(): the tables have so many. */
	nr_sections = smp_load_acquire(&czone_nr_sections);
	/* The host can take whole pages of the memmap only. */
	if (!czone_have_transport() || !IS_ALIGNED(CZONE_MEMMAP_SIZE, PMD_SIZE))
		return;
	retired = bitmap_zalloc(nr_sections, GFP_NOWAIT);
	if (!retired) {
		czone_sections_changed();
		return;
	}

	mutex_lock(&czone_lock);
	for (nr = 0; nr < nr_sections; nr++) {
		section = czone_section_at(nr);
		if (!section || !czone_section_is_idle(section))
			continue;
		left = section->idle_since + idle - jiffies;
		if ((long)left > 0) {
			next = min(next, left);
			continue;
		}
		czone_section_hold(nr);
		__set_bit(nr, retired);
	}
	mutex_unlock(&czone_lock);

	czone_sections_retire(retired, nr_sections);
	czone_give_sections(req, retired, nr_sections);
	bitmap_free(retired);
	if (next != ULONG_MAX)
		czone_look_in(next);
}

static unsigned long czone_section_delay(void)
{
	return msecs_to_jiffies(READ_ONCE(section_delay_ms));
}

static void czone_section_fn(struct work_struct *work)
{
	struct czone_request *req = czone_request_alloc(0);
	u64 result[__CZONE_RESULT_MAX];

	if (!req) {
		czone_sections_changed();
		return;
	}
	czone_give_idle_sections(req, czone_section_delay());
	czone_request_finish(req, result);
}

/* There may be idle sections, and a host that takes their memmap. */
void czone_sections_changed(void)
{
	czone_look_in(czone_section_delay());
}

/**
 * czone_find_run - first fit, or else the best there is
 * @used: bitmap of blocks
 * @size: its size
 * @want: how many free blocks in a row are wanted
 * @len: how many there are, at most @want
 *
 * Return: the first run of @want, or the longest one if all are shorter;
 * *@len is 0 if nothing is free.
 */
unsigned long czone_find_run(const unsigned long *used, unsigned long size,
			     unsigned long want, unsigned long *len)
{
	unsigned long best = 0, start, end;

	*len = 0;
	for (start = find_next_zero_bit(used, size, 0); start < size;
	     start = find_next_zero_bit(used, size, end)) {
		end = find_next_bit(used, size, start);
		if (end - start > *len) {
			best = start;
			*len = min(end - start, want);
			if (*len == want)
				break;
		}
	}
	return best;
}

static void czone_set_span(struct czone *cz, unsigned long first, unsigned long end)
{
	struct zone *zone = &cz->zone;
	unsigned long flags;

	/*
	 * Completions take zone->lock in softirq and may read the span there:
	 * they must not find its writer interrupted.
	 */
	local_irq_save(flags);
	zone_span_writelock(zone);
	zone->zone_start_pfn = czone_block_pfn(first);
	zone->spanned_pages = (end - first) << CZONE_BLOCK_ORDER;
	zone_span_writeunlock(zone);
	local_irq_restore(flags);
#if defined(CONFIG_COMPACTION) || defined(CONFIG_CMA)
	zone->compact_init_migrate_pfn = zone->zone_start_pfn;
	zone->compact_init_free_pfn = pageblock_start_pfn(zone_end_pfn(zone) - 1);
	zone->compact_cached_migrate_pfn[0] = zone->compact_init_migrate_pfn;
	zone->compact_cached_migrate_pfn[1] = zone->compact_init_migrate_pfn;
	zone->compact_cached_free_pfn = zone->compact_init_free_pfn;
#endif
}

/* The zone has lost blocks. One without blocks spans nothing, but at a place in a region. */
static void czone_narrow_span(struct czone *cz)
{
	unsigned long first = czone_first_block(cz), end = czone_end_block(cz);

	if (!zone_managed_pages(&cz->zone))
		end = first;
	while (first < end && czone_block_zone(first) != &cz->zone)
		first++;
	while (first < end && czone_block_zone(end - 1) != &cz->zone)
		end--;
	czone_set_span(cz, first, end);
}

/* Change the zone's size on the books. */
static void czone_account_blocks(struct czone *cz, long nr)
{
	struct zone *zone = &cz->zone;
	long pages = nr * (long)CZONE_BLOCK_PAGES;

	atomic_long_add(pages, &zone->managed_pages);
	zone->present_pages += pages;
	czone_pool.nr_owned += nr;
	totalram_pages_add(pages);
	czone_zone_resized(cz);
}

/* Blocks from @block to before @end, none of whose pages is on a list, become free. */
static void czone_fill_run(struct czone *cz, unsigned long block, unsigned long end, bool backed)
{
	struct free_area *area = &cz->zone.free_area[CZONE_BLOCK_ORDER];
	struct list_head *list = &area->free_list[MIGRATE_MOVABLE];
	struct page *page = pfn_to_page(czone_block_pfn(block));
	long nr = end - block;

	for (; block < end; block++, page += CZONE_BLOCK_PAGES) {
		set_page_private(page, CZONE_BLOCK_ORDER);
		__SetPageBuddy(page);
		if (backed && czone_any_backed(page, CZONE_BLOCK_ORDER))
			list_add(&page->buddy_list, list);
		else
			list_add_tail(&page->buddy_list, list);
	}
	area->nr_free += nr;
	__mod_zone_page_state(&cz->zone, NR_FREE_PAGES, nr << CZONE_BLOCK_ORDER);
}

/*
 * What __free_one_page() does for each, but there is nothing to merge with, and
 * pageblocks without an owner are movable.
 */
static void czone_fill(struct czone *cz, const struct czone_blocks *blocks)
{
	bool backed = atomic_long_read(&cz->nr_backed);
	unsigned long start, end, next, flags;

	for_each_run_in(blocks, start, end) {
		for (; start < end; start = next) {
			next = min(end, start + CZONE_FILL_BLOCKS);
			spin_lock_irqsave(&cz->zone.lock, flags);
			czone_fill_run(cz, start, next, backed);
			spin_unlock_irqrestore(&cz->zone.lock, flags);
			cond_resched();
		}
	}
}

/* Choose @nr free blocks for @cz: next to its last one, or in one run, or so. */
static int czone_take_blocks(struct czone *cz, unsigned long nr, struct czone_blocks *mine)
{
	struct czone_blocks *used = &czone_pool.used;
	unsigned long end = cz->zone.spanned_pages ? czone_end_block(cz) - used->first : 0;
	unsigned long start, len;
	int ret = 0;

	spin_lock_irq(&czone_pool.lock);
	if (nr > czone_pool.nr_free) {
		ret = -ENOSPC;
		goto unlock;
	}
	czone_pool.nr_free -= nr;

	if (end && end + nr <= used->nr && find_next_bit(used->bits, end + nr, end) >= end + nr) {
		czone_blocks_add(mine, used->first + end, nr);
		czone_blocks_add(used, used->first + end, nr);
		goto unlock;
	}
	/* The memmap at each region's head keeps a run within one region. */
	while (nr) {
		start = czone_find_run(used->bits, used->nr, nr, &len);
		czone_blocks_add(mine, used->first + start, len);
		czone_blocks_add(used, used->first + start, len);
		nr -= len;
	}
unlock:
	spin_unlock_irq(&czone_pool.lock);
	return ret;
}

/* Pages of blocks without an owner that the host has memory behind. */
unsigned long czone_pool_backed(void)
{
	return czone_park ? atomic_long_read(&czone_park->nr_backed) : 0;
}

/* The host has taken what was behind so many pages that nobody owns. Any context. */
void czone_pool_taken(unsigned long backed)
{
	atomic_long_sub(backed, &czone_park->nr_backed);
}

/* Returns how many pages these are. */
static unsigned long czone_move_backed(struct czone *from, struct czone *to,
				       const struct czone_blocks *blocks)
{
	unsigned long start, end, nr = 0;

	/* Most often there is nothing behind the pool. */
	if (!atomic_long_read(&from->nr_backed))
		return 0;
	for_each_run_in(blocks, start, end)
		nr += czone_weigh_backed(czone_block_pfn(start),
					 (end - start) << CZONE_BLOCK_ORDER);
	atomic_long_sub(nr, &from->nr_backed);
	atomic_long_add(nr, &to->nr_backed);
	return nr;
}

static int czone_run_online(unsigned long block, unsigned long end)
{
	int ret = 0;

	for (; block < end && !ret; block += czone_in_section(block, end))
		ret = czone_section_online(block / CZONE_SECTION_BLOCKS);
	return ret;
}

/* Under czone_lock. */
static void czone_give_run(struct czone *cz, unsigned long block, unsigned long end)
{
	unsigned long nr, at = block;

	for (; at < end; at += nr) {
		nr = czone_in_section(at, end);
		czone_block_section(at)->nr_blocks += nr;
	}
	for (; block < end; block++)
		WRITE_ONCE(czone_map[block], &cz->zone);
}

/*
 * Removals give memory back when there may be none left, so they must not wait
 * for any: a zone has what they need from the moment that it has the blocks.
 */
static int czone_reserve_removal(struct czone *cz, unsigned long nr)
{
	unsigned long *bits;

	if (nr <= cz->removal_max)
		return 0;
	bits = bitmap_alloc(nr, GFP_KERNEL);
	if (!bits)
		return -ENOMEM;
	bitmap_free(cz->removal.bits);
	cz->removal.bits = bits;
	cz->removal_max = nr;
	return 0;
}

/* An empty set of blocks of this zone, until the next one. Under cz->mutex. */
struct czone_blocks *czone_removal(struct czone *cz)
{
	cz->removal.first = czone_first_block(cz);
	cz->removal.nr = czone_end_block(cz) - cz->removal.first;
	bitmap_zero(cz->removal.bits, cz->removal.nr);
	return &cz->removal;
}

/* Make @cz larger by @nr blocks. Under czone_lock. All or nothing. */
int czone_add_blocks(struct czone *cz, unsigned long nr)
{
	struct czone_blocks mine = { .first = czone_pool.used.first, .nr = czone_pool.used.nr };
	unsigned long start, stop, first, end;
	int ret;

	lockdep_assert_held(&czone_lock);
	mine.bits = bitmap_zalloc(mine.nr, GFP_KERNEL);
	if (!mine.bits)
		return -ENOMEM;
	ret = czone_take_blocks(cz, nr, &mine);
	if (ret)
		goto out;

	first = czone_blocks_next(&mine, mine.first);
	end = mine.first + find_last_bit(mine.bits, mine.nr) + 1;
	if (cz->zone.spanned_pages) {
		first = min(first, czone_first_block(cz));
		end = max(end, czone_end_block(cz));
	}
	ret = czone_reserve_removal(cz, end - first);
	if (ret)
		goto free;
	for_each_run_in(&mine, start, stop) {
		ret = czone_run_online(start, stop);
		if (ret)
			goto free;
	}

	for_each_run_in(&mine, start, stop)
		czone_give_run(cz, start, stop);
	czone_move_backed(czone_park, cz, &mine);
	czone_set_span(cz, first, end);
	czone_account_blocks(cz, nr);
	czone_fill(cz, &mine);
	goto out;
free:
	for_each_run_in(&mine, start, stop)
		czone_free_blocks(start, stop - start);
out:
	bitmap_free(mine.bits);
	return ret;
}

/* Returns whether one of the sections has no zone any more. Under czone_lock. */
static bool czone_park_run(unsigned long block, unsigned long end)
{
	unsigned long nr, at = block;
	bool emptied = false;

	for (; at < end; at += nr) {
		struct czone_section *section = czone_block_section(at);

		nr = czone_in_section(at, end);
		section->nr_blocks -= nr;
		if (!section->nr_blocks) {
			section->idle_since = jiffies;
			emptied = true;
		}
	}
	for (; block < end; block++)
		WRITE_ONCE(czone_map[block], &czone_park->zone);
	return emptied;
}

/* The next owner believes that they are, see czone_fill(). */
static void czone_make_movable(const struct czone_blocks *blocks)
{
	unsigned long start, end, pfn;

	for_each_run_in(blocks, start, end)
		for (pfn = czone_block_pfn(start); pfn < czone_block_pfn(end);
		     pfn += pageblock_nr_pages)
			set_pageblock_migratetype(pfn_to_page(pfn), MIGRATE_MOVABLE);
}

/*
 * The zone loses blocks, none of whose pages is on a list or in use. They stay
 * taken until czone_free_blocks(). Returns how many of their pages are backed.
 * Under czone_lock.
 */
unsigned long czone_drop_blocks(struct czone *cz, const struct czone_blocks *blocks)
{
	unsigned long start, end, backed, nr = 0;
	bool emptied = false;

	lockdep_assert_held(&czone_lock);
	/* Nothing else makes them anything but movable. */
	if (cz->zone.nr_reserved_highatomic || page_group_by_mobility_disabled)
		czone_make_movable(blocks);
	for_each_run_in(blocks, start, end) {
		emptied |= czone_park_run(start, end);
		nr += end - start;
	}
	czone_account_blocks(cz, -(long)nr);
	if (zone_managed_pages(&cz->zone)) {
		backed = czone_move_backed(cz, czone_park, blocks);
	} else {	/* all of it, which needs no count */
		backed = atomic_long_xchg(&cz->nr_backed, 0);
		atomic_long_add(backed, &czone_park->nr_backed);
	}
	czone_narrow_span(cz);
	if (emptied)
		czone_sections_changed();
	return backed;
}

/* Blocks that nobody owns may be had again. Any context. */
void czone_free_blocks(unsigned long block, unsigned long nr)
{
	unsigned long flags, n, end = block + nr;

	spin_lock_irqsave(&czone_pool.lock, flags);
	for (; block < end; block += n) {
		struct czone_section *section = czone_block_section(block);
		unsigned long first = block % CZONE_SECTION_BLOCKS;

		n = czone_in_section(block, end);
		if (section->retiring) {
			section->held |= GENMASK(first + n - 1, first);
		} else {
			bitmap_clear(czone_pool.used.bits, block - czone_pool.used.first, n);
			czone_pool.nr_free += n;
		}
	}
	spin_unlock_irqrestore(&czone_pool.lock, flags);
}

/*
 * Take a run of free blocks at or after @from, one of which at least has memory
 * behind it, out of the pool. *@len is 0 if there is none.
 */
unsigned long czone_hold_backed_run(unsigned long from, unsigned long *len)
{
	struct czone_blocks *used = &czone_pool.used;
	unsigned long start = from;

	*len = 0;
	if (!czone_pool_backed())
		return from;
	spin_lock_irq(&czone_pool.lock);
	for (; start < used->first + used->nr; start++) {
		if (!(start % CZONE_FILL_BLOCKS)) {
			spin_unlock_irq(&czone_pool.lock);
			cond_resched();
			spin_lock_irq(&czone_pool.lock);
		}
		if (test_bit(start - used->first, used->bits) ||
		    !czone_range_backed(czone_block_pfn(start), CZONE_BLOCK_PAGES)) {
			if (*len)
				break;
			continue;
		}
		if (!*len)
			from = start;
		__set_bit(start - used->first, used->bits);
		czone_pool.nr_free--;
		++*len;
	}
	spin_unlock_irq(&czone_pool.lock);
	return from;
}

static struct czone *czone_make_park(int nid)
{
	struct czone *park = kvzalloc(sizeof(*park), GFP_KERNEL);

	if (!park)
		return NULL;
	strscpy(park->name, "czone-park");
	if (czone_zone_init(park, nid)) {
		kvfree(park);
		return NULL;
	}
	return park;
}

static void czone_free_park(struct czone *park)
{
	if (!park)
		return;
	free_percpu(park->zone.per_cpu_zonestats);
	free_percpu(park->zone.per_cpu_pageset);
	kvfree(park);
}

static void czone_widen_node(int nid, unsigned long start_pfn, unsigned long end_pfn)
{
	struct pglist_data *pgdat = NODE_DATA(nid);
	unsigned long flags;

	pgdat_resize_lock(pgdat, &flags);
	if (!pgdat->node_spanned_pages) {
		pgdat->node_start_pfn = start_pfn;
		pgdat->node_spanned_pages = end_pfn - start_pfn;
	} else {
		end_pfn = max(end_pfn, pgdat_end_pfn(pgdat));
		pgdat->node_start_pfn = min(start_pfn, pgdat->node_start_pfn);
		pgdat->node_spanned_pages = end_pfn - pgdat->node_start_pfn;
	}
	pgdat_resize_unlock(pgdat, &flags);
}

static int czone_check_region(u64 start, u64 size)
{
	u64 section = PFN_PHYS(PAGES_PER_SECTION);

	if (!size || !IS_ALIGNED(start, section) || !IS_ALIGNED(size, section) ||
	    start + size < start)
		return -EINVAL;
	if (!mhp_range_allowed(start, size, true))
		return -ERANGE;
	/*
	 * Freed pages get a pattern, but a page that the host took reads as zero.
	 * Or they are said to be zero, but memory that is new to us need not be.
	 */
	if (page_poisoning_enabled() || want_init_on_free()) {
		pr_err("czone: no zones with page_poison=1 or init_on_free=1\n");
		return -EOPNOTSUPP;
	}
	return 0;
}

/**
 * czone_region_alloc - what is known of a region
 * @first: its first block
 * @end: the block after its last one
 * @zeroed: all of it reads as zero
 *
 * Return: the region, in no list yet, or NULL.
 */
struct czone_region *czone_region_alloc(unsigned long first, unsigned long end, bool zeroed)
{
	unsigned long nr, nr_sections = (end - first) / CZONE_SECTION_BLOCKS;
	struct czone_region *region;

	region = kvzalloc(struct_size(region, section, nr_sections), GFP_KERNEL);
	if (!region)
		return NULL;
	INIT_LIST_HEAD(&region->list);
	region->first = first;
	region->end = end;
	region->nr_meta = DIV_ROUND_UP(nr_sections * CZONE_MEMMAP_SIZE, CZONE_BLOCK_SIZE);
	region->zeroed = zeroed;
	for (nr = 0; nr < nr_sections; nr++)
		region->section[nr].region = region;
	return region;
}

/**
 * czone_region_known - is there a region at these blocks?
 * @regions: all regions
 * @first: the first block
 * @end: the block after the last one
 *
 * Return: 0: no; -EEXIST: exactly this one; -EBUSY: one that overlaps it.
 */
int czone_region_known(const struct list_head *regions, unsigned long first, unsigned long end)
{
	struct czone_region *region;

	list_for_each_entry(region, regions, list) {
		if (region->first == first && region->end == end)
			return -EEXIST;
		if (first < region->end && region->first < end)
			return -EBUSY;
	}
	return 0;
}

/**
 * czone_tables_free - free tables that nobody looks at
 * @tables: NULL is fine
 */
void czone_tables_free(struct czone_tables *tables)
{
	if (!tables)
		return;
	kvfree(tables->map);
	kvfree(tables->section);
	kfree(tables);
}

static void czone_tables_free_rcu(struct rcu_head *rcu)
{
	czone_tables_free(container_of(rcu, struct czone_tables, rcu));
}

/**
 * czone_tables_add - tables with one more region
 * @old: without it; NULL if it is the first
 * @region: the region, whose blocks @park owns
 * @park: owner of what is in no region, too
 *
 * Return: new tables, or NULL.
 */
struct czone_tables *czone_tables_add(const struct czone_tables *old, struct czone_region *region,
				      struct zone *park)
{
	unsigned long nr, first = region->first, end = region->end, nr_map;
	struct czone_tables *tables;

	if (old && old->map) {
		first = min(first, old->first);
		end = max(end, old->end);
	}
	nr_map = end - first;
	tables = kzalloc(sizeof(*tables), GFP_KERNEL);
	if (!tables)
		return NULL;
	tables->first = first;
	tables->end = end;
	tables->map = kvcalloc(nr_map, sizeof(*tables->map), GFP_KERNEL);
	tables->nr_sections = max(end / CZONE_SECTION_BLOCKS, old ? old->nr_sections : 0);
	tables->section = kvcalloc(tables->nr_sections, sizeof(*tables->section), GFP_KERNEL);
	if (!tables->map || !tables->section) {
		czone_tables_free(tables);
		return NULL;
	}

	for (nr = 0; nr < nr_map; nr++)
		tables->map[nr] = park;
	if (old && old->map)
		memcpy(tables->map + (old->first - first), old->map,
		       (old->end - old->first) * sizeof(*old->map));
	if (old)
		memcpy(tables->section, old->section, old->nr_sections * sizeof(*old->section));
	for (nr = region->first / CZONE_SECTION_BLOCKS;
	     nr < region->end / CZONE_SECTION_BLOCKS; nr++)
		tables->section[nr] = &region->section[nr - region->first / CZONE_SECTION_BLOCKS];
	return tables;
}

/*
 * From now on these are the tables. Who looks at the old ones does not sleep
 * meanwhile, and what he finds there was true a moment ago.
 */
static void czone_tables_publish(struct czone_tables *tables)
{
	struct czone_tables *old = czone_tables;

	lockdep_assert_held(&czone_lock);
	czone_tables = tables;
	/* Counted from block 0, like everything. Who finds a block's page finds a filled table. */
	smp_store_release(&czone_map, tables->map - tables->first);
	/* Pairs with the dependency in czone_find_section(): filled before it is found. */
	smp_store_release(&czone_sections, tables->section);
	/* Pairs with the acquire of whoever counts sections: the table is as long. */
	smp_store_release(&czone_nr_sections, tables->nr_sections);
	if (old)
		call_rcu_tasks(&old->rcu, czone_tables_free_rcu);
}

/**
 * czone_tables_boot - tables of the boot memory alone
 *
 * Its sections have maps, of which all is backed, and nothing else; where there
 * was no memory for one it is as if the section was not there.
 *
 * Return: new tables, or NULL.
 */
struct czone_tables *czone_tables_boot(void)
{
	struct czone_tables *tables = kzalloc(sizeof(*tables), GFP_KERNEL);
	struct czone_section *section;
	unsigned long nr;

	if (!tables)
		return NULL;
	tables->nr_sections = DIV_ROUND_UP(max_pfn, PAGES_PER_SECTION);
	tables->section = kvcalloc(tables->nr_sections, sizeof(*tables->section), GFP_KERNEL);
	if (!tables->section) {
		czone_tables_free(tables);
		return NULL;
	}
	for (nr = 0; nr < tables->nr_sections; nr++) {
		if (!online_section_nr(nr))
			continue;
		section = kzalloc(sizeof(*section), GFP_KERNEL);
		if (!section || czone_section_alloc_maps(section, false)) {
			kfree(section);
			continue;
		}
		bitmap_fill(czone_section_map(section, CZONE_MAP_BACKED), PAGES_PER_SECTION);
		tables->section[nr] = section;
	}
	return tables;
}

/* Before any region. */
int __init czone_add_boot_sections(void)
{
	struct czone_tables *tables = czone_tables_boot();

	if (!tables)
		return -ENOMEM;
	mutex_lock(&czone_lock);
	czone_tables_publish(tables);
	mutex_unlock(&czone_lock);
	return 0;
}

/* The blocks of @region may be had, but those with its memmap. @bits: for all of @tables. */
static void czone_pool_add(struct czone_region *region, const struct czone_tables *tables,
			   unsigned long *bits)
{
	struct czone_blocks *used = &czone_pool.used;
	unsigned long nr_blocks = region->end - region->first;
	unsigned long *old, bit, to = used->first - tables->first;

	bitmap_fill(bits, tables->end - tables->first);
	spin_lock_irq(&czone_pool.lock);
	old = used->bits;
	for_each_clear_bit(bit, old, used->nr)
		__clear_bit(to + bit, bits);
	bitmap_clear(bits, region->first + region->nr_meta - tables->first,
		     nr_blocks - region->nr_meta);
	used->bits = bits;
	used->first = tables->first;
	used->nr = tables->end - tables->first;
	czone_pool.nr_free += nr_blocks - region->nr_meta;
	spin_unlock_irq(&czone_pool.lock);
	bitmap_free(old);
	czone_pool.nr_blocks += nr_blocks;
	czone_pool.nr_meta += region->nr_meta;
}

/**
 * czone_region_add - make a range of physical memory available for zones
 * @start: where it begins
 * @size: how large it is; both are multiples of a section
 * @zeroed: all of it reads as zero
 *
 * There must be memory at this address, which the kernel does not know yet.
 *
 * Return: 0, -EEXIST: there is this region already, -EBUSY: something else is
 * at that address.
 */
int czone_region_add(u64 start, u64 size, bool zeroed)
{
	unsigned long start_pfn = PHYS_PFN(start), nr_pages = PHYS_PFN(size);
	unsigned long first = czone_pfn_block(start_pfn), end = first + czone_pfn_block(nr_pages);
	struct vmem_altmap altmap = {
		.base_pfn = start_pfn,
		.end_pfn = start_pfn + nr_pages - 1,
	};
	struct mhp_params params = {
		.altmap = &altmap,
		.pgprot = pgprot_mhp(PAGE_KERNEL),
	};
	struct czone_tables *tables = NULL;
	struct czone_region *region = NULL;
	struct czone *park = NULL;
	unsigned long *used = NULL;
	struct resource *res;
	int nid, ret;

	ret = czone_check_region(start, size);
	if (ret)
		return ret;

	mutex_lock(&czone_lock);
	ret = czone_region_known(&czone_regions, first, end);
	if (ret)
		goto unlock;

	/* All of them belong to the node of the first. */
	nid = czone_pool.nid;
	if (!czone_park) {
		nid = memory_add_physaddr_to_nid(start);
		if (!node_online(nid))
			nid = first_online_node;
	}
	ret = -ENOMEM;
	park = czone_park ?: czone_make_park(nid);
	region = czone_region_alloc(first, end, zeroed);
	if (park && region)
		tables = czone_tables_add(czone_tables, region, &park->zone);
	if (!tables)
		goto free;
	used = bitmap_alloc(tables->end - tables->first, GFP_KERNEL);
	if (!used)
		goto free;

	ret = -EBUSY;
	res = __request_region(&iomem_resource, start, size, "System RAM (czone)",
			       IORESOURCE_SYSTEM_RAM | IORESOURCE_BUSY |
			       IORESOURCE_SYSRAM_DRIVER_MANAGED);
	if (!res)
		goto free;

	altmap.free = region->nr_meta << CZONE_BLOCK_ORDER;
	mem_hotplug_begin();
	ret = arch_add_memory(nid, start, size, &params);
	if (!ret)
		czone_widen_node(nid, start_pfn, start_pfn + nr_pages);
	mem_hotplug_done();
	if (ret) {
		release_resource(res);
		kfree(res);
		goto free;
	}

	czone_park = park;
	czone_pool.nid = nid;
	list_add_tail(&region->list, &czone_regions);
	czone_tables_publish(tables);
	czone_set_span(park, tables->first, tables->end);
	czone_pool_add(region, tables, used);
	/* Pages with the mark appear only after this. */
	static_branch_enable(&czone_key);
	pr_info("czone: %llu MiB at %#llx for zones, thereof %lu MiB for their memory map\n",
		size >> 20, start, region->nr_meta * CZONE_BLOCK_SIZE >> 20);
	goto unlock;

free:
	bitmap_free(used);
	czone_tables_free(tables);
	kvfree(region);
	if (park != czone_park)
		czone_free_park(park);
unlock:
	mutex_unlock(&czone_lock);
	return ret;
}
EXPORT_SYMBOL_GPL(czone_region_add);
