/* Priorities as programs use them: who runs before whom on one CPU, how those share it who are equal, what is inherited,
 * what is refused. Everything happens on the first CPU, and goes by the time that each process has run itself. */
#define _GNU_SOURCE
#include "expect.h"
#include <errno.h>
#include <sched.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { OTHER = 0, FIFO = 1, RR = 2, BATCH = 3, IDLE = 5, RESET = 0x40000000 };

/* What parents and children see of each other. */
static volatile struct {
    int stop, woke, last;
    long turns, count, at_end[2];
} *shared;

/* musl's functions refuse to set anything, so these are the calls themselves. */
static long set_policy(pid_t pid, int policy, int level) {
    struct sched_param param = {.sched_priority = level};
    return syscall(SYS_sched_setscheduler, pid, policy, &param);
}

static long policy_of(pid_t pid) {
    return syscall(SYS_sched_getscheduler, pid);
}

static int level_of(pid_t pid) {
    struct sched_param param = {.sched_priority = -1};
    EXPECT(syscall(SYS_sched_getparam, pid, &param) == 0);
    return param.sched_priority;
}

struct attr {
    unsigned size, policy;
    unsigned long flags;
    int nice;
    unsigned level;
    unsigned long deadlines[3];
};

/* Milliseconds that the calling process has run. */
static long ran(void) {
    struct timespec time;
    EXPECT(clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time) == 0);
    return time.tv_sec * 1000 + time.tv_nsec / 1000000;
}

static void rest(long milliseconds) {
    struct timespec time = {0, milliseconds * 1000000};
    nanosleep(&time, 0);
}

/* A child that becomes this, then does that. It begins when its parent sleeps. */
static pid_t child(int policy, int level, int nice, void (*work)(void)) {
    pid_t born = fork();
    EXPECT(born >= 0);
    if (born == 0) {
        EXPECT(set_policy(0, policy, level) == 0 && setpriority(PRIO_PROCESS, 0, nice) == 0);
        work();
        _exit(0);
    }
    return born;
}

static void await(int children) {
    for (int status; children > 0; children--)
        EXPECT(wait(&status) > 0 && status == 0);
}

/* The first who has run for long enough ends it. */
static void spin_at(int place) {
    rest(10);
    for (long before = ran(); !shared->stop && ran() - before < 300;)
        shared->at_end[place] = ran() - before;
    shared->stop = 1;
}

static void spin_first(void) {
    spin_at(0);
}

static void spin_second(void) {
    spin_at(1);
}

/* What of the CPU the one gets for a part of the other. */
static double shares(int policy, int nice, int other_policy, int other_nice) {
    shared->stop = 0;
    shared->at_end[0] = shared->at_end[1] = 0;
    child(policy, 0, nice, spin_first);
    child(other_policy, 0, other_nice, spin_second);
    await(2);
    return (double)shared->at_end[0] / (double)(shared->at_end[1] + 1);
}

/* Ten steps are about nine times as much. A machine that others use takes time in large pieces. */
static void weights(void) {
    double even = shares(OTHER, 0, BATCH, 0), both = shares(OTHER, 10, OTHER, 10), idle = shares(IDLE, 0, OTHER, 19);
    double down = shares(OTHER, 0, OTHER, 10), up = shares(OTHER, -10, OTHER, 0);
    EXPECT(even > 0.4 && even < 2.5);
    EXPECT(both > 0.4 && both < 2.5);
    EXPECT(down > 3 && down < 40);
    EXPECT(up > 3 && up < 40);
    EXPECT(idle < 0.7);
}

static void count(void) {
    for (long end = ran() + 20; ran() < end;)
        shared->count++;
}

static void wake(void) {
    rest(20);
    shared->woke = 1;
}

static void spin_until_woken(void) {
    /* Those who have not begun yet do so. */
    rest(5);
    long before = ran(), counted = shared->count;
    while (!shared->woke)
        EXPECT(ran() - before < 500);
    while (ran() - before < 60)
        ;
    EXPECT(shared->count == counted);
}

/* A real-time thread is interrupted by a higher one that wakes, and neither by an ordinary one nor by its equal. */
static void first_in_first_out(void) {
    shared->woke = 0;
    child(FIFO, 20, 0, wake);
    child(FIFO, 10, 0, spin_until_woken);
    rest(2);
    child(OTHER, 0, -20, count);
    child(FIFO, 9, 0, count);
    await(4);
    EXPECT(shared->count > 0);
}

static int pipes[2];

static void read_first(void) {
    char byte;
    EXPECT(read(pipes[0], &byte, 1) == 1);
    shared->woke = 1;
}

static void write_then_look(void) {
    rest(5);
    EXPECT(write(pipes[1], "x", 1) == 1);
    for (long before = ran(); !shared->woke;)
        EXPECT(ran() - before < 500);
}

/* So does one that the lower one wakes itself. */
static void woken_by_the_lower(void) {
    shared->woke = 0;
    EXPECT(pipe(pipes) == 0);
    child(FIFO, 20, 0, read_first);
    child(FIFO, 10, 0, write_then_look);
    await(2);
}

static void alternate(void) {
    rest(5);
    for (long before = ran(); ran() - before < 220;)
        if (shared->last != getpid()) {
            shared->last = getpid();
            shared->turns++;
        }
}

static long turns(int policy) {
    shared->turns = 0;
    child(policy, 10, 0, alternate);
    child(policy, 10, 0, alternate);
    await(2);
    return shared->turns;
}

/* Equals take turns, if they are to. */
static void round_robin(void) {
    EXPECT(turns(RR) >= 4);
    EXPECT(turns(FIFO) == 2);
    struct timespec turn = {-1, -1};
    EXPECT(set_policy(0, RR, 1) == 0 && syscall(SYS_sched_rr_get_interval, 0, &turn) == 0);
    EXPECT(turn.tv_sec == 0 && turn.tv_nsec > 0);
    EXPECT(set_policy(0, FIFO, 60) == 0 && syscall(SYS_sched_rr_get_interval, 0, &turn) == 0);
    EXPECT(turn.tv_sec == 0 && turn.tv_nsec == 0);
}

static void spin_until_stopped(void) {
    for (long before = ran(); !shared->stop;)
        EXPECT(ran() - before < 2000);
}

/* Somebody else's priority changes while he runs, or waits to. */
static void changed_by_another(void) {
    shared->stop = 0;
    shared->count = 0;
    pid_t spinner = child(FIFO, 10, 0, spin_until_stopped), counter = child(FIFO, 5, 0, count);
    rest(10);
    EXPECT(shared->count == 0);
    EXPECT(set_policy(counter, FIFO, 11) == 0 && level_of(counter) == 11);
    rest(1);
    while (shared->count == 0)
        rest(1);
    EXPECT(set_policy(spinner, OTHER, 0) == 0 && policy_of(spinner) == OTHER);
    shared->stop = 1;
    await(2);
}

static void what_is_set_is_there(void) {
    static const int policies[] = {FIFO, RR, OTHER, BATCH, IDLE};
    for (unsigned at = 0; at < 5; at++) {
        int level = policies[at] == FIFO || policies[at] == RR ? 37 : 0;
        EXPECT(set_policy(0, policies[at], level) == 0);
        EXPECT(policy_of(0) == policies[at] && policy_of(getpid()) == policies[at] && level_of(0) == level);
        EXPECT(syscall(SYS_sched_get_priority_max, policies[at]) == (level ? 99 : 0));
        EXPECT(syscall(SYS_sched_get_priority_min, policies[at]) == (level ? 1 : 0));
    }
    struct attr attr = {.size = 48, .policy = BATCH, .nice = 7}, got;
    EXPECT(syscall(SYS_sched_setattr, 0, &attr, 0) == 0);
    EXPECT(syscall(SYS_sched_getattr, 0, &got, sizeof got, 0) == 0);
    EXPECT(got.size == 48 && got.policy == BATCH && got.nice == 7 && got.level == 0 && got.flags == 0);
    EXPECT(getpriority(PRIO_PROCESS, 0) == 7);
    attr = (struct attr){.size = 48, .policy = RR, .level = 5, .flags = 1};
    EXPECT(syscall(SYS_sched_setattr, 0, &attr, 0) == 0 && policy_of(0) == (RR | RESET) && level_of(0) == 5);
    struct sched_param param = {.sched_priority = 6};
    EXPECT(syscall(SYS_sched_setparam, 0, &param) == 0 && policy_of(0) == (RR | RESET) && level_of(0) == 6);
    EXPECT(set_policy(0, OTHER, 0) == 0 && policy_of(0) == OTHER && getpriority(PRIO_PROCESS, 0) == 7);
    EXPECT(setpriority(PRIO_PROCESS, 0, 100) == 0 && getpriority(PRIO_PROCESS, 0) == 19);
    EXPECT(setpriority(PRIO_PROCESS, 0, -100) == 0 && getpriority(PRIO_PROCESS, 0) == -20);
    EXPECT(nice(5) == -15 && getpriority(PRIO_PGRP, 0) == -15);
    EXPECT(setpriority(PRIO_PGRP, 0, 0) == 0 && getpriority(PRIO_PROCESS, 0) == 0);
}

static void expect_inherited(int policy, int level, int nice) {
    if (fork() == 0) {
        EXPECT(policy_of(0) == policy && level_of(0) == level && getpriority(PRIO_PROCESS, 0) == nice);
        _exit(0);
    }
    await(1);
}

static void inheritance(const char *itself) {
    EXPECT(set_policy(0, RR, 12) == 0 && setpriority(PRIO_PROCESS, 0, -3) == 0);
    expect_inherited(RR, 12, -3);
    EXPECT(set_policy(0, RR | RESET, 12) == 0);
    expect_inherited(OTHER, 0, 0);
    EXPECT(set_policy(0, BATCH | RESET, 0) == 0);
    expect_inherited(BATCH, 0, 0);
    EXPECT(setpriority(PRIO_PROCESS, 0, 4) == 0);
    expect_inherited(BATCH, 0, 4);
    if (fork() == 0) {
        EXPECT(set_policy(0, FIFO, 3) == 0 && setpriority(PRIO_PROCESS, 0, -7) == 0);
        execl(itself, itself, "heir", (char *)0);
        _exit(1);
    }
    await(1);
    EXPECT(set_policy(0, OTHER, 0) == 0 && setpriority(PRIO_PROCESS, 0, 0) == 0);
}

#define REFUSED(call, number) EXPECT((call) == -1 && errno == (number))

static void errors(void) {
    pid_t nobody = 4000000;
    REFUSED(set_policy(0, FIFO, 0), EINVAL);
    REFUSED(set_policy(0, FIFO, 100), EINVAL);
    REFUSED(set_policy(0, RR, -1), EINVAL);
    REFUSED(set_policy(0, OTHER, 1), EINVAL);
    REFUSED(set_policy(0, IDLE, 1), EINVAL);
    REFUSED(set_policy(0, 4, 0), EINVAL);
    REFUSED(set_policy(0, -1, 0), EINVAL);
    REFUSED(set_policy(-1, OTHER, 0), EINVAL);
    REFUSED(set_policy(nobody, OTHER, 0), ESRCH);
    REFUSED(syscall(SYS_sched_setscheduler, 0, OTHER, 0), EINVAL);
    REFUSED(syscall(SYS_sched_setscheduler, 0, OTHER, 8), EFAULT);
    REFUSED(policy_of(nobody), ESRCH);
    REFUSED(policy_of(-1), EINVAL);
    REFUSED(syscall(SYS_sched_getparam, 0, 0), EINVAL);
    REFUSED(syscall(SYS_sched_getparam, 0, 8), EFAULT);
    REFUSED(syscall(SYS_sched_get_priority_max, 4), EINVAL);
    REFUSED(syscall(SYS_sched_get_priority_min, -1), EINVAL);
    REFUSED(syscall(SYS_sched_rr_get_interval, nobody, 0), ESRCH);
    REFUSED(setpriority(3, 0, 0), EINVAL);
    REFUSED(setpriority(PRIO_PROCESS, (id_t)nobody, 0), ESRCH);
    REFUSED(setpriority(PRIO_USER, 123456, 0), ESRCH);
    REFUSED(getpriority(PRIO_PGRP, (id_t)nobody), ESRCH);
    struct attr attr = {.size = 48, .policy = OTHER}, got;
    REFUSED(syscall(SYS_sched_setattr, 0, &attr, 1), EINVAL);
    REFUSED(syscall(SYS_sched_getattr, 0, &got, 47, 0), EINVAL);
    attr.size = 47;
    REFUSED(syscall(SYS_sched_setattr, 0, &attr, 0), E2BIG);
    attr = (struct attr){.size = 48, .policy = OTHER, .flags = 1 << 10};
    REFUSED(syscall(SYS_sched_setattr, 0, &attr, 0), EINVAL);
}

/* Whoever is not the administrator may ask for less, and of his own processes only. */
static void rights(void) {
    if (fork() == 0) {
        struct rlimit none = {0, 0};
        EXPECT(setrlimit(RLIMIT_NICE, &none) == 0 && setrlimit(RLIMIT_RTPRIO, &none) == 0);
        EXPECT(setuid(65534) == 0);
        REFUSED(set_policy(0, FIFO, 1), EPERM);
        REFUSED(setpriority(PRIO_PROCESS, 0, -1), EACCES);
        REFUSED(setpriority(PRIO_PROCESS, (id_t)getppid(), 5), EPERM);
        REFUSED(set_policy(getppid(), BATCH, 0), EPERM);
        EXPECT(setpriority(PRIO_PROCESS, 0, 5) == 0 && setpriority(PRIO_PROCESS, 0, 5) == 0);
        EXPECT(set_policy(0, BATCH | RESET, 0) == 0);
        REFUSED(set_policy(0, BATCH, 0), EPERM);
        EXPECT(set_policy(0, IDLE | RESET, 0) == 0);
        REFUSED(set_policy(0, OTHER | RESET, 0), EPERM);
        EXPECT(getpriority(PRIO_PROCESS, (id_t)getppid()) == 0);
        _exit(0);
    }
    await(1);
}

int main(int words, char **word) {
    if (words > 1 && strcmp(word[1], "heir") == 0)
        return !(policy_of(0) == FIFO && level_of(0) == 3 && getpriority(PRIO_PROCESS, 0) == -7);
    cpu_set_t one;
    CPU_ZERO(&one);
    CPU_SET(0, &one);
    EXPECT(sched_setaffinity(0, sizeof one, &one) == 0);
    shared = mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    EXPECT(shared != MAP_FAILED);
    what_is_set_is_there();
    inheritance(word[0]);
    errors();
    rights();
    /* Before all children, so that it starts and changes them when it means to. */
    EXPECT(set_policy(0, FIFO, 60) == 0);
    weights();
    first_in_first_out();
    woken_by_the_lower();
    round_robin();
    changed_by_another();
    puts("priorities: done");
    return 0;
}
