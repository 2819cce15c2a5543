/*
 * A host that leaves the family of its processes to rumpvm: fork, vfork, exec, exit, wait, orphans.
 *
 * CPU 0 does what the processes do, one after the other; the others run threads of theirs that have to sleep: those that
 * wait for a child, for the child of a vfork, for other threads before an exec. Exit status 0: every number, status and
 * byte was as it must be, every number that has ended was refused, nothing of what the processes had is left, and rumpvm
 * counted the forks.
 *
 * Flow: main -> give() a job to a CPU -> until_asleep() -> what it waits for -> take() what came of it.
 */
#define CPUS 3
#include "cpus.h"

#define AT 0x40000000ull
#define PAGES 16u

/* A call that one thread makes while the others go on, and what came of it. */
struct job {
    int64_t (*call)(struct job *);
    rumpvm_pid process;
    rumpvm_space space;
    int64_t answer;
    int32_t status;
    uint32_t slept; /* how often its CPU had slept before */
};

static struct job *jobs[CPUS]; /* null: that CPU has nothing to do */
static int is_over;
static unsigned forks;

static void *run(void *number)
{
    struct job *job;

    become_cpu((uint32_t)(uintptr_t)number);
    while (!__atomic_load_n(&is_over, __ATOMIC_ACQUIRE)) {
        take_interrupts();
        job = __atomic_load_n(&jobs[this_cpu], __ATOMIC_ACQUIRE);
        if (job != NULL) {
            job->answer = job->call(job);
            __atomic_store_n(&jobs[this_cpu], (struct job *)NULL, __ATOMIC_RELEASE);
        }
        rumpvm_idle();
        sched_yield();
    }
    EXPECT(rumpvm_space_switch(0) == 0);
    return NULL;
}

static void give(uint32_t cpu, struct job *job)
{
    job->slept = __atomic_load_n(&sleeps, __ATOMIC_RELAXED);
    __atomic_store_n(&jobs[cpu], job, __ATOMIC_RELEASE);
}

static int is_busy(uint32_t cpu)
{
    return __atomic_load_n(&jobs[cpu], __ATOMIC_ACQUIRE) != NULL;
}

/* Until the job of `cpu`, the last that was given, has asked the host to sleep; it must not end before. */
static void until_asleep(uint32_t cpu, const struct job *job)
{
    while (__atomic_load_n(&sleeps, __ATOMIC_RELAXED) == job->slept) {
        EXPECT(is_busy(cpu));
        take_interrupts();
        sched_yield();
    }
    EXPECT(is_busy(cpu));
}

static int64_t take(uint32_t cpu, const struct job *job)
{
    while (is_busy(cpu)) {
        take_interrupts();
        sched_yield();
    }
    return job->answer;
}

/* The calls that sleep. */

static int64_t wait_for_any(struct job *job)
{
    return rumpvm_process_wait(job->process, 0, 0, &job->status);
}

static int64_t await_release(struct job *job)
{
    return rumpvm_process_await_release(job->process);
}

static int64_t exec(struct job *job)
{
    return rumpvm_process_exec(job->process, &job->space);
}

/* What processes do on CPU 0. */

static rumpvm_pid fork_of(rumpvm_pid parent, rumpvm_space *space)
{
    int64_t child = rumpvm_process_fork(parent, space);

    EXPECT(child > 0 && *space != 0 && rumpvm_process_parent((rumpvm_pid)child) == (int64_t)parent);
    forks++;
    return (rumpvm_pid)child;
}

/* A child of which no memory is wanted. */
static rumpvm_pid child_of(rumpvm_pid parent)
{
    rumpvm_space space;
    rumpvm_pid child = fork_of(parent, &space);

    EXPECT(rumpvm_space_destroy(space) == 0);
    return child;
}

static void end(rumpvm_pid process, int32_t status)
{
    EXPECT(rumpvm_process_thread_ends(process) == 1 && rumpvm_process_exit(process, status) == 0);
}

static void reap(rumpvm_pid parent, rumpvm_pid child, int32_t status)
{
    int32_t got = -1;

    EXPECT(rumpvm_process_wait(parent, child, 0, &got) == (int64_t)child && got == status);
}

static int load_there(rumpvm_space space, uint64_t at)
{
    EXPECT(rumpvm_space_switch(space) == 0);
    return load(space, at);
}

static void store_there(rumpvm_space space, uint64_t at, unsigned value)
{
    EXPECT(rumpvm_space_switch(space) == 0);
    store(space, at, value);
}

/* No call takes a number that has ended, or that was never given. */
static void is_nobody(rumpvm_pid process)
{
    rumpvm_space space = 0;
    int32_t status = 5;

    EXPECT(rumpvm_process_fork(process, &space) == -RUMPVM_ESRCH);
    EXPECT(rumpvm_process_vfork(process, &space) == -RUMPVM_ESRCH);
    EXPECT(rumpvm_process_exec(process, &space) == -RUMPVM_ESRCH);
    EXPECT(rumpvm_process_space(process, &space) == -RUMPVM_ESRCH && space == 0);
    EXPECT(rumpvm_process_await_release(process) == -RUMPVM_ESRCH);
    EXPECT(rumpvm_process_exit(process, 1) == -RUMPVM_ESRCH);
    EXPECT(rumpvm_process_wait(process, 0, RUMPVM_WNOHANG, &status) == -RUMPVM_ESRCH);
    EXPECT(rumpvm_process_state(process, &status) == -RUMPVM_ESRCH && status == 5);
    EXPECT(rumpvm_process_parent(process) == -RUMPVM_ESRCH);
    EXPECT(rumpvm_process_threads(process) == -RUMPVM_ESRCH);
    EXPECT(rumpvm_process_thread_starts(process) == -RUMPVM_ESRCH);
    EXPECT(rumpvm_process_thread_ends(process) == -RUMPVM_ESRCH);
    EXPECT(rumpvm_process_adopt_orphans(process, 1) == -RUMPVM_ESRCH);
}

/* A child has a copy; at exit its memory goes, its number and status when it is waited for. */
static void fork_and_exit(rumpvm_pid parent, rumpvm_space memory)
{
    struct rumpvm_statistics before, after;
    rumpvm_space copy, again;
    rumpvm_pid child = fork_of(parent, &copy);
    unsigned page;
    int32_t status = -1;

    EXPECT(load_there(copy, AT) == 'p');
    before = statistics();
    for (page = 0; page < PAGES; page++)
        store_there(copy, AT + page * PAGE, 'c');
    after = statistics();
    EXPECT(after.faults_copy == before.faults_copy + PAGES);
    EXPECT(load_there(memory, AT) == 'p' && load_there(copy, AT) == 'c');
    EXPECT(rumpvm_process_wait(parent, 0, RUMPVM_WNOHANG, &status) == 0);
    EXPECT(rumpvm_process_wait(parent, parent, 0, &status) == -RUMPVM_ECHILD);
    EXPECT(rumpvm_process_wait(parent, 0, 2, &status) == -RUMPVM_EINVAL && status == -1);
    EXPECT(rumpvm_process_state(child, NULL) == RUMPVM_STATE_RUNNING);

    EXPECT(rumpvm_process_space(child, &again) == 0 && again != copy && load_there(again, AT) == 'c');
    end(child, 7);
    EXPECT(rumpvm_process_state(child, &status) == RUMPVM_STATE_ZOMBIE && status == 7);
    EXPECT(rumpvm_process_space(child, &again) == -RUMPVM_EINVAL);
    EXPECT(rumpvm_process_fork(child, &again) == -RUMPVM_EINVAL);
    EXPECT(rumpvm_process_exec(child, &again) == -RUMPVM_EINVAL);
    EXPECT(rumpvm_process_exit(child, 8) == 0);
    /* The host's own numbers are users of the space; with the second what is mapped goes. */
    EXPECT(rumpvm_space_destroy(copy) == 0 && load_there(again, AT) == 'c');
    EXPECT(rumpvm_space_destroy(again) == 0 && load_there(memory, AT) == 'p');
    EXPECT(rumpvm_fault(again, AT, RUMPVM_ACCESS_READ) == -RUMPVM_EBADF);
    reap(parent, child, 7);
    is_nobody(child);
    EXPECT(rumpvm_process_wait(parent, 0, 0, NULL) == -RUMPVM_ECHILD);
}

/* Of two threads that wait each gets a child; if there is one child only, the other thread learns that. */
static void two_waiters(rumpvm_pid parent)
{
    struct job one, other;
    rumpvm_pid first = child_of(parent), second = child_of(parent);

    memset(&one, 0, sizeof one);
    one.call = wait_for_any;
    one.process = parent;
    other = one;
    give(1, &one);
    until_asleep(1, &one);
    give(2, &other);
    end(first, 1);
    end(second, 2);
    EXPECT(take(1, &one) + take(2, &other) == (int64_t)first + second);
    EXPECT(one.answer == (int64_t)first ? one.status == 1 && other.status == 2 : one.status == 2 && other.status == 1);

    first = child_of(parent);
    give(1, &one);
    give(2, &other);
    until_asleep(2, &other);
    end(first, 3);
    take(1, &one);
    take(2, &other);
    EXPECT(one.answer == -RUMPVM_ECHILD ? other.answer == (int64_t)first : other.answer == -RUMPVM_ECHILD);
    EXPECT(one.answer == (int64_t)first || one.answer == -RUMPVM_ECHILD);
}

/* The child of a vfork has its parent's memory until it execs; until then the parent's thread sleeps. */
static void vfork_and_exec(rumpvm_pid parent, rumpvm_space memory)
{
    struct rumpvm_statistics before = statistics();
    rumpvm_space own = 0, old;
    int64_t child = rumpvm_process_vfork(parent, &own);
    struct job job;

    EXPECT(child > 0 && own != 0 && own != memory && statistics().forks == before.forks);
    memset(&job, 0, sizeof job);
    job.call = await_release;
    job.process = (rumpvm_pid)child;
    give(1, &job);
    until_asleep(1, &job);
    store_there(own, AT, 'v');
    EXPECT(load_there(memory, AT) == 'v');

    old = own;
    EXPECT(rumpvm_process_exec((rumpvm_pid)child, &own) == 0 && own != 0 && own != old);
    EXPECT(take(1, &job) == 0);
    EXPECT(load_there(own, AT) == -RUMPVM_EFAULT && load_there(memory, AT) == 'v');
    EXPECT(rumpvm_space_switch(old) == -RUMPVM_EBADF);
    /* A number that names nothing is refused before anything happens. */
    old = 12345678;
    EXPECT(rumpvm_process_exec((rumpvm_pid)child, &old) == -RUMPVM_EBADF && old == 12345678);
    EXPECT(rumpvm_process_exec((rumpvm_pid)child, NULL) == -RUMPVM_EINVAL);
    EXPECT(rumpvm_space_switch(own) == 0 && rumpvm_space_destroy(own) == 0);
    end((rumpvm_pid)child, 0);
    reap(parent, (rumpvm_pid)child, 0);
    store_there(memory, AT, 'p');

    /* One that exits releases its parent, too. */
    child = rumpvm_process_vfork(parent, &own);
    EXPECT(child > 0 && rumpvm_space_destroy(own) == 0);
    job.process = (rumpvm_pid)child;
    give(1, &job);
    until_asleep(1, &job);
    end((rumpvm_pid)child, 9);
    EXPECT(take(1, &job) == 0);
    reap(parent, (rumpvm_pid)child, 9);
    EXPECT(load_there(memory, AT) == 'p');
}

/* An exec waits until it is alone; another one is refused meanwhile. */
static void exec_of_threads(rumpvm_pid parent)
{
    struct job job;
    rumpvm_space none = 0;

    memset(&job, 0, sizeof job);
    job.call = exec;
    job.process = fork_of(parent, &job.space);
    EXPECT(load_there(job.space, AT) == 'p' && rumpvm_space_switch(0) == 0);
    EXPECT(rumpvm_process_thread_starts(job.process) == 0 && rumpvm_process_threads(job.process) == 2);
    give(1, &job);
    until_asleep(1, &job);
    EXPECT(rumpvm_process_exec(job.process, &none) == -RUMPVM_EAGAIN && none == 0);
    EXPECT(rumpvm_process_thread_ends(job.process) == 0);
    EXPECT(take(1, &job) == 0);
    EXPECT(load_there(job.space, AT) == -RUMPVM_EFAULT);
    EXPECT(rumpvm_process_thread_ends(job.process) == 1 && rumpvm_process_thread_ends(job.process) == -RUMPVM_EINVAL);
    EXPECT(rumpvm_process_exit(job.process, 0) == 0 && rumpvm_space_destroy(job.space) == 0);
    reap(parent, job.process, 0);
}

/* Children of who exits go to the nearest who adopts, else to the oldest; zombies too, and the heir is told. */
static void orphans(rumpvm_pid oldest)
{
    const rumpvm_pid middle = child_of(oldest), lower = child_of(middle), lowest = child_of(lower);
    struct job job;
    rumpvm_pid child;

    EXPECT(rumpvm_process_adopt_orphans(middle, 2) == -RUMPVM_EINVAL);
    EXPECT(rumpvm_process_adopt_orphans(middle, 1) == 0);
    end(lower, 10);
    EXPECT(rumpvm_process_parent(lowest) == (int64_t)middle);
    reap(middle, lower, 10);

    EXPECT(rumpvm_process_adopt_orphans(middle, 0) == 0);
    child = child_of(lowest);
    end(child, 11);
    memset(&job, 0, sizeof job);
    job.call = wait_for_any;
    job.process = oldest;
    give(1, &job);
    until_asleep(1, &job);
    end(lowest, 12);
    EXPECT(take(1, &job) == (int64_t)child && job.status == 11);
    reap(middle, lowest, 12);
    end(middle, 13);
    reap(oldest, middle, 13);
}

int main(void)
{
    pthread_t threads_of_cpus[CPUS];
    rumpvm_space memory = 0;
    uint64_t free_before;
    int64_t first;
    unsigned page;
    uint32_t cpu;

    begin_cpus();
    for (cpu = 1; cpu < CPUS; cpu++)
        EXPECT(pthread_create(&threads_of_cpus[cpu], NULL, run, (void *)(uintptr_t)cpu) == 0);
    is_nobody(0);
    is_nobody(1);
    EXPECT(rumpvm_process_create(NULL) == -RUMPVM_EINVAL && rumpvm_process_after(0) == 0);
    /* The heap has grown as far as it will by now. */
    check();
    free_before = statistics().frames_free;
    first = rumpvm_process_create(&memory);
    EXPECT(first > 0 && rumpvm_process_after(0) == first && rumpvm_process_after((rumpvm_pid)first) == 0);
    EXPECT(rumpvm_process_parent((rumpvm_pid)first) == 0 && rumpvm_process_threads((rumpvm_pid)first) == 1);
    EXPECT(rumpvm_mmap(memory, AT, PAGES * PAGE, RUMPVM_PROT_READ | RUMPVM_PROT_WRITE,
                       RUMPVM_MAP_PRIVATE | RUMPVM_MAP_ANONYMOUS | RUMPVM_MAP_FIXED) == (int64_t)AT);
    for (page = 0; page < PAGES; page++)
        store_there(memory, AT + page * PAGE, 'p');

    fork_and_exit((rumpvm_pid)first, memory);
    two_waiters((rumpvm_pid)first);
    vfork_and_exec((rumpvm_pid)first, memory);
    exec_of_threads((rumpvm_pid)first);
    orphans((rumpvm_pid)first);

    check();
    /* Who has no parent is waited for by nobody. */
    EXPECT(rumpvm_space_destroy(memory) == 0);
    end((rumpvm_pid)first, 0);
    is_nobody((rumpvm_pid)first);
    EXPECT(rumpvm_process_after(0) == 0 && root == 0);
    __atomic_store_n(&is_over, 1, __ATOMIC_RELEASE);
    for (cpu = 1; cpu < CPUS; cpu++)
        EXPECT(pthread_join(threads_of_cpus[cpu], NULL) == 0);
    while (rumpvm_idle())
        ;
    check();
    EXPECT(statistics().frames_free >= free_before);
    EXPECT(statistics().forks == forks && sleeps > 0 && wakeups > 0);
    printf("processes: %u forks, %u sleeps, %u wake-ups; rumpvm counted %llu forks, %llu pages copied\n", forks, sleeps,
           wakeups, (unsigned long long)statistics().forks, (unsigned long long)statistics().faults_copy);
    return 0;
}
