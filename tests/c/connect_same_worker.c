/*
 * What is connected in a callback is on the same worker: a relay keeps the two sides of each conversation together
 * without a lock. Nothing is lost, and both ends see the other's end.
 */
#include "remote.h"

#include <sys/socket.h>
#include <unistd.h>

enum { CLIENTS = 50, BYTES = 200000, PIECE = 5000 };

/* Plain fields: two workers in here at once would show under TSan, and as a wrong count of `inside`. */
typedef struct side {
    struct side *other;
    ahoy_conn conn;
    int *inside; /* of both sides */
    bool over;
    pthread_t worker;
} side;

static tally far_seen = TALLY_INIT;
static char far_url[128];
static latch opened = LATCH_INIT, closed = LATCH_INIT, freed = LATCH_INIT;

static void enter(side *side) {
    CHECK_EQ((*side->inside)++, 0);
    CHECK(pthread_equal(side->worker, pthread_self()));
}

static void leave(side *side) {
    CHECK_EQ(--*side->inside, 0);
}

static void free_side(void *user) {
    (void)user; /* the pair is freed by whoever is over second */
    latch_add(&freed, 1);
}

static void on_open(ahoy_conn conn, void *user) {
    if (user) { /* ours, outgoing */
        enter(user);
        CHECK_EQ(conn.id, ((side *)user)->conn.id);
        latch_add(&opened, 1);
        leave(user);
        return;
    }
    side *sides = calloc(2, sizeof *sides);
    int *inside = calloc(1, sizeof *inside);
    for (int i = 0; i < 2; i++) {
        sides[i] = (side){ .other = &sides[1 - i], .inside = inside, .worker = pthread_self() };
    }
    sides[0].conn = conn;
    CHECK_OK(ahoy_conn_set_user(conn, &sides[0], free_side));
    ahoy_connect_options options = CONNECT_OPTIONS(.user = &sides[1], .on_free = free_side);
    CHECK_OK(ahoy_connect(ahoy_conn_server(conn), far_url, &options, &sides[1].conn));
}

static void on_message(ahoy_conn conn, const void *data, size_t len, void *user) {
    side *side = user;
    enter(side);
    CHECK_EQ(conn.id, side->conn.id);
    if (!side->other->over) CHECK_OK(ahoy_send(side->other->conn, data, len));
    leave(side);
}

static void on_end(ahoy_conn conn, void *user) {
    (void)conn;
    side *side = user;
    enter(side);
    if (!side->other->over) (void)ahoy_conn_end(side->other->conn);
    leave(side);
}

static void on_close(ahoy_conn conn, ahoy_status reason, void *user) {
    (void)conn, (void)reason;
    side *side = user;
    enter(side);
    side->over = true;
    if (!side->other->over) (void)ahoy_conn_close(side->other->conn);
    leave(side);
    if (side->other->over) {
        free(side->inside);
        free(side < side->other ? side : side->other);
    }
    latch_add(&closed, 1);
}

/* What goes through the relay comes back, in order. */
static void *client(void *url) {
    char bytes[PIECE], got[PIECE];
    int fd = dial_url(url);
    for (size_t sent = 0; sent < BYTES; sent += PIECE) {
        pattern_fill(bytes, PIECE, sent);
        send_all(fd, bytes, PIECE);
        recv_exact(fd, got, PIECE);
        CHECK(memcmp(got, bytes, PIECE) == 0);
    }
    CHECK(!shutdown(fd, SHUT_WR));
    CHECK_EQ(recv_until_eof(fd, got, sizeof got), 0);
    close(fd);
    return NULL;
}

int main(void) {
    holdings before = holdings_now();
    char url[128];
    ahoy_server far = start(OPTIONS(.listen = LOOPBACK, .workers = 2, .user = &far_seen, .on_open = tally_open,
                                    .on_message = tally_echo, .on_close = tally_close));
    ahoy_server relay = start(OPTIONS(.listen = LOOPBACK, .workers = 4, .on_open = on_open,
                                      .on_message = on_message, .on_end = on_end, .on_close = on_close));
    CHECK_OK(ahoy_server_address(far, 0, far_url, sizeof far_url));
    CHECK_OK(ahoy_server_address(relay, 0, url, sizeof url));
    pthread_t clients[CLIENTS];
    for (int i = 0; i < CLIENTS; i++) CHECK(!pthread_create(&clients[i], NULL, client, url));
    for (int i = 0; i < CLIENTS; i++) CHECK(!pthread_join(clients[i], NULL));
    latch_wait(&closed, 2 * CLIENTS);
    latch_wait(&freed, 2 * CLIENTS);
    CHECK_EQ(latch_count(&opened), CLIENTS);
    CHECK_EQ(latch_count(&far_seen.bytes), (long)CLIENTS * BYTES);
    if (!is_slow()) CHECK(stats_of(relay).connections_worker_max == 0);
    ahoy_server_free(relay);
    ahoy_server_free(far);
    CHECK_HOLDINGS(before);
    return 0;
}
