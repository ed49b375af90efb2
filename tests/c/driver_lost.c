/*
 * Somebody else in the process has closed what a worker waits on: its connections are over, each once, with a reason, the
 * peers see the end, and the server ends and can be freed.
 */
#include "support.h"

#include <limits.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { CLIENTS = 20 };

static tally seen;

/* Closes the first descriptor of this kind: "anon_inode:[...]". */
static void close_first(const char *kind) {
    for (int fd = 3; fd < 1000; fd++) {
        char link[64], name[PATH_MAX] = "";
        snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
        if (readlink(link, name, sizeof name - 1) > 0 && !strcmp(name, kind)) {
            /* By hand: to ThreadSanitizer this is the race that it is. */
            CHECK(!syscall(SYS_close, fd));
            return;
        }
    }
    CHECK(!"there is one");
}

static void lost(int32_t driver, const char *kind) {
    int fds[CLIENTS];
    char byte;
    seen = (tally)TALLY_INIT;
    ahoy_server server = start(OPTIONS(.listen = LOOPBACK, .workers = 1, .user = &seen, .driver = driver,
                                       .on_open = tally_open, .on_message = tally_echo, .on_close = tally_close,
                                       .on_free = tally_free));
    for (int i = 0; i < CLIENTS; i++) {
        fds[i] = dial(server);
        send_all(fds[i], "x", 1);
        recv_exact(fds[i], &byte, 1);
    }
    /* One is closing when it happens, and its peer has not read to the end. */
    CHECK_OK(ahoy_conn_abort(tally_conn(&seen)));
    close_first(kind);
    send_all(fds[0], "x", 1); /* the worker looks up */
    CHECK_OK(ahoy_server_wait(server));
    CHECK_EQ(latch_count(&seen.closed), CLIENTS);
    CHECK_EQ(seen.reasons[-AHOY_ERR_SYSTEM] + seen.reasons[-AHOY_OK], CLIENTS);
    CHECK(seen.reasons[-AHOY_ERR_SYSTEM] >= CLIENTS - 1);
    CHECK_EQ(latch_count(&seen.freed), 1);
    for (int i = 0; i < CLIENTS; i++) {
        while (recv_until_eof(fds[i], &byte, 1) > 0) continue;
        close(fds[i]);
    }
    ahoy_server_free(server);
}

int main(void) {
    lost(AHOY_DRIVER_EPOLL, "anon_inode:[eventpoll]");
    need_uring();
    lost(AHOY_DRIVER_URING, "anon_inode:[io_uring]");
    return 0;
}
