/*
 * A child after fork has copies of all descriptors of the rings, and of none of their memory. Whatever it does with them,
 * and whether it ends before the parent's server or after: orders that the parent has given stay the parent's.
 */
#include "support.h"

#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

enum { ANSWER_BYTES = 8 << 20 };

static tally seen;
static char answer[ANSWER_BYTES];
static pid_t parent;
static _Atomic pid_t child;

static void on_message(ahoy_conn conn, const void *data, size_t len, void *user) {
    if (*(const char *)data == 'p') CHECK_OK(ahoy_conn_pause(conn));
    else if (*(const char *)data == 's') CHECK_OK(ahoy_send(conn, answer, sizeof answer));
    else CHECK_OK(ahoy_send(conn, data, len));
    tally_message(conn, data, len, user);
}

static void check_exit(pid_t pid) {
    int status;
    CHECK(waitpid(pid, &status, 0) == pid);
    CHECK_EQ(status, 0);
}

static void echoes(int fd) {
    char echo;
    send_all(fd, "e", 1);
    recv_exact(fd, &echo, 1);
    CHECK_EQ(echo, 'e');
}

/* Orders to accept, to receive, to tell of breaks and of room are all given when a child comes and goes. */
static void goes_on(int32_t driver, bool child_stays) {
    int ends[2];
    char byte;
    holdings before = holdings_now();
    seen = (tally)TALLY_INIT;
    ahoy_server server = start(OPTIONS(.listen = LOOPBACK, .workers = 1, .user = &seen, .driver = driver,
                                       .queue_bytes_max = 2 * ANSWER_BYTES, .message_bytes_max = ANSWER_BYTES,
                                       .on_open = tally_open, .on_message = on_message, .on_close = tally_close));
    int paused = dial(server);
    send_all(paused, "p", 1);
    latch_wait(&seen.messages, 1);
    ahoy_conn paused_conn = tally_conn(&seen);
    int slow = dial(server), reader = dial(server);
    send_all(slow, "s", 1);
    WAIT_UNTIL(stats_of(server).bytes_out > 0);
    echoes(reader);
    CHECK(pipe(ends) == 0);
    pid_t pid = fork();
    CHECK(pid >= 0);
    if (!pid) {
        alarm(20);
        CHECK_STATUS(ahoy_send(paused_conn, "x", 1), AHOY_ERR_FORKED);
        CHECK_STATUS(ahoy_conn_close(paused_conn), AHOY_ERR_FORKED);
        CHECK_STATUS(ahoy_server_stop(server, 0), AHOY_ERR_FORKED);
        ahoy_server_free(server);
        if (child_stays) {
            close(ends[1]);
            CHECK(read(ends[0], &byte, 1) == 0); /* until the parent has freed the server */
            leave_child();
        }
        for (int fd = 3; fd < 1000; fd++) close(fd);
        leave_child();
    }
    if (!child_stays) check_exit(pid);
    echoes(reader);
    int late = dial(server);
    echoes(late);
    CHECK_OK(ahoy_conn_resume(paused_conn));
    echoes(paused);
    for (size_t got = 0; got < ANSWER_BYTES;) {
        static char part[64 << 10];
        recv_exact(slow, part, sizeof part);
        CHECK(pattern_matches(part, sizeof part, got));
        got += sizeof part;
    }
    close_reset(late);
    latch_wait(&seen.closed, 1);
    ahoy_server_free(server);
    CHECK_EQ(latch_count(&seen.opened), 4);
    CHECK_EQ(latch_count(&seen.closed), 4);
    close(ends[0]), close(ends[1]);
    if (child_stays) check_exit(pid);
    close(paused), close(slow), close(reader);
    CHECK_HOLDINGS(before);
}

/* ---- Out of a function that logs ------------------------------------------------------------- */

static void on_log(int32_t level, const char *message, void *user) {
    (void)level, (void)user;
    if (!strstr(message, "connections_max") || child) return;
    pid_t pid = fork();
    CHECK(pid >= 0);
    if (pid) child = pid;
    else alarm(20);
}

static void stop_when_someone_waits(ahoy_conn conn, const void *data, size_t len, void *user) {
    (void)data, (void)len;
    latch_add(&((tally *)user)->messages, 1);
    latch_wait(&((tally *)user)->freed, 1);
    CHECK_OK(ahoy_server_stop(ahoy_conn_server(conn), 0));
}

/* In the child nothing more is called. */
static void on_close(ahoy_conn conn, ahoy_status reason, void *user) {
    CHECK_EQ(getpid(), parent);
    tally_close(conn, reason, user);
}

/* The server stops, and one who had come by then is refused: who writes that down forks, and comes back in the child. */
static void forked_while_it_stops(int32_t driver) {
    seen = (tally)TALLY_INIT;
    child = 0;
    CHECK_OK(ahoy_log_set(AHOY_LOG_WARN, on_log, NULL));
    ahoy_server server = start(OPTIONS(.listen = LOOPBACK, .workers = 1, .user = &seen, .driver = driver,
                                       .connections_max = 1, .on_message = stop_when_someone_waits, .on_close = on_close));
    int fd = dial(server);
    send_all(fd, "x", 1);
    latch_wait(&seen.messages, 1);
    int refused = dial(server);
    latch_add(&seen.freed, 1);
    CHECK_OK(ahoy_server_wait(server));
    CHECK(child > 0);
    check_exit(child);
    CHECK_EQ(latch_count(&seen.closed), 1);
    ahoy_server_free(server);
    CHECK_OK(ahoy_log_set(AHOY_LOG_OFF, NULL, NULL));
    close(fd), close(refused);
}

int main(void) {
    parent = getpid();
    pattern_fill(answer, sizeof answer, 0);
    for (int i = 0; i < 2; i++) goes_on(AHOY_DRIVER_EPOLL, i);
    if (!is_slow()) forked_while_it_stops(AHOY_DRIVER_EPOLL);
    need_uring();
    for (int i = 0; i < 2; i++) goes_on(AHOY_DRIVER_URING, i);
    /* A child of a process with threads does not come far under a slow tool. */
    if (!is_slow()) forked_while_it_stops(AHOY_DRIVER_URING);
    return 0;
}
