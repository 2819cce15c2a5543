/*
 * What the hosts of this folder pretend to have: RAM, and a CPU's walk through page tables. C, and C++ too.
 */
#ifndef PRETEND_H
#define PRETEND_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "rumpvm.h"

#define PAGE 4096u
#define MIB (1u << 20)

/* Physical memory begins somewhere else than at 0, so that nobody takes one kind of address for another. */
#define RAM_START (16ull * MIB)
#define RAM_BYTES (64ull * MIB)

/* Intel SDM vol. 3A, 4.5. */
#define PRESENT 0x001ull
#define WRITABLE 0x002ull
#define USER 0x004ull
#define ACCESSED 0x020ull
#define DIRTY 0x040ull
#define FRAME 0x000ffffffffff000ull

#define EXPECT(what)                                                      \
    do {                                                                  \
        if (!(what)) {                                                    \
            fprintf(stderr, "line %d: not so: %s\n", __LINE__, #what);    \
            exit(1);                                                      \
        }                                                                 \
    } while (0)

static unsigned char *ram;

static void on_panic(const char *story)
{
    fprintf(stderr, "rumpvm panics: %s\n", story);
    exit(2);
}

/* Finds RAM, and returns a table that says where it is. */
static struct rumpvm_hypercalls pretend(void)
{
    struct rumpvm_hypercalls calls;

    ram = (unsigned char *)mmap(NULL, RAM_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    EXPECT(ram != MAP_FAILED);
    /* Memory that was used before. */
    memset(ram, 0xa5, RAM_BYTES);
    memset(&calls, 0, sizeof calls);
    calls.size = sizeof calls;
    calls.direct_map = (uint64_t)(uintptr_t)ram - RAM_START;
    calls.panic = on_panic;
    return calls;
}

static inline size_t keep_interrupts(void)
{
    return 0;
}

static inline void leave_interrupts(size_t state)
{
    (void)state;
}

static inline void translate_nothing(uint64_t to)
{
    (void)to;
}

static inline void forget_nothing(uint64_t start, uint64_t end)
{
    (void)start;
    (void)end;
}

/* As pretend(), for a host with one CPU, no interrupts, and nothing mapped. */
static inline struct rumpvm_hypercalls pretend_unmapped(void)
{
    struct rumpvm_hypercalls calls = pretend();

    calls.intr_save = keep_interrupts;
    calls.intr_restore = leave_interrupts;
    calls.tlb_activate = translate_nothing;
    calls.tlb_invalidate = forget_nothing;
    return calls;
}

static inline uint64_t *table(uint64_t at)
{
    EXPECT(at >= RAM_START && at < RAM_START + RAM_BYTES && at % PAGE == 0);
    return (uint64_t *)(void *)(ram + (at - RAM_START));
}

/*
 * The leaf entry for `address` below the root `top`, as a CPU finds it: null unless every level is present, for users, and
 * writable if `writes`. Sets the bits that a CPU sets, and, as a CPU does, only in an entry that is still what it was.
 */
static inline uint64_t *walk(uint64_t top, uint64_t address, int writes)
{
    const uint64_t need = PRESENT | USER | (writes ? WRITABLE : 0);
    uint64_t at = top;
    int level = 4;

    for (;;) {
        uint64_t *entry = &table(at)[(address >> (12 + 9 * (level - 1))) & 511];
        uint64_t seen = __atomic_load_n(entry, __ATOMIC_ACQUIRE);
        uint64_t noted = seen | ACCESSED | (writes && level == 1 ? DIRTY : 0);

        if ((seen & need) != need)
            return NULL;
        if (noted != seen &&
            !__atomic_compare_exchange_n(entry, &seen, noted, 0, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST))
            continue;
        if (level-- == 1)
            return entry;
        at = noted & FRAME;
    }
}

static struct rumpvm_statistics statistics(void)
{
    struct rumpvm_statistics now;

    EXPECT(rumpvm_statistics(&now, sizeof now) == 0);
    return now;
}

/* Has rumpvm look at all of its invariants. */
static void check(void)
{
    char story[256] = "";
    int broken = rumpvm_check(story, sizeof story);

    if (broken != 0) {
        fprintf(stderr, "rumpvm_check says %d: %s\n", broken, story);
        exit(3);
    }
}

#endif
