/*
 * A connection may be closed, and its server stopped and freed, while it is being opened, from another thread and
 * inside callbacks: on_close comes once, no on_open, and no descriptor is left.
 */
#include "remote.h"

#include <unistd.h>

enum { MANY = 20, DRAIN_MS = 150 };

static tally seen;
static remote hole;

static ahoy_server begin(int32_t workers) {
    seen = (tally)TALLY_INIT;
    return start(OPTIONS(.workers = workers, .user = &seen, .drain_ms = DRAIN_MS, .on_open = tally_open,
                         .on_close = tally_close, .on_free = tally_free));
}

/* Every connection has a socket that waits for an answer. */
static void wait_for_attempts(ahoy_server server, int descriptors) {
    WAIT_UNTIL(stats_of(server).connecting == MANY && descriptors_open() >= descriptors + MANY);
}

static void all_over(ahoy_status reason) {
    latch_wait(&seen.closed, MANY);
    CHECK_EQ(seen.reasons[-reason], MANY);
    CHECK_EQ(latch_count(&seen.opened), 0);
}

/*
 * A close lets out what is queued, if it is open within `drain_ms`; where nothing is queued, and by an abort, it is
 * over at once.
 */
static void by(ahoy_status (*give_up)(ahoy_conn conn), size_t queued, ahoy_status reason, bool at_once) {
    holdings before = holdings_now();
    ahoy_server server = begin(2);
    int descriptors = descriptors_open();
    ahoy_conn conns[MANY];
    for (int i = 0; i < MANY; i++) {
        conns[i] = outgoing(server, hole.url, CONNECT_OPTIONS(0));
        CHECK_OK(ahoy_send(conns[i], "queued", queued));
        if (at_once) CHECK_OK(give_up(conns[i]));
    }
    if (!at_once) wait_for_attempts(server, descriptors);
    long begin_ms = now_ms();
    for (int i = 0; i < MANY && !at_once; i++) CHECK_OK(give_up(conns[i]));
    all_over(reason);
    if (reason) CHECK(now_ms() - begin_ms >= DRAIN_MS - 30);
    CHECK(now_ms() - begin_ms < 9000); /* nobody waits for the connect's own time */
    WAIT_UNTIL(stats_of(server).connections == 0);
    CHECK_EQ(stats_of(server).connecting, 0);
    CHECK_EQ(stats_of(server).bytes_cut, MANY * queued);
    CHECK_EQ(stats_of(server).connections_cut, queued ? MANY : 0);
    CHECK_EQ(stats_of(server).bytes_queued, 0);
    WAIT_UNTIL(descriptors_open() == descriptors); /* while the server lives on */
    ahoy_server_free(server);
    CHECK_EQ(latch_count(&seen.closed), MANY);
    CHECK_HOLDINGS(before);
}

/* A stop does not wait for an answer: there is nobody to whom what is queued could go. */
static void by_the_end_of_the_server(bool wait_first, int32_t drain_ms) {
    holdings before = holdings_now();
    ahoy_server server = begin(2);
    int descriptors = descriptors_open();
    for (int i = 0; i < MANY; i++) {
        CHECK_OK(ahoy_send(outgoing(server, hole.url, CONNECT_OPTIONS(0)), "queued", 6));
    }
    if (wait_first) wait_for_attempts(server, descriptors);
    if (drain_ms >= 0) {
        CHECK_OK(ahoy_server_stop(server, drain_ms));
        CHECK_OK(ahoy_server_wait(server));
        CHECK_EQ(stats_of(server).bytes_cut, MANY * 6);
        CHECK_EQ(stats_of(server).connections_cut, MANY);
    }
    ahoy_server_free(server);
    CHECK_EQ(latch_count(&seen.freed), 1);
    all_over(AHOY_ERR_STOPPED);
    CHECK_HOLDINGS(before);
}

/* The callbacks of a connection give up others, which are being opened, and the server itself. */
typedef enum act { CLOSE, ABORT, STOP, FREE } act;

static act chosen;
static ahoy_conn others[MANY];

/* In here, and not by the main thread: what is read at the same moment would still come with the former user data. */
static void on_open(ahoy_conn conn, void *user) {
    CHECK_OK(ahoy_conn_set_user(conn, &seen, NULL));
    (void)user;
}

static void on_message(ahoy_conn conn, const void *data, size_t len, void *user) {
    ahoy_server server = ahoy_conn_server(conn);
    for (int i = 0; i < MANY; i++) others[i] = outgoing(server, hole.url, CONNECT_OPTIONS(.user = user));
    if (chosen == STOP) CHECK_OK(ahoy_server_stop(server, 0));
    else if (chosen == FREE) ahoy_server_free(server);
    else for (int i = 0; i < MANY; i++) CHECK_OK((chosen == CLOSE ? ahoy_conn_close : ahoy_conn_abort)(others[i]));
    CHECK_EQ(latch_count(&seen.closed), 0); /* never inside the call */
    (void)data, (void)len;
}

static void in_a_callback(act act) {
    holdings before = holdings_now();
    int pair[2];
    chosen = act;
    seen = (tally)TALLY_INIT;
    ahoy_server server = start(OPTIONS(.workers = 1, .on_open = on_open, .on_message = on_message,
                                       .on_close = tally_close));
    stream_pair(pair);
    CHECK_OK(ahoy_server_adopt(server, pair[0], NULL));
    send_all(pair[1], "x", 1);
    if (act == CLOSE || act == ABORT) {
        all_over(AHOY_OK);
        close(pair[1]);
        latch_wait(&seen.closed, MANY + 1);
    } else {
        latch_wait(&seen.closed, MANY + 1);
        CHECK_EQ(seen.reasons[-AHOY_ERR_STOPPED], MANY + 1);
        close(pair[1]);
    }
    ahoy_server_free(server);
    WAIT_UNTIL(threads_running() == before.threads);
    WAIT_UNTIL(descriptors_open() == before.descriptors); /* freed inside a callback it leaves a moment later */
    CHECK_EQ(latch_count(&seen.closed), MANY + 1);
}

int main(void) {
    hole = remote_black_hole();
    for (int at_once = 0; at_once < 2; at_once++) {
        by(ahoy_conn_close, 0, AHOY_OK, at_once);
        by(ahoy_conn_close, 6, AHOY_ERR_TIMEOUT, at_once);
        by(ahoy_conn_abort, 6, AHOY_OK, at_once);
        by_the_end_of_the_server(at_once, 0);
        by_the_end_of_the_server(at_once, 30000);
        by_the_end_of_the_server(at_once, -1);
    }
    for (act act = CLOSE; act <= FREE; act++) in_a_callback(act);
    remote_end(&hole);
    return 0;
}
