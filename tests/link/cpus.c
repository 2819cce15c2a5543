/*
 * A host with several CPUs and with threads that sleep: each pretend CPU is a thread of the process, with a thread of the
 * host that stays there.
 *
 * All work in one space at once: they map, store, load and unmap pages of their own, store to pages beside each other, and fork
 * the space while the others store. Every byte is known. A CPU takes interrupts only between two accesses, so a translation
 * that it uses is never older than its last interrupt: if rumpvm gave a frame away before every CPU had answered, a byte would be
 * wrong. Exit status 0: none was, all invariants hold, and rumpvm counted flushes on other CPUs.
 */
#include "pretend.h"

#include <limits.h>
#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define CPUS 3
#define ROUNDS 200
#define PAGES 24

/* Where all store, each CPU to a byte of its own in each page; and where each has pages of its own. */
#define COMMON 0x40000000ull
#define OWN(cpu) (0x50000000ull + (cpu) * 0x400000ull)

static __thread uint32_t this_cpu;
static __thread uint64_t root;
static struct rumpvm_thread threads[CPUS];
static uint32_t interrupts[CPUS]; /* pending */
static uint32_t sleeps, wakeups;
static rumpvm_space common;

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

static void tlb_activate(uint64_t to)
{
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

/* What each CPU does. */

static void own_pages(unsigned round)
{
    const uint32_t prot = RUMPVM_PROT_READ | RUMPVM_PROT_WRITE;
    const uint32_t flags = RUMPVM_MAP_PRIVATE | RUMPVM_MAP_ANONYMOUS | RUMPVM_MAP_FIXED;
    const uint64_t at = OWN(this_cpu);
    unsigned page;

    EXPECT(rumpvm_mmap(common, at, PAGES * PAGE, prot, flags) == (int64_t)at);
    for (page = 0; page < PAGES; page++) {
        EXPECT(load(common, at + page * PAGE) == 0);
        store(common, at + page * PAGE, round + page);
    }
    for (page = 0; page < PAGES; page++)
        EXPECT(load(common, at + page * PAGE) == (int)((round + page) & 0xff));
    EXPECT(rumpvm_munmap(common, at, PAGES * PAGE) == 0);
    EXPECT(load(common, at) == -RUMPVM_EFAULT);
}

/* A child has this CPU's bytes as they were at the fork, whatever the parent's become. */
static void fork_and_store(unsigned round)
{
    rumpvm_space child;
    unsigned page;

    for (page = 0; page < PAGES; page++)
        store(common, COMMON + page * PAGE + this_cpu, round + page);
    EXPECT(rumpvm_space_fork(common, &child) == 0);
    for (page = 0; page < PAGES; page += 2)
        store(common, COMMON + page * PAGE + this_cpu, round + page + 1);
    EXPECT(rumpvm_space_switch(child) == 0);
    for (page = 0; page < PAGES; page++)
        EXPECT(load(child, COMMON + page * PAGE + this_cpu) == (int)((round + page) & 0xff));
    store(child, COMMON + this_cpu, 0xcc);
    EXPECT(rumpvm_space_destroy(child) == 0);
    EXPECT(rumpvm_space_switch(common) == 0);
    for (page = 0; page < PAGES; page++)
        EXPECT(load(common, COMMON + page * PAGE + this_cpu) == (int)((round + page + !(page & 1)) & 0xff));
}

static void *run(void *number)
{
    static uint32_t finished;
    unsigned round;

    this_cpu = (uint32_t)(uintptr_t)number;
    if (this_cpu != 0) {
        EXPECT(rumpvm_thread_init(&threads[this_cpu], this_cpu + 1) == 0);
        EXPECT(rumpvm_cpu_attach() == 0);
    }
    EXPECT(rumpvm_space_switch(common) == 0);
    for (round = 0; round < ROUNDS; round++) {
        own_pages(round);
        fork_and_store(round);
    }
    EXPECT(rumpvm_space_switch(0) == 0 && root == 0);
    /* A CPU with nothing to do still answers, as long as somebody may ask. */
    __atomic_fetch_add(&finished, 1, __ATOMIC_SEQ_CST);
    while (__atomic_load_n(&finished, __ATOMIC_SEQ_CST) < CPUS) {
        take_interrupts();
        rumpvm_idle();
    }
    return NULL;
}

int main(void)
{
    struct rumpvm_hypercalls calls = pretend();
    struct rumpvm_statistics end;
    pthread_t threads_of_cpus[CPUS];
    unsigned cpu;

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
    EXPECT(rumpvm_add_memory(RAM_START, RAM_START + RAM_BYTES) == 0);
    EXPECT(rumpvm_cpu_attach() == 0);
    EXPECT(rumpvm_space_create(&common) == 0);
    EXPECT(rumpvm_mmap(common, COMMON, PAGES * PAGE, RUMPVM_PROT_READ | RUMPVM_PROT_WRITE,
                       RUMPVM_MAP_PRIVATE | RUMPVM_MAP_ANONYMOUS | RUMPVM_MAP_FIXED) == (int64_t)COMMON);

    for (cpu = 0; cpu < CPUS; cpu++)
        EXPECT(pthread_create(&threads_of_cpus[cpu], NULL, run, (void *)(uintptr_t)cpu) == 0);
    for (cpu = 0; cpu < CPUS; cpu++)
        EXPECT(pthread_join(threads_of_cpus[cpu], NULL) == 0);

    check();
    EXPECT(rumpvm_space_destroy(common) == 0);
    check();
    end = statistics();
    EXPECT(end.forks == CPUS * ROUNDS && end.faults_copy > 0 && end.flushes_remote > 0 && wakeups > 0);
    printf("cpus: %u CPUs, %llu forks, %llu pages copied, %llu flushes on other CPUs, %u sleeps, %u wake-ups\n", CPUS,
           (unsigned long long)end.forks, (unsigned long long)end.faults_copy,
           (unsigned long long)end.flushes_remote, sleeps, wakeups);
    return 0;
}
