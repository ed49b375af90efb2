/*
 * Every descriptor that the library opens is close-on-exec: a program that is executed while servers run
 * inherits none of them.
 */
#include "support.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

enum { DESCRIPTORS_MAX = 4096 };

static bool open_before[DESCRIPTORS_MAX];

static void note_open(bool *open) {
    for (int fd = 0; fd < DESCRIPTORS_MAX; fd++) open[fd] = fcntl(fd, F_GETFD) >= 0;
}

/* The new program: nothing but the standard descriptors may be open. */
static int executed(void) {
    for (int fd = 3; fd < DESCRIPTORS_MAX; fd++) {
        char path[64], target[256] = "";
        snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
        if (fcntl(fd, F_GETFD) < 0 || readlink(path, target, sizeof target - 1) < 0) continue;
        if (strncmp(target, "socket:", 7) && strncmp(target, "anon_inode:", 11)) continue;
        fprintf(stderr, "inherited: %d is %s\n", fd, target);
        return 1;
    }
    return 0;
}

int main(int count, char **arguments) {
    (void)count;
    if (arguments[1]) return executed();

    tally seen = TALLY_INIT;
    int pair[2], unmarked[2];
    /* The standard descriptors may be sockets of whoever started us. */
    note_open(open_before);
    for (int fd = 3; fd < DESCRIPTORS_MAX; fd++) {
        if (open_before[fd]) fcntl(fd, F_SETFD, FD_CLOEXEC);
    }

    const char *folder = make_folder();
    char listen[256];
    snprintf(listen, sizeof listen, "tcp://127.0.0.1:0,tcp://[::1]:0,unix:%s/a.sock", folder);
    ahoy_server server = start(OPTIONS(.listen = listen, .workers = 2, .user = &seen,
                                       .on_open = tally_open, .on_message = tally_message));
    ahoy_server loop = start(OPTIONS(.listen = LOOPBACK, .workers = AHOY_WORKERS_NONE));
    int client = dial(server);
    latch_wait(&seen.opened, 1);

    /* An adopted socket gets the mark as well. */
    CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, unmarked) == 0);
    CHECK(fcntl(unmarked[1], F_SETFD, FD_CLOEXEC) == 0);
    CHECK_OK(ahoy_server_adopt(server, unmarked[0], NULL));
    latch_wait(&seen.opened, 2);
    stream_pair(pair);

    int opened = 0;
    for (int fd = 0; fd < DESCRIPTORS_MAX; fd++) {
        int flags = fcntl(fd, F_GETFD);
        if (flags < 0 || open_before[fd]) continue;
        CHECK(flags & FD_CLOEXEC);
        opened++;
    }
    CHECK(opened >= 9); /* listeners, pollers, connections: the test looked at the right process */

    pid_t pid = fork();
    CHECK(pid >= 0);
    if (pid == 0) {
        execl(arguments[0], arguments[0], "executed", (char *)NULL);
        _exit(2);
    }
    int status;
    CHECK(waitpid(pid, &status, 0) == pid);
    CHECK_EQ(status, 0);

    ahoy_server_free(server);
    ahoy_server_free(loop);
    close(client), close(pair[0]), close(pair[1]), close(unmarked[1]);
    remove_folder();
    return 0;
}
