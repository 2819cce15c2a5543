/* What the files of the kernel share: a serial port, an end, and what a compiler asks for by itself. */
#ifndef KERNEL_H
#define KERNEL_H

#include "rumpvm.h"

#define PAGE 4096u

/* Where programs have their code, and their variable. */
#define CODE 0x400000ull
#define DATA 0x500000ull

/* The header means the same here as in Rust (platform/foreign: hypercalls.rs, pager.rs), whatever a pointer's width. */
_Static_assert(sizeof(struct rumpvm_hypercalls) == 32 + 15 * sizeof(void *), "hypercalls");
_Static_assert(offsetof(struct rumpvm_hypercalls, panic) == 32, "hypercalls, panic");
_Static_assert(sizeof(struct rumpvm_pager) == 8 + 6 * sizeof(void *), "pager");
_Static_assert(sizeof(struct rumpvm_thread) == 8 * RUMPVM_THREAD_WORDS, "thread");
_Static_assert(sizeof(struct rumpvm_statistics) % 8 == 0, "statistics");

void *memcpy(void *to, const void *from, size_t bytes);
void *memset(void *at, int value, size_t bytes);

void say(const char *text);
void say_number(unsigned long number);
void power_off(uint8_t value) __attribute__((noreturn));

#define EXPECT(what)                       \
    do {                                   \
        if (!(what)) {                     \
            say("kernel: not so: " #what "\n"); \
            power_off(1);                  \
        }                                  \
    } while (0)

#endif
