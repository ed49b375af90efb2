/*
 * A thousand connections at once between two servers, opened from several threads: each is opened and closed once,
 * on both sides, and carries its own bytes.
 */
#include "remote.h"

#include <unistd.h>

enum { THREADS = 4, EACH = 250, CONNS = THREADS * EACH };

typedef struct life {
    _Atomic uint64_t conn;
    size_t received; /* not atomic: the callbacks of one connection never overlap */
    int opened, closed;
    char word[32];
} life;

static life lives[CONNS];
static tally served = TALLY_INIT;
static latch opened = LATCH_INIT, answered = LATCH_INIT, closed = LATCH_INIT, freed = LATCH_INIT;
static ahoy_server near;
static char url[128];

static void on_open(ahoy_conn conn, void *user) {
    life *life = user;
    CHECK_EQ(life->opened++, 0);
    uint64_t known = life->conn;
    CHECK(known == 0 || known == conn.id); /* 0: ahoy_connect has yet to return */
    latch_add(&opened, 1);
}

static void on_message(ahoy_conn conn, const void *data, size_t len, void *user) {
    life *life = user;
    CHECK(life->received + len <= sizeof life->word);
    CHECK(memcmp(life->word + life->received, data, len) == 0);
    life->received += len;
    if (life->received == sizeof life->word) latch_add(&answered, 1);
    (void)conn;
}

static void on_close(ahoy_conn conn, ahoy_status reason, void *user) {
    life *life = user;
    CHECK_EQ(conn.id, life->conn);
    CHECK_STATUS(reason, AHOY_OK);
    CHECK_EQ(life->opened, 1);
    CHECK_EQ(life->closed++, 0);
    latch_add(&closed, 1);
}

static void free_life(void *user) {
    CHECK_EQ(((life *)user)->closed, 1);
    latch_add(&freed, 1);
}

static void *connect_each(void *first) {
    for (life *life = first; life < (struct life *)first + EACH; life++) {
        snprintf(life->word, sizeof life->word, "word %td", life - lives);
        ahoy_conn conn = outgoing(near, url, CONNECT_OPTIONS(.user = life, .on_free = free_life));
        life->conn = conn.id;
        CHECK_OK(ahoy_send(conn, life->word, 1));
        CHECK_OK(ahoy_send(conn, life->word + 1, sizeof life->word - 1));
    }
    return NULL;
}

static void *close_each(void *first) {
    for (life *life = first; life < (struct life *)first + EACH; life++) {
        CHECK_OK(ahoy_conn_close((ahoy_conn){ life->conn }));
    }
    return NULL;
}

static void in_threads(void *(*run)(void *first)) {
    pthread_t threads[THREADS];
    for (int i = 0; i < THREADS; i++) CHECK(!pthread_create(&threads[i], NULL, run, &lives[i * EACH]));
    for (int i = 0; i < THREADS; i++) CHECK(!pthread_join(threads[i], NULL));
}

int main(void) {
    CHECK(descriptors_allow(2 * CONNS + 100));
    holdings before = holdings_now();
    ahoy_server far = start(OPTIONS(.listen = LOOPBACK, .workers = 2, .user = &served, .on_open = tally_open,
                                    .on_message = tally_echo, .on_close = tally_close));
    near = start(OPTIONS(.workers = 2, .on_open = on_open, .on_message = on_message, .on_close = on_close));
    CHECK_OK(ahoy_server_address(far, 0, url, sizeof url));

    in_threads(connect_each);
    latch_wait(&answered, CONNS);
    ahoy_stats stats = stats_of(near);
    CHECK_EQ(stats.opened, CONNS);
    CHECK_EQ(stats.connections, CONNS);
    CHECK_EQ(stats.connecting, 0);
    CHECK_EQ(stats.connects_failed, 0);
    CHECK(stats.connections_worker_max < CONNS); /* both workers have a share */

    in_threads(close_each);
    latch_wait(&freed, CONNS);
    latch_wait(&served.closed, CONNS);
    CHECK_EQ(latch_count(&opened), CONNS);
    CHECK_EQ(latch_count(&closed), CONNS);
    CHECK_EQ(latch_count(&served.opened), CONNS);
    CHECK_EQ(latch_count(&served.bytes), (long)CONNS * (long)sizeof lives[0].word);
    ahoy_server_free(near);
    ahoy_server_free(far);
    CHECK_HOLDINGS(before);
    return 0;
}
