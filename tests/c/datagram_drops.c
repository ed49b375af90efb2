/*
 * Datagrams that cannot be taken are dropped and counted, one by one: too long, of one peer too many, of a paused
 * connection. What can be taken is.
 */
#include "dgram.h"

#include <unistd.h>

enum { MESSAGE_MAX = 100, CONNS_MAX = 3 };

static tally seen;

static void on_message(ahoy_conn conn, const void *data, size_t len, void *user) {
    tally_message(conn, data, len, user);
    CHECK_OK(ahoy_send(conn, data, len));
    if (*(const char *)data == 'p') CHECK_OK(ahoy_conn_pause(conn));
}

static ahoy_server begin(void) {
    seen = (tally)TALLY_INIT;
    return start(OPTIONS(.listen = "udp://127.0.0.1:0", .workers = 2, .user = &seen, .connections_max = CONNS_MAX,
                         .message_bytes_max = MESSAGE_MAX, .on_open = tally_open, .on_message = on_message,
                         .on_close = tally_close));
}

static void echo_round(int fd) {
    dgram_send(fd, "echo", 4);
    dgram_expect(fd, "echo", 4);
}

static void too_long(void) {
    static char bytes[2000];
    ahoy_server server = begin();
    int fd = dgram_dial(server, 0, NULL);
    /* A peer of whom nothing could be taken is no connection. */
    dgram_send(fd, bytes, MESSAGE_MAX + 1);
    WAIT_UNTIL(stats_of(server).datagrams_dropped == 1);
    CHECK_EQ(latch_count(&seen.opened), 0);
    dgram_send(fd, bytes, MESSAGE_MAX);
    dgram_expect(fd, bytes, MESSAGE_MAX);
    dgram_send(fd, bytes, sizeof bytes);
    dgram_send(fd, bytes, MESSAGE_MAX + 1);
    echo_round(fd);
    CHECK_EQ(stats_of(server).datagrams_dropped, 3);
    CHECK_EQ(latch_count(&seen.messages), 2);
    CHECK_EQ(latch_count(&seen.opened), 1);
    CHECK_STATUS(ahoy_send(tally_conn(&seen), bytes, MESSAGE_MAX + 1), AHOY_ERR_TOO_LONG);
    CHECK_EQ(latch_count(&seen.closed), 0);
    close(fd);
    ahoy_server_free(server);
}

static void one_peer_too_many(void) {
    ahoy_server server = begin();
    int fds[CONNS_MAX + 2];
    uint64_t conns[CONNS_MAX];
    for (int i = 0; i < CONNS_MAX + 2; i++) fds[i] = dgram_dial(server, 0, NULL);
    for (int i = 0; i < CONNS_MAX; i++) {
        echo_round(fds[i]);
        conns[i] = tally_conn(&seen).id;
    }
    dgram_send(fds[CONNS_MAX], "lost", 4);
    dgram_send(fds[CONNS_MAX + 1], "lost", 4);
    WAIT_UNTIL(stats_of(server).datagrams_dropped == 2);
    for (int i = 0; i < CONNS_MAX; i++) echo_round(fds[i]);
    CHECK_EQ(latch_count(&seen.opened), CONNS_MAX);
    CHECK_EQ(stats_of(server).connections, CONNS_MAX);

    /* Whoever leaves makes room. */
    CHECK_OK(ahoy_conn_close((ahoy_conn){ conns[0] }));
    latch_wait(&seen.closed, 1);
    WAIT_UNTIL(stats_of(server).connections == CONNS_MAX - 1);
    echo_round(fds[CONNS_MAX]);
    dgram_send(fds[0], "lost", 4);
    WAIT_UNTIL(stats_of(server).datagrams_dropped == 3);
    for (int i = 0; i < CONNS_MAX + 2; i++) close(fds[i]);
    ahoy_server_free(server);
    CHECK_EQ(latch_count(&seen.closed), CONNS_MAX + 1);
}

static void paused(void) {
    ahoy_server server = begin();
    int fd = dgram_dial(server, 0, NULL), other = dgram_dial(server, 0, NULL);
    dgram_send(fd, "p", 1);
    dgram_expect(fd, "p", 1);
    ahoy_conn conn = tally_conn(&seen);
    for (int i = 1; i <= 5; i++) {
        dgram_send(fd, "lost", 4);
        WAIT_UNTIL(stats_of(server).datagrams_dropped == (uint64_t)i);
        echo_round(other); /* whom it does not concern */
    }
    CHECK_EQ(latch_count(&seen.messages), 1 + 5);
    CHECK_OK(ahoy_send(conn, "sent", 4)); /* a pause is for receiving only */
    dgram_expect(fd, "sent", 4);
    CHECK_OK(ahoy_conn_resume(conn));
    CHECK_OK(ahoy_send(conn, "resumed", 7)); /* when this has come the worker has carried out both */
    dgram_expect(fd, "resumed", 7);
    echo_round(fd);
    CHECK_EQ(stats_of(server).datagrams_dropped, 5);
    CHECK_EQ(latch_count(&seen.opened), 2);
    close(fd), close(other);
    ahoy_server_free(server);
}

int main(void) {
    holdings before = holdings_now();
    too_long();
    one_peer_too_many();
    paused();
    CHECK_HOLDINGS(before);
    return 0;
}
