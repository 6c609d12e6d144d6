// SPDX-License-Identifier: LGPL-2.1-or-later
#include "punch.h"
#include "../thread.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <stdlib.h>
#include <string.h>

/*
 * One step: so many ranges, or what is done after so long. A range is at most one
 * call, about 1 ms on 4 KiB pages. Cancels wait for a step.
 */
#define STEP_RANGES 64
#define STEP_US 250
#define CALL_BYTES ((uint64_t)4 << 20)
#define STEP_BYTES_MIN ((uint64_t)256 << 10)	/* what is looked at before, so that little is in vain */
#define STEP_BYTES_MAX ((uint64_t)64 << 20)	/* where pages are huge */
/* What a queue that had nothing to do may use at once, however much others want. */
#define CREDIT_US 10000
/* What is sorted and merged together. */
#define BATCH_JOBS 16

static pthread_mutex_t users_lock = PTHREAD_MUTEX_INITIALIZER;
static unsigned int users;
static pthread_t thread;

/* Protects all queues; never held while punching, nor while done() runs. */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t work = PTHREAD_COND_INITIALIZER;
static pthread_cond_t idle = PTHREAD_COND_INITIALIZER;
static struct punch_queue *turns, **turns_end = &turns;
static uint64_t virtual_us;	/* used_us of who had the last turn, or before that */
static bool stop;

static void list_add(struct punch_queue *q)
{
	if (q->listed)
		return;
	q->listed = true;
	q->next = NULL;
	*turns_end = q;
	turns_end = &q->next;
}

static void list_remove(struct punch_queue *q)
{
	struct punch_queue **p = &turns;

	if (!q->listed)
		return;
	while (*p != q)
		p = &(*p)->next;
	*p = q->next;
	if (turns_end == &q->next)
		turns_end = p;
	q->listed = false;
}

/* Of those with work, who has used the least. Those that come first among equals. */
static struct punch_queue *whose_turn(void)
{
	struct punch_queue *least = turns;

	for (struct punch_queue *q = turns; q; q = q->next)
		if (q->used_us < least->used_us)
			least = q;
	return least;
}

static int by_start(const void *a, const void *b)
{
	const struct device_range *x = a, *y = b;

	return x->start < y->start ? -1 : x->start > y->start;
}

/* Sort, and join what touches: neighbours are one call instead of thousands. */
static size_t merge(struct device_range *range, size_t n)
{
	bool sorted = true;
	size_t out = 0;

	for (size_t i = 1; i < n && sorted; i++)
		sorted = range[i - 1].start <= range[i].start;
	if (!sorted)
		qsort(range, n, sizeof(*range), by_start);
	for (size_t i = 1; i < n; i++) {
		struct device_range *last = &range[out], *r = &range[i];
		uint64_t last_end = last->start + last->size, end = r->start + r->size;

		if (r->start > last_end)
			range[++out] = *r;
		else if (end > last_end)
			last->size = end - last->start;
	}
	return out + 1;
}

/* Take the jobs of one zone from the front of the queue. With the lock. */
static void batch_take(struct punch_queue *q)
{
	struct punch_job *job = q->first;
	size_t jobs = 0;

	q->batch = job;
	q->batch_cancels = q->cancels;
	while (job->next && ++jobs < BATCH_JOBS && job->next->zone == q->batch->zone)
		job = job->next;
	q->first = job->next;
	if (!q->first)
		q->last = &q->first;
	job->next = NULL;
}

/* The rest without it: only this thread knows the batch. */
static void batch_prepare(struct punch_queue *q)
{
	size_t ranges = 0;

	for (struct punch_job *job = q->batch; job; job = job->next)
		ranges += job->n;
	q->n_runs = q->at_run = 0;
	q->at_byte = q->freed = 0;
	q->error = 0;
	q->run = malloc(sizeof(*q->run) * (ranges ? ranges : 1));
	if (!q->run) {
		q->error = -ENOMEM;
		return;
	}
	for (struct punch_job *job = q->batch; job; job = job->next)
		for (size_t i = 0; i < job->n; i++)
			q->run[q->n_runs++] = job->range[i];
	if (q->n_runs)
		q->n_runs = merge(q->run, q->n_runs);
}

static uint64_t job_size(const struct punch_job *job)
{
	uint64_t size = 0;

	for (size_t i = 0; i < job->n; i++)
		size += job->range[i].size;
	return size;
}

/* Share what came back among the jobs by their size; the sum stays what was measured. */
static void batch_share(struct punch_queue *q)
{
	uint64_t freed = q->freed, size = 0;

	for (struct punch_job *job = q->batch; job; job = job->next)
		size += job_size(job);
	for (struct punch_job *job = q->batch; job; job = job->next) {
		uint64_t mine = job_size(job);

		job->bytes = size ? (unsigned __int128)freed * mine / size : 0;
		freed -= job->bytes;
		size -= mine;
		job->error = q->error;
	}
}

static void batch_end(struct punch_queue *q, void (*each)(struct punch_job *job))
{
	struct punch_job *job = q->batch;

	while (job) {
		struct punch_job *next = job->next;

		(each ? each : job->done)(job);
		job = next;
	}
	free(q->run);
	q->run = NULL;
	q->batch = NULL;
}

/*
 * What came back is what was there before and is not there afterwards; no return
 * value is believed. The blocks of the whole file fall by that, less what somebody
 * faults meanwhile; so if they have not fallen by as much as was punched, what
 * is in memory between the first and the last range is compared, too, where
 * somebody faults less. To look at each range by itself would take a fifth of the time
 * of single pages; that is done only when they are far apart.
 */
#define SPAN_FACTOR 8

struct step {
	struct memory_file *file;
	uint64_t file_start, file_end;	/* where the region is in it */
	uint64_t gpa;			/* of file_start */
	unsigned int n;
	uint64_t size;
	struct device_range range[STEP_RANGES];		/* in the file, ascending */
	struct { size_t run; uint64_t byte; } from[STEP_RANGES];	/* and in the batch */
	uint64_t end_us;		/* when to stop */
	int error;
};

/* The file of the next range, if it is that of the step; at the beginning any is. */
static bool step_file(struct punch_queue *q, struct step *s, uint64_t gpa)
{
	uint64_t offset, left;

	if (s->file)
		return gpa >= s->gpa && gpa - s->gpa < s->file_end - s->file_start;
	s->file = memory_file_at(q->memory, gpa, &offset, &left);
	if (!s->file)
		return false;
	s->gpa = gpa;
	s->file_start = offset;
	s->file_end = offset + left;
	return true;
}

/* The next range of the batch into the step; false when the step has all that it can. */
static bool step_add(struct punch_queue *q, struct step *s)
{
	const struct device_range *run = &q->run[q->at_run];
	uint64_t gpa = run->start + q->at_byte, size = run->size - q->at_byte, offset;

	if (step_file(q, s, gpa)) {
		offset = s->file_start + (gpa - s->gpa);
		if (size > s->file_end - offset)
			size = s->file_end - offset;
		/* end on a multiple, so that no huge page is cut in two */
		if (size > CALL_BYTES - offset % CALL_BYTES)
			size = CALL_BYTES - offset % CALL_BYTES;
		s->from[s->n].run = q->at_run;
		s->from[s->n].byte = q->at_byte;
		s->range[s->n++] = (struct device_range){ offset, size };
		s->size += size;
	} else if (s->file) {
		return false;
	} else {
		s->error = -EFAULT;	/* the region has gone: the rest of the run is nowhere */
	}
	q->at_byte += size;
	if (q->at_byte == run->size) {
		q->at_run++;
		q->at_byte = 0;
	}
	return s->file && s->n < STEP_RANGES && s->size < q->step_bytes && q->at_run < q->n_runs;
}

static int step_call(struct step *s, const struct device_range *range)
{
	if (!fallocate(s->file->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, range->start,
		       range->size))
		return 0;
	if (!s->error)
		s->error = -errno;
	return -errno;
}

/* Bytes in memory between the first range and the last; false where the kernel cannot count. */
static bool step_cached(const struct step *s, uint64_t *ret_bytes)
{
	const struct device_range *last = &s->range[s->n - 1];
	uint64_t start = s->range[0].start;

	return !memory_file_cached(s->file, start, last->start + last->size - start, ret_bytes);
}

/* Punch them, measured as one, but no more when time is over: s->n is how many it were. */
static uint64_t step_dense(struct step *s)
{
	uint64_t before, after, blocks_before, blocks_after, gone = 0, size = 0;
	bool blocks = !memory_file_allocated(s->file, &blocks_before);
	const struct step all = *s;
	bool cached = step_cached(&all, &before);
	unsigned int i = 0;

	do {
		size += s->range[i].size;
		step_call(s, &s->range[i]);
	} while (++i < s->n && now_us() < s->end_us);
	s->n = i;
	if (blocks && !memory_file_allocated(s->file, &blocks_after) && blocks_before > blocks_after)
		gone = blocks_before - blocks_after;
	if (gone < size && cached && step_cached(&all, &after) && before > after &&
	    before - after > gone)
		gone = before - after;
	return gone < size ? gone : size;
}

/* The same, each by itself. */
static uint64_t step_sparse(struct step *s)
{
	struct step one = { .file = s->file };
	uint64_t gone = 0;
	unsigned int i = 0;

	do {
		one.n = 1;
		one.range[0] = s->range[i];
		gone += step_dense(&one);
	} while (++i < s->n && now_us() < s->end_us);
	s->n = i;
	s->error = s->error ? s->error : one.error;
	return gone;
}

static void batch_step(struct punch_queue *q)
{
	struct step s;
	uint64_t span;
	unsigned int n;

	s.file = NULL;
	s.n = 0;
	s.size = 0;
	s.error = 0;
	s.end_us = now_us() + STEP_US;
	while (step_add(q, &s))
		;
	n = s.n;
	if (n) {
		span = s.range[n - 1].start + s.range[n - 1].size - s.range[0].start;
		q->freed += span / SPAN_FACTOR <= s.size ? step_dense(&s) : step_sparse(&s);
	}
	if (s.n < n) {		/* the rest is for another step, and the next one smaller */
		q->at_run = s.from[s.n].run;
		q->at_byte = s.from[s.n].byte;
		q->step_bytes /= 2;
		if (q->step_bytes < STEP_BYTES_MIN)
			q->step_bytes = STEP_BYTES_MIN;
	} else if (s.size >= q->step_bytes && q->step_bytes < STEP_BYTES_MAX &&
		   now_us() < s.end_us) {
		q->step_bytes *= 2;
	}
	if (s.file)
		memory_file_put(s.file);
	if (s.error && !q->error)
		q->error = s.error;
}

/* With the lock, which it gives up in between. */
static void work_on(struct punch_queue *q)
{
	bool cancelled;

	if (!q->batch) {
		batch_take(q);
		pthread_mutex_unlock(&lock);
		batch_prepare(q);
		pthread_mutex_lock(&lock);
	}
	cancelled = q->cancels != q->batch_cancels;
	if (!cancelled && q->at_run < q->n_runs) {
		q->punching = true;
		pthread_mutex_unlock(&lock);
		batch_step(q);
		pthread_mutex_lock(&lock);
		q->punching = false;
		q->steps++;
		pthread_cond_broadcast(&idle);
		cancelled = q->cancels != q->batch_cancels;
	}
	if (cancelled || q->at_run == q->n_runs) {
		pthread_mutex_unlock(&lock);
		batch_share(q);
		batch_end(q, cancelled ? q->free_job : NULL);
		pthread_mutex_lock(&lock);
	}
}

/* One turn; false: nobody has work. With the lock, as before. */
static bool turn(void)
{
	struct punch_queue *q = whose_turn();
	uint64_t start;

	if (!q)
		return false;
	list_remove(q);
	if (virtual_us < q->used_us)
		virtual_us = q->used_us;
	q->busy = true;
	start = now_us();
	work_on(q);
	q->used_us += now_us() - start;
	q->busy = false;
	pthread_cond_broadcast(&idle);
	if (q->first || q->batch)
		list_add(q);
	return true;
}

static void *run(void *unused)
{
	(void)unused;
	pthread_mutex_lock(&lock);
	while (!stop)
		if (!turn())
			pthread_cond_wait(&work, &lock);
	pthread_mutex_unlock(&lock);
	return NULL;
}

int punch_get(void)
{
	int error = 0;

	pthread_mutex_lock(&users_lock);
	if (!users) {
		stop = false;
		error = thread_start(&thread, "czone-punch", run, NULL);
	}
	if (!error)
		users++;
	pthread_mutex_unlock(&users_lock);
	return error;
}

void punch_put(void)
{
	pthread_mutex_lock(&users_lock);
	if (!--users) {
		pthread_mutex_lock(&lock);
		stop = true;
		pthread_cond_signal(&work);
		pthread_mutex_unlock(&lock);
		pthread_join(thread, NULL);
	}
	pthread_mutex_unlock(&users_lock);
}

void punch_queue_init(struct punch_queue *q, struct memory *memory,
		      void (*free_job)(struct punch_job *job))
{
	memset(q, 0, sizeof(*q));
	q->memory = memory;
	q->free_job = free_job;
	q->last = &q->first;
	q->step_bytes = CALL_BYTES;
}

void punch_submit(struct punch_queue *q, struct punch_job *job)
{
	job->next = NULL;
	job->error = 0;
	job->bytes = 0;
	pthread_mutex_lock(&lock);
	*q->last = job;
	q->last = &job->next;
	if (!q->busy) {
		if (!q->listed && q->used_us + CREDIT_US < virtual_us)
			q->used_us = virtual_us - CREDIT_US;
		list_add(q);
		pthread_cond_signal(&work);
	}
	pthread_mutex_unlock(&lock);
}

static void settle(struct punch_queue *q)
{
	unsigned int steps = q->steps;

	while (q->punching && q->steps == steps)
		pthread_cond_wait(&idle, &lock);
}

void punch_settle(struct punch_queue *q)
{
	pthread_mutex_lock(&lock);
	settle(q);
	pthread_mutex_unlock(&lock);
}

void punch_cancel(struct punch_queue *q)
{
	struct punch_job *job;

	pthread_mutex_lock(&lock);
	job = q->first;
	q->first = NULL;
	q->last = &q->first;
	q->cancels++;
	if (!q->busy && !q->batch)
		list_remove(q);
	settle(q);
	pthread_mutex_unlock(&lock);
	while (job) {
		struct punch_job *next = job->next;

		q->free_job(job);
		job = next;
	}
}

void punch_queue_close(struct punch_queue *q)
{
	punch_cancel(q);
	pthread_mutex_lock(&lock);
	while (q->busy)
		pthread_cond_wait(&idle, &lock);
	list_remove(q);
	pthread_mutex_unlock(&lock);
	if (q->batch)
		batch_end(q, q->free_job);
}
