// SPDX-License-Identifier: GPL-2.0-only
/*
 * czone: moving pages out of the way of a removal.
 *
 * A zone is empty once its container is gone, but for files that others may
 * still want: clean file pages are dropped, the rest migrates to wherever its
 * owner's memory comes from now.
 */
#include <linux/list.h>
#include <linux/memory_hotplug.h>
#include <linux/migrate.h>
#include <linux/mm_inline.h>
#include <linux/sched/signal.h>
#include <linux/swap.h>

#include "internal.h"
#include "czone_internal.h"

#define CZONE_EVACUATE_BATCH	SWAP_CLUSTER_MAX	/* folios isolated at once */
#define CZONE_EVACUATE_ROUNDS	3

/* How many pages this is, at the start of a free or used block. */
static unsigned long czone_page_span(struct page *page)
{
	unsigned int order = 0;

	if (PageBuddy(page))
		order = buddy_order_unsafe(page);
	else if (PageCompound(page))
		order = compound_order(page);
	return order <= MAX_PAGE_ORDER ? 1UL << order : 1;
}

/* Returns how many pages were isolated. */
static unsigned long czone_isolate(struct page *page, struct list_head *list)
{
	struct folio *folio = page_folio(page);
	unsigned long nr = 0;

	if (!folio_try_get(folio))
		return 0;
	/* It may have been freed, and used again, before we had our reference. */
	if (page_folio(page) == folio && !folio_test_hwpoison(folio) &&
	    !folio_maybe_dma_pinned(folio) && isolate_folio_to_list(folio, list))
		nr = folio_nr_pages(folio);
	folio_put(folio);
	return nr;
}

/* Get rid of the folios on @list, which had @nr pages. */
static void czone_move(struct czone *cz, struct list_head *list, unsigned long nr, u64 *result)
{
	struct migration_target_control mtc = {
		.nid = zone_to_nid(&cz->zone),
		.gfp_mask = GFP_USER | __GFP_MOVABLE | __GFP_RETRY_MAYFAIL | __GFP_NOWARN,
		.reason = MR_MEMORY_HOTPLUG,
	};
	unsigned long dropped, left = 0;
	struct folio *folio;

	dropped = reclaim_clean_pages_from_list(&cz->zone, list);
	if (!list_empty(list) &&
	    migrate_pages(list, alloc_migration_target, NULL, (unsigned long)&mtc, MIGRATE_SYNC,
			  MR_MEMORY_HOTPLUG, NULL)) {
		list_for_each_entry(folio, list, lru)
			left += folio_nr_pages(folio);
		putback_movable_pages(list);
	}
	result[CZONE_RESULT_DROPPED] += PFN_PHYS(dropped);
	result[CZONE_RESULT_MIGRATED] += PFN_PHYS(nr - min(nr, dropped + left));
}

static int czone_evacuate_range(struct czone *cz, unsigned long start_pfn, unsigned long end_pfn,
				unsigned long deadline, u64 *result)
{
	unsigned long pfn, nr = 0;
	unsigned int folios = 0;
	LIST_HEAD(list);

	for (pfn = start_pfn; pfn < end_pfn;) {
		struct page *page = pfn_to_page(pfn);
		unsigned long n;

		if (page_zone(page) != &cz->zone) {
			pfn = round_down(pfn, CZONE_BLOCK_PAGES) + CZONE_BLOCK_PAGES;
			continue;
		}
		n = PageBuddy(page) ? 0 : czone_isolate(page, &list);
		nr += n;
		pfn += n ?: czone_page_span(page);
		if (n && ++folios == CZONE_EVACUATE_BATCH) {
			czone_move(cz, &list, nr, result);
			nr = 0;
			folios = 0;
		}
		if (time_after_eq(jiffies, deadline) || fatal_signal_pending(current))
			break;
		cond_resched();
	}
	if (folios)
		czone_move(cz, &list, nr, result);
	return pfn < end_pfn ? -ETIMEDOUT : 0;
}

static bool czone_is_empty(struct czone *cz)
{
	return zone_page_state(&cz->zone, NR_FREE_PAGES) == zone_managed_pages(&cz->zone);
}

/**
 * czone_evacuate - move all pages out of a range of a zone
 * @cz: the zone; its mutex is held
 * @start_pfn: begin of the range
 * @end_pfn: its end
 * @deadline: in jiffies
 * @result: dropped and migrated bytes are added
 *
 * Where the pages go is for the cgroups to say that own them: nothing keeps
 * them from being allocated in the same range, unless the zone is closing or
 * the range is isolated.
 */
int czone_evacuate(struct czone *cz, unsigned long start_pfn, unsigned long end_pfn,
		   unsigned long deadline, u64 *result)
{
	int round, ret = 0;

	for (round = 0; round < CZONE_EVACUATE_ROUNDS && !ret; round++) {
		drain_all_pages(&cz->zone);
		if (czone_is_empty(cz))
			return 0;
		/* Folios on their way to the LRU cannot be isolated. */
		lru_add_drain_all();
		ret = czone_evacuate_range(cz, start_pfn, end_pfn, deadline, result);
	}
	drain_all_pages(&cz->zone);
	return ret;
}

/* What is in use, and why it could not be moved. */
void czone_count_stuck(struct czone *cz, u64 *result)
{
	unsigned long pfn, end_pfn = zone_end_pfn(&cz->zone);

	for (pfn = cz->zone.zone_start_pfn; pfn < end_pfn;) {
		struct page *page = pfn_to_page(pfn);
		struct folio *folio;
		unsigned long n;

		if (czone_block_zone(czone_pfn_block(pfn)) != &cz->zone) {
			pfn = round_down(pfn, CZONE_BLOCK_PAGES) + CZONE_BLOCK_PAGES;
			continue;
		}
		n = czone_page_span(page);
		pfn += n;
		cond_resched();
		if (PageBuddy(page) || (!page_count(page) && !PageHWPoison(page)))
			continue;

		folio = page_folio(page);
		if (PageHWPoison(page)) {
			result[CZONE_RESULT_STUCK_POISONED] += PFN_PHYS(n);
		} else if (!folio_try_get(folio)) {
			result[CZONE_RESULT_STUCK_OTHER] += PFN_PHYS(n);
		} else {
			if (folio_maybe_dma_pinned(folio) ||
			    (!folio_test_lru(folio) && !__folio_test_movable(folio)))
				result[CZONE_RESULT_STUCK_PINNED] += PFN_PHYS(n);
			else
				result[CZONE_RESULT_STUCK_OTHER] += PFN_PHYS(n);
			folio_put(folio);
		}
	}
}
