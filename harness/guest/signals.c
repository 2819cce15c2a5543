/* Signals as programs use them: faults with their addresses, handlers that repair, timers, other stacks, children. */
#define _GNU_SOURCE
#include "expect.h"
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static sigjmp_buf back;
static volatile int number, code;
static char *volatile address;
static volatile int count;
static char *page;

static void jump(int signal, siginfo_t *info, void *context) {
    (void)context;
    number = signal;
    code = info->si_code;
    address = info->si_addr;
    siglongjmp(back, 1);
}

static void tally(int signal) {
    (void)signal;
    count++;
}

static void repair(int signal, siginfo_t *info, void *context) {
    (void)signal;
    (void)context;
    if (info->si_addr == page + 5 && mprotect(page, 4096, PROT_READ | PROT_WRITE) == 0)
        count++;
}

static void act(int signal, void (*with)(int, siginfo_t *, void *), int flags) {
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_sigaction = with;
    action.sa_flags = flags | SA_SIGINFO;
    EXPECT(sigaction(signal, &action, 0) == 0);
}

static void store(char *at) {
    if (!sigsetjmp(back, 1)) {
        *(volatile char *)at = 1;
        EXPECT(!"a store that must fault");
    }
}

static int deeper(int depth) {
    volatile char room[4096];
    room[0] = (char)depth;
    return depth > 1 << 20 ? 0 : deeper(depth + 1) + room[0];
}

static void faults(void) {
    act(SIGSEGV, jump, SA_NODEFER);
    act(SIGBUS, jump, SA_NODEFER);
    act(SIGILL, jump, SA_NODEFER);
    store((char *)0x1234);
    EXPECT(number == SIGSEGV && code == SEGV_MAPERR && address == (char *)0x1234);
    char *fixed = mmap(0, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    store(fixed + 7);
    EXPECT(number == SIGSEGV && code == SEGV_ACCERR && address == fixed + 7);
    int file = open("/tmp/signals", O_RDWR | O_CREAT | O_TRUNC, 0600);
    EXPECT(file >= 0 && unlink("/tmp/signals") == 0 && ftruncate(file, 4096) == 0);
    char *shared = mmap(0, 8192, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    shared[1] = 'x';
    store(shared + 4096);
    EXPECT(number == SIGBUS && code == BUS_ADRERR && address == shared + 4096);
    char byte = 0;
    EXPECT(pread(file, &byte, 1, 1) == 1 && byte == 'x');
    store((char *)0xffff800000000000ul);
    EXPECT(number == SIGSEGV);
    if (!sigsetjmp(back, 1))
        __builtin_trap();
    EXPECT(number == SIGILL);
    if (!sigsetjmp(back, 1))
        __asm__ volatile("hlt");
    EXPECT(number == SIGSEGV && code == SI_KERNEL);
}

static void timer(void) {
    struct sigaction action = {.sa_handler = tally, .sa_flags = SA_RESTART};
    EXPECT(sigaction(SIGALRM, &action, 0) == 0);
    struct itimerval often = {{0, 10000}, {0, 10000}}, never = {{0, 0}, {0, 0}};
    EXPECT(setitimer(ITIMER_REAL, &often, 0) == 0);
    int pipes[2], status;
    EXPECT(pipe(pipes) == 0);
    if (fork() == 0) {
        struct timespec rest = {0, 80000000};
        nanosleep(&rest, 0);
        _exit(write(pipes[1], "z", 1) == 1 ? 3 : 4);
    }
    char byte;
    EXPECT(read(pipes[0], &byte, 1) == 1 && byte == 'z');
    EXPECT(setitimer(ITIMER_REAL, &never, 0) == 0);
    EXPECT(wait(&status) > 0 && WIFEXITED(status) && WEXITSTATUS(status) == 3);
    EXPECT(count > 0);
}

/* What has no end of its own ends early for a signal, and for who ends the process. */
static void endless(void) {
    enum { ALL = 0x7ffff000 };
    int zero = open("/dev/zero", O_RDONLY), null = open("/dev/null", O_WRONLY), counter = eventfd(3, EFD_SEMAPHORE);
    EXPECT(zero >= 0 && null >= 0 && counter >= 0);
    EXPECT(sendfile(null, counter, 0, 8) == -1 && errno == EINVAL);
    struct sigaction action = {.sa_handler = tally};
    EXPECT(sigaction(SIGALRM, &action, 0) == 0);
    struct itimerval soon = {{0, 0}, {0, 10000}};
    ssize_t sent = 0;
    count = 0;
    EXPECT(setitimer(ITIMER_REAL, &soon, 0) == 0);
    while (count == 0)
        sent = sendfile(null, zero, 0, ALL);
    EXPECT(sent < ALL);
    pid_t born = fork();
    EXPECT(born >= 0);
    for (; born == 0;)
        sendfile(null, zero, 0, ALL);
    int status;
    EXPECT(kill(born, SIGKILL) == 0 && waitpid(born, &status, 0) == born && WIFSIGNALED(status));
}

static void repairs(void) {
    page = mmap(0, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    act(SIGSEGV, repair, 0);
    count = 0;
    double value = 1;
    for (int round = 0; round < 500; round++) {
        page[5] = (char)round;
        value *= 1.5;
        value /= 1.5;
        EXPECT(mprotect(page, 4096, PROT_NONE) == 0);
    }
    EXPECT(count == 500 && value > 0.999 && value < 1.001);
}

static void overflow(void) {
    stack_t other = {.ss_sp = malloc(65536), .ss_size = 65536};
    EXPECT(sigaltstack(&other, 0) == 0);
    act(SIGSEGV, jump, SA_ONSTACK | SA_NODEFER);
    number = 0;
    if (!sigsetjmp(back, 1))
        deeper(0);
    EXPECT(number == SIGSEGV);
}

static void children(void) {
    int status;
    pid_t child = fork();
    if (child == 0) {
        signal(SIGSEGV, SIG_DFL);
        *(volatile int *)0 = 0;
    }
    EXPECT(waitpid(child, &status, 0) == child && WIFSIGNALED(status) && WTERMSIG(status) == SIGSEGV);
    child = fork();
    if (child == 0)
        for (;;)
            pause();
    EXPECT(kill(child, SIGSTOP) == 0 && waitpid(child, &status, WUNTRACED) == child && WIFSTOPPED(status));
    EXPECT(kill(child, SIGCONT) == 0 && waitpid(child, &status, WCONTINUED) == child && WIFCONTINUED(status));
    EXPECT(kill(child, SIGTERM) == 0 && waitpid(child, &status, 0) == child && WTERMSIG(status) == SIGTERM);
    /* What is stopped does not look at its signals, but for the one that needs no look. */
    child = fork();
    if (child == 0)
        for (;;)
            pause();
    EXPECT(kill(child, SIGSTOP) == 0 && waitpid(child, &status, WUNTRACED) == child && WIFSTOPPED(status));
    EXPECT(kill(child, SIGTERM) == 0 && waitpid(child, &status, WNOHANG) == 0);
    EXPECT(kill(child, SIGKILL) == 0 && waitpid(child, &status, 0) == child && WTERMSIG(status) == SIGKILL);
    EXPECT(wait(&status) == -1 && errno == ECHILD);
}

int main(void) {
    faults();
    timer();
    endless();
    repairs();
    overflow();
    children();
    puts("signals: done");
    return 0;
}
