/*
 * A stop ends datagram connections as it ends others: each is told, what is queued goes out, what a peer does not
 * take is cut off and counted exactly. A publish reaches them as it reaches others.
 */
#include "dgram.h"

#include <errno.h>
#include <sys/socket.h>
#include <unistd.h>

enum { PEERS = 5, DATAGRAM_BYTES = 1000, DATAGRAMS = 400 };

static tally seen;
static latch drained;

static void on_open(ahoy_conn conn, void *user) {
    CHECK_OK(ahoy_conn_join(conn, "news"));
    tally_open(conn, user);
}

static void on_drain(ahoy_conn conn, void *user) {
    (void)user;
    CHECK_OK(ahoy_send(conn, "goodbye", 7));
    CHECK_OK(ahoy_conn_close(conn));
    latch_add(&drained, 1);
}

static ahoy_server begin(const char *listen, ahoy_drain_fn drain) {
    seen = (tally)TALLY_INIT, drained = (latch)LATCH_INIT;
    return start(OPTIONS(.listen = listen, .workers = 2, .user = &seen, .on_open = on_open, .on_drain = drain,
                         .on_message = tally_echo, .on_close = tally_close));
}

static void greet_all(ahoy_server server, const char *own, int *fds) {
    for (int i = 0; i < PEERS; i++) {
        fds[i] = dgram_dial(server, 0, own ? dgram_name((unsigned)i + 1) : NULL);
        dgram_send(fds[i], "hello", 5);
        dgram_expect(fds[i], "hello", 5);
    }
    CHECK_EQ(latch_count(&seen.opened), PEERS);
}

static void published_and_stopped(const char *listen, const char *own, ahoy_drain_fn drain) {
    int fds[PEERS];
    ahoy_server server = begin(listen, drain);
    greet_all(server, own, fds);
    for (int i = 0; i < 3; i++) CHECK_OK(ahoy_publish(server, "news", "published", 9));
    for (int i = 0; i < PEERS; i++) {
        for (int j = 0; j < 3; j++) dgram_expect(fds[i], "published", 9);
    }
    CHECK_EQ(stats_of(server).published, 3);
    CHECK_EQ(stats_of(server).published_dropped, 0);

    CHECK_OK(ahoy_server_stop(server, 10000));
    CHECK_OK(ahoy_server_wait(server));
    CHECK_EQ(latch_count(&seen.closed), PEERS);
    CHECK_EQ(latch_count(&drained), drain ? PEERS : 0);
    /* Either reason is true of a connection that the program closed because the server stops. */
    CHECK_EQ(seen.reasons[-AHOY_ERR_STOPPED] + seen.reasons[AHOY_OK], PEERS);
    if (!drain) CHECK_EQ(seen.reasons[-AHOY_ERR_STOPPED], PEERS);
    for (int i = 0; i < PEERS; i++) {
        if (drain) dgram_expect(fds[i], "goodbye", 7);
        close(fds[i]);
    }
    CHECK_EQ(stats_of(server).bytes_cut, 0);
    ahoy_server_free(server);
}

/*
 * A peer that says hello and then does not read. One that is not connected to the server's socket has a queue of its
 * own, which holds a few; the datagrams for one that is fill the server's socket, for everybody.
 */
static int quiet_peer(ahoy_server server, bool is_connected) {
    char url[128];
    int fd = is_connected ? dgram_dial(server, 0, dgram_name(1)) : dgram_bind(dgram_name(1), url, sizeof url);
    dgram_send_url(fd, dgram_name(0), "hello", 5);
    dgram_expect(fd, "hello", 5);
    return fd;
}

static void cut(bool is_connected, int32_t drain_ms) {
    static char datagram[DATAGRAM_BYTES];
    ahoy_server server = begin(dgram_name(0), NULL);
    int fd = quiet_peer(server, is_connected);
    ahoy_conn conn = tally_conn(&seen);
    for (int i = 0; i < DATAGRAMS; i++) CHECK_OK(ahoy_send(conn, datagram, sizeof datagram));
    WAIT_UNTIL(stats_of(server).bytes_out > 5);
    uint64_t others = 0;
    if (!is_connected) {
        /* Its neighbour on the same socket is not held up. */
        int other = dgram_dial(server, 0, dgram_name(2));
        for (int i = 0; i < 5; i++, others += 4) {
            dgram_send(other, "echo", 4);
            dgram_expect(other, "echo", 4);
        }
        close(other);
    }
    CHECK(ahoy_conn_queued(conn) > 0);
    CHECK_OK(ahoy_server_stop(server, drain_ms));
    CHECK_OK(ahoy_server_wait(server));
    ahoy_stats stats = stats_of(server);
    CHECK_EQ(stats.bytes_out + stats.bytes_cut, 5 + others + DATAGRAMS * DATAGRAM_BYTES);
    CHECK(stats.bytes_cut > 0);
    CHECK_EQ(stats.bytes_cut % DATAGRAM_BYTES, 0); /* whole datagrams */
    CHECK_EQ(stats.connections_cut, 1);
    CHECK_EQ(stats.bytes_queued, 0);
    CHECK_EQ(latch_count(&seen.closed), latch_count(&seen.opened));
    CHECK_EQ(seen.reasons[-AHOY_ERR_STOPPED], latch_count(&seen.opened));

    uint64_t arrived = 5 + others;
    char got[DATAGRAM_BYTES];
    while (recv(fd, got, sizeof got, MSG_DONTWAIT) == DATAGRAM_BYTES) arrived += DATAGRAM_BYTES;
    CHECK_EQ(errno, EAGAIN);
    CHECK_EQ(arrived, stats.bytes_out);
    close(fd);
    ahoy_server_free(server);
}

/* Somebody who begins to read meanwhile gets everything. */
static void read_in_time(bool is_connected) {
    static char datagram[DATAGRAM_BYTES];
    ahoy_server server = begin(dgram_name(0), NULL);
    int fd = quiet_peer(server, is_connected);
    for (int i = 0; i < DATAGRAMS; i++) CHECK_OK(ahoy_send(tally_conn(&seen), datagram, sizeof datagram));
    CHECK_OK(ahoy_server_stop(server, 30000));
    for (int i = 0; i < DATAGRAMS; i++) dgram_expect(fd, datagram, sizeof datagram);
    CHECK_OK(ahoy_server_wait(server));
    CHECK_EQ(stats_of(server).bytes_cut, 0);
    CHECK_EQ(stats_of(server).connections_cut, 0);
    close(fd);
    ahoy_server_free(server);
}

int main(void) {
    holdings before = holdings_now();
    published_and_stopped("udp://127.0.0.1:0", NULL, NULL);
    published_and_stopped("udp://[::1]:0", NULL, on_drain);
    published_and_stopped(dgram_name(0), "own", on_drain);
    for (int is_connected = 0; is_connected < 2; is_connected++) {
        cut(is_connected, 0);
        cut(is_connected, 100);
        read_in_time(is_connected);
    }
    CHECK_HOLDINGS(before);
    return 0;
}
