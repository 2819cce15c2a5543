/*
 * A host that is preempted anywhere: one pretend CPU, three threads, and a timer whose interrupt comes between any two
 * instructions, rumpvm's too. Then the thread is switched away, unless it has masked interrupts or holds the CPU: that
 * is put off until it has not.
 *
 * The timer is the CPU's trap flag: once it is set, every instruction ends with SIGTRAP, and the handler counts down. It is
 * set from hypercalls only, a random number of instructions ahead, because each costs some microseconds. Threads are contexts
 * of one thread of the process; they are switched in the handler alone.
 *
 * All threads work in one space at once, and every byte is known. The same is done once more in a child that forgets hold_cpu,
 * and that must go wrong: two threads get into what belongs to the CPU. Exit status 0: it did, and in the parent no byte was
 * wrong, all invariants hold, and the host has put off interrupts because of hold_cpu.
 *
 * Flow: hypercall -> set_timer() ... on_trap() -> arrive() -> switch_thread(), now or from the hypercall that ends the reason
 * against it.
 */
#include "pretend.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>
#include <ucontext.h>
#include <unistd.h>

#define THREADS 3u
#define ROUNDS 4u
#define PAGES 8u
#define ATTEMPTS 16u /* two of three go wrong */
#define STACK (256u * 1024)

#define COMMON 0x40000000ull
#define OWN(thread) (0x50000000ull + (thread) * 0x400000ull)

/* Intel SDM vol. 3A, 2.3: trap flag. */
#define TRAP 0x100

struct thread {
    ucontext_t context;
    struct rumpvm_thread record;
    rumpvm_space space;
    const volatile uint32_t *sleeps_on; /* null if it can run */
    int is_done;
    char stack[STACK];
};

static struct thread threads[THREADS];
static ucontext_t first_context;
static volatile unsigned current;
static uint64_t root;
static rumpvm_space common;

/*
 * Why the running thread stays: masked interrupts, hold_cpu, a step of the host's. A thread is switched away only when all are
 * 0, and finds them so when it comes back, so counting up needs no one instruction.
 */
static volatile unsigned masked, held, in_host;
static volatile int is_pending;     /* an interrupt came meanwhile */
static volatile int wants_switch;   /* the running thread asks for it */
static volatile unsigned countdown; /* instructions until the timer's interrupt; 0: it is not set */

static int forgets; /* hold_cpu is ignored */
static volatile unsigned instructions, preemptions, put_off;

static uint64_t state = 88172645463325252ull;

static unsigned chance(unsigned below)
{
    /* Marsaglia, "Xorshift RNGs" (2003). */
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return (unsigned)(state >> 32) % below;
}

/* The timer, and threads. */

static void set_timer(unsigned within)
{
    if (countdown != 0 || in_host != 0)
        return;
    countdown = 1 + chance(within);
    __asm__ volatile("pushfq\n\torq %0, (%%rsp)\n\tpopfq" : : "i"(TRAP) : "memory", "cc");
}

/* Of the signal handler. */
static void switch_thread(void)
{
    const unsigned from = current;
    unsigned to = from;

    do {
        to = (to + 1) % THREADS;
        if (!threads[to].is_done && threads[to].sleeps_on == NULL)
            break;
    } while (to != from);
    if (threads[to].is_done) {
        swapcontext(&threads[from].context, &first_context);
        return;
    }
    /* Nobody is left who could wake anyone. */
    EXPECT(threads[to].sleeps_on == NULL);
    if (to == from)
        return;
    current = to;
    if (threads[to].space != threads[from].space) {
        in_host++;
        EXPECT(rumpvm_space_switch(threads[to].space) == 0);
        in_host--;
    }
    swapcontext(&threads[from].context, &threads[to].context);
}

static void arrive(void)
{
    if (masked != 0 || held != 0 || in_host != 0) {
        put_off += held != 0;
        is_pending = 1;
        return;
    }
    preemptions++;
    switch_thread();
}

static void on_trap(int signal, siginfo_t *info, void *at)
{
    ucontext_t *interrupted = (ucontext_t *)at;
    const int is_step = info->si_code == TRAP_TRACE;

    (void)signal;
    if (is_step) {
        instructions++;
        if (!wants_switch && --countdown != 0)
            return;
    }
    countdown = 0;
    interrupted->uc_mcontext.gregs[REG_EFL] &= ~(greg_t)TRAP;
    if (wants_switch) {
        wants_switch = 0;
        switch_thread();
    } else if (is_step) {
        arrive();
    }
}

static void yield(void)
{
    wants_switch = 1;
    __asm__ volatile("int3" : : : "memory");
}

/* What was put off comes now, if nothing else is against it. */
static void look_for_interrupt(void)
{
    if (is_pending && masked == 0 && held == 0 && in_host == 0) {
        is_pending = 0;
        preemptions++;
        yield();
    }
}

/* The hypercalls. */

static size_t intr_save(void)
{
    const size_t before = masked;

    masked = 1;
    return before;
}

static void intr_restore(size_t before)
{
    masked = (unsigned)before;
    look_for_interrupt();
    if (chance(16) == 0)
        set_timer(100);
}

static void hold_cpu(void)
{
    if (!forgets)
        held++;
    if (forgets || chance(2) == 0)
        set_timer(40);
}

static void release_cpu(void)
{
    if (forgets)
        return;
    EXPECT(held > 0);
    held--;
    look_for_interrupt();
}

static struct rumpvm_thread *thread(void)
{
    return &threads[current].record;
}

static void sleep_while(const uint32_t *word, uint32_t expected, uint64_t until)
{
    (void)until;
    EXPECT(masked == 0 && held == 0);
    in_host++;
    if (*(const volatile uint32_t *)word == expected)
        threads[current].sleeps_on = word;
    in_host--;
    yield();
}

static void wake(const uint32_t *word)
{
    unsigned thread;

    in_host++;
    for (thread = 0; thread < THREADS; thread++)
        if (threads[thread].sleeps_on == word)
            threads[thread].sleeps_on = NULL;
    in_host--;
}

static void relax(void)
{
    if (masked == 0 && held == 0 && in_host == 0)
        yield();
}

static void tlb_activate(uint64_t to)
{
    root = to;
}

static void tlb_invalidate(uint64_t start, uint64_t end)
{
    EXPECT(start < end);
}

/* What threads do. */

static void go_to(rumpvm_space space)
{
    threads[current].space = space;
    EXPECT(rumpvm_space_switch(space) == 0);
}

/* An access is one step. */
static int access_byte(uint64_t address, int value)
{
    const int writes = value >= 0;

    for (;;) {
        int error, byte = -1;
        uint64_t *entry;

        in_host++;
        entry = walk(root, address, writes);
        if (entry != NULL) {
            unsigned char *at = (unsigned char *)table(*entry & FRAME) + address % PAGE;
            if (writes)
                *at = (unsigned char)value;
            byte = *at;
        }
        in_host--;
        look_for_interrupt();
        if (byte >= 0)
            return byte;
        error = rumpvm_fault(threads[current].space, address, writes ? RUMPVM_ACCESS_WRITE : RUMPVM_ACCESS_READ);
        if (error != 0)
            return error;
    }
}

static int load(uint64_t address)
{
    return access_byte(address, -1);
}

static void store(uint64_t address, unsigned value)
{
    EXPECT(access_byte(address, (int)(value & 0xff)) == (int)(value & 0xff));
}

static void own_pages(unsigned me, unsigned round)
{
    unsigned page;

    EXPECT(rumpvm_mmap(common, OWN(me), PAGES * PAGE, RUMPVM_PROT_READ | RUMPVM_PROT_WRITE,
                       RUMPVM_MAP_PRIVATE | RUMPVM_MAP_ANONYMOUS | RUMPVM_MAP_FIXED) == (int64_t)OWN(me));
    for (page = 0; page < PAGES; page++)
        store(OWN(me) + page * PAGE, round + page);
    for (page = 0; page < PAGES; page++)
        EXPECT(load(OWN(me) + page * PAGE) == (int)(round + page));
    EXPECT(rumpvm_munmap(common, OWN(me), PAGES * PAGE) == 0);
    EXPECT(load(OWN(me)) == -RUMPVM_EFAULT);
}

static void fork_and_store(unsigned me, unsigned round)
{
    rumpvm_space child;
    unsigned page;

    for (page = 0; page < PAGES; page++)
        store(COMMON + page * PAGE + me, round + page);
    EXPECT(rumpvm_space_fork(common, &child) == 0);
    for (page = 0; page < PAGES; page++)
        store(COMMON + page * PAGE + me, round + page + 1);
    go_to(child);
    for (page = 0; page < PAGES; page++)
        EXPECT(load(COMMON + page * PAGE + me) == (int)(round + page));
    store(COMMON + me, 0xcc);
    go_to(common);
    EXPECT(rumpvm_space_destroy(child) == 0);
    for (page = 0; page < PAGES; page++)
        EXPECT(load(COMMON + page * PAGE + me) == (int)(round + page + 1));
}

static void run(void)
{
    const unsigned me = current;
    unsigned round;

    go_to(common);
    for (round = 0; round < ROUNDS; round++) {
        own_pages(me, round);
        fork_and_store(me, round);
    }
    threads[me].is_done = 1;
    for (;;)
        yield();
}

static void run_all(void)
{
    struct rumpvm_hypercalls calls = pretend();
    struct sigaction action;
    unsigned number;

    memset(&action, 0, sizeof action);
    action.sa_sigaction = on_trap;
    action.sa_flags = SA_SIGINFO;
    EXPECT(sigaction(SIGTRAP, &action, NULL) == 0);
    calls.intr_save = intr_save;
    calls.intr_restore = intr_restore;
    calls.tlb_activate = tlb_activate;
    calls.tlb_invalidate = tlb_invalidate;
    calls.relax = relax;
    calls.thread = thread;
    calls.sleep = sleep_while;
    calls.wakeup = wake;
    calls.hold_cpu = hold_cpu;
    calls.release_cpu = release_cpu;
    /* Nobody to switch to yet. */
    in_host++;
    for (number = 0; number < THREADS; number++)
        EXPECT(rumpvm_thread_init(&threads[number].record, number + 1) == 0);
    EXPECT(rumpvm_init(RUMPVM_VERSION, &calls) == 0);
    EXPECT(rumpvm_add_memory(RAM_START, RAM_START + RAM_BYTES) == 0);
    EXPECT(rumpvm_cpu_attach() == 0);
    EXPECT(rumpvm_space_create(&common) == 0);
    EXPECT(rumpvm_mmap(common, COMMON, PAGES * PAGE, RUMPVM_PROT_READ | RUMPVM_PROT_WRITE,
                       RUMPVM_MAP_PRIVATE | RUMPVM_MAP_ANONYMOUS | RUMPVM_MAP_FIXED) == (int64_t)COMMON);
    for (number = 0; number < THREADS; number++) {
        EXPECT(getcontext(&threads[number].context) == 0);
        threads[number].context.uc_stack.ss_sp = threads[number].stack;
        threads[number].context.uc_stack.ss_size = STACK;
        threads[number].space = common;
        makecontext(&threads[number].context, run, 0);
    }
    in_host--;
    EXPECT(swapcontext(&first_context, &threads[0].context) == 0);

    in_host++;
    check();
    EXPECT(rumpvm_space_switch(0) == 0 && rumpvm_space_destroy(common) == 0);
    while (rumpvm_idle())
        ;
    check();
    EXPECT(statistics().forks == THREADS * ROUNDS && statistics().faults_copy > 0);
}

/* The same without hold_cpu, with other chances for each `attempt`; whether it went wrong. */
static int goes_wrong_without(unsigned attempt)
{
    const pid_t child = fork();
    int status = 0;

    EXPECT(child >= 0);
    if (child == 0) {
        forgets = 1;
        state += attempt;
        /* Lost for good is wrong, too. */
        alarm(20);
        if (dup2(open("/dev/null", O_WRONLY), STDERR_FILENO) < 0)
            _exit(0);
        run_all();
        _exit(0);
    }
    EXPECT(waitpid(child, &status, 0) == child);
    return !(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

int main(void)
{
    unsigned attempt = 0;

    while (!goes_wrong_without(attempt))
        EXPECT(++attempt < ATTEMPTS);
    run_all();
    EXPECT(preemptions > 0 && put_off > 0);
    printf("preempted: goes wrong without hold_cpu at attempt %u; %u preemptions, %u put off by hold_cpu, %u instructions one by one; rumpvm counted %llu forks, "
           "%llu pages copied\n",
           attempt + 1, preemptions, put_off, instructions, (unsigned long long)statistics().forks,
           (unsigned long long)statistics().faults_copy);
    return 0;
}
