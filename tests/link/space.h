/*
 * What the kernel asks of its spaces. Addresses and lengths are multiples of 4096. Who keeps spaces stops the kernel when
 * something fails that cannot fail here.
 */
#ifndef SPACE_H
#define SPACE_H

#include "rumpvm.h"

/* A number; 0 is no space. */
typedef uint64_t space;

/* An empty one. */
space space_create(void);

/* One with the same memory, of which each has its own from now on. */
space space_fork(space parent);

/* Ends it. No CPU but the caller's may run in it. */
void space_destroy(space space);

/* This CPU translates through it from now on. */
void space_switch(space space);

/* Memory of zeros at an address where there is none, to be read and written. */
void space_map(space space, uint64_t at, uint64_t bytes);

/* It is to be read and executed from now on. */
void space_protect(space space, uint64_t at, uint64_t bytes);

/* There is none any more, on no CPU. */
void space_unmap(space space, uint64_t at, uint64_t bytes);

/* Stores bytes of the kernel's in a space. */
void space_copy_out(space space, const void *from, uint64_t at, size_t bytes);

/* Makes an access possible that ended in a page fault with that code; or which error of rumpvm.h it is, negative. */
int space_fault(space space, uint64_t at, uint32_t code);

/* At the end, when all spaces are gone: checks what can be checked, and ends a line with who did what. */
void space_report(void);

#endif
