/*
 * The program's own loop is the worker: callbacks run inside ahoy_server_turn, on its thread, and nowhere
 * else; whatever the server has to do makes ahoy_server_fd readable; no thread is started.
 */
#include "support.h"

#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

static tally seen;
static pthread_t loop_thread;
static atomic_bool inside_turn;

static void check_place(void) {
    CHECK(inside_turn);
    CHECK(pthread_equal(pthread_self(), loop_thread));
}

static void on_open(ahoy_conn conn, void *user) {
    check_place();
    tally_open(conn, user);
}

static void on_message(ahoy_conn conn, const void *data, size_t len, void *user) {
    check_place();
    tally_echo(conn, data, len, user);
}

static void on_close(ahoy_conn conn, ahoy_status reason, void *user) {
    check_place();
    tally_close(conn, reason, user);
}

static ahoy_server begin(uint32_t idle_ms) {
    seen = (tally)TALLY_INIT;
    return start(OPTIONS(.listen = LOOPBACK, .workers = AHOY_WORKERS_NONE, .user = &seen,
                         .on_open = on_open, .on_message = on_message, .on_close = on_close,
                         .on_free = tally_free, .idle_ms = idle_ms));
}

static ahoy_status turn(ahoy_server server, int32_t timeout_ms) {
    loop_thread = pthread_self();
    inside_turn = true;
    ahoy_status status = ahoy_server_turn(server, timeout_ms);
    inside_turn = false;
    return status;
}

/* As a program's loop does: sleeps in poll(2) alone, never in the turn. */
static void poll_and_turn(ahoy_server server) {
    struct pollfd entry = { .events = POLLIN };
    CHECK_OK(ahoy_server_fd(server, &entry.fd));
    CHECK(poll(&entry, 1, -1) == 1);
    CHECK_OK(turn(server, 0));
}

static void callbacks_run_inside_turns(void) {
    int threads = threads_running();
    ahoy_server server = begin(0);
    CHECK_EQ(threads_running(), threads);
    CHECK_EQ(stats_of(server).workers, 1);
    CHECK_OK(turn(server, 0)); /* nothing has happened */

    char echo[4];
    int fd = dial(server);
    while (latch_count(&seen.opened) < 1) poll_and_turn(server);
    for (int round = 1; round <= 10; round++) {
        send_all(fd, "echo", 4);
        while (latch_count(&seen.messages) < round) poll_and_turn(server);
        recv_exact(fd, echo, 4);
    }
    close(fd);
    while (latch_count(&seen.closed) < 1) poll_and_turn(server);
    ahoy_server_free(server);
    CHECK_EQ(latch_count(&seen.freed), 1);
}

/* Its first words are there before the server knows it; the next ones must be heard as well. */
static void a_client_that_is_quick(void) {
    ahoy_server server = begin(0);
    char echo[4];
    int fd = dial(server);
    for (int round = 1; round <= 3; round++) {
        send_all(fd, "echo", 4);
        while (latch_count(&seen.messages) < round) poll_and_turn(server);
        recv_exact(fd, echo, 4);
    }
    CHECK(!shutdown(fd, SHUT_WR));
    while (latch_count(&seen.closed) < 1) poll_and_turn(server);
    close(fd);
    ahoy_server_free(server);
}

/* A quiet server does not keep the loop awake. */
static void quiet_is_quiet(void) {
    ahoy_server server = begin(0);
    struct pollfd entry = { .events = POLLIN };
    CHECK_OK(ahoy_server_fd(server, &entry.fd));
    int fd = dial(server);
    while (latch_count(&seen.opened) < 1) poll_and_turn(server);
    int turns = 0;
    while (poll(&entry, 1, 0) == 1 && turns < 10) {
        CHECK_OK(turn(server, 0));
        turns++;
    }
    CHECK(turns < 10);
    CHECK_OK(turn(server, 10)); /* waits its 10 ms and returns */
    close(fd);
    inside_turn = true;
    loop_thread = pthread_self();
    ahoy_server_free(server); /* the last callbacks run inside the free, then */
    CHECK_EQ(latch_count(&seen.closed), 1);
    CHECK_EQ(latch_count(&seen.freed), 1);
}

/* The deadline of a silent connection makes the descriptor readable. */
static void timers_fire_through_the_descriptor(void) {
    ahoy_server server = begin(50);
    int fd = dial(server);
    while (latch_count(&seen.closed) < 1) poll_and_turn(server);
    CHECK_STATUS(seen.reason, AHOY_ERR_TIMEOUT);
    close(fd);
    ahoy_server_free(server);
}

static void *send_and_close(void *unused) {
    (void)unused;
    CHECK_OK(ahoy_send(tally_conn(&seen), "from another thread", 19));
    CHECK_OK(ahoy_conn_close(tally_conn(&seen)));
    return NULL;
}

static void other_threads_wake_it(void) {
    ahoy_server server = begin(0);
    pthread_t thread;
    char got[32] = "";
    int fd = dial(server);
    while (latch_count(&seen.opened) < 1) poll_and_turn(server);
    while (turn(server, 0) == AHOY_OK && stats_of(server).connections != 1) {}
    CHECK(!pthread_create(&thread, NULL, send_and_close, NULL));
    while (latch_count(&seen.closed) < 1) poll_and_turn(server);
    CHECK_EQ(recv_until_eof(fd, got, sizeof got), 19);
    CHECK_TEXT(got, "from another thread");
    CHECK(!pthread_join(thread, NULL));
    close(fd);
    ahoy_server_free(server);
}

static latch turning = LATCH_INIT;

static void *turn_for_long(void *arg) {
    latch_add(&turning, 1);
    CHECK_STATUS(ahoy_server_wait(*(ahoy_server *)arg), AHOY_OK);
    return NULL;
}

/* One thread at a time; ahoy_server_wait runs the turns, too. */
static void one_thread_at_a_time(void) {
    ahoy_server server = start(OPTIONS(.listen = LOOPBACK, .workers = AHOY_WORKERS_NONE));
    pthread_t thread;
    char answer[17];
    CHECK(!pthread_create(&thread, NULL, turn_for_long, &server));
    latch_wait(&turning, 1);
    WAIT_UNTIL(ahoy_server_turn(server, 0) == AHOY_ERR_BUSY);
    int fd = dial(server);
    send_all(fd, "hi", 2);
    CHECK_EQ(recv_until_eof(fd, answer, sizeof answer), 17);
    close(fd);
    CHECK_OK(ahoy_server_stop(server, 0));
    CHECK(!pthread_join(thread, NULL));
    CHECK_STATUS(ahoy_server_turn(server, 0), AHOY_ERR_STOPPED);
    CHECK_STATUS(ahoy_server_turn(server, -1), AHOY_ERR_STOPPED);
    ahoy_server_free(server);
}

static void the_end_is_told(void) {
    ahoy_server server = begin(0);
    int fd = dial(server);
    while (latch_count(&seen.opened) < 1) poll_and_turn(server);
    CHECK_OK(ahoy_server_stop(server, AHOY_DRAIN_DEFAULT));
    ahoy_status status;
    while (!(status = turn(server, -1))) {}
    CHECK_STATUS(status, AHOY_ERR_STOPPED);
    CHECK_EQ(latch_count(&seen.closed), 1);
    CHECK_STATUS(seen.reason, AHOY_ERR_STOPPED);
    CHECK_EQ(latch_count(&seen.freed), 1);
    CHECK_OK(ahoy_server_wait(server));
    close(fd);
    ahoy_server_free(server);
    CHECK_EQ(latch_count(&seen.freed), 1);
}

/* Servers with threads have neither a descriptor nor turns. */
static void not_for_servers_with_threads(void) {
    ahoy_server server = start(OPTIONS(.listen = LOOPBACK, .workers = 1));
    int fd = 77;
    CHECK_STATUS(ahoy_server_fd(server, &fd), AHOY_ERR_UNSUPPORTED);
    CHECK_STATUS(ahoy_server_turn(server, 0), AHOY_ERR_UNSUPPORTED);
    CHECK_EQ(fd, 77);
    ahoy_server_free(server);
}

int main(void) {
    holdings before = holdings_now();
    callbacks_run_inside_turns();
    a_client_that_is_quick();
    quiet_is_quiet();
    timers_fire_through_the_descriptor();
    other_threads_wake_it();
    one_thread_at_a_time();
    the_end_is_told();
    not_for_servers_with_threads();
    CHECK_HOLDINGS(before);
    return 0;
}
