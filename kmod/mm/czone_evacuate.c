// SPDX-License-Identifier: GPL-2.0-only
/*
 * czone: moving pages, out of the way of a removal and into a zone.
 *
 * A zone is empty once its container is gone, but for files that others may
 * still want: clean file pages are dropped, the rest migrates to wherever its
 * owner's memory comes from now. The other way round, a cgroup that gets a zone
 * late can take along what it has.
 */
#include <linux/list.h>
#include <linux/memory_hotplug.h>
#include <linux/migrate.h>
#include <linux/mm_inline.h>
#include <linux/mmap_lock.h>
#include <linux/pagewalk.h>
#include <linux/sched/mm.h>
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

		/* Struct pages of others' blocks may be with the host: do not look. */
		if (czone_block_zone(czone_pfn_block(pfn)) != &cz->zone) {
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
 *
 * Return: 0 when it has been tried with all pages, -ETIMEDOUT.
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

/*
 * Into a zone
 *
 * Two kinds of pages belong there: those that are charged to the zone's cgroup,
 * whoever uses them, and those that its tasks have brought along from another
 * one. The latter change hands when they move, or charge and place would differ.
 */
struct czone_intake {
	struct czone *cz;
	unsigned long deadline;
	u64 *result;
	struct list_head folios;	/* isolated */
	unsigned int nr_folios;
	unsigned long nr_pages;
	bool full;
	struct mem_cgroup *memcg;	/* who is charged from now on, NULL: who was before */
	unsigned long addr;		/* how far a task's memory has been looked through */
};

static bool czone_intake_ends(const struct czone_intake *in)
{
	return time_after_eq(jiffies, in->deadline) || fatal_signal_pending(current);
}

static struct folio *czone_alloc_inside(struct folio *src, unsigned long private)
{
	struct czone_intake *in = (struct czone_intake *)private;
	gfp_t gfp = GFP_HIGHUSER_MOVABLE | __GFP_NORETRY | __GFP_NOWARN;
	struct mem_cgroup *old;
	struct folio *dst;

	if (in->full)
		return NULL;
	old = set_active_memcg(in->memcg ?: folio_memcg(src));
	dst = __folio_alloc(gfp, folio_order(src), zone_to_nid(&in->cz->zone), NULL);
	/* A zone that spills is as full as one that does not. */
	if (dst && (folio_zone(dst) != &in->cz->zone ||
		    (in->memcg && mem_cgroup_charge(dst, NULL, gfp)))) {
		folio_put(dst);
		dst = NULL;
	}
	set_active_memcg(old);
	/* A large folio is split, and tried again in pieces. */
	if (!dst && !folio_test_large(src))
		in->full = true;
	return dst;
}

/* Only what is on an LRU list is of interest here. */
static void czone_count_left(struct czone_intake *in, struct folio *folio)
{
	enum czone_result cause = CZONE_RESULT_STUCK_OTHER;

	if (folio_maybe_dma_pinned(folio))
		cause = CZONE_RESULT_STUCK_PINNED;
	else if (in->full)
		cause = CZONE_RESULT_STUCK_FULL;
	in->result[cause] += PFN_PHYS(folio_nr_pages(folio));
}

static void czone_take_in(struct czone_intake *in)
{
	unsigned long left = 0;
	struct folio *folio;

	if (migrate_pages(&in->folios, czone_alloc_inside, NULL, (unsigned long)in, MIGRATE_SYNC,
			  MR_SYSCALL, NULL)) {
		list_for_each_entry(folio, &in->folios, lru) {
			czone_count_left(in, folio);
			left += folio_nr_pages(folio);
		}
		putback_movable_pages(&in->folios);
	}
	in->result[CZONE_RESULT_MIGRATED] += PFN_PHYS(in->nr_pages - min(in->nr_pages, left));
	in->nr_folios = 0;
	in->nr_pages = 0;
}

static bool czone_charges(const struct czone *cz, struct folio *folio)
{
	struct mem_cgroup *memcg = folio_memcg_check(folio);

	return memcg && READ_ONCE(memcg->czone) == cz;
}

/* Metadata of file systems stays out of zones, here as in czone_route(). */
static bool czone_wants_folio(struct folio *folio)
{
	struct address_space *mapping = folio_mapping(folio);

	return !folio_test_hugetlb(folio) &&
	       (!mapping || folio_test_swapbacked(folio) ||
		czone_wants_gfp(mapping_gfp_mask(mapping)));
}

/* A folio at @pfn, with a reference, that should lie in the zone; and where to look next. */
static struct folio *czone_find_outside(struct czone *cz, unsigned long pfn, unsigned long *next)
{
	struct folio *folio = NULL;
	struct page *page;

	/* Nobody takes the struct pages away meanwhile, or frees a mapping. */
	rcu_read_lock();
	page = pfn_to_online_page(pfn);
	if (!page || page_zone(page) == &cz->zone || !zone_managed_pages(page_zone(page))) {
		*next = pageblock_end_pfn(pfn);
		goto unlock;
	}
	*next = pfn + czone_page_span(page);
	if (!PageLRU(page))
		goto unlock;
	folio = folio_get_nontail_page(page);
	if (folio && (!czone_charges(cz, folio) || !czone_wants_folio(folio))) {
		folio_put(folio);
		folio = NULL;
	}
unlock:
	rcu_read_unlock();
	return folio;
}

static int czone_take_in_range(struct czone_intake *in, unsigned long pfn, unsigned long end_pfn)
{
	struct folio *folio;
	unsigned long nr;
	int ret = 0;

	while (pfn < end_pfn) {
		cond_resched();
		if (czone_intake_ends(in)) {
			ret = -ETIMEDOUT;
			break;
		}
		folio = czone_find_outside(in->cz, pfn, &pfn);
		if (!folio)
			continue;
		nr = folio_nr_pages(folio);
		if (in->full || folio_maybe_dma_pinned(folio) ||
		    !isolate_folio_to_list(folio, &in->folios)) {
			czone_count_left(in, folio);
		} else {
			in->nr_pages += nr;
			in->nr_folios++;
		}
		folio_put(folio);
		if (in->nr_folios == CZONE_EVACUATE_BATCH)
			czone_take_in(in);
	}
	if (in->nr_folios)
		czone_take_in(in);
	return ret;
}

/* Nobody else's page is taken: what several processes map stays with who pays for it. */
static void czone_consider(struct czone_intake *in, struct folio *folio, unsigned long nr)
{
	if (!folio_test_anon(folio) || folio_test_ksm(folio) || folio_test_swapcache(folio) ||
	    folio_likely_mapped_shared(folio) || czone_charges(in->cz, folio))
		return;
	if (in->full) {
		in->result[CZONE_RESULT_STUCK_FULL] += PFN_PHYS(nr);
	} else if (folio_maybe_dma_pinned(folio)) {
		in->result[CZONE_RESULT_STUCK_PINNED] += PFN_PHYS(nr);
	} else if (isolate_folio_to_list(folio, &in->folios)) {
		in->nr_pages += folio_nr_pages(folio);
		in->nr_folios++;
	}
}

static int czone_consider_pmd(pmd_t *pmd, unsigned long addr, unsigned long end,
			      struct mm_walk *walk)
{
	struct czone_intake *in = walk->private;
	struct folio *folio;
	pte_t *start, *pte;
	spinlock_t *ptl;	/* of the page table */

	ptl = pmd_trans_huge_lock(pmd, walk->vma);
	if (ptl) {
		__acquire(ptl);		/* sparse does not see it */
		if (pmd_present(*pmd) && !is_huge_zero_pmd(*pmd))
			czone_consider(in, pmd_folio(*pmd), HPAGE_PMD_NR);
		spin_unlock(ptl);
		goto out;
	}
	start = pte_offset_map_lock(walk->mm, pmd, addr, &ptl);
	if (!start) {
		walk->action = ACTION_AGAIN;
		return 0;
	}
	__acquire(RCU);		/* pte_unmap() ends it; nor does it see where that begins */
	for (pte = start; addr < end; pte++, addr += PAGE_SIZE) {
		pte_t ptent = ptep_get(pte);

		folio = pte_present(ptent) ? vm_normal_folio(walk->vma, addr, ptent) : NULL;
		if (folio && !folio_is_zone_device(folio))
			czone_consider(in, folio, 1);
	}
	pte_unmap_unlock(start, ptl);
out:
	in->addr = end;
	cond_resched();
	return in->nr_folios >= CZONE_EVACUATE_BATCH || czone_intake_ends(in);
}

static const struct mm_walk_ops czone_consider_ops = {
	.pmd_entry = czone_consider_pmd,
	.walk_lock = PGWALK_RDLOCK,
};

/* Memory of a task that came from another cgroup. Non-zero ends the walk over tasks. */
static int czone_take_in_task(struct task_struct *task, void *arg)
{
	struct czone_intake *in = arg;
	struct mm_struct *mm = get_task_mm(task);
	int more = 1;

	if (!mm)
		return 0;
	in->memcg = get_mem_cgroup_from_mm(mm);
	in->addr = 0;
	while (more > 0 && READ_ONCE(in->memcg->czone) == in->cz && !czone_intake_ends(in)) {
		/* The task is not to be trusted with our time. */
		if (!mmap_read_trylock(mm)) {
			schedule_timeout_killable(1);
			continue;
		}
		more = walk_page_range(mm, in->addr, mm->task_size, &czone_consider_ops, in);
		mmap_read_unlock(mm);
		/* Migration takes locks of its own. */
		if (in->nr_folios)
			czone_take_in(in);
	}
	mem_cgroup_put(in->memcg);
	in->memcg = NULL;
	mmput(mm);
	return czone_intake_ends(in);
}

static void czone_take_in_tasks(struct czone_intake *in)
{
	struct mem_cgroup *memcg = czone_get_memcg(in->cz);

	if (!memcg)
		return;
	mem_cgroup_scan_tasks(memcg, czone_take_in_task, in);
	css_put(&memcg->css);
}

/**
 * czone_move_in - move what the zone's cgroup has elsewhere into the zone
 * @cz: the zone; its mutex is held
 * @deadline: in jiffies
 * @result: migrated bytes are added; what stays is counted by cause
 *
 * All memory is looked through, as a page does not tell its cgroup's others,
 * and then the private memory of the cgroup's tasks. Clean cache in the zone may
 * be dropped, but nobody is killed for it.
 *
 * Return: 0, -ENOSPC: the zone is full, or its cgroup is, -ETIMEDOUT: the time
 * was over.
 */
int czone_move_in(struct czone *cz, unsigned long deadline, u64 *result)
{
	struct czone_intake in = {
		.cz = cz,
		.deadline = deadline,
		.result = result,
		.folios = LIST_HEAD_INIT(in.folios),
	};
	int nid, round, ret = 0;

	for (round = 0; round < CZONE_EVACUATE_ROUNDS; round++) {
		result[CZONE_RESULT_STUCK_PINNED] = 0;
		result[CZONE_RESULT_STUCK_OTHER] = 0;
		/* Folios on their way to the LRU cannot be isolated. */
		lru_add_drain_all();
		for_each_online_node(nid) {
			ret = czone_take_in_range(&in, node_start_pfn(nid), node_end_pfn(nid));
			if (ret)
				return ret;
		}
		czone_take_in_tasks(&in);
		if (czone_intake_ends(&in))
			return -ETIMEDOUT;
		if (in.full)
			return -ENOSPC;
		if (!result[CZONE_RESULT_STUCK_OTHER])
			break;
	}
	return 0;
}
