/*
 * A datagram connection ends when it has been silent for `datagram_idle_ms`, or when the program closes it; the
 * next datagram of the same peer opens a new one, with a new handle and no user data of the old.
 */
#include "dgram.h"

#include <unistd.h>

enum { IDLE_MS = 150 };

static tally seen = TALLY_INIT;
static latch users_freed = LATCH_INIT;

static void on_open(ahoy_conn conn, void *user) {
    CHECK(user == &seen); /* the server's: nothing is inherited */
    tally_open(conn, user);
}

static void on_message(ahoy_conn conn, const void *data, size_t len, void *user) {
    (void)user;
    tally_message(conn, data, len, &seen);
    if (*(const char *)data == 'c') CHECK_OK(ahoy_conn_close(conn));
    else if (*(const char *)data == 'a') CHECK_OK(ahoy_conn_abort(conn));
    else if (*(const char *)data == 'g') CHECK(!ahoy_send(conn, data, len) && !ahoy_conn_close(conn));
    else CHECK_OK(ahoy_send(conn, data, len));
}

static void on_close(ahoy_conn conn, ahoy_status reason, void *user) {
    tally_close(conn, reason, &seen);
    (void)user;
}

static void falls_silent(ahoy_server server, int fd) {
    ahoy_conn before = { 0 };
    for (long round = 1; round <= 3; round++) {
        long begin = now_ms();
        dgram_send(fd, "hello", 5);
        dgram_expect(fd, "hello", 5);
        CHECK_EQ(latch_count(&seen.opened), round);
        ahoy_conn conn = tally_conn(&seen);
        CHECK(conn.id != before.id);
        CHECK_OK(ahoy_conn_set_user(conn, &users_freed, count_free));
        latch_wait(&seen.closed, round);
        CHECK_STATUS(seen.reason, AHOY_ERR_TIMEOUT);
        CHECK(now_ms() - begin >= IDLE_MS - 20); /* the wheel of timers has teeth */
        latch_wait(&users_freed, round);
        WAIT_UNTIL(stats_of(server).connections == 0);
        CHECK_STATUS(ahoy_send(conn, "x", 1), AHOY_ERR_STALE);
        before = conn;
    }
}

/* Traffic in either direction keeps it alive, over several times `datagram_idle_ms`. */
static void kept_alive(int fd) {
    long opened = latch_count(&seen.opened), closed = latch_count(&seen.closed);
    for (long begin = now_ms(); now_ms() - begin < 4 * IDLE_MS; wait_moment()) {
        dgram_send(fd, "hello", 5);
        dgram_expect(fd, "hello", 5);
    }
    if (!is_slow()) CHECK_EQ(latch_count(&seen.opened), opened + 1);
    if (!is_slow()) CHECK_EQ(latch_count(&seen.closed), closed);
    ahoy_conn conn = tally_conn(&seen);
    for (long begin = now_ms(); now_ms() - begin < 4 * IDLE_MS; wait_moment()) {
        if (ahoy_send(conn, "news", 4)) break; /* only where everything is slow: checked below */
        dgram_expect(fd, "news", 4);
    }
    if (!is_slow()) CHECK_EQ(latch_count(&seen.closed), closed);
    WAIT_UNTIL(latch_count(&seen.closed) == latch_count(&seen.opened));
}

/* Closed in its callback: one on_close with AHOY_OK, then whatever comes next is a new connection. */
static void closed(int fd, char how) {
    long opened = latch_count(&seen.opened);
    for (long round = 1; round <= 5; round++) {
        dgram_send(fd, &how, 1);
        latch_wait(&seen.closed, opened + round);
        CHECK_EQ(latch_count(&seen.opened), opened + round);
        CHECK_STATUS(seen.reason, AHOY_OK);
        if (how == 'g') dgram_expect(fd, "g", 1); /* what was queued went out before */
    }
}

int main(void) {
    holdings before = holdings_now();
    ahoy_server server = start(OPTIONS(.listen = "udp://127.0.0.1:0", .workers = 2, .user = &seen,
                                       .datagram_idle_ms = IDLE_MS, .idle_ms = 3600 * 1000,
                                       .on_open = on_open, .on_message = on_message, .on_close = on_close));
    int fd = dgram_dial(server, 0, NULL);
    falls_silent(server, fd);
    kept_alive(fd);
    closed(fd, 'c');
    closed(fd, 'a');
    closed(fd, 'g');

    /* Closed from another thread. */
    dgram_send(fd, "hello", 5);
    dgram_expect(fd, "hello", 5);
    long ended = latch_count(&seen.closed);
    CHECK_OK(ahoy_conn_close(tally_conn(&seen)));
    latch_wait(&seen.closed, ended + 1);
    dgram_send(fd, "hello", 5);
    dgram_expect(fd, "hello", 5);
    close(fd);
    ahoy_server_free(server);
    CHECK_EQ(latch_count(&seen.opened), latch_count(&seen.closed));
    CHECK_HOLDINGS(before);
    return 0;
}
