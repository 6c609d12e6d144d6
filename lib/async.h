/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Operations under way: a call of the public API that a worker makes, with
 * arguments and results of its own. async.c has their life, async_calls.c what
 * each of them is.
 */
#ifndef LIB_ASYNC_H
#define LIB_ASYNC_H

#include "handle.h"

struct op_kind {
	size_t size;			/* of the struct that begins with a struct czone_op */
	bool whole;			/* not to be cut short: it would leave something behind */
	int (*run)(struct czone_op *op, uint32_t timeout_ms);
	void (*tell)(struct czone_op *op, int result);	/* results to where the caller wants them; or NULL */
	void (*undo)(struct czone_op *op);		/* it worked, but was cancelled meanwhile; or NULL */
	void (*clear)(struct czone_op *op);		/* free arguments and results that nobody took; or NULL */
};

/* NULL, with a detail, without memory. Takes references on vm and, unless NULL, zone. */
struct czone_op *czone_op_new(const struct op_kind *kind, struct czone_vm *vm, struct czone *zone);

/* It will be told. Or it fails at once, and the op is freed. */
int czone_op_start(struct czone_op *op, uint32_t timeout_ms, czone_done_fn *done, void *userdata,
		   czone_op **ret_op);

/* Arguments did not come together. */
void czone_op_discard(struct czone_op *op);

struct czone_op {
	struct notice notice;
	struct czone_op *next;		/* in vm->waiting */
	const struct op_kind *kind;
	struct czone_vm *vm;
	struct czone *zone;		/* or NULL */
	czone_done_fn *done;
	void *userdata;
	uint64_t deadline;		/* ms */
	bool timed;

	/* under vm->lock */
	unsigned int refs;		/* who works at it, who tells it, who may cancel it */
	enum { OP_WAITING, OP_RUNNING, OP_POSTED } state;

	atomic_bool cancelled;
	int result;
	char *detail;			/* of a failure */
};

#endif /* LIB_ASYNC_H */
