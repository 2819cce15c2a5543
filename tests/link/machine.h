/*
 * What the kernel has to know of its machine: x86-64, or i386 with tables of two levels, or of three (PAE).
 *
 * machine64.c and machine32.c do what is said here; kernel.S and kernel32.S have the rest.
 */
#ifndef MACHINE_H
#define MACHINE_H

#include "rumpvm.h"

/* Segments of ring 3; of ring 0 they are 8 and 16. */
#define USER_CODE 0x23
#define USER_DATA 0x1b

#ifdef __x86_64__

#define DIRECT_MAP 0xffff800000000000ull
#define IMAGE 0xffffffff80000000ull
#define STACK 0x600000ull
#define CPUS 2
#define LEVELS 4
#define INDEX_BITS 9
typedef uint64_t entry;

/* What traps leave on the stack. */
struct frame {
    uint64_t r15, r14, r13, r12, r11, r10, r9, r8, bp, di, si, dx, cx, bx, ax;
    uint64_t vector, code;
    uint64_t ip, cs, flags, sp, ss;
};

#else

/* The image is a part of the direct map: 900 MiB of the uppermost GiB. The stack ends where it begins. */
#define DIRECT_MAP 0xc0000000ull
#define IMAGE DIRECT_MAP
#define STACK 0xc0000000ull
#define CPUS 1
#ifdef PAE
#define LEVELS 3
#define INDEX_BITS 9
typedef uint64_t entry;
#else
#define LEVELS 2
#define INDEX_BITS 10
typedef uint32_t entry;
#endif

/* The same; from ring 0 it ends with the flags. */
struct frame {
    uint32_t di, si, bp, sp_of_trap, bx, dx, cx, ax;
    uint32_t vector, code;
    uint32_t ip, cs, flags, sp, ss;
};

#endif

/* From kernel.S or kernel32.S. */
extern char image_end[], boot_root[], trap_stacks[], program[], program_end[];
void trap_double(void), trap_protection(void), trap_page(void), trap_flush(void), trap_call(void);
void trap_other(void);
void enter(const struct frame *frame) __attribute__((noreturn));

/* Where the kernel sees a physical address. */
static inline void *seen(uint64_t at)
{
    return (void *)(uintptr_t)(DIRECT_MAP + at);
}

/* The first thing that is done: traps come to `trap`, interrupts are on, and none comes. */
void machine_start(void);

/* Which CPU this is. */
uint32_t machine_cpu(void);

/* Fills in what rumpvm cannot know of this machine. */
void machine_describe(struct rumpvm_hypercalls *calls);

/* When rumpvm has all memory: tries what only this machine has. */
void machine_try(void);

/* Whether it was a trap of what `machine_try` does. */
int machine_trap(struct frame *frame);

/* From kernel.c: as a program is put into a space, and begins. */
void load_program(uint64_t space, const char *code, const char *end);
void enter_program(void) __attribute__((noreturn));

#endif
