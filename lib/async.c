/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "async.h"
#include "thread.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>

/*
 * Operations of one VM that are at work at once. As many changes a guest takes
 * at a time; and a guest that does not answer keeps no others waiting.
 */
#define WORKERS_MAX 16

static _Thread_local struct czone_op *current;
static _Thread_local struct czone_vm *works_for;

bool czone_cancelled(void)
{
	return current && !current->kind->whole && atomic_load(&current->cancelled);
}

struct czone_op *czone_op_new(const struct op_kind *kind, struct czone_vm *vm, struct czone *zone)
{
	struct czone_op *op = calloc(1, kind->size);

	if (!op) {
		czone_fail(-ENOMEM, "no memory for an operation");
		return NULL;
	}
	op->kind = kind;
	op->vm = czone_vm_ref(vm);
	op->zone = czone_ref(zone);
	op->refs = 1;
	return op;
}

void czone_op_discard(struct czone_op *op)
{
	struct czone_vm *vm = op->vm;

	if (op->kind->clear)
		op->kind->clear(op);
	czone_unref(op->zone);
	free(op->detail);
	free(op);
	czone_vm_unref(vm);
}

static void put(struct czone_op *op)
{
	bool last;

	pthread_mutex_lock(&op->vm->lock);
	last = --op->refs == 0;
	pthread_mutex_unlock(&op->vm->lock);
	if (last)
		czone_op_discard(op);
}

/* ------------------------------------------------------------ the other end */

static void deliver(struct notice *notice, struct czone_vm *vm)
{
	struct czone_op *op = (struct czone_op *)notice;
	int result = op->result;

	(void)vm;
	if (result != -ECANCELED && op->kind->tell)
		op->kind->tell(op, result);
	if (result < 0)
		czone_fail(result, "%s", op->detail ? op->detail : "");
	if (op->done)
		op->done(result, op->userdata);
	put(op);
}

/* Never: who waits to be told has a reference on the VM. */
static void discard(struct notice *notice)
{
	(void)notice;
}

/* Under vm->lock: it is to be told, once. */
static void post(struct czone_op *op, int result)
{
	op->state = OP_POSTED;
	op->result = result;
	op->notice.deliver = deliver;
	op->notice.discard = discard;
	inbox_post(&op->vm->inbox, &op->notice);
}

/* ----------------------------------------------------------------- workers */

static void work(struct czone_op *op)
{
	uint64_t now = now_ms();
	uint32_t left = 0;
	int result;

	if (op->timed)
		left = now < op->deadline ? op->deadline - now : 0;
	current = op;
	if (op->timed && !left)
		result = czone_fail(-ETIMEDOUT, "the time was over before others of this VM were done");
	else
		result = op->kind->run(op, left);
	current = NULL;
	pthread_mutex_lock(&op->vm->lock);
	if (op->state != OP_POSTED) {
		if (result < 0)
			op->detail = strdup(czone_error_detail());
		post(op, result);
		op->refs--;	/* not the last: it is not told yet */
		pthread_mutex_unlock(&op->vm->lock);
		return;
	}
	pthread_mutex_unlock(&op->vm->lock);
	if (result >= 0 && op->kind->undo)
		op->kind->undo(op);
	put(op);
}

/*
 * Ends when there is nothing to do. It has no reference on the VM but those of
 * its operations; where the last one goes, it waits for the others.
 */
static void *run(void *argument)
{
	struct czone_vm *vm = works_for = argument;
	struct czone_op *op;

	pthread_mutex_lock(&vm->lock);
	while ((op = vm->waiting)) {
		vm->waiting = op->next;
		if (!vm->waiting)
			vm->waiting_end = &vm->waiting;
		op->state = OP_RUNNING;
		pthread_mutex_unlock(&vm->lock);
		work(op);
		if (!works_for)
			return NULL;	/* that was the end of the VM */
		pthread_mutex_lock(&vm->lock);
	}
	vm->workers--;
	pthread_cond_broadcast(&vm->worker_gone);
	pthread_mutex_unlock(&vm->lock);
	return NULL;
}

void czone_async_end(struct czone_vm *vm)
{
	bool own = works_for == vm;

	pthread_mutex_lock(&vm->lock);
	while (vm->workers > own)
		pthread_cond_wait(&vm->worker_gone, &vm->lock);
	pthread_mutex_unlock(&vm->lock);
	if (own)
		works_for = NULL;
}

int czone_op_start(struct czone_op *op, uint32_t timeout_ms, czone_done_fn *done, void *userdata,
		   czone_op **ret_op)
{
	struct czone_vm *vm = op->vm;
	pthread_t thread;
	int r = 0;

	op->done = done;
	op->userdata = userdata;
	op->timed = timeout_ms;
	op->deadline = now_ms() + timeout_ms;
	op->refs = 2 + !!ret_op;	/* worker, teller, caller */
	pthread_mutex_lock(&vm->lock);
	op->next = NULL;
	*vm->waiting_end = op;
	vm->waiting_end = &op->next;
	if (vm->workers < WORKERS_MAX) {
		r = thread_start(&thread, "czone-call", run, vm);
		if (r == 0) {
			pthread_detach(thread);
			vm->workers++;
		} else if (vm->workers) {
			r = 0;		/* another one will come to it */
		}
	}
	if (r < 0) {
		/* alone in the list: no worker, and so nobody's */
		vm->waiting = NULL;
		vm->waiting_end = &vm->waiting;
	} else if (ret_op) {
		*ret_op = op;
	}
	pthread_mutex_unlock(&vm->lock);
	if (r < 0) {
		czone_op_discard(op);
		return czone_fail(r, "no thread for an operation: %s", strerror(-r));
	}
	return 0;
}

/* ------------------------------------------------------------------ handles */

int czone_op_cancel(czone_op *op)
{
	struct czone_vm *vm;
	bool wake = false, unstarted = false;
	int r = 0;

	if (!op)
		return czone_fail(-EINVAL, "op is NULL");
	vm = op->vm;
	pthread_mutex_lock(&vm->lock);
	if (op->state == OP_POSTED) {
		r = -EALREADY;
	} else {
		op->detail = strdup("the operation was cancelled");
		if (op->state == OP_WAITING) {
			struct czone_op **p = &vm->waiting;

			while (*p != op)
				p = &(*p)->next;
			*p = op->next;
			if (!*p)
				vm->waiting_end = p;
			unstarted = true;
		}
		wake = op->state == OP_RUNNING;
		atomic_store(&op->cancelled, true);
		post(op, -ECANCELED);
	}
	pthread_mutex_unlock(&vm->lock);
	if (unstarted)
		put(op);	/* for the worker */
	if (wake && vm->driver->wake)
		vm->driver->wake(vm);
	return r < 0 ? czone_fail(r, "the operation is over") : 0;
}

czone_op *czone_op_unref(czone_op *op)
{
	if (op)
		put(op);
	return NULL;
}
