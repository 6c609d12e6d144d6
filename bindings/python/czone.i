/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The private module czone._czone: every function of czone.h under its own
 * name. Outputs are returned, negative results raised, handles are capsules,
 * structs are dictionaries. The package on top of it is czone/__init__.py.
 */
%module _czone
%{
#include "convert.h"

static PyObject *log_callable;
%}

%include <stdint.i>

/* Whatever may wait, or log, goes without the interpreter's lock. */
%exception {
	Py_BEGIN_ALLOW_THREADS
	$action
	Py_END_ALLOW_THREADS
}
%noexception set_error_class;

%typemap(out) int {
	if ($1 < 0) {
		raise_error($1);
		SWIG_fail;
	}
	$result = PyLong_FromLong($1);
}

/* These fill their outputs on some failures, too: whether to raise is up to the package. */
%typemap(out) int czone_attach_cgroup, int czone_reclaim, int czone_vm_reclaim, int czone_destroy, int czone_set_target, int czone_audit
	"$result = PyLong_FromLong($1);"

/* Handles. A capsule has one reference for as long as it lives. */
%ignore czone_ref;
%ignore czone_unref;
%ignore czone_vm_ref;
%ignore czone_vm_unref;
%ignore czone_test_exit;
%typemap(in) czone_vm * {
	$1 = vm_from_capsule($input);
	if (!$1)
		SWIG_fail;
}
%typemap(in) czone *, const czone * {
	$1 = zone_from_capsule($input);
	if (!$1)
		SWIG_fail;
}
%typemap(in, numinputs=0) czone_vm **ret_vm (czone_vm *vm = NULL) "$1 = &vm;"
%typemap(argout) czone_vm **ret_vm {
	Py_XSETREF($result, vm_to_capsule(vm$argnum));
}
%typemap(in, numinputs=0) czone **ret_zone (czone *zone = NULL) "$1 = &zone;"
%typemap(argout) czone **ret_zone {
	Py_XSETREF($result, zone_to_capsule(zone$argnum));
}
%typemap(in) czone_test_task * {
	$1 = task_from_capsule($input);
	if (!$1)
		SWIG_fail;
}
%typemap(in, numinputs=0) czone_test_task **ret_task (czone_test_task *task = NULL) "$1 = &task;"
%typemap(argout) czone_test_task **ret_task {
	Py_XSETREF($result, task_to_capsule(task$argnum));
}

/* Options. */
%typemap(in) const struct czone_vm_opts *opts (struct czone_vm_opts opts) {
	if (vm_opts_from_dict($input, &opts) < 0)
		SWIG_fail;
	$1 = &opts;
}
%typemap(freearg) const struct czone_vm_opts *opts {
	if ($1)
		vm_opts_free($1);
}
%typemap(in) const struct czone_create_opts *opts (struct czone_create_opts opts) {
	if (create_opts_from_dict($input, &opts) < 0)
		SWIG_fail;
	$1 = &opts;
}
%typemap(in) const struct czone_reclaim_opts *opts (struct czone_reclaim_opts opts) {
	if (reclaim_opts_from_dict($input, &opts) < 0)
		SWIG_fail;
	$1 = &opts;
}
%typemap(in) const struct czone_idle_opts *opts (struct czone_idle_opts opts) {
	if (idle_opts_from_dict($input, &opts) < 0)
		SWIG_fail;
	$1 = &opts;
}

%typemap(in) const struct czone_spawn_opts *opts (struct czone_spawn_opts opts) {
	if (spawn_opts_from_dict($input, &opts) < 0)
		SWIG_fail;
	$1 = &opts;
}
%typemap(freearg) const struct czone_spawn_opts *opts {
	if ($1)
		spawn_opts_free($1);
}
%typemap(in) const struct czone_serve_opts *opts (struct czone_serve_opts opts) {
	if (serve_opts_from_dict($input, &opts) < 0)
		SWIG_fail;
	$1 = &opts;
}
%typemap(in) struct _virDomain *domain {
	$1 = domain_from_python($input);
	if (!$1)
		SWIG_fail;
}
%typemap(in) const struct czone_audit_opts *opts (struct czone_audit_opts opts) {
	if (audit_opts_from_dict($input, &opts) < 0)
		SWIG_fail;
	$1 = &opts;
}
%typemap(in) const struct czone_quota *quota (struct czone_quota quota) {
	if (quota_from_dict($input, &quota) < 0)
		SWIG_fail;
	$1 = &quota;
}
%typemap(in) const struct czone_target_opts *opts (struct czone_target_opts opts) {
	if (target_opts_from_dict($input, &opts) < 0)
		SWIG_fail;
	$1 = &opts;
}

/* Outputs. */
%typemap(in, numinputs=0) char **ret_xml (char *text = NULL), char **ret_added (char *text = NULL)
	"$1 = &text;"
%typemap(argout) char **ret_xml
	"Py_XSETREF($result, PyUnicode_FromString(text$argnum)); free(text$argnum);"
%typemap(argout) char **ret_added
	"Py_XSETREF($result, Py_BuildValue(\"(Ns)\", Py_NewRef($result), text$argnum)); free(text$argnum);"
%typemap(in, numinputs=0) (int *ret_pidfd, int64_t *ret_pid) (int pidfd = -1, int64_t pid = 0)
	"$1 = &pidfd; $2 = &pid;"
%typemap(argout) (int *ret_pidfd, int64_t *ret_pid)
	"Py_XSETREF($result, Py_BuildValue(\"(iL)\", *$1, (long long)*$2));"

%typemap(in, numinputs=0) struct czone_zone_stats *ret_stats (struct czone_zone_stats stats)
	"stats = (struct czone_zone_stats)CZONE_INIT(stats); $1 = &stats;"
%typemap(argout) struct czone_zone_stats *ret_stats
	"Py_XSETREF($result, zone_stats_to_dict($1));"

%typemap(in, numinputs=0) struct czone_vm_stats *ret_stats (struct czone_vm_stats stats)
	"stats = (struct czone_vm_stats)CZONE_INIT(stats); $1 = &stats;"
%typemap(argout) struct czone_vm_stats *ret_stats
	"Py_XSETREF($result, vm_stats_to_dict($1));"

/* (result, output) */
%typemap(in, numinputs=0) struct czone_attach_report *ret_report (struct czone_attach_report report)
	"report = (struct czone_attach_report)CZONE_INIT(report); $1 = &report;"
%typemap(argout) struct czone_attach_report *ret_report
	"Py_XSETREF($result, Py_BuildValue(\"(iN)\", result, attach_report_to_dict($1)));"

%typemap(in, numinputs=0) struct czone_audit_report *ret_report (struct czone_audit_report report)
	"report = (struct czone_audit_report)CZONE_INIT(report); $1 = &report;"
%typemap(argout) struct czone_audit_report *ret_report
	"Py_XSETREF($result, Py_BuildValue(\"(iN)\", result, audit_report_to_dict($1)));"

%typemap(in, numinputs=0) struct czone_destroy_report *ret_report (struct czone_destroy_report report)
	"report = (struct czone_destroy_report)CZONE_INIT(report); $1 = &report;"
%typemap(argout) struct czone_destroy_report *ret_report
	"Py_XSETREF($result, Py_BuildValue(\"(iN)\", result, destroy_report_to_dict($1)));"

%typemap(in, numinputs=0) uint64_t *ret_returned (uint64_t returned = 0), uint64_t *ret_actual (uint64_t returned = 0)
	"$1 = &returned;"
%typemap(argout) uint64_t *ret_returned, uint64_t *ret_actual
	"Py_XSETREF($result, Py_BuildValue(\"(iK)\", result, (unsigned long long)*$1));"

/* How many bytes are wanted goes in, they come out. */
%typemap(in) (void *ret_data, size_t bytes) (PyObject *data = NULL) {
	$2 = PyLong_AsSize_t($input);
	if (PyErr_Occurred())
		SWIG_fail;
	data = PyBytes_FromStringAndSize(NULL, $2);
	if (!data)
		SWIG_fail;
	$1 = PyBytes_AS_STRING(data);
}
%typemap(argout) (void *ret_data, size_t bytes) {
	Py_XSETREF($result, data$argnum);
	data$argnum = NULL;
}
%typemap(freearg) (void *ret_data, size_t bytes)
	"Py_XDECREF(data$argnum);"

/* How many are wanted goes in, (how many there are, those that were got) comes out. */
%define OUTPUT_ARRAY(TYPE, NAME, TO_LIST)
%typemap(in) (TYPE *NAME, size_t max) {
	$2 = PyLong_AsSize_t($input);
	if (PyErr_Occurred())
		SWIG_fail;
	$1 = PyMem_Calloc($2 ? $2 : 1, sizeof(*$1));
	if (!$1) {
		PyErr_NoMemory();
		SWIG_fail;
	}
}
%typemap(argout) (TYPE *NAME, size_t max)
	"Py_XSETREF($result, Py_BuildValue(\"(iN)\", result, TO_LIST($1, (size_t)result < $2 ? (size_t)result : $2)));"
%typemap(freearg) (TYPE *NAME, size_t max)
	"PyMem_Free($1);"
%enddef
OUTPUT_ARRAY(struct czone_range, ret_ranges, ranges_to_list)
OUTPUT_ARRAY(uint32_t, ret_ids, ids_to_list)

/* A callable (level, message), or None. It is in use until the next one is set. */
%typemap(in) (czone_log_fn *fn, void *userdata) {
	if ($input != Py_None && !PyCallable_Check($input)) {
		PyErr_SetString(PyExc_TypeError, "not callable");
		SWIG_fail;
	}
	$1 = $input == Py_None ? NULL : log_to_python;
	$2 = $input == Py_None ? NULL : $input;
	Py_INCREF($input);
}
%typemap(argout) (czone_log_fn *fn, void *userdata)
	"Py_XSETREF(log_callable, $input);"

/* A callable for good: the package sets one for each VM, before it is used. */
%typemap(in) (czone_event_fn *fn, void *userdata) {
	if (!PyCallable_Check($input)) {
		PyErr_SetString(PyExc_TypeError, "not callable");
		SWIG_fail;
	}
	if (PyCapsule_GetContext(swig_obj[0])) {
		PyErr_SetString(PyExc_ValueError, "there is one already");
		SWIG_fail;
	}
	$1 = event_to_python;
	$2 = $input;
	Py_INCREF($input);
	PyCapsule_SetContext(swig_obj[0], $input);
}

/* In Python these are coroutines, on the calls that wait. */
%rename("$ignore", regextarget=1, %$isfunction) "_async$";
%ignore czone_op_cancel;
%ignore czone_op_unref;

/* The findings, as a list of tuples (name, state, found, remedy). */
%typemap(in, numinputs=0) (czone_probe_fn *fn, void *userdata) (PyObject *items) {
	items = PyList_New(0);
	if (!items)
		SWIG_fail;
	$1 = probe_to_list;
	$2 = items;
}
%typemap(argout) (czone_probe_fn *fn, void *userdata)
	"Py_INCREF(items$argnum); Py_XSETREF($result, items$argnum);"
%typemap(freearg) (czone_probe_fn *fn, void *userdata)
	"Py_XDECREF(items$argnum);"

/* Dictionaries stand for the structs; one of them has a function's name. */
%rename("$ignore", %$isclass) "";
%ignore CZONE_INIT;

/* SWIG cannot evaluate these. */
%constant uint64_t CZONE_BLOCK = CZONE_BLOCK;
%constant uint64_t CZONE_POOL_STEP = CZONE_POOL_STEP;
%constant uint64_t CZONE_UNKNOWN = CZONE_UNKNOWN;

void set_error_class(PyObject *cls);
%include <czone.h>
