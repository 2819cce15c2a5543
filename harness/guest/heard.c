/* What a call is told, it hears or refuses: flags, options of mount(2), names of threads, settings under /proc. */
#define _GNU_SOURCE
#include "expect.h"
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <unistd.h>

enum { UNKNOWN = 0x8000 };

static char text[4096];

static const char *read_all(const char *path) {
    int file = open(path, O_RDONLY);
    ssize_t count = read(file, text, sizeof text - 1);
    EXPECT(file >= 0 && count >= 0 && close(file) == 0);
    text[count] = 0;
    return text;
}

static int write_all(const char *path, const char *words) {
    int file = open(path, O_WRONLY);
    EXPECT(file >= 0);
    ssize_t count = write(file, words, strlen(words));
    int error = errno;
    EXPECT(close(file) == 0);
    return count == (ssize_t)strlen(words) ? 0 : error;
}

static void flags(void) {
    struct stat about;
    char room[256];
    int file = open("/tmp/heard", O_RDWR | O_CREAT, 0600), pipes[2];
    EXPECT(file >= 0 && pipe(pipes) == 0);
    EXPECT(syscall(SYS_faccessat2, AT_FDCWD, "/tmp/heard", F_OK, UNKNOWN) == -1 && errno == EINVAL);
    EXPECT(syscall(SYS_newfstatat, AT_FDCWD, "/tmp/heard", &about, UNKNOWN) == -1 && errno == EINVAL);
    EXPECT(syscall(SYS_statx, AT_FDCWD, "/tmp/heard", UNKNOWN, 0x7ff, room) == -1 && errno == EINVAL);
    EXPECT(syscall(SYS_fchownat, AT_FDCWD, "/tmp/heard", 0, 0, UNKNOWN) == -1 && errno == EINVAL);
    EXPECT(syscall(SYS_linkat, AT_FDCWD, "/tmp/heard", AT_FDCWD, "/tmp/more", UNKNOWN) == -1 && errno == EINVAL);
    EXPECT(syscall(SYS_utimensat, AT_FDCWD, "/tmp/heard", 0, UNKNOWN) == -1 && errno == EINVAL);
    EXPECT(posix_fadvise(file, 0, 0, 99) == EINVAL && posix_fadvise(pipes[0], 0, 0, 0) == ESPIPE);
    int name = open("/tmp/heard", O_PATH);
    EXPECT(syscall(SYS_fchmod, name, 0) == -1 && errno == EBADF && syscall(SYS_fchown, name, 0, 0) == -1 && errno == EBADF);
    EXPECT(unlink("/tmp/heard") == 0);
}

static void mounts(void) {
    struct stat about;
    EXPECT(mkdir("/tmp/volume", 0755) == 0);
    EXPECT(mount("none", "/tmp/volume", "tmpfs", 0, "nonsense=1") == -1 && errno == EINVAL);
    EXPECT(mount("none", "/tmp/volume", "tmpfs", MS_RDONLY | MS_NOSUID, "mode=700,uid=5,size=1m") == 0);
    EXPECT(stat("/tmp/volume", &about) == 0 && about.st_mode == (S_IFDIR | 0700) && about.st_uid == 5);
    EXPECT(strstr(read_all("/proc/mounts"), " /tmp/volume tmpfs ro,nosuid"));
    EXPECT(umount("/tmp/volume") == 0 && rmdir("/tmp/volume") == 0);
}

static void *worker(void *unused) {
    char path[64], name[16];
    EXPECT(prctl(PR_SET_NAME, "worker") == 0);
    snprintf(path, sizeof path, "/proc/self/task/%ld/comm", syscall(SYS_gettid));
    EXPECT(strcmp(read_all(path), "worker\n") == 0 && write_all(path, "renamed") == 0);
    EXPECT(prctl(PR_GET_NAME, name) == 0 && strcmp(name, "renamed") == 0);
    return unused;
}

static void names(void) {
    pthread_t thread;
    EXPECT(prctl(PR_SET_NAME, "leader") == 0);
    EXPECT(pthread_create(&thread, 0, worker, 0) == 0 && pthread_join(thread, 0) == 0);
    EXPECT(strcmp(read_all("/proc/self/comm"), "leader\n") == 0);
}

static void settings(void) {
    int adopts = -1;
    EXPECT(write_all("/proc/self/oom_score_adj", "500") == 0 && write_all("/proc/self/oom_score_adj", "1001") == EINVAL);
    EXPECT(strcmp(read_all("/proc/self/oom_score_adj"), "500\n") == 0);
    /* Anywhere else this would change the settings of somebody's machine. */
    struct utsname names;
    EXPECT(uname(&names) == 0);
    if (strstr(names.release, "rumpvm")) {
        EXPECT(write_all("/proc/sys/vm/max_map_count", "100") == EPERM);
        EXPECT(write_all("/proc/sys/vm/overcommit_memory", "0") == 0);
    }
    EXPECT(prctl(PR_SET_CHILD_SUBREAPER, 1) == 0 && prctl(PR_GET_CHILD_SUBREAPER, &adopts) == 0 && adopts == 1);
    EXPECT(prctl(PR_SET_NO_NEW_PRIVS, 1, 1, 0, 0) == -1 && errno == EINVAL);
    pid_t child = fork();
    if (child == 0)
        pause();
    int handle = (int)syscall(SYS_pidfd_open, child, 0);
    EXPECT(syscall(SYS_pidfd_send_signal, handle, 0, 0, 0) == 0 && kill(child, SIGKILL) == 0 && wait(0) == child);
    EXPECT(syscall(SYS_pidfd_send_signal, handle, 0, 0, 0) == -1 && errno == ESRCH);
}

int main(void) {
    flags();
    mounts();
    names();
    settings();
    puts("heard: done");
    return 0;
}
