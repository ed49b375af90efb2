/*
 * Between two tries lies a random while: never more than the bound, which doubles up to `reconnect_max_ms`, and
 * never the same each time. A close or a stop during that while ends it at once, and after
 * `reconnect_tries_max` tries in a row the connection is over.
 */
#include "remote.h"

enum { TRIES = 24, MIN_MS = 20, MAX_MS = 80, HOUR_MS = 3600 * 1000 };

static tally seen;
static latch down;
static long downs_ms[TRIES + 1];
static remote dead;

static void on_down(ahoy_conn conn, ahoy_status reason, void *user) {
    CHECK_STATUS(reason, AHOY_ERR_REFUSED);
    CHECK_EQ(latch_count(&seen.closed), 0);
    long count = latch_count(&down);
    if (count < TRIES) downs_ms[count] = now_ms();
    latch_add(&down, 1);
    (void)conn, (void)user;
}

static ahoy_server begin(void) {
    seen = (tally)TALLY_INIT, down = (latch)LATCH_INIT;
    return start(OPTIONS(.workers = 1, .user = &seen, .on_open = tally_open, .on_message = tally_message,
                         .on_close = tally_close));
}

static void random_and_bounded(void) {
    ahoy_server server = begin();
    outgoing(server, dead.url, CONNECT_OPTIONS(.on_down = on_down, .reconnect = 1, .reconnect_min_ms = MIN_MS,
                                               .reconnect_max_ms = MAX_MS, .reconnect_tries_max = TRIES));
    latch_wait(&seen.closed, 1);
    downs_ms[latch_count(&down)] = now_ms();
    CHECK_STATUS(seen.reason, AHOY_ERR_REFUSED);
    CHECK_EQ(latch_count(&seen.opened), 0);
    CHECK_EQ(latch_count(&down), TRIES - 1); /* the last time it is not tried again */
    CHECK_EQ(stats_of(server).connects_failed, TRIES);

    long shortest = HOUR_MS, longest = 0;
    for (int i = 1; i < TRIES; i++) {
        long delay = downs_ms[i] - downs_ms[i - 1];
        if (delay < shortest) shortest = delay;
        if (delay > longest) longest = delay;
    }
    /* Of 23 even chances between 0 and 80 ms: all within 10 ms of each other once in 10^18 times. */
    CHECK(longest - shortest > 10);
    if (!is_slow()) CHECK(longest < 10 * MAX_MS);
    /* Their sum is about 850 ms; a loop that does not wait would take no time at all. */
    CHECK(downs_ms[TRIES - 1] - downs_ms[0] > 200);
    ahoy_server_free(server);
}

static void tries(uint32_t max) {
    ahoy_server server = begin();
    outgoing(server, dead.url, CONNECT_OPTIONS(.on_down = on_down, .reconnect = 1, .reconnect_min_ms = 1,
                                               .reconnect_max_ms = 1, .reconnect_tries_max = max));
    latch_wait(&seen.closed, 1);
    CHECK_STATUS(seen.reason, AHOY_ERR_REFUSED);
    CHECK_EQ(latch_count(&down), max - 1);
    CHECK_EQ(stats_of(server).connects_failed, max);
    ahoy_server_free(server);
}

/* Without reconnect nothing is tried again, and nobody is told that it would be. */
static void not_asked_for(void) {
    ahoy_server server = begin();
    outgoing(server, dead.url, CONNECT_OPTIONS(.on_down = on_down, .reconnect_min_ms = 1));
    latch_wait(&seen.closed, 1);
    CHECK_STATUS(seen.reason, AHOY_ERR_REFUSED);
    CHECK_EQ(latch_count(&down), 0);
    ahoy_server_free(server);
}

/* The while is up to an hour: whoever waited for it would not live to see the end of this test. */
static ahoy_conn rests(ahoy_server server) {
    ahoy_conn conn = outgoing(server, dead.url, CONNECT_OPTIONS(.on_down = on_down, .reconnect = 1,
                                                                .reconnect_min_ms = HOUR_MS,
                                                                .reconnect_max_ms = HOUR_MS));
    CHECK_OK(ahoy_send(conn, "queued", 6));
    latch_wait(&down, 1);
    CHECK_EQ(latch_count(&seen.closed), 0);
    return conn;
}

static void ended_by(ahoy_status (*end)(ahoy_conn conn)) {
    ahoy_server server = begin();
    ahoy_conn conn = rests(server);
    CHECK_OK(end(conn));
    latch_wait(&seen.closed, 1);
    CHECK_STATUS(seen.reason, AHOY_OK);
    WAIT_UNTIL(stats_of(server).connections == 0);
    CHECK_EQ(stats_of(server).bytes_cut, 6);
    CHECK_EQ(stats_of(server).connections_cut, 1);
    ahoy_server_free(server);
    CHECK_EQ(latch_count(&seen.closed), 1);
}

static void ended_by_a_stop(int32_t drain_ms) {
    ahoy_server server = begin();
    rests(server);
    if (drain_ms >= 0) {
        CHECK_OK(ahoy_server_stop(server, drain_ms));
        CHECK_OK(ahoy_server_wait(server));
        CHECK_EQ(stats_of(server).bytes_cut, 6);
    }
    ahoy_server_free(server);
    CHECK_EQ(latch_count(&seen.closed), 1);
    CHECK_STATUS(seen.reason, AHOY_ERR_STOPPED);
}

/* Inside on_down as well. */
static void close_it(ahoy_conn conn, ahoy_status reason, void *user) {
    on_down(conn, reason, user);
    CHECK_OK(ahoy_conn_close(conn));
    CHECK_EQ(latch_count(&seen.closed), 0);
}

static void free_server(ahoy_conn conn, ahoy_status reason, void *user) {
    on_down(conn, reason, user);
    ahoy_server_free(ahoy_conn_server(conn));
}

static void ended_in_on_down(ahoy_close_fn act, ahoy_status reason) {
    ahoy_server server = begin();
    outgoing(server, dead.url, CONNECT_OPTIONS(.on_down = act, .reconnect = 1, .reconnect_min_ms = HOUR_MS,
                                               .reconnect_max_ms = HOUR_MS));
    latch_wait(&seen.closed, 1);
    CHECK_STATUS(seen.reason, reason);
    CHECK_EQ(latch_count(&down), 1);
    ahoy_server_free(server);
}

int main(void) {
    holdings before = holdings_now();
    dead = remote_dead();
    random_and_bounded();
    tries(1), tries(2), tries(5);
    not_asked_for();
    ended_by(ahoy_conn_close);
    ended_by(ahoy_conn_abort);
    ended_by_a_stop(0), ended_by_a_stop(30000), ended_by_a_stop(-1);
    ended_in_on_down(close_it, AHOY_OK);
    ended_in_on_down(free_server, AHOY_ERR_STOPPED);
    remote_end(&dead);
    WAIT_UNTIL(threads_running() == before.threads);
    WAIT_UNTIL(descriptors_open() == before.descriptors); /* freed in a callback it leaves a moment later */
    return 0;
}
