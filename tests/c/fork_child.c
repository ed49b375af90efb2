/*
 * A child after fork owns nothing of the library: every function answers AHOY_ERR_FORKED there, at once,
 * also when the fork happened inside a callback. The parent goes on as if nothing had been.
 */
#include "support.h"

#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

static tally seen = TALLY_INIT;
static _Atomic pid_t forked_inside;

/* Every function of the header. Runs in the child, which must not touch what threads may have locked. */
static void child(ahoy_server server, ahoy_conn conn) {
    ahoy_server_options options = OPTIONS(.listen = LOOPBACK);
    ahoy_server none = { 77 };
    ahoy_stats stats = { .size = sizeof stats };
    char text[128] = "untouched";
    size_t received = 77;
    int fd = 77;
    int pair[2];
    if (socketpair(AF_UNIX, SOCK_STREAM, 0, pair)) _exit(2);

    CHECK_STATUS(ahoy_server_start(&options, &none), AHOY_ERR_FORKED);
    CHECK_STATUS(ahoy_server_stop(server, 0), AHOY_ERR_FORKED);
    CHECK_STATUS(ahoy_server_wait(server), AHOY_ERR_FORKED);
    CHECK_STATUS(ahoy_server_address(server, 0, text, sizeof text), AHOY_ERR_FORKED);
    CHECK_STATUS(ahoy_server_adopt(server, pair[0], NULL), AHOY_ERR_FORKED);
    CHECK_STATUS(ahoy_server_stats(server, &stats), AHOY_ERR_FORKED);
    CHECK_STATUS(ahoy_server_fd(server, &fd), AHOY_ERR_FORKED);
    CHECK_STATUS(ahoy_server_turn(server, 0), AHOY_ERR_FORKED);
    ahoy_server_free(server);
    CHECK_STATUS(ahoy_send(conn, "x", 1), AHOY_ERR_FORKED);
    CHECK_STATUS(ahoy_send_owned(conn, "x", 1, NULL, NULL), AHOY_ERR_FORKED);
    CHECK_STATUS(ahoy_conn_greet(conn), AHOY_ERR_FORKED);
    CHECK_STATUS(ahoy_conn_close(conn), AHOY_ERR_FORKED);
    CHECK_STATUS(ahoy_conn_pause(conn), AHOY_ERR_FORKED);
    CHECK_STATUS(ahoy_conn_resume(conn), AHOY_ERR_FORKED);
    CHECK_STATUS(ahoy_conn_peer(conn, text, sizeof text), AHOY_ERR_FORKED);
    CHECK_STATUS(ahoy_conn_set_user(conn, NULL, NULL), AHOY_ERR_FORKED);
    CHECK(ahoy_conn_user(conn) == NULL);
    CHECK_EQ(ahoy_conn_server(conn).id, 0);
    CHECK_STATUS(ahoy_log_set(AHOY_LOG_TRACE, NULL, NULL), AHOY_ERR_FORKED);
    CHECK_STATUS(ahoy_serve(LOOPBACK, NULL), AHOY_ERR_FORKED);
    CHECK_STATUS(ahoy_greet_once(LOOPBACK, NULL, NULL, 0, &received), AHOY_ERR_FORKED);
    CHECK_STATUS(ahoy_greet_fd(pair[0], NULL, NULL, 0, &received), AHOY_ERR_FORKED);

    CHECK_EQ(none.id, 77);
    CHECK_EQ(fd, 77);
    CHECK_EQ(received, 77);
    CHECK_TEXT(text, "untouched");

    /* What tells about errors still does. */
    CHECK_TEXT(ahoy_status_name(AHOY_ERR_FORKED), "AHOY_ERR_FORKED");
    CHECK(strlen(ahoy_status_text(AHOY_ERR_FORKED)) > 0);
    CHECK(strlen(ahoy_last_error()) > 0);
    CHECK_TEXT(ahoy_version(), AHOY_VERSION);
}

static pid_t fork_child(ahoy_server server, ahoy_conn conn) {
    pid_t pid = fork();
    CHECK(pid >= 0);
    if (pid > 0) return pid;
    alarm(20); /* a child does not inherit the deadline */
    child(server, conn);
    leave_child();
}

static void check_exit(pid_t pid) {
    int status;
    CHECK(waitpid(pid, &status, 0) == pid);
    CHECK_EQ(status, 0);
}

static void on_message(ahoy_conn conn, const void *data, size_t len, void *user) {
    if (memmem(data, len, "fork", 4)) forked_inside = fork_child(ahoy_conn_server(conn), conn);
    if (memmem(data, len, "back", 4)) {
        /* A child must not return from a callback on a worker thread; one that does is ended. */
        pid_t pid = fork();
        if (pid == 0) return;
        forked_inside = pid;
    }
    tally_echo(conn, data, len, user);
}

static void parent_goes_on(int fd) {
    char echo[4];
    send_all(fd, "echo", 4);
    recv_exact(fd, echo, 4);
    CHECK(memcmp(echo, "echo", 4) == 0);
}

/* A program that becomes a daemon, say: what forks before it uses the library is no such child. */
static void fork_before_the_first_use(void) {
    pid_t pid = fork();
    CHECK(pid >= 0);
    if (pid > 0) {
        check_exit(pid);
        return;
    }
    alarm(20);
    tally served = TALLY_INIT;
    ahoy_server server = start(OPTIONS(.listen = LOOPBACK, .on_close = tally_close, .user = &served));
    int fd = dial(server);
    char answer[17];
    send_all(fd, "hi", 2);
    recv_exact(fd, answer, sizeof answer);
    ahoy_server_free(server);
    _exit(0);
}

int main(void) {
    fork_before_the_first_use();
    ahoy_server server = start(OPTIONS(.listen = LOOPBACK, .workers = 2, .user = &seen,
                                       .on_open = tally_open, .on_message = on_message,
                                       .on_close = tally_close, .on_free = tally_free));
    int fd = dial(server);
    char echo[4];
    latch_wait(&seen.opened, 1);
    ahoy_conn conn = tally_conn(&seen);
    parent_goes_on(fd);

    for (int round = 0; round < 5; round++) {
        check_exit(fork_child(server, conn));
        parent_goes_on(fd);
    }

    send_all(fd, "fork", 4);
    recv_exact(fd, echo, 4);
    check_exit(forked_inside);
    parent_goes_on(fd);

    if (!is_slow()) {
        send_all(fd, "back", 4);
        recv_exact(fd, echo, 4);
        check_exit(forked_inside);
        parent_goes_on(fd);
    }

    /* Bytes that wait in the parent are not sent twice by a child that ends through exit(3). */
    CHECK_OK(ahoy_conn_pause(conn));
    pid_t pid = fork();
    if (pid == 0) {
        if (is_slow()) leave_child(); /* a search for leaks at the exit makes the same mistake */
        exit(0);
    }
    check_exit(pid);
    CHECK_OK(ahoy_conn_resume(conn));
    parent_goes_on(fd);

    CHECK_EQ(latch_count(&seen.closed), 0);
    ahoy_server_free(server);
    CHECK_EQ(latch_count(&seen.closed), 1);
    CHECK_EQ(latch_count(&seen.freed), 1);
    CHECK_EQ(recv(fd, echo, 4, 0), 0);
    close(fd);
    return 0;
}
