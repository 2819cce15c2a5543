/* Whom a program runs as, and where it may run: bits for set-user-id, volumes that give none or execute nothing. */
#define _GNU_SOURCE
#include "expect.h"
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static char copy[64], word[64];

/* Copies this program there, as a file of 33 and 44 that lends both. */
static void lend(const char *folder) {
    char bytes[4096];
    ssize_t count;
    snprintf(copy, sizeof copy, "%s/lent", folder);
    int from = open("/proc/self/exe", O_RDONLY), to = open(copy, O_WRONLY | O_CREAT | O_TRUNC, 0755);
    EXPECT(from >= 0 && to >= 0);
    while ((count = read(from, bytes, sizeof bytes)) > 0)
        EXPECT(write(to, bytes, (size_t)count) == count);
    EXPECT(close(to) == 0 && close(from) == 0);
    EXPECT(chown(copy, 33, 44) == 0 && chmod(copy, 06755) == 0);
}

/* What a child says that becomes 1000 and 100, then the copy: effective, saved, whether it is wary. */
static void becomes(const char *expected, int settled) {
    int status;
    pid_t child = fork();
    if (child == 0) {
        EXPECT(setgid(100) == 0 && setuid(1000) == 0);
        if (settled)
            EXPECT(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
        execl(copy, copy, expected, (char *)0);
        exit(errno);
    }
    EXPECT(waitpid(child, &status, 0) == child);
    if (strcmp(expected, "refused") == 0)
        EXPECT(WEXITSTATUS(status) == EACCES);
    else
        EXPECT(status == 0);
}

static int is_lent(const char *expected) {
    uid_t user[3];
    gid_t group[3];
    EXPECT(getresuid(&user[0], &user[1], &user[2]) == 0 && getresgid(&group[0], &group[1], &group[2]) == 0);
    snprintf(word, sizeof word, "%d %d %d, %d %d %d, %d", user[0], user[1], user[2], group[0], group[1], group[2],
             (int)getauxval(AT_SECURE));
    int file = open("/tmp/of_lent", O_RDWR | O_CREAT, 0600);
    struct stat made;
    EXPECT(file >= 0 && fstat(file, &made) == 0 && made.st_uid == user[1] && unlink("/tmp/of_lent") == 0);
    EXPECT(strcmp(word, expected) == 0);
    return 0;
}

int main(int count, char **words) {
    if (count == 2)
        return is_lent(words[1]);
    static const char *as_before = "1000 1000 1000, 100 100 100, 0";
    lend("/tmp");
    becomes("1000 33 33, 100 44 44, 1", 0);
    becomes(as_before, 1);
    EXPECT(chmod(copy, 02745) == 0);
    becomes(as_before, 0);
    EXPECT(unlink(copy) == 0 && mkdir("/tmp/volume", 0755) == 0);
    EXPECT(mount("none", "/tmp/volume", "tmpfs", MS_NOSUID, 0) == 0);
    lend("/tmp/volume");
    becomes(as_before, 0);
    int file = open(copy, O_RDONLY);
    void *at = mmap(0, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE, file, 0);
    EXPECT(at != MAP_FAILED && munmap(at, 4096) == 0);
    EXPECT(mount("none", "/tmp/volume", "tmpfs", MS_REMOUNT | MS_NOEXEC, 0) == 0);
    becomes("refused", 0);
    EXPECT(mmap(0, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE, file, 0) == MAP_FAILED && errno == EPERM);
    EXPECT(close(file) == 0 && umount("/tmp/volume") == 0);
    puts("rights: done");
    return 0;
}
