/* Flags of send(2) and recv(2), and shutdown(2), on a pair of sockets. */
#include "expect.h"
#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

static void streams(void) {
    int ends[2];
    char bytes[8];
    EXPECT(socketpair(AF_UNIX, SOCK_STREAM, 0, ends) == 0);
    EXPECT(recv(ends[1], bytes, 8, MSG_DONTWAIT) == -1 && errno == EAGAIN);
    EXPECT(send(ends[0], "abc", 3, 0) == 3);
    EXPECT(recv(ends[1], bytes, 8, MSG_PEEK) == 3 && recv(ends[1], bytes, 8, 0) == 3 && !memcmp(bytes, "abc", 3));
    if (fork() == 0) {
        for (int piece = 0; piece < 4; piece++) {
            usleep(1000);
            EXPECT(send(ends[0], "xy", 2, 0) == 2);
        }
        _exit(0);
    }
    EXPECT(recv(ends[1], bytes, 8, MSG_WAITALL) == 8 && !memcmp(bytes, "xyxyxyxy", 8));
    EXPECT(wait(0) > 0);
    EXPECT(shutdown(ends[0], SHUT_WR) == 0 && recv(ends[1], bytes, 8, 0) == 0);
    EXPECT(send(ends[0], "a", 1, MSG_NOSIGNAL) == -1 && errno == EPIPE);
    EXPECT(send(ends[1], "d", 1, 0) == 1 && recv(ends[0], bytes, 8, 0) == 1);
    EXPECT(shutdown(ends[0], 9) == -1 && errno == EINVAL && shutdown(0, SHUT_RD) == -1 && errno == ENOTSOCK);
    int status;
    pid_t child = fork();
    if (child == 0)
        _exit((int)send(ends[0], "a", 1, 0));
    EXPECT(waitpid(child, &status, 0) == child && WIFSIGNALED(status) && WTERMSIG(status) == SIGPIPE);
    close(ends[0]);
    close(ends[1]);
}

static void messages(void) {
    int ends[2];
    char bytes[8];
    EXPECT(socketpair(AF_UNIX, SOCK_DGRAM, 0, ends) == 0);
    EXPECT(send(ends[0], "abcdef", 6, 0) == 6 && send(ends[0], "gh", 2, 0) == 2);
    EXPECT(recv(ends[1], bytes, 3, MSG_PEEK | MSG_TRUNC) == 6);
    EXPECT(recv(ends[1], bytes, 3, 0) == 3 && recv(ends[1], bytes, 8, 0) == 2);
    EXPECT(recv(ends[1], bytes, 8, MSG_DONTWAIT) == -1 && errno == EAGAIN);
}

int main(void) {
    streams();
    messages();
    puts("sockets: done");
    return 0;
}
