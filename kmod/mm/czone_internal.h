/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * czone: what the parts under mm/ share.
 *
 * Locks, outermost first:
 *	czone->mutex	one lengthy operation at a time per zone
 *	czone_lock	the pool: who owns which block, sections, ids
 *	czone_pool.lock	the pool's bitmap, also from completions
 *	zone->lock	as everywhere
 * czone_memcg_lock guards the ties between zones and memory cgroups and nests
 * inside all of them.
 */
#ifndef _MM_CZONE_INTERNAL_H
#define _MM_CZONE_INTERNAL_H

#include <linux/czone_hooks.h>
#include <linux/memcontrol.h>
#include <linux/mm.h>
#include <linux/mmzone.h>
#include <linux/pagemap.h>
#include <linux/sched/mm.h>

#include "internal.h"

struct oom_control;

#ifdef CONFIG_CZONE

#include <linux/bitmap.h>
#include <linux/czone.h>
#include <linux/kref.h>
#include <linux/mutex.h>
#include <linux/rculist.h>
#include <linux/spinlock.h>
#include <linux/wait.h>
#include <linux/workqueue.h>

#define CZONE_BLOCK_ORDER	(CZONE_BLOCK_SHIFT - PAGE_SHIFT)
#define CZONE_BLOCK_PAGES	(1UL << CZONE_BLOCK_ORDER)
#define CZONE_SECTION_BLOCKS	(PAGES_PER_SECTION >> CZONE_BLOCK_ORDER)
#define CZONE_MEMMAP_SIZE	(PAGES_PER_SECTION * sizeof(struct page))

#define CZONE_ID_MAX		65535
#define CZONE_TIMEOUT_MS	10000	/* when the caller named none */
#define CZONE_TIMEOUT_MAX_MS	600000	/* whatever the caller named */

static_assert(CZONE_BLOCK_ORDER == MAX_PAGE_ORDER);

/*
 * struct czone_blocks - a set of blocks, in a window from @first on
 * @bits:	one for each of @nr blocks
 *
 * Blocks are counted from address 0, in all regions alike.
 */
struct czone_blocks {
	unsigned long first;
	unsigned long nr;
	unsigned long *bits;
};

/* How a zone stands, in pages. @pressure grows when allocations did not find any. */
struct czone_idle_sample {
	unsigned long size;
	unsigned long free;
	unsigned long free_backed;
	unsigned long backed;		/* used or free */
	unsigned long pressure;
};

/**
 * struct czone_idle - a zone's own return of idle memory
 * @work: a look at the zone; it is queued unless @delay_ms is 0
 * @delay_ms: how long memory must have been free; changed under czone->mutex
 * @floor: bytes that stay backed although they are free
 * @looks: that this period has had
 * @low: least free and backed pages in this period
 * @last: how the zone stood at the last look
 */
struct czone_idle {
	struct delayed_work work;
	u32 delay_ms;
	u64 floor;
	unsigned int looks;
	unsigned long low;
	struct czone_idle_sample last;
};

/*
 * struct czone - a zone, from the moment that it is made until nothing refers to it
 * @zone:	what the page allocator sees
 * @zonelist:	this zone alone
 * @users:	allocations in the slow path
 * @closing:	no new allocations, and those in the slow path turn away
 * @nr_isolated: free pages that are with the host; under zone->lock
 *
 * The memory of a struct czone is never freed: lock-free readers of page_zone()
 * and preempted allocations may look at it at any time. It is used again only
 * when all of these are gone, see czone_release().
 */
struct czone {
	struct zone zone;
	struct zoneref zonelist[2];

	struct kref ref;
	struct list_head list;		/* of spare structs */
	struct rcu_head rcu;
	struct mutex mutex;		/* one lengthy operation at a time */
	wait_queue_head_t wait;		/* isolated pages came back, or mutex is free */
	bool dead;			/* under mutex */

	u32 id;
	u32 flags;			/* CZONE_CREATE_* */
	struct czone *file_zone;	/* of read-only file systems; a reference, or NULL */
	char name[16];

	struct mem_cgroup *memcg;	/* under czone_memcg_lock, or RCU */
	atomic_t users;
	bool closing;
	bool host_slow;			/* one has waited in vain since the last answer */
	struct task_struct *shrinker;	/* takes blocks away from the zone right now */
	struct czone_blocks removal;	/* for who takes some away; under mutex */
	unsigned long removal_max;	/* how many bits it has memory for */

	unsigned long nr_isolated;
	atomic_long_t nr_backed;	/* pages that the host has memory behind */
	atomic_long_t nr_spilled;
	atomic_long_t nr_slow;		/* allocations that came to the slow path */
	unsigned long full_told;	/* when the host was told that it is, in jiffies */
	atomic64_t returned;		/* bytes */

	struct czone_idle idle;
};

/**
 * struct czone_section - a section of a region, and its memmap
 * @region:	that it is part of; NULL: boot memory, of which only the maps are known
 * @maps:	bits per page, kept for ever; czone_backed.c
 * @nr_blocks:	blocks that zones own; under czone_lock
 * @idle_since:	when the last of them went, in jiffies; under czone_lock
 * @held:	blocks that wait for the end of @retiring; under czone_pool.lock
 * @online:	its struct pages are valid
 * @retiring:	nobody gets a block: it goes offline, or its memmap is with the host
 * @memmap_backed: the host has memory behind its memmap
 */
struct czone_section {
	struct czone_region *region;
	unsigned long *maps;
	unsigned long idle_since;
	u32 nr_blocks;
	u32 held;
	bool online;
	bool retiring;
	bool memmap_backed;
};

/**
 * struct czone_region - a range of physical memory that zones are made of
 * @list:	in czone_regions; one is never removed
 * @first:	its first block
 * @end:	the block after its last one
 * @nr_meta:	blocks at its head that hold its memmap
 * @zeroed:	pages never used by a zone read as zero; under czone_lock
 * @section:	its sections
 */
struct czone_region {
	struct list_head list;
	unsigned long first;
	unsigned long end;
	unsigned long nr_meta;
	bool zeroed;
	struct czone_section section[];
};

/* Both maps of a section are in one piece of memory. */
enum czone_page_map {
	CZONE_MAP_BACKED,
	CZONE_MAP_ZERO,
	CZONE_NR_MAPS,
};

static inline unsigned long *czone_section_map(const struct czone_section *section,
					       enum czone_page_map which)
{
	unsigned long *maps = READ_ONCE(section->maps);

	return maps ? maps + which * BITS_TO_LONGS(PAGES_PER_SECTION) : NULL;
}

/*
 * struct czone_pool - all regions, cut into blocks
 * @used:	blocks that are not to be had: owned by a zone, with the host, part
 *		of a memmap, or in no region; from the first region to the last
 * @nr_blocks:	of all regions; under czone_lock, as are:
 * @nr_meta:	thereof those that hold a memmap
 * @nr_owned:	thereof those that zones own
 */
struct czone_pool {
	spinlock_t lock;		/* of @used, @nr_free, and what sections say */
	struct czone_blocks used;
	unsigned long nr_blocks;
	unsigned long nr_meta;
	unsigned long nr_owned;
	unsigned long nr_free;
	unsigned long nr_retiring;	/* sections */
	int nid;
};

extern struct czone_pool czone_pool;
extern struct list_head czone_regions;	/* under czone_lock */
extern struct mutex czone_lock;

/* By section number; NULL where nothing is known. Entries do not change, but the table may. */
extern struct czone_section **czone_sections;
extern unsigned long czone_nr_sections;

static inline struct czone_section *czone_section_at(unsigned long nr)
{
	return READ_ONCE(czone_sections)[nr];
}

/* There is one for every page of a region. */
static inline struct czone_section *czone_pfn_section(unsigned long pfn)
{
	return czone_section_at(pfn / PAGES_PER_SECTION);
}

/* The same for any page: NULL where there is none. */
static inline struct czone_section *czone_find_section(unsigned long pfn)
{
	unsigned long nr = pfn / PAGES_PER_SECTION;

	/* Pairs with czone_tables_publish(). */
	return nr < smp_load_acquire(&czone_nr_sections) ? czone_section_at(nr) : NULL;
}

/* For the few places that mean all zones. Inside rcu_read_lock(): no sleep. */
#define for_each_czone(z)						\
	for (struct czone *__cz = czone_after(0);			\
	     __cz && ((z) = &__cz->zone, true);				\
	     __cz = czone_after(__cz->id))

static inline struct czone *zone_to_czone(struct zone *zone)
{
	return container_of(zone, struct czone, zone);
}

static inline unsigned long czone_block_pfn(unsigned long block)
{
	return block << CZONE_BLOCK_ORDER;
}

static inline unsigned long czone_pfn_block(unsigned long pfn)
{
	return pfn >> CZONE_BLOCK_ORDER;
}

/* Of a block from the first region to the last one; the park zone's if it is in none. */
static inline struct zone *czone_block_zone(unsigned long block)
{
	return READ_ONCE(READ_ONCE(czone_map)[block]);
}

static inline void czone_blocks_add(struct czone_blocks *set, unsigned long block,
				    unsigned long nr)
{
	bitmap_set(set->bits, block - set->first, nr);
}

static inline unsigned long czone_blocks_next(const struct czone_blocks *set, unsigned long block)
{
	return set->first + find_next_bit(set->bits, set->nr, block - set->first);
}

static inline unsigned long czone_blocks_next_zero(const struct czone_blocks *set,
						   unsigned long block)
{
	return set->first + find_next_zero_bit(set->bits, set->nr, block - set->first);
}

#define for_each_block_in(set, b)					\
	for ((b) = czone_blocks_next(set, (set)->first);		\
	     (b) < (set)->first + (set)->nr;				\
	     (b) = czone_blocks_next(set, (b) + 1))

/* Runs of blocks, from @b to before @e. */
#define for_each_run_in(set, b, e)					\
	for ((b) = czone_blocks_next(set, (set)->first);		\
	     (b) < (set)->first + (set)->nr &&				\
	     ((e) = czone_blocks_next_zero(set, b), true);		\
	     (b) = czone_blocks_next(set, e))

/* The zone's blocks lie within these bounds, others' may as well. */
static inline unsigned long czone_first_block(struct czone *cz)
{
	return czone_pfn_block(cz->zone.zone_start_pfn);
}

static inline unsigned long czone_end_block(struct czone *cz)
{
	return czone_pfn_block(zone_end_pfn(&cz->zone));
}

static inline unsigned long czone_next_block(struct czone *cz, unsigned long block)
{
	unsigned long end = czone_end_block(cz);

	while (block < end && czone_block_zone(block) != &cz->zone)
		block++;
	return block;
}

#define for_each_czone_block(cz, b)					\
	for ((b) = czone_next_block(cz, czone_first_block(cz));		\
	     (b) < czone_end_block(cz);					\
	     (b) = czone_next_block(cz, (b) + 1))

/* czone.c */
struct czone *czone_after(u32 id);
struct czone *czone_get(u32 id);
void czone_put(struct czone *cz);
struct czone *czone_get_locked(u32 id, unsigned long deadline);
void czone_put_locked(struct czone *cz);
unsigned long czone_deadline(unsigned int timeout_ms);
struct zone *czone_next_zone(struct zone *prev);
struct mem_cgroup *czone_get_memcg(struct czone *cz);

/* A consistent account of a zone, in pages: used + backed + unbacked = size. */
struct czone_account {
	unsigned long size;
	unsigned long used;
	unsigned long backed;		/* and free */
	unsigned long unbacked;
};

void czone_account(struct czone *cz, struct czone_account *account);

/* czone_region.c: blocks and their memmap */
struct czone_request;

/**
 * struct czone_tables - how a page finds its zone and its section
 * @rcu:	to free it when nobody is looking any more
 * @first:	block of the first entry of @map
 * @end:	block after the last one
 * @map:	owners of these blocks; NULL without a region
 * @nr_sections: entries of @section
 * @section:	sections, from address 0 on
 */
struct czone_tables {
	struct rcu_head rcu;
	unsigned long first;
	unsigned long end;
	struct zone **map;
	unsigned long nr_sections;
	struct czone_section **section;
};

struct czone_tables *czone_tables_boot(void);
int czone_add_boot_sections(void);
struct czone_region *czone_region_alloc(unsigned long first, unsigned long end, bool zeroed);
struct czone_tables *czone_tables_add(const struct czone_tables *old, struct czone_region *region,
				      struct zone *park);
void czone_tables_free(struct czone_tables *tables);
int czone_region_known(const struct list_head *regions, unsigned long first, unsigned long end);

unsigned long czone_find_run(const unsigned long *used, unsigned long size,
			     unsigned long want, unsigned long *len);
int czone_add_blocks(struct czone *cz, unsigned long nr);
struct czone_blocks *czone_removal(struct czone *cz);
unsigned long czone_drop_blocks(struct czone *cz, const struct czone_blocks *blocks);
unsigned long czone_hold_backed_run(unsigned long from, unsigned long *len);
void czone_free_blocks(unsigned long block, unsigned long nr);
void czone_give_idle_sections(struct czone_request *req, unsigned long idle);
void czone_sections_changed(void);
void czone_wait_sections(unsigned long deadline);
unsigned long czone_pool_backed(void);
void czone_pool_taken(unsigned long backed);
void czone_section_released(unsigned long nr, bool released);
phys_addr_t czone_section_memmap(const struct czone_section *section);
unsigned long czone_memmap_section(const struct czone_region *region, phys_addr_t addr);

/* czone_backed.c: what the host has behind each page */
unsigned long czone_set_backed(unsigned long pfn, unsigned long nr);
bool czone_range_backed(unsigned long pfn, unsigned long nr);
unsigned long czone_weigh_backed(unsigned long pfn, unsigned long nr);
unsigned long czone_pages_taken(unsigned long pfn, unsigned long nr);
void czone_blocks_taken(unsigned long pfn, unsigned long nr);
void czone_pages_not_taken(unsigned long pfn, unsigned long nr);
int czone_section_alloc_maps(struct czone_section *section, bool zeroed);
bool czone_section_use(struct czone_section *section, unsigned long bit, unsigned long nr,
		       unsigned int host_order, unsigned long *changed);
void czone_forget_zeroes(void);
unsigned long czone_bitmap_set(unsigned long *map, unsigned long start, unsigned long nr);
unsigned long czone_bitmap_clear(unsigned long *map, unsigned long start, unsigned long nr);
unsigned long czone_bitmap_weight(const unsigned long *map, unsigned long start,
				  unsigned long nr);
unsigned long czone_bitmap_touch(unsigned long *backed, unsigned long bit, unsigned long nr,
				 unsigned int host_order);
void czone_touch_pages(struct page *page, unsigned long nr, unsigned int host_order,
		       bool is_zero);

/* czone_boot.c: the same for the boot memory, by option */
DECLARE_STATIC_KEY_FALSE(czone_boot_key);

static inline bool czone_boot_mapped(void)
{
	return static_branch_unlikely(&czone_boot_key);
}

bool czone_boot_use(struct czone_section *section, unsigned long bit, unsigned long nr,
		    unsigned int host_order, bool init, unsigned long *changed);
unsigned long czone_boot_backed(unsigned long nr);
bool czone_boot_wanted(struct page *page, unsigned int order);
void czone_boot_answered(unsigned long pfn, unsigned long nr, int status);

/* czone_page.c: the page allocator's side */
int czone_zone_init(struct czone *cz, int nid);
void czone_zone_reset(struct czone *cz);
void czone_zone_resized(struct czone *cz);
unsigned long czone_nr_pcp(struct zone *zone);
void czone_putback(struct zone *zone, unsigned long pfn, unsigned long nr);
bool czone_all_free(struct zone *zone);
unsigned long czone_take_free_blocks(struct zone *zone, struct czone_blocks *taken);
bool czone_wants_gfp(gfp_t gfp);

/* czone_report.c: what goes to the host, and comes back */
extern unsigned int czone_backing_order;
extern bool czone_zeroes;
bool czone_have_transport(void);
struct czone_request *czone_request_alloc(unsigned int timeout_ms);
unsigned long czone_request_deadline(const struct czone_request *req);
bool czone_request_expired(const struct czone_request *req);
int czone_request_finish(struct czone_request *req, u64 *result);
int czone_give_pages(struct czone_request *req, struct czone *cz, unsigned long *left);
void czone_give_blocks(struct czone_request *req, struct czone *cz,
		       const struct czone_blocks *blocks, unsigned long backed);
void czone_give_sections(struct czone_request *req, const unsigned long *sections,
			 unsigned long nr_sections);
void czone_give_pool(struct czone_request *req);
int czone_give_boot(struct czone_request *req, u64 bytes);
u64 czone_returned_vm(void);
bool czone_batch_add(struct czone_batch *batch, u32 max_ranges, unsigned long pfn,
		     unsigned long nr);
void czone_batch_sort(struct czone_batch *batch);

/* czone_evacuate.c */
int czone_evacuate(struct czone *cz, unsigned long start_pfn, unsigned long end_pfn,
		   unsigned long deadline, u64 *result);
void czone_count_stuck(struct czone *cz, u64 *result);
int czone_move_in(struct czone *cz, unsigned long deadline, u64 *result);

/* czone_idle.c */
unsigned long czone_idle_judge(struct czone_idle *idle, const struct czone_idle_sample *now);
void czone_idle_prepare(struct czone *cz);
void czone_idle_stop(struct czone *cz);

/* Hooks of the page allocator */
void czone_take_free_page(struct zone *zone, struct page *page, unsigned int order);
bool __czone_page_allocated(struct page *page, unsigned int order, bool init);
bool __czone_boot_allocated(struct page *page, unsigned int order, bool init);
bool czone_any_backed(struct page *page, unsigned int order);
bool czone_has_free_backed(struct zone *zone);
void __czone_route(struct alloc_context *ac);
struct czone *__czone_spill(gfp_t gfp, int nid, nodemask_t *nodemask,
			    struct alloc_context *ac);
void __czone_slowpath_begin(gfp_t gfp, int nid, nodemask_t *nodemask,
			    struct alloc_context *ac);
bool __czone_slowpath_end(struct alloc_context *ac, struct page *page);
unsigned long czone_try_to_free_pages(struct czone *cz, unsigned int order, gfp_t gfp);
bool czone_out_of_memory(struct czone *cz, struct oom_control *oc);
struct mem_cgroup *__czone_enter_swap(swp_entry_t entry);
void __czone_leave_swap(struct mem_cgroup *old);
unsigned long __czone_dirty_headroom(struct mem_cgroup *memcg);
unsigned long __czone_rss(struct task_struct *task);
unsigned long __czone_free_pages(void);
unsigned long __czone_file_pages(void);
bool czone_has_pcps(int cpu);
void czone_show_mem(void);
struct folio *__czone_alloc_shared(struct address_space *mapping, gfp_t gfp, unsigned int order);

static inline bool czone_closing(struct czone *cz)
{
	return READ_ONCE(cz->closing);
}

/*
 * @page is about to be written for the first time, perhaps. Returns whether it
 * must be cleared before, which @init asks for.
 */
static inline bool czone_page_allocated(struct page *page, unsigned int order, bool init)
{
	if (page_is_czone(page))
		return __czone_page_allocated(page, order, init);
	return czone_boot_mapped() ? __czone_boot_allocated(page, order, init) : init;
}

/*
 * For folios that are cleared after they were allocated: ask for zeroes at once,
 * so that czone_page_allocated() can say that there is nothing to clear.
 */
static inline gfp_t czone_zero_gfp(void)
{
	return czone_active() && READ_ONCE(czone_zeroes) ? __GFP_ZERO : 0;
}

/*
 * The zone that serves a request, or NULL: a czone's zonelist is that zone alone.
 * A field for it in every request would have to be cleared for all of them.
 */
static inline struct czone *czone_serving(const struct alloc_context *ac)
{
	struct zone *zone = zonelist_zone(ac->zonelist->_zonerefs);

	return zone && zone->is_czone ? zone_to_czone(zone) : NULL;
}

static inline bool czone_strict(const struct alloc_context *ac)
{
	return czone_active() && czone_serving(ac);
}

static inline void czone_route(struct alloc_context *ac)
{
	if (czone_active() && ac->highest_zoneidx == ZONE_MOVABLE)
		__czone_route(ac);
}

/* Returns the full zone if the request goes elsewhere now. */
static inline struct czone *czone_spill(gfp_t gfp, int nid, nodemask_t *nodemask,
					struct alloc_context *ac)
{
	return czone_strict(ac) ? __czone_spill(gfp, nid, nodemask, ac) : NULL;
}

static inline void czone_slowpath_begin(gfp_t gfp, int nid, nodemask_t *nodemask,
					struct alloc_context *ac)
{
	if (czone_strict(ac))
		__czone_slowpath_begin(gfp, nid, nodemask, ac);
}

static inline bool czone_slowpath_end(struct alloc_context *ac, struct page *page)
{
	return czone_strict(ac) && __czone_slowpath_end(ac, page);
}

static inline void czone_count_spilled(struct czone *full, unsigned int order)
{
	atomic_long_add(1L << order, &full->nr_spilled);
}

/* Is the zone going away that this strict request waits for? */
static inline bool czone_gone(const struct alloc_context *ac)
{
	return czone_strict(ac) && czone_closing(czone_serving(ac));
}

static inline unsigned long czone_reclaim_for(const struct alloc_context *ac, unsigned int order,
					      gfp_t gfp)
{
	return czone_try_to_free_pages(czone_serving(ac), order, gfp);
}

static inline bool czone_oom_for(const struct alloc_context *ac, struct oom_control *oc)
{
	return czone_out_of_memory(czone_serving(ac), oc);
}

/* Does one work on the memory of another? */
static inline bool czone_is_foreign(struct mm_struct *mm)
{
	return czone_active() && (mm != current->mm || current->flags & PF_KTHREAD);
}

/* Allocate on behalf of whoever owns @src, which is isolated or locked. */
static inline struct mem_cgroup *czone_enter_folio(struct folio *src)
{
	return czone_active() ? set_active_memcg(folio_memcg(src)) :
				current->active_memcg;
}

static inline void czone_leave_folio(struct mem_cgroup *old)
{
	if (czone_active())
		set_active_memcg(old);
}

/* Allocate on behalf of whoever will be charged for the page that @entry stands for. */
static inline struct mem_cgroup *czone_enter_swap(swp_entry_t entry)
{
	return czone_active() ? __czone_enter_swap(entry) : current->active_memcg;
}

static inline void czone_leave_swap(struct mem_cgroup *old)
{
	if (czone_active())
		__czone_leave_swap(old);
}

/* Readahead from swap may bring pages of others, and must not kill for them. */
static inline gfp_t czone_readahead_gfp(gfp_t gfp)
{
	return czone_active() ? gfp | __GFP_NORETRY | __GFP_NOWARN : gfp;
}

static inline unsigned long czone_dirty_headroom(struct mem_cgroup *memcg)
{
	return czone_active() ? __czone_dirty_headroom(memcg) : PAGE_COUNTER_MAX;
}

static inline unsigned long czone_rss(struct task_struct *task)
{
	return czone_active() ? __czone_rss(task) : 0;
}

static inline unsigned long czone_free_pages(void)
{
	return czone_active() ? __czone_free_pages() : 0;
}

static inline unsigned long czone_file_pages(void)
{
	return czone_active() ? __czone_file_pages() : 0;
}

/* A folio for the page cache of @mapping; it is charged already if containers share it. */
static inline struct folio *czone_alloc_cache(struct address_space *mapping, gfp_t gfp,
					      unsigned int order)
{
	struct folio *folio = NULL;

	if (czone_active())
		folio = __czone_alloc_shared(mapping, gfp, order);
	return folio ?: filemap_alloc_folio(gfp, order);
}

static inline int czone_charge_cache(struct folio *folio, gfp_t gfp)
{
	if (czone_active() && folio_memcg_charged(folio))
		return 0;
	return mem_cgroup_charge(folio, NULL, gfp);
}

#else /* CONFIG_CZONE */

#define for_each_czone(z)		for (; 0; (void)(z))

static inline struct zone *czone_next_zone(struct zone *prev)
{
	return NULL;
}

static inline bool czone_strict(const struct alloc_context *ac)
{
	return false;
}

static inline void czone_route(struct alloc_context *ac)
{
}

static inline struct czone *czone_spill(gfp_t gfp, int nid, nodemask_t *nodemask,
					struct alloc_context *ac)
{
	return NULL;
}

static inline void czone_slowpath_begin(gfp_t gfp, int nid, nodemask_t *nodemask,
					struct alloc_context *ac)
{
}

static inline bool czone_slowpath_end(struct alloc_context *ac, struct page *page)
{
	return false;
}

static inline void czone_count_spilled(struct czone *full, unsigned int order)
{
}

static inline bool czone_gone(const struct alloc_context *ac)
{
	return false;
}

static inline unsigned long czone_reclaim_for(const struct alloc_context *ac, unsigned int order,
					      gfp_t gfp)
{
	return 0;
}

static inline bool czone_oom_for(const struct alloc_context *ac, struct oom_control *oc)
{
	return false;
}

static inline bool czone_page_allocated(struct page *page, unsigned int order, bool init)
{
	return init;
}

static inline gfp_t czone_zero_gfp(void)
{
	return 0;
}

static inline bool czone_any_backed(struct page *page, unsigned int order)
{
	return false;
}

static inline bool czone_has_free_backed(struct zone *zone)
{
	return false;
}

static inline bool czone_has_pcps(int cpu)
{
	return false;
}

static inline void czone_show_mem(void)
{
}

static inline bool czone_is_foreign(struct mm_struct *mm)
{
	return false;
}

static inline struct mem_cgroup *czone_enter_folio(struct folio *src)
{
	return NULL;
}

static inline void czone_leave_folio(struct mem_cgroup *old)
{
}

static inline struct mem_cgroup *czone_enter_swap(swp_entry_t entry)
{
	return NULL;
}

static inline void czone_leave_swap(struct mem_cgroup *old)
{
}

static inline gfp_t czone_readahead_gfp(gfp_t gfp)
{
	return gfp;
}

static inline unsigned long czone_dirty_headroom(struct mem_cgroup *memcg)
{
	return PAGE_COUNTER_MAX;
}

static inline unsigned long czone_rss(struct task_struct *task)
{
	return 0;
}

static inline unsigned long czone_free_pages(void)
{
	return 0;
}

static inline unsigned long czone_file_pages(void)
{
	return 0;
}

static inline struct folio *czone_alloc_cache(struct address_space *mapping, gfp_t gfp,
					      unsigned int order)
{
	return filemap_alloc_folio(gfp, order);
}

static inline int czone_charge_cache(struct folio *folio, gfp_t gfp)
{
	return mem_cgroup_charge(folio, NULL, gfp);
}

#endif /* CONFIG_CZONE */

#endif /* _MM_CZONE_INTERNAL_H */
