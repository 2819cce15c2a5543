/* Random system calls, with arguments that are random, nearly valid, or wild: the kernel has to go on whatever is asked.
 *
 * Usage: calls SEED COUNT. COUNT calls are made, half of them by each of two lines of children, which run side by side.
 * A child is a process of two threads that call until they have made some thousand calls, or die of one, or sleep in
 * one; then comes the next. What counts is that the parents live to see the last one. */
#define _GNU_SOURCE
#include "expect.h"
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* Calls of each thread of a child, and milliseconds that it may sleep in one. */
enum { EACH = 1000, PATIENCE = 20 };

/* Each thread's own: what it draws from. It lies in a register or on its stack, since its calls may well take away what
 * the library needs for variables of threads. */
typedef unsigned long State;

static unsigned long next(State *state) {
    unsigned long mixed = *state += 0x9e3779b97f4a7c15ul;
    mixed = (mixed ^ (mixed >> 30)) * 0xbf58476d1ce4e5b9ul;
    mixed = (mixed ^ (mixed >> 27)) * 0x94d049bb133111ebul;
    return mixed ^ (mixed >> 31);
}

static char *pages;
static const char *paths[] = {"/tmp", "/tmp/a", "/tmp/b/c", "/dev/zero", "/proc/self/maps", ".", "", "/proc/self/fd/1"};

/* An argument: a place in memory that is there, or nearly, a small number, a flag, a wild one. */
static unsigned long argument(State *state) {
    static const unsigned long wild[] = {0, -1ul, 1ul << 47, (1ul << 47) - 1, 0xffff800000000000ul,
        0xffffffff80100000ul, 1ul << 63, 4096, 0x7fffffff, 0x80000000, -4096ul};
    switch (next(state) % 8) {
    case 0: return (unsigned long)pages + next(state) % (8 * 4096);
    case 1: return (unsigned long)pages + next(state) % 8 * 4096;
    case 2: return next(state) % 16;
    case 3: return 1ul << next(state) % 64;
    case 4: return wild[next(state) % (sizeof wild / sizeof *wild)];
    case 5: return (unsigned long)paths[next(state) % 8];
    case 6: return next(state) % 70000;
    default: return next(state);
    }
}

/* Those that would end the experiment rather than the kernel: exit, what stops or waits for ever, what kills others. */
static int is_left_out(long number) {
    static const short out[] = {SYS_exit, SYS_exit_group, SYS_pause, SYS_rt_sigsuspend, SYS_kill, SYS_tkill, SYS_tgkill,
        SYS_rt_sigqueueinfo, SYS_rt_tgsigqueueinfo, SYS_vfork, SYS_fork, SYS_clone, SYS_clone3, SYS_reboot,
        SYS_pidfd_send_signal, SYS_rt_sigreturn, SYS_execve, SYS_execveat, SYS_umount2, SYS_chroot, SYS_mlockall,
        SYS_setrlimit, SYS_prlimit64, SYS_setsid, SYS_setpgid};
    for (unsigned at = 0; at < sizeof out / sizeof *out; at++)
        if (out[at] == number)
            return 1;
    return 0;
}

/* The library would note errors in a place that may be gone. */
static long call(long number, const unsigned long words[6]) {
    register unsigned long fourth __asm__("r10") = words[3];
    register unsigned long fifth __asm__("r8") = words[4];
    register unsigned long sixth __asm__("r9") = words[5];
    long result;
    __asm__ volatile("syscall"
                     : "=a"(result)
                     : "a"(number), "D"(words[0]), "S"(words[1]), "d"(words[2]), "r"(fourth), "r"(fifth), "r"(sixth)
                     : "rcx", "r11", "memory");
    return result;
}

/* How many calls the children of a line have made; both threads count, so some may be lost but none invented. */
static volatile unsigned long *made;

static void *calling(void *seed) {
    State state = (State)seed;
    for (long left = EACH; left > 0; left--) {
        long number = next(&state) % 460;
        unsigned long words[6];
        for (int at = 0; at < 6; at++)
            words[at] = argument(&state);
        if (is_left_out(number))
            continue;
        call(number, words);
        ++*made;
    }
    return 0;
}

static void child(State seed) {
    State state = seed;
    struct sigaction nothing = {.sa_handler = SIG_IGN};
    sigaction(SIGPIPE, &nothing, 0);
    pages = mmap(0, 8 * 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    for (int at = 0; at < 8 * 4096; at += 8)
        *(unsigned long *)(pages + at) = next(&state) % 3 ? argument(&state) : 0;
    mprotect(pages + 6 * 4096, 4096, PROT_READ);
    munmap(pages + 7 * 4096, 4096);
    /* What it writes by chance is nobody's to read. */
    int null = open("/dev/null", O_RDWR);
    for (int number = 0; number < 3; number++)
        EXPECT(dup2(null, number) == number);
    pthread_t partner;
    EXPECT(pthread_create(&partner, 0, calling, (void *)(seed ^ 0x5555555555555555ul)) == 0);
    calling((void *)seed);
    call(SYS_exit_group, (unsigned long[6]){0});
}

/* Has `count` calls made; how many children came to their end, and how many had to be ended, or died. */
static void line(State seed, unsigned long count, unsigned long *ended, unsigned long *killed) {
    made = mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    EXPECT(made != MAP_FAILED);
    while (*made < count) {
        pid_t born = fork();
        EXPECT(born >= 0);
        if (born == 0) {
            setpgid(0, 0);
            child(++seed * 0x9e3779b97f4a7c15ul);
        }
        seed++;
        int status = 0;
        pid_t found = 0;
        unsigned long before = *made;
        for (int wait = 0; wait < PATIENCE && found == 0; wait++) {
            struct timespec rest = {0, 1000000};
            nanosleep(&rest, 0);
            found = waitpid(born, &status, WNOHANG);
            if (*made != before) {
                before = *made;
                wait = 0;
            }
        }
        if (found == 0) {
            EXPECT(kill(born, SIGKILL) == 0);
            found = waitpid(born, &status, 0);
        }
        EXPECT(found == born);
        ++*(WIFEXITED(status) ? ended : killed);
    }
}

int main(int count, char **words) {
    State seed = count > 1 ? strtoul(words[1], 0, 0) : 1;
    unsigned long calls = count > 2 ? strtoul(words[2], 0, 0) : 100000;
    unsigned long ended = 0, killed = 0;
    pid_t other = fork();
    EXPECT(other >= 0);
    line(seed * 1000003 + (other == 0 ? 500000 : 0), calls / 2, &ended, &killed);
    if (other == 0)
        return 0;
    int status = 0;
    EXPECT(waitpid(other, &status, 0) == other);
    EXPECT(status == 0);
    printf("calls: %lu children of the first line ended, %lu were killed, %lu calls\n", ended, killed, *made);
    return 0;
}
