/*
 * One publish to 100,000 peers of a datagram listener: each of them gets it, once, in a datagram of its own.
 */
#include "dgram.h"

#include <errno.h>
#include <unistd.h>

/* What is published waits in the sockets' buffers: of so many hosts they hold it. */
enum { SOCKETS = 1000, HOSTS = 100, PUBLISHES = 3 };

static tally seen = TALLY_INIT;
static ahoy_server server;
static uint32_t hosts;

static void on_open(ahoy_conn conn, void *user) {
    CHECK_OK(ahoy_conn_join(conn, "all"));
    tally_open(conn, user);
}

/* One publish, to each host of a socket. */
static void expect(int fd, uint32_t number) {
    bool has[HOSTS] = { false };
    for (uint32_t i = 0; i < hosts; i++) {
        uint32_t got, host = dgram_recv_as(fd, &got, sizeof got);
        CHECK_EQ(got, number);
        CHECK(host < hosts && !has[host]);
        has[host] = true;
    }
}

int main(void) {
    hosts = (uint32_t)rounds(HOSTS);
    long peers = (long)hosts * SOCKETS;
    static int fds[SOCKETS];
    char url[64], more;
    CHECK(descriptors_allow(SOCKETS + 100));
    server = start(OPTIONS(.listen = "udp://127.0.0.1:0", .workers = 2, .user = &seen,
                           .connections_max = (uint32_t)peers, .on_open = on_open, .on_message = tally_message,
                           .on_close = tally_close));
    CHECK_OK(ahoy_server_address(server, 0, url, sizeof url));
    for (int i = 0; i < SOCKETS; i++) {
        fds[i] = dgram_hosts();
        for (uint32_t host = 0; host < hosts; host++) dgram_send_as(host, fds[i], url, "join", 4);
        latch_wait(&seen.opened, (i + 1) * (long)hosts);
    }
    for (uint32_t number = 1; number <= PUBLISHES; number++) {
        CHECK_OK(ahoy_publish(server, "all", &number, sizeof number));
        for (int i = 0; i < SOCKETS; i++) expect(fds[i], number);
    }
    ahoy_stats stats;
    WAIT_UNTIL((stats = stats_of(server), stats.bytes_out == stats.messages_out * sizeof(uint32_t)));
    for (int i = 0; i < SOCKETS; i++) {
        CHECK(recv(fds[i], &more, 1, MSG_DONTWAIT) < 0 && errno == EAGAIN);
        close(fds[i]);
    }
    CHECK_EQ(stats.connections, peers);
    CHECK_EQ(stats.messages_out, peers * PUBLISHES);
    CHECK_EQ(stats.published, PUBLISHES);
    CHECK_EQ(stats.published_dropped, 0);
    CHECK_EQ(stats.datagrams_dropped, 0);
    ahoy_server_free(server);
    CHECK_EQ(latch_count(&seen.closed), peers);
    return 0;
}
