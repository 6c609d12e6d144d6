/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* libvirt's default event loop in a thread of ours, while anybody needs it. */
#ifndef LIB_HOST_EVENT_LOOP_H
#define LIB_HOST_EVENT_LOOP_H

int event_loop_get(void);
void event_loop_put(void);

#endif /* LIB_HOST_EVENT_LOOP_H */
