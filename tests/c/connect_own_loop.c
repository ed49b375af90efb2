/*
 * Where the program's own loop is the worker, its descriptor tells of everything: an answer to a connect, a name that
 * was looked up, the time of another try, a datagram. Nobody needs to look without being told.
 */
#include "dgram.h"
#include "remote.h"

#include <poll.h>
#include <unistd.h>

static tally seen;
static latch down;
static ahoy_server server;
static int loop_fd;

static void on_down(ahoy_conn conn, ahoy_status reason, void *user) {
    (void)conn, (void)user;
    CHECK_STATUS(reason, AHOY_ERR_REFUSED);
    latch_add(&down, 1);
}

/* Turns only when the descriptor is readable: one that is not told of would wait until the deadline. */
static void turn_until(latch *latch, long count) {
    struct pollfd ready = { .fd = loop_fd, .events = POLLIN };
    while (latch_count(latch) < count) {
        wait_begin(__FILE__, __LINE__, "the descriptor of the loop");
        CHECK_EQ(poll(&ready, 1, -1), 1);
        wait_end();
        CHECK_OK(ahoy_server_turn(server, 0));
    }
}

int main(void) {
    holdings before = holdings_now();
    seen = (tally)TALLY_INIT, down = (latch)LATCH_INIT;
    remote far = remote_process(true), dead = remote_dead(), hole = remote_black_hole();
    server = start(OPTIONS(.listen = "udp://127.0.0.1:0", .workers = AHOY_WORKERS_NONE, .user = &seen,
                           .on_open = tally_open, .on_message = tally_echo, .on_close = tally_close));
    CHECK_OK(ahoy_server_fd(server, &loop_fd));

    ahoy_conn conn = outgoing(server, far.url, CONNECT_OPTIONS(0));
    turn_until(&seen.opened, 1);
    CHECK_OK(ahoy_conn_abort(conn));
    turn_until(&seen.closed, 1);

    outgoing(server, "tcp://nobody.invalid:80", CONNECT_OPTIONS(0));
    turn_until(&seen.closed, 2);
    CHECK_STATUS(seen.reason, AHOY_ERR_NAME);

    outgoing(server, hole.url, CONNECT_OPTIONS(.connect_ms = 100));
    turn_until(&seen.closed, 3);
    CHECK_STATUS(seen.reason, AHOY_ERR_TIMEOUT);

    outgoing(server, dead.url, CONNECT_OPTIONS(.on_down = on_down, .reconnect = 1, .reconnect_min_ms = 5,
                                               .reconnect_max_ms = 5, .reconnect_tries_max = 5));
    turn_until(&seen.closed, 4);
    CHECK_STATUS(seen.reason, AHOY_ERR_REFUSED);
    CHECK_EQ(latch_count(&down), 4);
    CHECK_EQ(latch_count(&seen.opened), 1);

    int fd = dgram_dial(server, 0, NULL);
    for (long i = 1; i <= 10; i++) {
        dgram_send(fd, "ahoy", 4);
        turn_until(&seen.messages, i);
        dgram_expect(fd, "ahoy", 4); /* what a turn has queued has left with it */
    }
    CHECK_EQ(latch_count(&seen.opened), 2);

    /* A connect of another thread wakes the loop, too. */
    CHECK_OK(ahoy_send(outgoing(server, far.url, CONNECT_OPTIONS(0)), "!", 1));
    turn_until(&seen.opened, 3);
    close(fd);
    CHECK_OK(ahoy_server_stop(server, 0));
    ahoy_status status;
    while ((status = ahoy_server_turn(server, -1)) == AHOY_OK) {}
    CHECK_STATUS(status, AHOY_ERR_STOPPED);
    CHECK_EQ(latch_count(&seen.closed), 6);
    ahoy_server_free(server);
    remote_end(&far), remote_end(&dead), remote_end(&hole);
    CHECK_HOLDINGS(before);
    return 0;
}
