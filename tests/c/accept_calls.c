/*
 * What it takes to accept: on epoll one accept4 for each connection, which brings the peer's address along; in rings no call,
 * and one for the address where the program may ask for it. No option is set: sockets inherit them from the listener.
 */
#include "support.h"

#include <stdarg.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifdef __SANITIZE_THREAD__
int main(void) {
    skip_test("the library makes calls for the sanitizer alone");
}
#else

enum { CLIENTS = 100 };

/* ---- The calls ------------------------------------------------------------------------------- */

static _Thread_local bool is_client; /* the main thread, while it is one */
static struct {
    atomic_long accepted, named, options;
} calls;

static void count(atomic_long *kind) {
    if (!is_client) ++*kind;
}

int accept4(int fd, struct sockaddr *address, socklen_t *len, int flags) {
    int socket = (int)syscall(SYS_accept4, fd, address, len, flags);
    if (socket >= 0) count(&calls.accepted);
    return socket;
}

int getpeername(int fd, struct sockaddr *address, socklen_t *len) {
    count(&calls.named);
    return (int)syscall(SYS_getpeername, fd, address, len);
}

int getsockname(int fd, struct sockaddr *address, socklen_t *len) {
    count(&calls.named);
    return (int)syscall(SYS_getsockname, fd, address, len);
}

int setsockopt(int fd, int level, int name, const void *value, socklen_t len) {
    count(&calls.options);
    return (int)syscall(SYS_setsockopt, fd, level, name, value, len);
}

int getsockopt(int fd, int level, int name, void *value, socklen_t *len) {
    count(&calls.options);
    return (int)syscall(SYS_getsockopt, fd, level, name, value, len);
}

int fcntl(int fd, int command, ...) {
    va_list more;
    va_start(more, command);
    long argument = va_arg(more, long);
    va_end(more);
    count(&calls.options);
    return (int)syscall(SYS_fcntl, fd, command, argument);
}

/* ---- The connections ------------------------------------------------------------------------- */

static tally seen;

/* The address is there to the last. */
static void on_close(ahoy_conn conn, ahoy_status reason, void *user) {
    char url[64] = "";
    CHECK_OK(ahoy_conn_peer(conn, url, sizeof url));
    CHECK(!strncmp(url, "tcp://127.0.0.1:", 16));
    tally_close(conn, reason, user);
}

static void greets(int32_t driver, bool is_asked, long accepted, long named) {
    seen = (tally)TALLY_INIT;
    ahoy_server server = start(OPTIONS(.listen = LOOPBACK, .workers = 1, .user = &seen, .driver = driver, .greeting = "hello",
                                       .greet = AHOY_GREET_ON_OPEN, .on_close = is_asked ? on_close : NULL));
    is_client = true;
    calls.accepted = calls.named = calls.options = 0;
    for (int i = 0; i < CLIENTS; i++) {
        char greeting[8];
        int fd = dial(server);
        CHECK_EQ(recv_until_eof(fd, greeting, sizeof greeting), 5);
        close(fd);
    }
    WAIT_UNTIL(stats_of(server).closed == CLIENTS);
    CHECK_EQ(calls.accepted, accepted);
    CHECK_EQ(calls.named, named);
    CHECK_EQ(calls.options, 0);
    is_client = false;
    ahoy_server_free(server);
    CHECK_EQ(latch_count(&seen.closed), is_asked ? CLIENTS : 0);
}

/* Who resets is known by name all the same. */
static void resets(int32_t driver) {
    seen = (tally)TALLY_INIT;
    ahoy_server server = start(OPTIONS(.listen = LOOPBACK, .workers = 1, .user = &seen, .driver = driver,
                                       .on_open = tally_open, .on_message = tally_echo, .on_close = on_close));
    for (long i = 1; i <= CLIENTS; i++) {
        int fd = dial(server);
        latch_wait(&seen.opened, i);
        close_reset(fd);
        latch_wait(&seen.closed, i);
    }
    CHECK_EQ(seen.reasons[-AHOY_ERR_RESET], CLIENTS);
    ahoy_server_free(server);
}

int main(void) {
    greets(AHOY_DRIVER_EPOLL, false, CLIENTS, 0);
    greets(AHOY_DRIVER_EPOLL, true, CLIENTS, 0);
    resets(AHOY_DRIVER_EPOLL);
    need_uring();
    greets(AHOY_DRIVER_URING, false, 0, 0);
    greets(AHOY_DRIVER_URING, true, 0, CLIENTS);
    resets(AHOY_DRIVER_URING);
    return 0;
}
#endif
