/*
 * A timer's callback may stop and free its server, close its connection, start other timers; a wait there answers
 * AHOY_ERR_DEADLOCK. Nothing is left: neither a thread nor a descriptor nor user data.
 */
#include "support.h"

#include <unistd.h>

typedef enum what { STOP, FREE, STOP_AND_FREE, WHATS } what;

static tally seen;
static latch freed;
static ahoy_server server;
static atomic_int calls;

static void act(what what) {
    CHECK_STATUS(ahoy_server_wait(server), AHOY_ERR_DEADLOCK);
    CHECK_STATUS(ahoy_serve(LOOPBACK, NULL), AHOY_ERR_DEADLOCK);
    if (what != FREE) CHECK_OK(ahoy_server_stop(server, what == STOP ? AHOY_DRAIN_DEFAULT : 0));
    if (what != STOP) ahoy_server_free(server);
    ahoy_status status = ahoy_timer_start(server, 0, 0, NULL, NULL, NULL, NULL);
    CHECK(status == AHOY_ERR_NULL || status == AHOY_ERR_STALE);
}

static void on_timer(ahoy_timer timer, ahoy_conn conn, void *user) {
    (void)timer, (void)conn, (void)user;
    if (calls++ == 0) act((what)latch_count(&seen.ended)); /* the play's number, see below */
}

static void another(ahoy_timer timer, ahoy_conn conn, void *user) {
    (void)timer, (void)conn, (void)user;
}

static void play(what what, int32_t workers, bool of_conn) {
    holdings before = holdings_now();
    seen = (tally)TALLY_INIT;
    freed = (latch)LATCH_INIT;
    calls = 0;
    latch_add(&seen.ended, what);
    server = start(OPTIONS(.listen = LOOPBACK, .workers = workers, .user = &seen, .on_open = tally_open,
                           .on_close = tally_close, .on_free = tally_free));
    int fd = dial(server);
    while (latch_count(&seen.opened) == 0) {
        if (workers == AHOY_WORKERS_NONE) CHECK_OK(ahoy_server_turn(server, 1000));
        else wait_moment();
    }
    for (int i = 0; i < 10; i++) {
        CHECK_OK(ahoy_timer_start(server, 3600000, 0, another, &freed, count_free, NULL));
        CHECK_OK(ahoy_conn_timer_start(tally_conn(&seen), 1, 1, another, &freed, count_free, NULL));
    }
    if (of_conn) CHECK_OK(ahoy_conn_timer_start(tally_conn(&seen), 2, 1, on_timer, &freed, count_free, NULL));
    else CHECK_OK(ahoy_timer_start(server, 2, 1, on_timer, &freed, count_free, NULL));
    while (workers == AHOY_WORKERS_NONE && ahoy_server_turn(server, 1000) == AHOY_OK) {}
    latch_wait(&seen.freed, 1);
    CHECK_EQ(latch_count(&freed), 21); /* the server's own on_free comes after all others */
    CHECK_EQ(latch_count(&seen.closed), 1);
    CHECK_STATUS(seen.reason, AHOY_ERR_STOPPED);
    ahoy_server_free(server);
    close(fd);
    CHECK_EQ(latch_count(&seen.freed), 1);
    CHECK_EQ(latch_count(&freed), 21);
    WAIT_UNTIL(threads_running() == before.threads);
    WAIT_UNTIL(descriptors_open() == before.descriptors);
}

/* A callback of a connection's timer closes or aborts the connection: the timer ends with it. */
static void close_conn(ahoy_timer timer, ahoy_conn conn, void *user) {
    (void)user;
    CHECK_EQ(calls++, 0);
    CHECK_OK(ahoy_send(conn, "bye", 3));
    CHECK_OK(ahoy_conn_close(conn));
    ahoy_timer_cancel(timer);
}

static void abort_conn(ahoy_timer timer, ahoy_conn conn, void *user) {
    (void)timer, (void)user;
    CHECK_EQ(calls++, 0);
    CHECK_OK(ahoy_conn_abort(conn));
}

static void closes_its_connection(ahoy_timer_fn on_timer) {
    char got[4];
    seen = (tally)TALLY_INIT;
    freed = (latch)LATCH_INIT;
    calls = 0;
    server = start(OPTIONS(.listen = LOOPBACK, .workers = 1, .user = &seen, .on_open = tally_open,
                           .on_close = tally_close));
    int fd = dial(server);
    latch_wait(&seen.opened, 1);
    CHECK_OK(ahoy_conn_timer_start(tally_conn(&seen), 1, 1, on_timer, &freed, count_free, NULL));
    ssize_t end = recv_until_eof(fd, got, sizeof got);
    CHECK(on_timer == close_conn ? end == 3 : end < 0);
    latch_wait(&seen.closed, 1);
    latch_wait(&freed, 1);
    CHECK_STATUS(seen.reason, AHOY_OK);
    WAIT_UNTIL(stats_of(server).timers == 0);
    close(fd);
    ahoy_server_free(server);
    CHECK_EQ(latch_count(&freed), 1);
}

int main(void) {
    static const int32_t workers[] = { 1, 2, AHOY_WORKERS_NONE };
    for (what what = STOP; what < WHATS; what++) {
        for (int i = 0; i < 3; i++) {
            play(what, workers[i], false);
            play(what, workers[i], true);
        }
    }
    closes_its_connection(close_conn);
    closes_its_connection(abort_conn);
    return 0;
}
