/*
 * Ten thousand peers on one datagram socket: each is one connection, with its own user data and its own order, on
 * several workers; and all of them are over when the server is.
 */
#include "dgram.h"

#include <unistd.h>

/* The datagrams on their way at once must find room in the sockets' buffers: the system drops the others. */
enum { SOCKETS = 10, WINDOW = 50, ROUNDS = 3 };

typedef struct life {
    int inside, messages, closed;
    uint64_t conn;
} life;

static long peers, hosts; /* peers: a port of ours and a loopback host each */
static life *lives;
static atomic_long lives_used;
static latch opened = LATCH_INIT, closed = LATCH_INIT, freed = LATCH_INIT;

static void free_life(void *user) {
    CHECK_EQ(((life *)user)->closed, 1);
    latch_add(&freed, 1);
}

static void on_open(ahoy_conn conn, void *user) {
    (void)user;
    life *life = &lives[lives_used++];
    CHECK(life < lives + peers);
    life->conn = conn.id;
    CHECK_OK(ahoy_conn_set_user(conn, life, free_life));
    latch_add(&opened, 1);
}

static void on_message(ahoy_conn conn, const void *data, size_t len, void *user) {
    life *life = user;
    CHECK_EQ(life->inside++, 0);
    CHECK_EQ(conn.id, life->conn);
    CHECK_EQ(len, 2 * sizeof(uint32_t));
    CHECK_EQ(((const uint32_t *)data)[1], life->messages); /* the rounds of each peer in order */
    life->messages++;
    CHECK_OK(ahoy_send(conn, data, len));
    CHECK_EQ(--life->inside, 0);
}

static void on_close(ahoy_conn conn, ahoy_status reason, void *user) {
    life *life = user;
    CHECK_EQ(conn.id, life->conn);
    CHECK_STATUS(reason, AHOY_ERR_STOPPED);
    CHECK_EQ(life->messages, ROUNDS);
    CHECK_EQ(life->closed++, 0);
    latch_add(&closed, 1);
}

static void one_round(const int *fds, const char *url, uint32_t round) {
    for (int socket = 0; socket < SOCKETS; socket++) {
        for (uint32_t first = 0; first < hosts; first += WINDOW) {
            uint32_t end = first + WINDOW < hosts ? first + WINDOW : (uint32_t)hosts, sum = 0;
            for (uint32_t host = first; host < end; host++) {
                const uint32_t words[2] = { (uint32_t)socket << 16 | host, round };
                dgram_send_as(host, fds[socket], url, words, sizeof words);
                sum += host;
            }
            for (uint32_t host = first; host < end; host++) {
                uint32_t words[2], at = dgram_recv_as(fds[socket], words, sizeof words);
                CHECK_EQ(words[0], (uint32_t)socket << 16 | at); /* its own answer, and no other's */
                CHECK_EQ(words[1], round);
                sum -= at;
            }
            CHECK_EQ(sum, 0);
        }
    }
}

int main(void) {
    holdings before = holdings_now();
    hosts = rounds(1000);
    peers = hosts * SOCKETS;
    lives = calloc((size_t)peers, sizeof *lives);
    ahoy_server server = start(OPTIONS(.listen = "udp://127.0.0.1:0", .workers = 2, .on_open = on_open,
                                       .on_message = on_message, .on_close = on_close));
    char url[64];
    CHECK_OK(ahoy_server_address(server, 0, url, sizeof url));
    int fds[SOCKETS];
    for (int i = 0; i < SOCKETS; i++) fds[i] = dgram_hosts();

    for (uint32_t round = 0; round < ROUNDS; round++) one_round(fds, url, round);
    CHECK_EQ(latch_count(&opened), peers);
    CHECK_EQ(latch_count(&closed), 0);
    ahoy_stats stats = stats_of(server);
    CHECK_EQ(stats.connections, peers);
    CHECK_EQ(stats.messages_in, peers * ROUNDS);
    CHECK_EQ(stats.messages_out, peers * ROUNDS);
    CHECK_EQ(stats.datagrams_dropped, 0);
    ahoy_server_free(server);
    CHECK_EQ(latch_count(&opened), peers);
    CHECK_EQ(latch_count(&closed), peers);
    CHECK_EQ(latch_count(&freed), peers);
    for (int i = 0; i < SOCKETS; i++) close(fds[i]);
    free(lives);
    CHECK_HOLDINGS(before);
    return 0;
}
