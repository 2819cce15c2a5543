/*
 * A host with several CPUs and with threads that sleep.
 *
 * All work in one space at once: they map, store, load and unmap pages of their own, store to pages beside each other, and fork
 * the space while the others store. Every byte is known. Exit status 0: none was wrong, all invariants hold, and rumpvm
 * counted flushes on other CPUs.
 */
#define CPUS 3
#include "cpus.h"

#define ROUNDS 200
#define PAGES 24

/* Where all store, each CPU to a byte of its own in each page; and where each has pages of its own. */
#define COMMON 0x40000000ull
#define OWN(cpu) (0x50000000ull + (cpu) * 0x400000ull)

static rumpvm_space common;

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

    if (number != NULL)
        become_cpu((uint32_t)(uintptr_t)number);
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
    struct rumpvm_statistics end;
    pthread_t threads_of_cpus[CPUS];
    unsigned cpu;

    begin_cpus();
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
