/* Job control: what a terminal does to those who are not in its foreground, and what becomes of groups that nobody looks
 * after. Runs as a job of a shell, in the foreground of its terminal. */
#define _GNU_SOURCE
#include "expect.h"
#include <errno.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

enum { ROUNDS = 300 };

/* Does `work` in a group of its own, which is in the background. */
static pid_t background(void (*work)(void)) {
    pid_t child = fork();
    EXPECT(child >= 0);
    setpgid(child, child);
    if (child == 0) {
        work();
        _exit(0);
    }
    return child;
}

static void expect_stopped(pid_t child, int signal) {
    int status = 0;
    EXPECT(waitpid(child, &status, WUNTRACED) == child);
    EXPECT(WIFSTOPPED(status) && WSTOPSIG(status) == signal);
}

static void expect_done(pid_t child) {
    int status = 0;
    EXPECT(waitpid(child, &status, 0) == child);
    EXPECT(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

static void go_on(pid_t child) { EXPECT(kill(child, SIGCONT) == 0); }

static void stop_output(int wanted) {
    struct termios settings;
    EXPECT(tcgetattr(0, &settings) == 0);
    settings.c_lflag = wanted ? settings.c_lflag | TOSTOP : settings.c_lflag & ~TOSTOP;
    EXPECT(tcsetattr(0, TCSANOW, &settings) == 0);
}

static void read_one(void) {
    char byte;
    read(0, &byte, 1);
}

static void read_ignoring(void) {
    char byte;
    signal(SIGTTIN, SIG_IGN);
    EXPECT(read(0, &byte, 1) == -1 && errno == EIO);
}

static void write_some(void) { EXPECT(write(1, "jobs: seen\n", 11) == 11); }

static void change(void) {
    struct termios settings;
    EXPECT(tcgetattr(0, &settings) == 0);
    EXPECT(tcsetattr(0, TCSANOW, &settings) == 0);
}

static void change_blocking(void) {
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGTTOU);
    EXPECT(sigprocmask(SIG_BLOCK, &set, 0) == 0);
    change();
}

static void come_forward(void) { EXPECT(tcsetpgrp(0, getpgrp()) == 0); }

/* Who is not in the foreground may take it so. */
static void take_back(void) {
    signal(SIGTTOU, SIG_IGN);
    come_forward();
    signal(SIGTTOU, SIG_DFL);
}

/* Those in the background. */
static void stopped_by_the_terminal(void) {
    pid_t child = background(read_one);
    expect_stopped(child, SIGTTIN);
    go_on(child);
    expect_stopped(child, SIGTTIN);
    /* Who is killed need not go on before. */
    int status = 0;
    EXPECT(kill(child, SIGKILL) == 0);
    EXPECT(waitpid(child, &status, 0) == child && WTERMSIG(status) == SIGKILL);
    expect_done(background(read_ignoring));

    expect_done(background(write_some));
    stop_output(1);
    child = background(write_some);
    expect_stopped(child, SIGTTOU);
    stop_output(0);
    go_on(child);
    expect_done(child);

    child = background(change);
    expect_stopped(child, SIGTTOU);
    EXPECT(tcsetpgrp(0, child) == 0);
    go_on(child);
    expect_done(child);
    take_back();
    expect_done(background(change_blocking));
    child = background(come_forward);
    expect_stopped(child, SIGTTOU);
    EXPECT(kill(child, SIGKILL) == 0 && waitpid(child, &status, 0) == child);
}

static int ready[2], leave[2];

static void hear(int *pipe) {
    char byte;
    EXPECT(read(pipe[0], &byte, 1) == 1);
}

static void say(int *pipe) { EXPECT(write(pipe[1], "", 1) == 1); }

/* A child whose parent is in another session: nobody could have it go on. */
static void orphan(void) {
    char byte;
    hear(leave);
    EXPECT(read(0, &byte, 1) == -1 && errno == EIO);
    EXPECT(tcsetpgrp(0, getpgrp()) == -1 && errno == ENOTTY);
    EXPECT(raise(SIGTSTP) == 0);
}

static volatile sig_atomic_t hung_up;

static void note(int signal) { hung_up = signal; }

static void stop_oneself(void) {
    signal(SIGHUP, note);
    EXPECT(raise(SIGTSTP) == 0);
    EXPECT(hung_up == SIGHUP);
}

/* Its child is stopped when it ends, and nobody else looks after that. */
static void leave_behind(void) {
    pid_t child = background(stop_oneself);
    expect_stopped(child, SIGTSTP);
    say(ready);
    hear(leave);
}

static void orphaned(void) {
    pid_t parent = fork();
    EXPECT(parent >= 0);
    if (parent != 0) {
        expect_done(parent);
        return;
    }
    EXPECT(pipe(ready) == 0 && pipe(leave) == 0);
    pid_t child = background(orphan), other = fork();
    EXPECT(other >= 0);
    if (other == 0) {
        leave_behind();
        _exit(0);
    }
    hear(ready);
    EXPECT(prctl(PR_SET_CHILD_SUBREAPER, 1) == 0);
    EXPECT(setsid() > 0);
    say(leave);
    say(leave);
    expect_done(child);
    expect_done(other);
    /* It went on by itself. */
    int status = 1;
    EXPECT(wait(&status) > 0 && status == 0);
    _exit(0);
}

static int there[2], back[2];

static void answer(void) {
    char byte;
    while (read(there[0], &byte, 1) == 1 && byte)
        EXPECT(write(back[1], &byte, 1) == 1);
}

/* Who is told to stop, and then to go on, goes on. */
static void told_to_go_on(void) {
    EXPECT(pipe(there) == 0 && pipe(back) == 0);
    pid_t child = background(answer);
    char byte = 1;
    for (int round = 0; round < ROUNDS; round++) {
        EXPECT(kill(child, SIGTSTP) == 0);
        go_on(child);
        EXPECT(write(there[1], &byte, 1) == 1);
        EXPECT(read(back[0], &byte, 1) == 1);
    }
    byte = 0;
    EXPECT(write(there[1], &byte, 1) == 1);
    expect_done(child);
}

int main(void) {
    stopped_by_the_terminal();
    orphaned();
    told_to_go_on();
    puts("jobs: done");
    return 0;
}
