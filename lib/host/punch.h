/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Giving guest memory back: holes punched into its files, by one thread for all
 * VMs of this process. Each VM has a queue; jobs of a queue are done in order.
 * After every step (a ms at most) it is the turn of the queue that has had the
 * least of the thread's time.
 */
#ifndef LIB_HOST_PUNCH_H
#define LIB_HOST_PUNCH_H

#include "device.h"
#include "memory.h"

struct punch_queue;

/* Ranges to release, all of one zone. Guest-physical; checked by who submits. */
struct punch_job {
	struct punch_job *next;			/* in done(): to be done right after this one */
	void (*done)(struct punch_job *job);	/* in the punching thread; owns the job */
	uint32_t zone;
	int error;		/* 0, or the first that occurred */
	uint64_t bytes;		/* host memory that came back */
	size_t n;
	struct device_range *range;
};

struct punch_queue {
	struct memory *memory;
	void (*free_job)(struct punch_job *job);	/* of cancelled ones; any thread */
	struct punch_job *first, **last;		/* waiting */
	unsigned int cancels, steps;			/* counted */
	bool listed, busy, punching;
	struct punch_queue *next;			/* in the list of those with work */
	uint64_t used_us;	/* of the thread's time; not less than the others but for a credit */

	/* The thread's own: the jobs that it does, all of them at once. */
	struct punch_job *batch;
	unsigned int batch_cancels;
	struct device_range *run;		/* their ranges, sorted and merged */
	size_t n_runs, at_run;
	uint64_t at_byte;			/* of run[at_run] */
	uint64_t freed;				/* measured, see punch.c */
	uint64_t step_bytes;			/* what is likely to be done in one step */
	int error;
};

int punch_get(void);	/* the thread, for as long as there are queues */
void punch_put(void);

void punch_queue_init(struct punch_queue *queue, struct memory *memory,
		      void (*free_job)(struct punch_job *job));

/* After the last submit. Not with a lock that done() takes. */
void punch_queue_close(struct punch_queue *queue);

void punch_submit(struct punch_queue *queue, struct punch_job *job);

/* Wait until nothing is being punched that the region table named before: a few ms at most. */
void punch_settle(struct punch_queue *queue);

/*
 * Free all jobs without calling their done(), and settle. A done() that had
 * begun already may still run.
 */
void punch_cancel(struct punch_queue *queue);

#endif /* LIB_HOST_PUNCH_H */
