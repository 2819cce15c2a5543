/* Locks of files, as two processes see them: ranges of fcntl(2), those of open files, and flock(2). */
#define _GNU_SOURCE
#include "expect.h"
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/file.h>
#include <sys/wait.h>
#include <unistd.h>

static const char *path = "/tmp/locks";

static struct flock range(int type, long start, long length) {
    struct flock lock;
    memset(&lock, 0, sizeof lock);
    lock.l_type = (short)type;
    lock.l_start = start;
    lock.l_len = length;
    return lock;
}

static int set(int file, int command, int type, long start, long length) {
    struct flock lock = range(type, start, length);
    return fcntl(file, command, &lock);
}

/* Runs `body` as another process, with a descriptor of its own. */
static void elsewhere(void (*body)(int)) {
    int status;
    pid_t child = fork();
    if (child == 0) {
        int file = open(path, O_RDWR);
        EXPECT(file >= 0);
        body(file);
        exit(0);
    }
    EXPECT(waitpid(child, &status, 0) == child && status == 0);
}

static void woken(int signal) {
    (void)signal;
}

static void finds_ranges(int file) {
    struct flock lock = range(F_RDLCK, 0, 0);
    EXPECT(fcntl(file, F_GETLK, &lock) == 0 && lock.l_type == F_WRLCK);
    EXPECT(lock.l_start == 2 && lock.l_len == 3 && lock.l_pid == getppid());
    EXPECT(set(file, F_SETLK, F_RDLCK, 4, 1) == -1 && errno == EAGAIN);
    EXPECT(set(file, F_SETLK, F_WRLCK, 5, 1) == 0 && set(file, F_SETLK, F_WRLCK, 0, 2) == 0);
    struct sigaction action = {.sa_handler = woken};
    EXPECT(sigaction(SIGALRM, &action, 0) == 0);
    alarm(1);
    EXPECT(set(file, F_SETLKW, F_WRLCK, 2, 1) == -1 && errno == EINTR);
}

static void finds_a_hole(int file) {
    EXPECT(set(file, F_SETLK, F_WRLCK, 10, 10) == -1);
    EXPECT(set(file, F_SETLK, F_WRLCK, 13, 4) == 0 && set(file, F_SETLK, F_WRLCK, 12, 1) == -1);
    EXPECT(set(file, F_SETLK, F_RDLCK, 17, 1) == 0 && set(file, F_SETLK, F_WRLCK, 17, 1) == -1);
}

static void finds_nothing(int file) {
    struct flock lock = range(F_WRLCK, 0, 0);
    EXPECT(fcntl(file, F_GETLK, &lock) == 0 && lock.l_type == F_UNLCK);
}

static void finds_flock(int file) {
    EXPECT(flock(file, LOCK_SH | LOCK_NB) == -1 && errno == EWOULDBLOCK);
    /* The two kinds know nothing of each other. */
    EXPECT(set(file, F_SETLK, F_WRLCK, 0, 0) == 0);
}

static void finds_shared_flock(int file) {
    EXPECT(flock(file, LOCK_SH | LOCK_NB) == 0 && flock(file, LOCK_EX | LOCK_NB) == -1);
}

static void ranges(int file) {
    EXPECT(set(file, F_SETLK, F_WRLCK, 2, 3) == 0);
    elsewhere(finds_ranges);
    EXPECT(set(file, F_SETLK, F_UNLCK, 0, 0) == 0);
    EXPECT(set(file, F_SETLK, F_WRLCK, 10, 5) == 0 && set(file, F_SETLK, F_WRLCK, 15, 5) == 0);
    EXPECT(set(file, F_SETLK, F_UNLCK, 13, 4) == 0 && set(file, F_SETLK, F_RDLCK, 17, 1) == 0);
    elsewhere(finds_a_hole);
    /* Whichever descriptor of the file is closed takes all of the process's locks with it. */
    EXPECT(close(open(path, O_RDONLY)) == 0);
    elsewhere(finds_nothing);
    EXPECT(set(file, F_SETLK, 9, 0, 0) == -1 && errno == EINVAL);
    EXPECT(set(file, F_SETLK, F_WRLCK, -1, 1) == -1 && errno == EINVAL);
    EXPECT(fcntl(file, F_SETLK, (void *)8) == -1 && errno == EFAULT);
    int reader = open(path, O_RDONLY);
    EXPECT(set(reader, F_SETLK, F_WRLCK, 0, 0) == -1 && errno == EBADF);
    close(reader);
}

/* Who waits is woken by whoever gives the lock up, were it by his end. */
static void waits(int file) {
    int ready[2], status;
    char byte;
    EXPECT(pipe(ready) == 0);
    pid_t child = fork();
    if (child == 0) {
        int own = open(path, O_RDWR);
        EXPECT(set(own, F_SETLK, F_WRLCK, 0, 0) == 0 && flock(own, LOCK_EX) == 0);
        EXPECT(write(ready[1], "x", 1) == 1);
        usleep(20000);
        _exit(5);
    }
    EXPECT(read(ready[0], &byte, 1) == 1);
    EXPECT(set(file, F_SETLKW, F_WRLCK, 0, 1) == 0 && flock(file, LOCK_EX) == 0);
    EXPECT(waitpid(child, &status, 0) == child && WEXITSTATUS(status) == 5);
    EXPECT(set(file, F_SETLK, F_UNLCK, 0, 0) == 0 && flock(file, LOCK_UN) == 0);
}

static void of_open_files(int file) {
    int other = open(path, O_RDWR);
    EXPECT(flock(file, LOCK_EX) == 0);
    elsewhere(finds_flock);
    EXPECT(flock(other, LOCK_SH | LOCK_NB) == -1 && flock(file, LOCK_SH) == 0);
    elsewhere(finds_shared_flock);
    EXPECT(flock(file, 77) == -1 && errno == EINVAL);
    EXPECT(set(file, F_OFD_SETLK, F_WRLCK, 0, 10) == 0);
    EXPECT(set(other, F_OFD_SETLK, F_WRLCK, 5, 10) == -1 && errno == EAGAIN);
    struct flock lock = range(F_WRLCK, 0, 0);
    EXPECT(fcntl(other, F_OFD_GETLK, &lock) == 0 && lock.l_type == F_WRLCK && lock.l_pid == -1);
    EXPECT(close(dup(file)) == 0 && set(other, F_OFD_SETLK, F_WRLCK, 5, 10) == -1);
    close(file);
    EXPECT(set(other, F_OFD_SETLK, F_WRLCK, 5, 10) == 0 && flock(other, LOCK_EX | LOCK_NB) == 0);
    close(other);
}

int main(void) {
    int file = open(path, O_RDWR | O_CREAT | O_TRUNC, 0600);
    EXPECT(file >= 0);
    ranges(file);
    waits(file);
    of_open_files(file);
    EXPECT(unlink(path) == 0);
    puts("locks: done");
    return 0;
}
