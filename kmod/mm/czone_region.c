// SPDX-License-Identifier: GPL-2.0-only
/*
 * czone: the region of physical memory that zones are made of, cut into blocks
 * of the largest buddy order.
 *
 * The memmap of the whole region lies at the region's own head, so that a large
 * region costs boot memory next to nothing. The struct pages of a section are
 * undefined until the first zone needs a block of it, and become undefined again
 * when the last one has gone: then the host gets that memory back as well.
 */
#include <linux/bitmap.h>
#include <linux/cpu.h>
#include <linux/ioport.h>
#include <linux/memory.h>
#include <linux/memory_hotplug.h>
#include <linux/memremap.h>
#include <linux/numa.h>
#include <linux/mm.h>
#include <linux/page-isolation.h>
#include <linux/rcupdate.h>
#include <linux/sched.h>
#include <linux/slab.h>

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

DEFINE_MUTEX(czone_lock);	/* who owns what, see czone_internal.h */

struct czone_pool czone_pool = {
	.lock = __SPIN_LOCK_UNLOCKED(czone_pool.lock),
};

/* Owner of all blocks that no zone owns; spans the region, has no free pages. */
static struct czone *czone_park;

phys_addr_t czone_section_memmap(unsigned long nr)
{
	return PFN_PHYS(czone_pool.start_pfn) + nr * CZONE_MEMMAP_SIZE;
}

unsigned long czone_memmap_section(phys_addr_t addr)
{
	return (addr - PFN_PHYS(czone_pool.start_pfn)) / CZONE_MEMMAP_SIZE;
}

static unsigned long czone_nr_sections(void)
{
	return czone_pool.nr_blocks / CZONE_SECTION_BLOCKS;
}

static struct czone_section *czone_block_section(unsigned long block)
{
	return &czone_pool.section[block / CZONE_SECTION_BLOCKS];
}

/* What notifiers of memory hotplug expect to be held; no other hotplug, either. */
static void czone_notify_begin(void)
{
	cpus_read_lock();
	get_online_mems();
}

static void czone_notify_end(void)
{
	put_online_mems();
	cpus_read_unlock();
}

/* The order of the steps matters: each relies on the ones before it. */
static int __ref czone_section_online(unsigned long nr)
{
	struct czone_section *section = &czone_pool.section[nr];
	unsigned long start = czone_pool.start_pfn + nr * PAGES_PER_SECTION;
	unsigned long end = start + PAGES_PER_SECTION;
	unsigned long meta_end = czone_block_pfn(czone_pool.nr_meta);
	struct memory_notify arg = {
		.start_pfn = start,
		.nr_pages = PAGES_PER_SECTION,
		.status_change_nid = NUMA_NO_NODE,
		.status_change_nid_normal = NUMA_NO_NODE,
	};
	unsigned long pfn;
	int ret;

	if (section->state == CZONE_SECTION_ONLINE)
		return 0;
	if (WARN_ON_ONCE(section->state == CZONE_SECTION_RELEASING))
		return -EBUSY;

	ret = czone_section_alloc_maps(section);
	if (ret)
		return ret;

	czone_notify_begin();
	section->memmap_backed = true;
	for (pfn = start; pfn < end; pfn++) {
		struct page *page = pfn_to_page(pfn);

		__init_single_page(page, pfn, ZONE_MOVABLE, czone_pool.nid);
		page->flags |= CZONE_MARK;
		if (pfn < meta_end)
			__SetPageReserved(page);
		else
			set_page_count(page, 0);
		if (pageblock_aligned(pfn)) {
			set_pageblock_migratetype(page, MIGRATE_MOVABLE);
			cond_resched();
		}
	}
	if (highest_memmap_pfn < end - 1)
		highest_memmap_pfn = end - 1;

	/* page_ext, and the shadow of KASAN */
	ret = notifier_to_errno(memory_notify(MEM_GOING_ONLINE, &arg));
	if (ret) {
		memory_notify(MEM_CANCEL_ONLINE, &arg);
	} else {
		online_mem_sections(start, end);
		section->state = CZONE_SECTION_ONLINE;
		memory_notify(MEM_ONLINE, &arg);
	}
	czone_notify_end();
	return ret;
}

static bool czone_section_is_idle(unsigned long nr)
{
	struct czone_section *section = &czone_pool.section[nr];

	return section->state == CZONE_SECTION_ONLINE && !section->nr_blocks;
}

/* The host did not take its memmap, or it never went online. */
static bool czone_section_is_left(unsigned long nr)
{
	struct czone_section *section = &czone_pool.section[nr];

	return section->state == CZONE_SECTION_RAW && section->memmap_backed;
}

/* Nobody gets a block of this section any more. */
static void czone_section_hold(unsigned long nr)
{
	struct czone_section *section = &czone_pool.section[nr];
	unsigned long bit;

	spin_lock_irq(&czone_pool.lock);
	section->state = CZONE_SECTION_RELEASING;
	for (bit = 0; bit < CZONE_SECTION_BLOCKS; bit++) {
		if (__test_and_set_bit(nr * CZONE_SECTION_BLOCKS + bit, czone_pool.used))
			continue;
		section->held |= 1U << bit;
		czone_pool.nr_free--;
	}
	spin_unlock_irq(&czone_pool.lock);
}

/* A run of idle sections. */
static int czone_sections_offline(unsigned long nr, unsigned long end)
{
	unsigned long start_pfn = czone_pool.start_pfn + nr * PAGES_PER_SECTION;
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
		czone_section_hold(nr);
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

/**
 * czone_retire_sections - give up the struct pages of sections without a zone
 * @retired: bitmap, gets the sections whose memmap may go to the host
 *
 * Until czone_section_released() nobody gets a block of these sections.
 * Returns whether there are any. Under czone_lock.
 */
bool czone_retire_sections(unsigned long *retired)
{
	unsigned long nr, end, nr_sections = czone_nr_sections();

	lockdep_assert_held(&czone_lock);
	/* The host can take whole pages of the memmap only. */
	if (!IS_ALIGNED(CZONE_MEMMAP_SIZE, PMD_SIZE))
		return false;

	for (nr = 0; nr < nr_sections; nr = end) {
		end = nr + 1;
		if (czone_section_is_idle(nr)) {
			while (end < nr_sections && czone_section_is_idle(end))
				end++;
			if (!czone_sections_offline(nr, end))
				bitmap_set(retired, nr, end - nr);
		} else if (czone_section_is_left(nr)) {
			czone_section_hold(nr);
			__set_bit(nr, retired);
		}
	}
	return !bitmap_empty(retired, nr_sections);
}

/* The host has answered: the section's blocks may be had again. Any context. */
void czone_section_released(unsigned long nr, bool released)
{
	struct czone_section *section = &czone_pool.section[nr];
	unsigned long flags, held, bit;

	spin_lock_irqsave(&czone_pool.lock, flags);
	section->state = CZONE_SECTION_RAW;
	section->memmap_backed = !released;
	held = section->held;
	section->held = 0;
	for_each_set_bit(bit, &held, CZONE_SECTION_BLOCKS)
		__clear_bit(nr * CZONE_SECTION_BLOCKS + bit, czone_pool.used);
	czone_pool.nr_free += hweight_long(held);
	spin_unlock_irqrestore(&czone_pool.lock, flags);
}

/**
 * czone_find_run - first fit, or else the best there is
 * @used: bitmap of blocks
 * @size: its size
 * @want: how many free blocks in a row are wanted
 * @len: how many there are, at most @want
 *
 * Returns the first run of @want, or the longest one if all are shorter;
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

/* A zone without blocks spans nothing, but at a place inside the region. */
static void czone_update_span(struct czone *cz)
{
	unsigned long block, first = 0, end = 0;

	for (block = 0; block < czone_pool.nr_blocks; block++) {
		if (czone_block_zone(block) != &cz->zone)
			continue;
		if (!end)
			first = block;
		end = block + 1;
	}
	czone_set_span(cz, first, end);
}

/* Change the zone's size on the books. */
static void czone_account_blocks(struct czone *cz, long nr)
{
	struct zone *zone = &cz->zone;
	long pages = nr * (long)CZONE_BLOCK_PAGES;

	atomic_long_add(pages, &zone->managed_pages);
	zone->present_pages += pages;
	totalram_pages_add(pages);
	czone_zone_resized(cz);
}

static void czone_fill(struct czone *cz, const unsigned long *blocks)
{
	struct zone *zone = &cz->zone;
	unsigned long block, flags;
	unsigned int budget = 0;

	spin_lock_irqsave(&zone->lock, flags);
	for_each_set_bit(block, blocks, czone_pool.nr_blocks) {
		struct page *page = pfn_to_page(czone_block_pfn(block));

		if (++budget > CZONE_FILL_BLOCKS) {
			budget = 0;
			spin_unlock_irqrestore(&zone->lock, flags);
			cond_resched();
			spin_lock_irqsave(&zone->lock, flags);
		}
		__putback_isolated_page(page, CZONE_BLOCK_ORDER, get_pageblock_migratetype(page));
	}
	spin_unlock_irqrestore(&zone->lock, flags);
}

/* Choose @nr free blocks for @cz: next to its last one, or in one run, or so. */
static int czone_take_blocks(struct czone *cz, unsigned long nr, unsigned long *mine)
{
	unsigned long end = cz->zone.spanned_pages ? czone_end_block(cz) : 0;
	unsigned long start, len;
	int ret = 0;

	spin_lock_irq(&czone_pool.lock);
	if (nr > czone_pool.nr_free) {
		ret = -ENOSPC;
		goto unlock;
	}
	czone_pool.nr_free -= nr;

	if (end && end + nr <= czone_pool.nr_blocks &&
	    find_next_bit(czone_pool.used, end + nr, end) >= end + nr) {
		bitmap_set(mine, end, nr);
		bitmap_set(czone_pool.used, end, nr);
		goto unlock;
	}
	while (nr) {
		start = czone_find_run(czone_pool.used, czone_pool.nr_blocks, nr, &len);
		bitmap_set(mine, start, len);
		bitmap_set(czone_pool.used, start, len);
		nr -= len;
	}
unlock:
	spin_unlock_irq(&czone_pool.lock);
	return ret;
}

/* Make @cz larger by @nr blocks. Under czone_lock. All or nothing. */
int czone_add_blocks(struct czone *cz, unsigned long nr)
{
	unsigned long *mine, block;
	int ret;

	lockdep_assert_held(&czone_lock);
	mine = bitmap_zalloc(czone_pool.nr_blocks, GFP_KERNEL);
	if (!mine)
		return -ENOMEM;
	ret = czone_take_blocks(cz, nr, mine);
	if (ret)
		goto out;

	for_each_set_bit(block, mine, czone_pool.nr_blocks) {
		ret = czone_section_online(block / CZONE_SECTION_BLOCKS);
		if (ret) {
			for_each_set_bit(block, mine, czone_pool.nr_blocks)
				czone_free_blocks(block, 1);
			goto out;
		}
	}

	for_each_set_bit(block, mine, czone_pool.nr_blocks) {
		czone_block_section(block)->nr_blocks++;
		atomic_long_add(czone_weigh_backed(czone_block_pfn(block), CZONE_BLOCK_PAGES),
				&cz->nr_backed);
		WRITE_ONCE(czone_map[block], &cz->zone);
	}
	czone_update_span(cz);
	czone_account_blocks(cz, nr);
	czone_fill(cz, mine);
out:
	bitmap_free(mine);
	return ret;
}

/*
 * The zone loses blocks, none of whose pages is on a list or in use. They stay
 * taken until czone_free_blocks(). Under czone_lock.
 */
void czone_drop_blocks(struct czone *cz, const unsigned long *blocks)
{
	unsigned long block, nr = 0;

	lockdep_assert_held(&czone_lock);
	for_each_set_bit(block, blocks, czone_pool.nr_blocks) {
		WRITE_ONCE(czone_map[block], &czone_park->zone);
		czone_block_section(block)->nr_blocks--;
		atomic_long_sub(czone_weigh_backed(czone_block_pfn(block), CZONE_BLOCK_PAGES),
				&cz->nr_backed);
		nr++;
	}
	czone_update_span(cz);
	czone_account_blocks(cz, -(long)nr);
}

/* Blocks that nobody owns may be had again. Any context. */
void czone_free_blocks(unsigned long block, unsigned long nr)
{
	unsigned long flags;

	spin_lock_irqsave(&czone_pool.lock, flags);
	for (; nr; nr--, block++) {
		struct czone_section *section = czone_block_section(block);

		if (section->state == CZONE_SECTION_RELEASING) {
			section->held |= 1U << (block % CZONE_SECTION_BLOCKS);
		} else {
			__clear_bit(block, czone_pool.used);
			czone_pool.nr_free++;
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
	unsigned long start = from;

	*len = 0;
	spin_lock_irq(&czone_pool.lock);
	for (; start < czone_pool.nr_blocks; start++) {
		if (!(start % CZONE_FILL_BLOCKS)) {
			spin_unlock_irq(&czone_pool.lock);
			cond_resched();
			spin_lock_irq(&czone_pool.lock);
		}
		if (test_bit(start, czone_pool.used) ||
		    !czone_weigh_backed(czone_block_pfn(start), CZONE_BLOCK_PAGES)) {
			if (*len)
				break;
			continue;
		}
		if (!*len)
			from = start;
		__set_bit(start, czone_pool.used);
		czone_pool.nr_free--;
		++*len;
	}
	spin_unlock_irq(&czone_pool.lock);
	return from;
}

static struct czone *czone_make_park(unsigned long start_pfn, unsigned long nr_pages, int nid)
{
	struct czone *park = kvzalloc(sizeof(*park), GFP_KERNEL);

	if (!park)
		return NULL;
	strscpy(park->name, "czone-park");
	if (czone_zone_init(park, nid)) {
		kvfree(park);
		return NULL;
	}
	park->zone.zone_start_pfn = start_pfn;
	park->zone.spanned_pages = nr_pages;
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
 * czone_region_add - make a range of physical memory available for zones
 * @start: where it begins
 * @size: how large it is; both are multiples of a section
 * @zeroed: all of it reads as zero
 *
 * There must be memory at this address, which the kernel does not know yet.
 * One region is supported, -EEXIST says that there is one. -EBUSY: something
 * else is at that address.
 */
int czone_region_add(u64 start, u64 size, bool zeroed)
{
	unsigned long start_pfn = PHYS_PFN(start), nr_pages = PHYS_PFN(size);
	unsigned long nr_blocks = nr_pages >> CZONE_BLOCK_ORDER;
	unsigned long nr_sections = nr_pages / PAGES_PER_SECTION;
	unsigned long meta = ALIGN(nr_sections * CZONE_MEMMAP_SIZE, CZONE_BLOCK_SIZE);
	struct vmem_altmap altmap = {
		.base_pfn = start_pfn,
		.end_pfn = start_pfn + nr_pages - 1,
		.free = PHYS_PFN(meta),
	};
	struct mhp_params params = {
		.altmap = &altmap,
		.pgprot = pgprot_mhp(PAGE_KERNEL),
	};
	struct czone_section *section = NULL;
	unsigned long *used = NULL, block;
	struct zone **map = NULL;
	struct resource *res;
	struct czone *park;
	int nid, ret;

	ret = czone_check_region(start, size);
	if (ret)
		return ret;
	nid = memory_add_physaddr_to_nid(start);
	if (!node_online(nid))
		nid = first_online_node;

	mutex_lock(&czone_lock);
	ret = -EEXIST;
	if (czone_pool.nr_blocks)
		goto unlock;

	ret = -ENOMEM;
	park = czone_make_park(start_pfn, nr_pages, nid);
	map = kvcalloc(nr_blocks, sizeof(*map), GFP_KERNEL);
	used = bitmap_zalloc(nr_blocks, GFP_KERNEL);
	section = kvcalloc(nr_sections, sizeof(*section), GFP_KERNEL);
	if (!park || !map || !used || !section)
		goto free;
	for (block = 0; block < nr_blocks; block++)
		map[block] = &park->zone;
	bitmap_set(used, 0, meta >> CZONE_BLOCK_SHIFT);

	ret = -EBUSY;
	res = __request_region(&iomem_resource, start, size, "System RAM (czone)",
			       IORESOURCE_SYSTEM_RAM | IORESOURCE_BUSY |
			       IORESOURCE_SYSRAM_DRIVER_MANAGED);
	if (!res)
		goto free;

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
	czone_base_pfn = start_pfn;
	WRITE_ONCE(czone_map, map);
	czone_pool.start_pfn = start_pfn;
	czone_pool.zeroed = zeroed;
	czone_pool.nid = nid;
	czone_pool.section = section;
	czone_pool.used = used;
	czone_pool.nr_meta = meta >> CZONE_BLOCK_SHIFT;
	czone_pool.nr_free = nr_blocks - czone_pool.nr_meta;
	czone_pool.nr_blocks = nr_blocks;
	/* Pages with the mark appear only after this. */
	static_branch_enable(&czone_key);
	pr_info("czone: %llu MiB at %#llx for zones, thereof %lu MiB for their memory map\n",
		size >> 20, start, meta >> 20);
	goto unlock;

free:
	kvfree(section);
	bitmap_free(used);
	kvfree(map);
	czone_free_park(park);
unlock:
	mutex_unlock(&czone_lock);
	return ret;
}
EXPORT_SYMBOL_GPL(czone_region_add);
