/*
 * A host with several CPUs and with threads that sleep.
 *
 * All work in one space at once: they map, store, load and unmap pages of their own, store to pages beside each other, and fork
 * the space while the others store. Before that a space is destroyed while a CPU switches to it. Every byte is known. Exit
 * status 0: none was wrong, all invariants hold, and rumpvm counted flushes on other CPUs.
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

/* A file that is written once, by whoever ends the last space that has it. */

static unsigned written, closed;

static uint64_t file_length(void *cookie)
{
    (void)cookie;
    return PAGE;
}

static int64_t file_read(void *cookie, uint64_t offset, uint8_t *into, size_t length)
{
    EXPECT(cookie == &written && offset == 0);
    memset(into, 'f', length);
    return (int64_t)length;
}

static int32_t file_write(void *cookie, uint64_t offset, const uint8_t *from, size_t length)
{
    EXPECT(cookie == &written && offset == 0 && length == PAGE && from[0] == 'w' && from[1] == 'f');
    written++;
    return 0;
}

static void file_close(void *cookie)
{
    EXPECT(cookie == &written && written == 1);
    closed++;
}

/* How far the CPUs are: each step is one CPU's. */
static unsigned step;

static void await_step(unsigned number)
{
    while (__atomic_load_n(&step, __ATOMIC_SEQ_CST) < number)
        relax();
}

static void next_step(void)
{
    __atomic_fetch_add(&step, 1, __ATOMIC_SEQ_CST);
}

static void let_it_be_destroyed(void)
{
    next_step();
    await_step(3);
}

/*
 * CPU 0 destroys the space that CPU 1 is just switching to. The switch has the last use of it, and may neither write a file nor
 * sleep: the next call that may does.
 */
static void destroyed_in_a_switch(void)
{
    static rumpvm_space doomed;
    unsigned slept;

    if (this_cpu == 0) {
        const uint32_t rw = RUMPVM_PROT_READ | RUMPVM_PROT_WRITE;
        struct rumpvm_pager pager;
        rumpvm_object file;

        memset(&pager, 0, sizeof pager);
        pager.size = sizeof pager;
        pager.length = file_length;
        pager.read = file_read;
        pager.write = file_write;
        pager.close = file_close;
        EXPECT(rumpvm_object_open(&pager, &written, 1, 1, &file) == 0);
        EXPECT(rumpvm_space_create(&doomed) == 0);
        EXPECT(rumpvm_mmap_object(doomed, COMMON, PAGE, rw, RUMPVM_MAP_SHARED | RUMPVM_MAP_FIXED, file, 0, rw) > 0);
        EXPECT(rumpvm_copyout(doomed, "w", COMMON, 1) == 0 && rumpvm_object_close(file) == 0);
        next_step();
        await_step(2);
        EXPECT(rumpvm_space_destroy(doomed) == 0 && written == 0);
        next_step();
    } else if (this_cpu == 1) {
        await_step(1);
        while_switching = let_it_be_destroyed;
        slept = sleeps;
        EXPECT(rumpvm_space_switch(doomed) == 0 && root != 0);
        while_switching = NULL;
        EXPECT(written == 0 && closed == 0 && sleeps == slept);
        EXPECT(rumpvm_space_switch(doomed) == -RUMPVM_EBADF && rumpvm_space_root(doomed) == -RUMPVM_EBADF);
        EXPECT(written == 0 && root != 0);
        EXPECT(rumpvm_fault(doomed, COMMON, RUMPVM_ACCESS_READ) == -RUMPVM_EBADF);
        EXPECT(written == 1 && root == 0);
        next_step();
    }
    await_step(4);
}

static void *run(void *number)
{
    static uint32_t finished;
    unsigned round;

    if (number != NULL)
        become_cpu((uint32_t)(uintptr_t)number);
    destroyed_in_a_switch();
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
    EXPECT(closed == 1);
    end = statistics();
    EXPECT(end.forks == CPUS * ROUNDS && end.faults_copy > 0 && end.flushes_remote > 0 && wakeups > 0);
    printf("cpus: %u CPUs, %llu forks, %llu pages copied, %llu flushes on other CPUs, %u sleeps, %u wake-ups\n", CPUS,
           (unsigned long long)end.forks, (unsigned long long)end.faults_copy,
           (unsigned long long)end.flushes_remote, sleeps, wakeups);
    return 0;
}
