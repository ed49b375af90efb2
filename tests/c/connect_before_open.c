/*
 * What may be asked of a connection before it is open: to be paused, to join topics, to run timers, to be told its
 * user and server. All of it holds from on_open on.
 */
#include "remote.h"

#include <unistd.h>

static tally seen, passed;
static ahoy_server server;

static ahoy_server begin(void) {
    seen = (tally)TALLY_INIT;
    return start(OPTIONS(.workers = 1, .user = &seen, .on_open = tally_open, .on_message = tally_message,
                         .on_end = tally_end, .on_close = tally_close));
}

static void paused(void) {
    remote far = remote_listening();
    passed = (tally)TALLY_INIT;
    server = begin();
    for (int round = 1; round <= 20; round++) {
        ahoy_conn conn = outgoing(server, far.url, CONNECT_OPTIONS(0));
        ahoy_status status = ahoy_conn_pause(conn);
        CHECK_OK(status);
        int fd = remote_accept(&far);
        send_all(fd, "not yet", 7);
        latch_wait(&seen.opened, round);
        CHECK_OK(ahoy_send(conn, "x", 1)); /* a pause is for reading only */
        char byte;
        recv_exact(fd, &byte, 1);
        /* Another connection goes through all of its life on this worker meanwhile. */
        int pair[2];
        stream_pair(pair);
        ahoy_conn passing;
        CHECK_OK(ahoy_server_adopt(server, pair[0], &passing));
        CHECK_OK(ahoy_conn_set_user(passing, &passed, NULL));
        CHECK_OK(ahoy_conn_close(passing));
        CHECK_EQ(recv_until_eof(pair[1], &byte, 1), 0);
        close(pair[1]);
        CHECK_EQ(latch_count(&seen.messages), round - 1);
        CHECK_OK(ahoy_conn_resume(conn));
        latch_wait(&seen.bytes, 7 * round);
        close(fd);
        latch_wait(&seen.ended, round);
        CHECK_OK(ahoy_conn_close(conn));
        latch_wait(&seen.closed, round);
    }
    ahoy_server_free(server);
    remote_end(&far);
}

static void joined(void) {
    remote far = remote_listening();
    char got[8];
    server = begin();
    ahoy_conn conn = outgoing(server, far.url, CONNECT_OPTIONS(0));
    CHECK_OK(ahoy_conn_join(conn, "news"));
    CHECK_OK(ahoy_conn_join(conn, "left"));
    CHECK_OK(ahoy_conn_leave(conn, "left"));
    CHECK_OK(ahoy_publish(server, "left", "wrong", 5));
    CHECK_OK(ahoy_publish(server, "news", "first", 5)); /* queued, as a send would be */
    CHECK_OK(ahoy_publish(server, "news", "end", 3));
    int fd = remote_accept(&far);
    recv_exact(fd, got, 8);
    CHECK(memcmp(got, "firstend", 8) == 0);
    ahoy_server_free(server);
    close(fd);
    remote_end(&far);
}

static latch fired = LATCH_INIT, timers_freed = LATCH_INIT;

static void on_timer(ahoy_timer timer, ahoy_conn conn, void *user) {
    (void)timer;
    CHECK(user == &timers_freed);
    CHECK_EQ(latch_count(&seen.opened), 0);
    CHECK_EQ(latch_count(&seen.closed), 0);
    latch_add(&fired, 1);
    if (latch_count(&fired) == 3) CHECK_OK(ahoy_conn_close(conn));
}

/* A timer runs while its connection is being opened, and ends with it. */
static void timed(void) {
    remote hole = remote_black_hole();
    server = begin();
    ahoy_conn conn = outgoing(server, hole.url, CONNECT_OPTIONS(0));
    ahoy_timer timer, never;
    CHECK_OK(ahoy_conn_timer_start(conn, 0, 1, on_timer, &timers_freed, count_free, &timer));
    CHECK_OK(ahoy_conn_timer_start(conn, 3600 * 1000, 0, on_timer, &timers_freed, count_free, &never));
    latch_wait(&seen.closed, 1);
    CHECK_STATUS(seen.reason, AHOY_OK);
    latch_wait(&timers_freed, 2);
    CHECK_EQ(latch_count(&fired), 3);
    WAIT_UNTIL(ahoy_timer_cancel(timer) == AHOY_ERR_STALE && ahoy_timer_cancel(never) == AHOY_ERR_STALE);
    ahoy_server_free(server);
    remote_end(&hole);
}

static void told(void) {
    remote hole = remote_black_hole();
    server = begin();
    ahoy_conn conn = outgoing(server, hole.url, CONNECT_OPTIONS(0));
    char peer[128] = "untouched";
    CHECK_EQ(ahoy_conn_server(conn).id, server.id);
    CHECK(ahoy_conn_user(conn) == &seen);
    CHECK_OK(ahoy_conn_peer(conn, peer, sizeof peer)); /* whom, nobody can say yet: a URL, or nothing */
    CHECK(strcmp(peer, "untouched") != 0);
    CHECK_OK(ahoy_send(conn, "123456", 6));
    WAIT_UNTIL(ahoy_conn_queued(conn) == 6);
    CHECK_OK(ahoy_conn_end(conn));
    CHECK_OK(ahoy_conn_abort(conn));
    latch_wait(&seen.closed, 1);
    CHECK_STATUS(seen.reason, AHOY_OK);
    CHECK_EQ(latch_count(&seen.opened), 0);
    ahoy_server_free(server);
    remote_end(&hole);
}

/* An end that was asked for before: what is queued goes out, then the peer sees it, and may still answer. */
static void ended(void) {
    remote far = remote_listening();
    char got[8];
    server = begin();
    ahoy_conn conn = outgoing(server, far.url, CONNECT_OPTIONS(0));
    CHECK_OK(ahoy_send(conn, "all", 3));
    CHECK_OK(ahoy_conn_end(conn));
    CHECK_STATUS(ahoy_send(conn, "more", 4), AHOY_ERR_CLOSED);
    int fd = remote_accept(&far);
    CHECK_EQ(recv_until_eof(fd, got, sizeof got), 3);
    send_all(fd, "answer", 6);
    latch_wait(&seen.bytes, 6);
    close(fd);
    latch_wait(&seen.closed, 1);
    CHECK_STATUS(seen.reason, AHOY_ERR_EOF);
    ahoy_server_free(server);
    remote_end(&far);
}

int main(void) {
    holdings before = holdings_now();
    paused();
    joined();
    timed();
    told();
    ended();
    CHECK_HOLDINGS(before);
    return 0;
}
