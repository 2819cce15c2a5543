/* What setrlimit(2) takes away: room in files, births, signals that wait, time. */
#define _GNU_SOURCE
#include "expect.h"
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

static volatile sig_atomic_t heard;

static void hear(int signal) {
    heard = signal;
}

static void limit(int resource, rlim_t soft, rlim_t hard) {
    struct rlimit both = {soft, hard};
    EXPECT(setrlimit(resource, &both) == 0);
}

static void files(void) {
    static char bytes[8192];
    signal(SIGXFSZ, hear);
    int file = open("/tmp/limits", O_RDWR | O_CREAT | O_TRUNC, 0600);
    limit(RLIMIT_FSIZE, 4096, RLIM_INFINITY);
    struct iovec pieces[2] = {{bytes, 3000}, {bytes, 3000}};
    EXPECT(writev(file, pieces, 2) == 4096 && heard == 0);
    EXPECT(write(file, bytes, 1) == -1 && errno == EFBIG && heard == SIGXFSZ);
    heard = 0;
    EXPECT(pwrite(file, bytes, 100, 4090) == 6 && heard == 0);
    EXPECT(ftruncate(file, 4097) == -1 && errno == EFBIG && heard == SIGXFSZ);
    heard = 0;
    EXPECT(truncate("/tmp/limits", 5000) == -1 && errno == EFBIG && heard == SIGXFSZ);
    heard = 0;
    EXPECT(posix_fallocate(file, 4000, 100) == EFBIG && heard == SIGXFSZ);
    EXPECT(ftruncate(file, 10) == 0 && lseek(file, 0, SEEK_END) == 10);
    /* What has no size has no limit. */
    int null = open("/dev/null", O_WRONLY);
    EXPECT(write(null, bytes, 8192) == 8192 && unlink("/tmp/limits") == 0);
}

static void births(void) {
    EXPECT(setuid(4321) == 0);
    limit(RLIMIT_NPROC, 2, 2);
    pid_t child = fork();
    EXPECT(child >= 0);
    if (child == 0) {
        EXPECT(fork() == -1 && errno == EAGAIN);
        _exit(0);
    }
    int status;
    EXPECT(waitpid(child, &status, 0) == child && status == 0);
}

static void signals(void) {
    sigset_t set;
    int number = SIGRTMIN, count = 0;
    sigemptyset(&set);
    sigaddset(&set, number);
    sigprocmask(SIG_BLOCK, &set, 0);
    limit(RLIMIT_SIGPENDING, 10, 10);
    while (count < 100 && sigqueue(getpid(), number, (union sigval){.sival_int = count}) == 0)
        count++;
    /* The limit is a user's, who may have some more elsewhere. */
    EXPECT(count > 0 && count <= 10 && errno == EAGAIN);
}

static void time_of_cpu(void) {
    signal(SIGXCPU, hear);
    limit(RLIMIT_CPU, 1, 2);
    while (heard != SIGXCPU)
        ;
    for (;;)
        ;
}

static int alone(void (*body)(void)) {
    int status;
    pid_t child = fork();
    if (child == 0) {
        body();
        exit(0);
    }
    EXPECT(waitpid(child, &status, 0) == child);
    return status;
}

int main(void) {
    EXPECT(alone(files) == 0);
    EXPECT(alone(births) == 0);
    EXPECT(alone(signals) == 0);
    int status = alone(time_of_cpu);
    EXPECT(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
    puts("limits: done");
    return 0;
}
