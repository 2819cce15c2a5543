/* CPU time: of threads and processes while they run, of children afterwards, and timers that go by it. */
#define _GNU_SOURCE
#include "expect.h"
#include <pthread.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { MILLISECOND = 1000000 };

static volatile sig_atomic_t count;

static long read_clock(clockid_t clock) {
    struct timespec time;
    EXPECT(clock_gettime(clock, &time) == 0);
    return time.tv_sec * 1000L * MILLISECOND + time.tv_nsec;
}

static long micros(struct timeval time) {
    return time.tv_sec * 1000000L + time.tv_usec;
}

/* Works until `clock` has gone on by so much. */
static void work(clockid_t clock, long time) {
    long end = read_clock(clock) + time;
    while (read_clock(clock) < end)
        ;
}

static void rest(void) {
    struct timespec time = {0, 60 * MILLISECOND};
    EXPECT(clock_nanosleep(CLOCK_MONOTONIC, 0, &time, 0) == 0);
}

static void tally(int signal) {
    (void)signal;
    count++;
}

static volatile int is_over;

static void *worker(void *unused) {
    while (!is_over)
        ;
    return unused;
}

static void running(void) {
    pthread_t thread;
    clockid_t clock;
    struct rusage used;
    EXPECT(pthread_create(&thread, 0, worker, 0) == 0 && pthread_getcpuclockid(thread, &clock) == 0);
    /* Each of these ends only if what the other one does counts meanwhile. */
    work(clock, 20 * MILLISECOND);
    long own = read_clock(CLOCK_THREAD_CPUTIME_ID), both = read_clock(CLOCK_PROCESS_CPUTIME_ID);
    EXPECT(both >= 20 * MILLISECOND && both > own);
    EXPECT(getrusage(RUSAGE_SELF, &used) == 0 && micros(used.ru_utime) + micros(used.ru_stime) >= 19000);
    is_over = 1;
    EXPECT(pthread_join(thread, 0) == 0 && read_clock(CLOCK_PROCESS_CPUTIME_ID) >= both);
}

static void children(void) {
    is_over = 0;
    pid_t child = fork();
    if (child == 0)
        worker(0);
    clockid_t clock;
    struct rusage used;
    EXPECT(clock_getcpuclockid(child, &clock) == 0);
    work(clock, 30 * MILLISECOND);
    char path[64], state = 0;
    unsigned long user = 0, system = 0;
    snprintf(path, sizeof path, "/proc/%d/stat", child);
    FILE *file = fopen(path, "r");
    EXPECT(file && fscanf(file, "%*d %*s %c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu", &state, &user, &system) == 3);
    EXPECT(state == 'R' && user + system >= 2 && fclose(file) == 0);
    EXPECT(kill(child, SIGKILL) == 0 && wait4(child, 0, 0, &used) == child);
    EXPECT(micros(used.ru_utime) + micros(used.ru_stime) >= 29000);
    EXPECT(getrusage(RUSAGE_CHILDREN, &used) == 0 && micros(used.ru_utime) + micros(used.ru_stime) >= 29000);
}

static void timers(void) {
    struct sigaction action = {.sa_handler = tally};
    EXPECT(sigaction(SIGVTALRM, &action, 0) == 0 && sigaction(SIGUSR1, &action, 0) == 0);
    struct itimerval once = {{0, 0}, {0, 40000}};
    EXPECT(setitimer(ITIMER_VIRTUAL, &once, 0) == 0);
    rest();
    EXPECT(count == 0);
    while (count == 0)
        ;
    timer_t timer;
    struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGUSR1};
    struct itimerspec soon = {{0, 0}, {0, 40 * MILLISECOND}}, often = {{0, MILLISECOND}, {0, MILLISECOND}};
    EXPECT(timer_create(CLOCK_PROCESS_CPUTIME_ID, &event, &timer) == 0);
    count = 0;
    EXPECT(timer_settime(timer, 0, &soon, 0) == 0);
    rest();
    EXPECT(count == 0);
    while (count == 0)
        ;
    EXPECT(timer_delete(timer) == 0);
    /* Signals of a timer wait as one, which says how many it stands for. */
    sigset_t set, before;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    EXPECT(sigprocmask(SIG_BLOCK, &set, &before) == 0 && timer_create(CLOCK_MONOTONIC, &event, &timer) == 0);
    EXPECT(timer_settime(timer, 0, &often, 0) == 0);
    rest();
    siginfo_t info;
    EXPECT(sigwaitinfo(&set, &info) == SIGUSR1 && info.si_code == SI_TIMER && info.si_overrun > 10);
    EXPECT(timer_getoverrun(timer) == info.si_overrun && timer_delete(timer) == 0);
    EXPECT(sigprocmask(SIG_SETMASK, &before, 0) == 0);
}

int main(void) {
    running();
    children();
    timers();
    puts("clocks: done");
    return 0;
}
