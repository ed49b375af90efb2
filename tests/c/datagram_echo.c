/*
 * On a datagram socket each peer address is a connection with the usual callbacks, and each datagram is a message:
 * boundaries are kept both ways, from nothing at all to the longest that the system takes.
 */
#include "dgram.h"

#include <unistd.h>

enum { PEERS = 5 };

static tally seen;
static char bytes[UDP_BYTES_MAX + 1];

static void on_message(ahoy_conn conn, const void *data, size_t len, void *user) {
    CHECK(user == &seen);
    CHECK(data != NULL || len == 0);
    CHECK_OK(ahoy_send(conn, data, len));
    latch_add(&seen.bytes, (long)len);
    latch_add(&seen.messages, 1);
}

static ahoy_server begin(const char *listen) {
    seen = (tally)TALLY_INIT;
    return start(OPTIONS(.listen = listen, .workers = 2, .user = &seen, .on_open = tally_open,
                         .on_message = on_message, .on_end = tally_end, .on_close = tally_close));
}

static void echoes(const char *listen, const char *own, size_t longest) {
    const size_t lengths[] = { 1, 0, 5, 1472, 0, longest, 2, 65536 / 2, 0 };
    enum { COUNT = sizeof lengths / sizeof lengths[0] };
    char url[128];
    ahoy_server server = begin(listen);
    int fd = dgram_dial(server, 0, own);
    for (int i = 0; i < COUNT; i++) {
        dgram_send(fd, bytes, lengths[i]);
        dgram_expect(fd, bytes, lengths[i]);
    }
    /* Several on their way at once stay apart, and in order. */
    for (int i = 0; i < 5; i++) dgram_send(fd, bytes, (size_t)i * 3);
    for (int i = 0; i < 5; i++) dgram_expect(fd, bytes, (size_t)i * 3);
    CHECK_EQ(latch_count(&seen.opened), 1);
    CHECK_EQ(stats_of(server).connections, 1);
    CHECK_EQ(stats_of(server).messages_in, COUNT + 5);
    CHECK_EQ(stats_of(server).messages_out, COUNT + 5);
    WAIT_UNTIL(stats_of(server).bytes_in == stats_of(server).bytes_out);

    /* From another thread, and in several parts. */
    ahoy_conn conn = tally_conn(&seen);
    const ahoy_part parts[] = { { "one", 3 }, { NULL, 0 }, { " datagram", 9 } };
    CHECK_OK(ahoy_send_parts(conn, parts, 3));
    dgram_expect(fd, "one datagram", 12);
    latch freed = LATCH_INIT;
    CHECK_OK(ahoy_send_owned(conn, bytes, 1000, count_free, &freed));
    dgram_expect(fd, bytes, 1000);
    latch_wait(&freed, 1);
    CHECK_OK(ahoy_send(conn, NULL, 0));
    dgram_expect(fd, "", 0);

    /* A datagram socket has no half to end. */
    CHECK_STATUS(ahoy_conn_end(conn), AHOY_ERR_UNSUPPORTED);
    CHECK_OK(ahoy_conn_peer(conn, url, sizeof url));
    CHECK(strncmp(url, listen, strchr(listen, ':') - listen + 1) == 0);
    CHECK_EQ(latch_count(&seen.closed), 0);
    ahoy_server_free(server);
    CHECK_EQ(latch_count(&seen.closed), 1);
    CHECK_EQ(latch_count(&seen.ended), 0);
    CHECK_STATUS(seen.reason, AHOY_ERR_STOPPED);
    close(fd);
}

/* Longer than any datagram: refused at the send, and the connection lives. */
static void too_long(const char *listen) {
    ahoy_server server = begin(listen);
    int fd = dgram_dial(server, 0, NULL);
    dgram_send(fd, "x", 1);
    dgram_expect(fd, "x", 1);
    ahoy_conn conn = tally_conn(&seen);
    CHECK_STATUS(ahoy_send(conn, bytes, UDP_BYTES_MAX + 1), AHOY_ERR_TOO_LONG);
    CHECK_OK(ahoy_send(conn, bytes, UDP_BYTES_MAX));
    dgram_expect(fd, bytes, UDP_BYTES_MAX);
    CHECK_EQ(latch_count(&seen.closed), 0);
    close(fd);
    ahoy_server_free(server);
}

/* Several peers at once, each with its own connection, told apart by their addresses. */
static void peers_are_told_apart(void) {
    ahoy_server server = begin("udp://127.0.0.1:0,udp://[::1]:0");
    int fds[PEERS];
    uint64_t conns[PEERS];
    for (int i = 0; i < PEERS; i++) {
        char own[64], peer[64];
        fds[i] = dgram_bind("udp://127.0.0.1:0", own, sizeof own);
        close(fds[i]);
        fds[i] = i % 2 ? dgram_dial(server, 1, NULL) : dgram_dial(server, 0, own);
        dgram_send(fds[i], "hi", 2);
        dgram_expect(fds[i], "hi", 2);
        conns[i] = tally_conn(&seen).id;
        CHECK_OK(ahoy_conn_peer((ahoy_conn){ conns[i] }, peer, sizeof peer));
        if (i % 2 == 0) CHECK_TEXT(peer, own);
        else CHECK(strncmp(peer, "udp://[::1]:", 12) == 0);
        for (int j = 0; j < i; j++) CHECK(conns[i] != conns[j]);
    }
    for (int i = 0; i < PEERS; i++) {
        CHECK_OK(ahoy_send((ahoy_conn){ conns[i] }, &i, sizeof i));
        dgram_expect(fds[i], &i, sizeof i);
        dgram_send(fds[i], &i, 1);
        dgram_expect(fds[i], &i, 1);
        close(fds[i]);
    }
    CHECK_EQ(latch_count(&seen.opened), PEERS);
    ahoy_server_free(server);
    CHECK_EQ(latch_count(&seen.closed), PEERS);
}

int main(void) {
    holdings before = holdings_now();
    pattern_fill(bytes, sizeof bytes, 0);
    echoes("udp://127.0.0.1:0", NULL, UDP_BYTES_MAX);
    echoes("udp://[::1]:0", NULL, UDP_BYTES_MAX);
    echoes("udp://localhost:0", NULL, UDP_BYTES_MAX);
    too_long("udp://127.0.0.1:0");
    too_long("udp://[::1]:0");
    peers_are_told_apart();
    CHECK_HOLDINGS(before);
    return 0;
}
