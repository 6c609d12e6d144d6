// SPDX-License-Identifier: GPL-2.0-only
/*
 * czone: giving memory to the host.
 *
 * A request is one operation's dealings with the host: any number of batches of
 * ranges, several of them under way at once. Whatever a batch names is off all
 * lists before the host hears of it; it comes back when the host has answered,
 * even if the operation has run out of time by then. So the host never takes a
 * page that is in use.
 *
 * Batches are allocated once, so that memory can be given back when there is
 * none left.
 */
#include <linux/bitmap.h>
#include <linux/jiffies.h>
#include <linux/kref.h>
#include <linux/memory_hotplug.h>
#include <linux/mempool.h>
#include <linux/mm.h>
#include <linux/page-isolation.h>
#include <linux/rwsem.h>
#include <linux/sched.h>
#include <linux/sched/signal.h>
#include <linux/slab.h>
#include <linux/sort.h>
#include <linux/swap.h>
#include <linux/vmstat.h>
#include <linux/wait.h>

#include "internal.h"
#include "page_reporting.h"
#include "czone_internal.h"

#define CZONE_SLOTS		8
#define CZONE_BATCH_PAGES_MAX	(SZ_64M >> PAGE_SHIFT)	/* isolated at once, per batch */
#define CZONE_BOOT_BATCHES	2	/* of boot memory, in flight */
#define CZONE_LOCK_BUDGET	512	/* free or used blocks looked at per lock hold */
#define CZONE_RESUBMIT		msecs_to_jiffies(10)
#define CZONE_REQUESTS_MIN	16	/* that there is always memory for */

enum czone_batch_kind {
	CZONE_PAGES,		/* free pages of a zone, off its lists */
	CZONE_BLOCKS,		/* blocks without an owner */
	CZONE_MEMMAP,		/* the struct pages of sections not in use */
};

struct czone_request {
	struct kref ref;
	unsigned long deadline;
	wait_queue_head_t wait;
	atomic_t pending;		/* batches without an answer */
	atomic64_t reported;		/* bytes */
	atomic64_t returned;
	int error;			/* the first one */
};

/* A batch, and what to do when the answer comes. */
struct czone_slot {
	struct czone_batch batch;
	enum czone_batch_kind kind;
	struct zone *zone;		/* of CZONE_PAGES */
	struct czone *cz;		/* whose memory, NULL for the VM's; a reference */
	struct czone_request *req;	/* a reference */
	unsigned long backed;		/* pages that were, when they left; not of CZONE_MEMMAP */
};

static DECLARE_RWSEM(czone_transport_lock);
static struct czone_transport *czone_transport;

static struct czone_slot *czone_slots;
static LIST_HEAD(czone_free_slots);
static DEFINE_SPINLOCK(czone_slot_lock);
static DECLARE_WAIT_QUEUE_HEAD(czone_slot_wait);
static atomic_t czone_answers;		/* grows with each answer */

unsigned int czone_backing_order __read_mostly;
static unsigned int czone_report_order __read_mostly;
static unsigned int czone_max_ranges __read_mostly;
bool czone_zeroes __read_mostly;	/* what comes back reads as zero */
static atomic64_t czone_vm_returned;

u64 czone_returned_vm(void)
{
	return atomic64_read(&czone_vm_returned);
}

bool czone_have_transport(void)
{
	return READ_ONCE(czone_transport);
}

/*
 * Requests
 */
static mempool_t czone_requests;

static int __init czone_requests_init(void)
{
	return mempool_init_kmalloc_pool(&czone_requests, CZONE_REQUESTS_MIN,
					 sizeof(struct czone_request));
}
subsys_initcall(czone_requests_init);

/* Memory is given back when there is none left: this must not wait for any. */
struct czone_request *czone_request_alloc(unsigned int timeout_ms)
{
	struct czone_request *req = mempool_alloc(&czone_requests, GFP_NOWAIT);

	if (!req)
		return NULL;
	memset(req, 0, sizeof(*req));
	kref_init(&req->ref);
	init_waitqueue_head(&req->wait);
	timeout_ms = min(timeout_ms ?: CZONE_TIMEOUT_MS, CZONE_TIMEOUT_MAX_MS);
	req->deadline = jiffies + msecs_to_jiffies(timeout_ms);
	return req;
}

static void czone_request_free(struct kref *ref)
{
	mempool_free(container_of(ref, struct czone_request, ref), &czone_requests);
}

unsigned long czone_request_deadline(const struct czone_request *req)
{
	return req->deadline;
}

/* Out of time, or nobody is left who wants it. */
bool czone_request_expired(const struct czone_request *req)
{
	return time_after_eq(jiffies, req->deadline) || fatal_signal_pending(current);
}

static long czone_request_left(const struct czone_request *req)
{
	return max(0L, (long)(req->deadline - jiffies));
}

/* Wait for all answers, or for as long as the caller wanted to. Ends @req. */
int czone_request_finish(struct czone_request *req, u64 *result)
{
	long left;
	int ret;

	left = wait_event_killable_timeout(req->wait, !atomic_read(&req->pending),
					   czone_request_left(req));
	if (left > 0)
		ret = READ_ONCE(req->error);
	else
		ret = left ? -EINTR : -ETIMEDOUT;
	result[CZONE_RESULT_REPORTED] += atomic64_read(&req->reported);
	result[CZONE_RESULT_RETURNED] += atomic64_read(&req->returned);
	kref_put(&req->ref, czone_request_free);
	return ret;
}

/*
 * Slots
 */
static struct czone_slot *czone_slot_tryget(void)
{
	struct czone_slot *slot;

	spin_lock_irq(&czone_slot_lock);
	slot = list_first_entry_or_null(&czone_free_slots, struct czone_slot, batch.list);
	if (slot)
		list_del(&slot->batch.list);
	spin_unlock_irq(&czone_slot_lock);
	return slot;
}

static struct czone_slot *czone_slot_get(struct czone_request *req, enum czone_batch_kind kind,
					 struct zone *zone, struct czone *cz)
{
	struct czone_slot *slot = NULL;

	wait_event_killable_timeout(czone_slot_wait,
				    !czone_have_transport() || (slot = czone_slot_tryget()),
				    czone_request_left(req));
	if (!slot)
		return NULL;

	INIT_LIST_HEAD(&slot->batch.list);
	slot->batch.zone = cz ? cz->id : CZONE_ID_VM;
	slot->batch.count = 0;
	slot->kind = kind;
	slot->zone = zone;
	slot->backed = 0;
	slot->cz = cz;
	if (cz)
		kref_get(&cz->ref);
	slot->req = req;
	kref_get(&req->ref);
	return slot;
}

static void czone_slot_put(struct czone_slot *slot)
{
	struct czone_request *req = slot->req;
	struct czone *cz = slot->cz;
	unsigned long flags;

	spin_lock_irqsave(&czone_slot_lock, flags);
	list_add(&slot->batch.list, &czone_free_slots);
	spin_unlock_irqrestore(&czone_slot_lock, flags);
	wake_up(&czone_slot_wait);

	if (cz)
		czone_put(cz);
	kref_put(&req->ref, czone_request_free);
}

/* Append a range, or make the last one longer. Returns false if the batch is full. */
bool czone_batch_add(struct czone_batch *batch, u32 max_ranges, unsigned long pfn,
		     unsigned long nr)
{
	if (batch->count) {
		struct czone_extent *last = &batch->range[batch->count - 1];

		if (last->start + last->size == PFN_PHYS(pfn)) {
			last->size += PFN_PHYS(nr);
			return true;
		}
	}
	if (batch->count >= max_ranges)
		return false;
	batch->range[batch->count].start = PFN_PHYS(pfn);
	batch->range[batch->count].size = PFN_PHYS(nr);
	batch->count++;
	return true;
}

static bool czone_slot_add(struct czone_slot *slot, unsigned long pfn, unsigned long nr)
{
	return czone_batch_add(&slot->batch, czone_max_ranges, pfn, nr);
}

static void czone_slot_submit(struct czone_slot *slot)
{
	struct czone_request *req = slot->req;
	u64 bytes = 0;
	int i, ret, answers;

	if (!slot->batch.count) {
		czone_slot_put(slot);
		return;
	}
	for (i = 0; i < slot->batch.count; i++)
		bytes += slot->batch.range[i].size;
	atomic_inc(&req->pending);
	atomic64_add(bytes, &req->reported);

	for (;;) {
		answers = atomic_read(&czone_answers);
		down_read(&czone_transport_lock);
		ret = czone_transport ? czone_transport->submit(czone_transport, &slot->batch) :
					-ENODEV;
		up_read(&czone_transport_lock);
		if (ret != -EAGAIN)
			break;
		if (czone_request_expired(req)) {
			ret = -ETIMEDOUT;
			break;
		}
		wait_event_killable_timeout(czone_slot_wait,
					    atomic_read(&czone_answers) != answers,
					    CZONE_RESUBMIT);
	}
	if (ret) {
		atomic64_sub(bytes, &req->reported);
		czone_batch_complete(&slot->batch, ret, 0);
	}
}

/*
 * Answers
 */

/* These free pages have nothing behind them until they are allocated. */
static void czone_mark_reported(unsigned long pfn, unsigned long end)
{
	while (pfn < end) {
		struct page *page = NULL;
		unsigned long head = pfn;
		unsigned int order;

		for (order = 0; order <= MAX_PAGE_ORDER; order++) {
			head = pfn & ~((1UL << order) - 1);
			page = pfn_to_page(head);
			if (PageBuddy(page) && buddy_order(page) >= order)
				break;
		}
		if (order > MAX_PAGE_ORDER)
			return;
		order = buddy_order(page);
		/* Merged with something that was not reported? */
		if (head == pfn && pfn + (1UL << order) <= end && !PageReported(page))
			__SetPageReported(page);
		pfn = head + (1UL << order);
	}
}

static void czone_pages_answered(struct czone_slot *slot, int status)
{
	struct zone *zone = slot->zone;
	long backed = slot->backed;
	unsigned long flags;
	int i;

	for (i = 0; i < slot->batch.count; i++) {
		unsigned long pfn = PHYS_PFN(slot->batch.range[i].start);
		unsigned long nr = PHYS_PFN(slot->batch.range[i].size);

		if (!slot->cz)
			czone_boot_answered(pfn, nr, status);
		else if (!status)	/* a neighbour's touch may have added to them meanwhile */
			backed -= czone_pages_taken(pfn, nr);
		else
			czone_pages_not_taken(pfn, nr);
	}
	/* Before the last page is home: then the zone may go. */
	if (slot->cz)
		atomic_long_add(backed, &slot->cz->nr_backed);

	for (i = 0; i < slot->batch.count; i++) {
		unsigned long pfn = PHYS_PFN(slot->batch.range[i].start);
		unsigned long nr = PHYS_PFN(slot->batch.range[i].size);

		spin_lock_irqsave(&zone->lock, flags);
		czone_putback(zone, pfn, nr);
		if (slot->cz) {
			slot->cz->nr_isolated -= nr;
			slot->cz->host_slow = false;
		} else if (!status) {
			czone_mark_reported(pfn, pfn + nr);
		}
		spin_unlock_irqrestore(&zone->lock, flags);
	}
	if (slot->cz)
		wake_up_all(&slot->cz->wait);
}

static void czone_blocks_answered(struct czone_slot *slot, int status)
{
	int i;

	for (i = 0; i < slot->batch.count; i++) {
		unsigned long pfn = PHYS_PFN(slot->batch.range[i].start);
		unsigned long nr = PHYS_PFN(slot->batch.range[i].size);

		if (!status)
			czone_blocks_taken(pfn, nr);
		else
			czone_pages_not_taken(pfn, nr);
		czone_free_blocks(czone_pfn_block(pfn), nr >> CZONE_BLOCK_ORDER);
	}
	if (!status)
		czone_pool_taken(slot->backed);
}

static void czone_memmap_answered(struct czone_slot *slot, int status)
{
	int i;

	for (i = 0; i < slot->batch.count; i++) {
		u64 start = slot->batch.range[i].start;
		u64 end = start + slot->batch.range[i].size;
		struct czone_region *region = czone_pfn_section(PHYS_PFN(start))->region;

		for (; start < end; start += CZONE_MEMMAP_SIZE)
			czone_section_released(czone_memmap_section(region, start), !status);
	}
}

/**
 * czone_batch_complete - the host has answered
 * @batch: that the transport accepted
 * @status: 0 or -errno
 * @bytes: what the host got back, by its own measure
 */
void czone_batch_complete(struct czone_batch *batch, int status, u64 bytes)
{
	struct czone_slot *slot = container_of(batch, struct czone_slot, batch);
	struct czone_request *req = slot->req;

	switch (slot->kind) {
	case CZONE_PAGES:
		czone_pages_answered(slot, status);
		break;
	case CZONE_BLOCKS:
		czone_blocks_answered(slot, status);
		break;
	case CZONE_MEMMAP:
		czone_memmap_answered(slot, status);
		break;
	}

	if (status)
		cmpxchg(&req->error, 0, status);
	atomic64_add(bytes, &req->returned);
	atomic64_add(bytes, slot->cz ? &slot->cz->returned : &czone_vm_returned);
	atomic_inc(&czone_answers);
	/* The slot's reference keeps the request until we are done with it. */
	atomic_dec(&req->pending);
	wake_up_all(&req->wait);
	czone_slot_put(slot);
}
EXPORT_SYMBOL_GPL(czone_batch_complete);

/*
 * Free pages of a zone that runs
 */

/* Where a walk over a zone has come to. */
struct czone_walk {
	unsigned long pfn;
	unsigned long end;
	unsigned long left;	/* backed pages still wanted */
};

/* The head of the free block that @pfn is in, or @pfn. */
static unsigned long czone_free_head(unsigned long pfn)
{
	unsigned int order;

	for (order = 1; order <= MAX_PAGE_ORDER; order++) {
		unsigned long head = pfn & ~((1UL << order) - 1);
		struct page *page = pfn_to_page(head);

		if (PageBuddy(page) && buddy_order(page) >= order)
			return head;
	}
	return pfn;
}

/* The shortest prefix of a free block that holds @want backed pages. */
static unsigned long czone_prefix(unsigned long pfn, unsigned long nr, unsigned long want)
{
	unsigned long step = 1UL << czone_report_order, n;

	for (n = step; n < nr; n += step) {
		unsigned long found = czone_weigh_backed(pfn + n - step, step);

		if (found >= want)
			break;
		want -= found;
	}
	return n;
}

/* Returns false if the batch is full. The free block at @pfn has @nr pages. */
static bool czone_collect_block(struct czone *cz, struct czone_slot *slot,
				struct czone_walk *walk, unsigned long pfn, unsigned int order)
{
	unsigned long nr = 1UL << order, found = czone_weigh_backed(pfn, nr);

	if (!found || order < czone_report_order)
		return true;
	if (found > walk->left)
		nr = czone_prefix(pfn, nr, walk->left);
	if (!czone_slot_add(slot, pfn, nr))
		return false;

	czone_take_free_page(&cz->zone, pfn_to_page(pfn), order);
	if (nr < 1UL << order)
		czone_putback(&cz->zone, pfn + nr, (1UL << order) - nr);
	cz->nr_isolated += nr;
	/* The bits stay, in case that the host refuses. */
	found = czone_weigh_backed(pfn, nr);
	slot->backed += found;
	atomic_long_sub(found, &cz->nr_backed);
	walk->left -= min(walk->left, found);
	return true;
}

/* One hold of the zone's lock. Returns false if the batch is full. */
static bool czone_collect(struct czone *cz, struct czone_slot *slot, struct czone_walk *walk,
			  unsigned long *isolated)
{
	unsigned long end = min(walk->end, round_down(walk->pfn, CZONE_BLOCK_PAGES) +
					   CZONE_BLOCK_PAGES);
	int budget = CZONE_LOCK_BUDGET;
	unsigned long flags, pfn;
	bool room = true;

	spin_lock_irqsave(&cz->zone.lock, flags);
	/* While the lock was not held, what we left may have merged. */
	pfn = czone_free_head(walk->pfn);
	while (pfn < end && walk->left && budget--) {
		struct page *page = pfn_to_page(pfn);
		unsigned long before = cz->nr_isolated;

		if (!PageBuddy(page)) {
			unsigned int order = compound_order(page);

			pfn += order <= MAX_PAGE_ORDER ? 1UL << order : 1;
			continue;
		}
		room = *isolated < CZONE_BATCH_PAGES_MAX;
		if (room) {
			unsigned int order = buddy_order(page);

			room = czone_collect_block(cz, slot, walk, pfn, order);
			if (room)
				pfn += 1UL << order;
		}
		if (!room)
			break;
		*isolated += cz->nr_isolated - before;
	}
	walk->pfn = pfn;
	spin_unlock_irqrestore(&cz->zone.lock, flags);
	return room;
}

/**
 * czone_give_pages - hand free, backed pages of a zone to the host
 * @req: on whose behalf
 * @cz: the zone; its mutex is held
 * @left: how many are wanted; gets how many are still missing
 *
 * Return: 0, -ETIMEDOUT, -ENODEV: the host has gone.
 */
int czone_give_pages(struct czone_request *req, struct czone *cz, unsigned long *left)
{
	struct czone_walk walk = {
		.pfn = cz->zone.zone_start_pfn,
		.end = zone_end_pfn(&cz->zone),
		.left = *left,
	};
	struct czone_slot *slot = NULL;
	unsigned long isolated = 0;
	int ret = 0;

	while (walk.pfn < walk.end && walk.left) {
		unsigned long block = czone_pfn_block(walk.pfn);

		if (czone_block_zone(block) != &cz->zone ||
		    !czone_range_backed(czone_block_pfn(block), CZONE_BLOCK_PAGES)) {
			walk.pfn = czone_block_pfn(block + 1);
			continue;
		}
		if (czone_request_expired(req)) {
			ret = -ETIMEDOUT;
			break;
		}
		if (!slot) {
			slot = czone_slot_get(req, CZONE_PAGES, &cz->zone, cz);
			if (!slot) {
				ret = czone_have_transport() ? -ETIMEDOUT : -ENODEV;
				break;
			}
			isolated = 0;
		}
		if (!czone_collect(cz, slot, &walk, &isolated)) {
			czone_slot_submit(slot);
			slot = NULL;
		}
		cond_resched();
	}
	if (slot)
		czone_slot_submit(slot);
	*left = walk.left;
	return ret;
}

/*
 * Blocks, and struct pages
 */
struct czone_giver {
	struct czone_request *req;
	struct czone_slot *slot;
	enum czone_batch_kind kind;
	struct czone *cz;
};

static bool czone_giver_add(struct czone_giver *giver, unsigned long pfn, unsigned long nr)
{
	if (giver->slot && czone_slot_add(giver->slot, pfn, nr))
		return true;
	if (giver->slot)
		czone_slot_submit(giver->slot);
	giver->slot = czone_slot_get(giver->req, giver->kind, NULL, giver->cz);
	return giver->slot && czone_slot_add(giver->slot, pfn, nr);
}

static void czone_giver_end(struct czone_giver *giver)
{
	if (giver->slot)
		czone_slot_submit(giver->slot);
}

/* Blocks without an owner; @backed of their pages are. */
static void czone_giver_add_blocks(struct czone_giver *giver, unsigned long block,
				   unsigned long nr, unsigned long backed)
{
	unsigned long pfn = czone_block_pfn(block), pages = nr << CZONE_BLOCK_ORDER;

	VM_WARN_ON_ONCE(backed != czone_weigh_backed(pfn, pages));
	if (!backed || !czone_have_transport()) {
		czone_free_blocks(block, nr);
		return;
	}
	/* The bits stay until the host has done it. */
	if (czone_giver_add(giver, pfn, pages)) {
		giver->slot->backed += backed;
	} else {
		/* The host has not heard of it. */
		cmpxchg(&giver->req->error, 0, -ETIMEDOUT);
		czone_free_blocks(block, nr);
	}
}

/*
 * Blocks that were @cz's, with @backed pages: one range per run, back in the pool
 * once the host has answered. Runs that the host has nothing behind it need not
 * hear of. What all the others do not have is the last one's: most often there
 * is but one run, and nothing to count.
 */
void czone_give_blocks(struct czone_request *req, struct czone *cz,
		       const struct czone_blocks *blocks, unsigned long backed)
{
	struct czone_giver giver = { .req = req, .kind = CZONE_BLOCKS, .cz = cz };
	unsigned long start, end, part;

	for_each_run_in(blocks, start, end) {
		part = backed;
		if (backed && czone_blocks_next(blocks, end) < blocks->first + blocks->nr)
			part = czone_weigh_backed(czone_block_pfn(start),
						  (end - start) << CZONE_BLOCK_ORDER);
		czone_giver_add_blocks(&giver, start, end - start, part);
		backed -= part;
	}
	czone_giver_end(&giver);
}

void czone_give_sections(struct czone_request *req, const unsigned long *sections,
			 unsigned long nr_sections)
{
	struct czone_giver giver = { .req = req, .kind = CZONE_MEMMAP };
	unsigned long nr;

	for_each_set_bit(nr, sections, nr_sections) {
		phys_addr_t memmap = czone_section_memmap(czone_section_at(nr));

		if (!czone_giver_add(&giver, PHYS_PFN(memmap), CZONE_MEMMAP_SIZE >> PAGE_SHIFT))
			czone_section_released(nr, false);
	}
	czone_giver_end(&giver);
}

/* Free blocks with memory behind them: from zones that nobody could report. */
void czone_give_pool(struct czone_request *req)
{
	struct czone_giver giver = { .req = req, .kind = CZONE_BLOCKS };
	unsigned long block = READ_ONCE(czone_pool.used.first), len;

	if (!czone_have_transport())
		return;
	for (;;) {
		block = czone_hold_backed_run(block, &len);
		if (!len)
			break;
		czone_giver_add_blocks(&giver, block, len,
				       czone_weigh_backed(czone_block_pfn(block),
							  len << CZONE_BLOCK_ORDER));
		block += len;
		if (czone_request_expired(req))
			break;
	}
	czone_giver_end(&giver);
}

/*
 * Boot memory: without a map nobody knows what the host has behind it, but what
 * was reported and not allocated since needs no second report.
 */
static int czone_cmp_extent(const void *a, const void *b)
{
	const struct czone_extent *x = a, *y = b;

	return x->start < y->start ? -1 : x->start > y->start;
}

/* By address, neighbours merged. */
void czone_batch_sort(struct czone_batch *batch)
{
	u32 i, n = 0;

	sort(batch->range, batch->count, sizeof(batch->range[0]), czone_cmp_extent, NULL);
	for (i = 1; i < batch->count; i++) {
		struct czone_extent *last = &batch->range[n];

		if (last->start + last->size == batch->range[i].start)
			last->size += batch->range[i].size;
		else
			batch->range[++n] = batch->range[i];
	}
	batch->count = n + 1;
}

/*
 * Fill a batch from one free list. @visits is how much of the list is left to
 * see. Returns false if this zone should be left alone from now on.
 */
static bool czone_collect_boot(struct czone_slot *slot, struct zone *zone, unsigned int order,
			       struct list_head *list, unsigned long *visits)
{
	unsigned long pages = 0, spare;
	struct page *page, *next;
	int budget = CZONE_LOCK_BUDGET;
	bool go_on = true;

	spin_lock_irq(&zone->lock);
	spare = zone_page_state(zone, NR_FREE_PAGES);
	spare -= min(spare, high_wmark_pages(zone));
	spare = min_t(unsigned long, spare / 4, CZONE_BATCH_PAGES_MAX);

	list_for_each_entry_safe(page, next, list, buddy_list) {
		if (!*visits || !budget)
			break;
		if (czone_boot_wanted(page, order)) {
			if (pages + (1UL << order) > spare) {
				go_on = pages;
				break;
			}
			if (!czone_slot_add(slot, page_to_pfn(page), 1UL << order))
				break;
			if (!__isolate_free_page(page, order)) {
				/* The range that was just added, or its end. */
				struct czone_extent *last;

				last = &slot->batch.range[slot->batch.count - 1];
				last->size -= PAGE_SIZE << order;
				if (!last->size)
					slot->batch.count--;
				go_on = false;
				break;
			}
			pages += 1UL << order;
		}
		--*visits;
		budget--;
	}
	/* Next time, begin with what was not seen. */
	if (!list_entry_is_head(page, list, buddy_list) &&
	    !list_is_first(&page->buddy_list, list))
		list_rotate_to_front(&page->buddy_list, list);
	spin_unlock_irq(&zone->lock);
	return go_on;
}

static int czone_give_boot_list(struct czone_request *req, u64 bytes, struct zone *zone,
				unsigned int order, int type)
{
	struct free_area *area = &zone->free_area[order];
	int batches = bytes ? 1 : CZONE_BOOT_BATCHES;
	unsigned long visits = READ_ONCE(area->nr_free);
	struct czone_slot *slot;
	bool go_on = true;

	while (visits && go_on) {
		if (czone_request_expired(req))
			return -ETIMEDOUT;
		/*
		 * Only the answers tell how much there was. And what is with the
		 * host is missing here, where nobody waits for it.
		 */
		if (wait_event_killable_timeout(req->wait, atomic_read(&req->pending) < batches,
						czone_request_left(req)) <= 0)
			return -ETIMEDOUT;
		if (bytes && atomic64_read(&req->returned) >= bytes)
			return 0;
		slot = czone_slot_get(req, CZONE_PAGES, zone, NULL);
		if (!slot)
			return czone_have_transport() ? -ETIMEDOUT : -ENODEV;
		go_on = czone_collect_boot(slot, zone, order, &area->free_list[type], &visits);
		if (slot->batch.count)
			czone_batch_sort(&slot->batch);
		else if (list_empty(&area->free_list[type]))
			visits = 0;
		czone_slot_submit(slot);
		cond_resched();
	}
	return 0;
}

/* Stop when the host has got @bytes in this request; 0 is all that there is. */
int czone_give_boot(struct czone_request *req, u64 bytes)
{
	struct zone *zone;
	int order, type, ret;

	/* What free pages are believed to contain must still be true afterwards. */
	if (page_poisoning_enabled() || (want_init_on_free() && !czone_zeroes))
		return -EOPNOTSUPP;
	drain_all_pages(NULL);
	/* The largest first: they cost least, and split nothing. */
	for (order = MAX_PAGE_ORDER; order >= (int)czone_report_order; order--) {
		for_each_populated_zone(zone) {
			for (type = 0; type < MIGRATE_TYPES; type++) {
				if (is_migrate_isolate(type))
					continue;
				ret = czone_give_boot_list(req, bytes, zone, order, type);
				if (ret)
					return ret;
			}
		}
	}
	return 0;
}

/*
 * Transports
 */

/*
 * With larger host pages, more is backed than what was touched. No batch is under
 * way, see czone_blocks_taken().
 */
static void czone_round_backed(unsigned int order)
{
	unsigned long pfn, nr = 1UL << order;
	struct czone_region *region;
	struct zone *zone;

	mutex_lock(&czone_lock);
	list_for_each_entry(region, &czone_regions, list) {
		for (pfn = czone_block_pfn(region->first); pfn < czone_block_pfn(region->end);
		     pfn += nr) {
			zone = czone_block_zone(czone_pfn_block(pfn));
			if (czone_range_backed(pfn, nr))
				atomic_long_add(czone_set_backed(pfn, nr),
						&zone_to_czone(zone)->nr_backed);
		}
	}
	mutex_unlock(&czone_lock);
}

static int czone_alloc_slots(void)
{
	int i;

	if (czone_slots)
		return 0;
	czone_slots = kvcalloc(CZONE_SLOTS, sizeof(*czone_slots), GFP_KERNEL);
	if (!czone_slots)
		return -ENOMEM;
	for (i = 0; i < CZONE_SLOTS; i++)
		list_add(&czone_slots[i].batch.list, &czone_free_slots);
	return 0;
}

/**
 * czone_register_transport - there is a host that takes memory back
 * @t: how to reach it; stays valid until czone_unregister_transport()
 *
 * Return: 0, -EBUSY: there is one already, -EINVAL: its limits make no sense.
 */
int czone_register_transport(struct czone_transport *t)
{
	int ret = -EBUSY;

	if (!t->submit || !t->max_ranges || t->report_shift > CZONE_BLOCK_SHIFT ||
	    t->backing_shift > CZONE_BLOCK_SHIFT)
		return -EINVAL;

	down_write(&czone_transport_lock);
	if (czone_transport)
		goto unlock;
	ret = czone_alloc_slots();
	if (ret)
		goto unlock;
	czone_max_ranges = min_t(u32, t->max_ranges, CZONE_BATCH_RANGES);
	czone_report_order = max(t->report_shift, PAGE_SHIFT) - PAGE_SHIFT;
	czone_zeroes = t->zeroes;
	WRITE_ONCE(czone_backing_order, max(t->backing_shift, PAGE_SHIFT) - PAGE_SHIFT);
	if (!t->zeroes)
		czone_forget_zeroes();
	if (czone_backing_order)
		czone_round_backed(czone_backing_order);
	/* Who takes a page off a free list must clear its mark. */
	static_branch_enable(&page_reporting_enabled);
	WRITE_ONCE(czone_transport, t);
unlock:
	up_write(&czone_transport_lock);
	if (ret)
		return ret;
	/* What the last one did not take. */
	czone_sections_changed();
	return 0;
}
EXPORT_SYMBOL_GPL(czone_register_transport);

/* Best effort, and so without waiting for anything. */
void czone_tell(enum czone_notice kind, u32 id, u64 value)
{
	if (!down_read_trylock(&czone_transport_lock))
		return;
	if (czone_transport && czone_transport->notice)
		czone_transport->notice(czone_transport, kind, id, value);
	up_read(&czone_transport_lock);
}

/**
 * czone_unregister_transport - the host cannot be reached any more
 * @t: that was registered, and has completed all its batches
 */
void czone_unregister_transport(struct czone_transport *t)
{
	down_write(&czone_transport_lock);
	if (czone_transport == t)
		WRITE_ONCE(czone_transport, NULL);
	up_write(&czone_transport_lock);
	wake_up_all(&czone_slot_wait);
}
EXPORT_SYMBOL_GPL(czone_unregister_transport);
