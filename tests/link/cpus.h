/*
 * Several pretend CPUs: each is a thread of the process, with a thread of the host that stays there. Whoever includes this
 * says how many there are, CPUS, and may say how much of RAM is a device instead: DEVICE_BYTES, at its end. C, and C++ too.
 *
 * A CPU takes interrupts only between two accesses, so a translation that it uses is never older than its last interrupt: if
 * rumpvm gave a frame away before every CPU had answered, a byte would be wrong.
 *
 * Flow: load() or store() -> take_interrupts() -> walk() -> no entry that permits it: rumpvm_fault(), once more -> a byte.
 */
#ifndef CPUS_H
#define CPUS_H

#include "pretend.h"

#include <limits.h>
#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#ifndef DEVICE_BYTES
#define DEVICE_BYTES 0
#endif
#define DEVICE_START (RAM_START + RAM_BYTES - DEVICE_BYTES)

static __thread uint32_t this_cpu;
static __thread uint64_t root;
static struct rumpvm_thread threads[CPUS];
static uint32_t interrupts[CPUS]; /* pending */
static uint32_t sleeps, wakeups;

/* The hypercalls. Interrupts come only where they are looked for, so there is nothing to mask. */

static size_t intr_save(void)
{
    return 0;
}

static void intr_restore(size_t state)
{
    (void)state;
}

static void take_interrupts(void)
{
    if (__atomic_exchange_n(&interrupts[this_cpu], 0, __ATOMIC_SEQ_CST))
        rumpvm_tlb_interrupt();
}

static uint32_t cpu_id(void)
{
    return this_cpu;
}

static void tlb_ipi(const uint64_t *cpus)
{
    unsigned cpu;

    EXPECT((cpus[0] & (1ull << this_cpu)) == 0 && (cpus[0] >> CPUS) == 0);
    for (cpu = 0; cpu < CPUS; cpu++)
        if (cpus[0] & (1ull << cpu))
            __atomic_store_n(&interrupts[cpu], 1, __ATOMIC_SEQ_CST);
}

/* What a CPU does in the middle of a switch, if a host says. */
static __thread void (*while_switching)(void);

static void tlb_activate(uint64_t to)
{
    if (to != 0 && while_switching != NULL)
        while_switching();
    root = to;
}

static void tlb_invalidate(uint64_t start, uint64_t end)
{
    EXPECT(start < end);
}

/* There may be fewer real CPUs than pretend ones. */
static void relax(void)
{
    sched_yield();
}

static uint64_t now(void)
{
    struct timespec time;

    clock_gettime(CLOCK_MONOTONIC, &time);
    return (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_nsec;
}

static struct rumpvm_thread *thread(void)
{
    return &threads[this_cpu];
}

/* A CPU whose thread sleeps takes interrupts too: it looks every millisecond. */
static void sleep_while(const uint32_t *word, uint32_t expected, uint64_t until)
{
    const struct timespec moment = {0, 1000000};

    (void)until;
    __atomic_fetch_add(&sleeps, 1, __ATOMIC_RELAXED);
    syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, expected, &moment, NULL, 0);
    take_interrupts();
}

static void wake(const uint32_t *word)
{
    __atomic_fetch_add(&wakeups, 1, __ATOMIC_RELAXED);
    syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, INT_MAX, NULL, NULL, 0);
}

/* The pretend CPU. */

/* One access of this CPU to `address` of `space`, which it translates through; a load returns the byte. */
static int access_byte(rumpvm_space space, uint64_t address, int value)
{
    const int writes = value >= 0;

    for (;;) {
        uint64_t *entry;
        int error;

        take_interrupts();
        entry = walk(root, address, writes);
        if (entry != NULL) {
            unsigned char *byte = (unsigned char *)table(__atomic_load_n(entry, __ATOMIC_RELAXED) & FRAME) + address % PAGE;
            if (!writes)
                return __atomic_load_n(byte, __ATOMIC_RELAXED);
            __atomic_store_n(byte, (unsigned char)value, __ATOMIC_RELAXED);
            return 0;
        }
        error = rumpvm_fault(space, address, writes ? RUMPVM_ACCESS_WRITE : RUMPVM_ACCESS_READ);
        if (error != 0)
            return error;
    }
}

static int load(rumpvm_space space, uint64_t address)
{
    return access_byte(space, address, -1);
}

static void store(rumpvm_space space, uint64_t address, unsigned value)
{
    EXPECT(access_byte(space, address, (int)(value & 0xff)) == 0);
}

/* Makes the machine, and the calling thread its CPU 0. */
static void begin_cpus(void)
{
    struct rumpvm_hypercalls calls = pretend();

    calls.cpu_count = CPUS;
    calls.clock = now;
    calls.intr_save = intr_save;
    calls.intr_restore = intr_restore;
    calls.tlb_activate = tlb_activate;
    calls.tlb_invalidate = tlb_invalidate;
    calls.cpu_id = cpu_id;
    calls.tlb_ipi = tlb_ipi;
    calls.relax = relax;
    calls.thread = thread;
    calls.sleep = sleep_while;
    calls.wakeup = wake;
    EXPECT(rumpvm_thread_init(&threads[0], 1) == 0);
    EXPECT(rumpvm_init(RUMPVM_VERSION, &calls) == 0);
    EXPECT(rumpvm_add_memory(RAM_START, DEVICE_START) == 0);
    EXPECT(rumpvm_cpu_attach() == 0);
}

/* Makes the calling thread CPU `cpu`, which is not 0. */
static inline void become_cpu(uint32_t cpu)
{
    this_cpu = cpu;
    EXPECT(rumpvm_thread_init(&threads[cpu], cpu + 1) == 0);
    EXPECT(rumpvm_cpu_attach() == 0);
}

#endif
