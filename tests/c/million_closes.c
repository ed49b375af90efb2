/*
 * A million connections open and close in random ways: by the peer, by a reset, by the program inside its
 * callbacks, from other threads, and twice. Each has one on_open, then one on_close, and its user data
 * is freed once, after that.
 */
#include "support.h"

#include <sys/socket.h>
#include <unistd.h>

enum { CONNECTIONS = 1000000, THREADS = 2, AT_ONCE = 64, ALIVE_MAX = 4000 };

/* The life of one connection; its user data. */
typedef struct life {
    atomic_int opened, closed, freed;
} life;

static life *lives;
static long total;
static atomic_long created, opened, closed, freed;
static _Atomic uint64_t recent[256]; /* connections that others may meddle with */
static ahoy_server server;
static char url[128];

static uint64_t next_random(void) {
    static atomic_ulong threads;
    static _Thread_local uint64_t state;
    if (!state) state = ++threads * 0x9E3779B97F4A7C15u;
    state ^= state << 13, state ^= state >> 7, state ^= state << 17;
    return state;
}

/* Each of these happens now and then, in every callback and on every thread. */
static void meddle(ahoy_conn conn) {
    uint64_t random = next_random();
    if (random % 4 == 0) ahoy_send(conn, "some bytes", 10);
    if (random % 8 == 1) ahoy_conn_close(conn);
    if (random % 8 == 2) ahoy_conn_close((ahoy_conn){ recent[random >> 8 & 255] });
    recent[random >> 16 & 255] = conn.id;
}

static void free_life(void *user) {
    life *life = user;
    CHECK_EQ(life->closed, 1);
    CHECK_EQ(life->freed++, 0);
    freed++;
}

static void on_open(ahoy_conn conn, void *user) {
    CHECK(user == &server); /* nobody has given it user data of its own */
    long number = opened++;
    CHECK(number < total);
    CHECK_OK(ahoy_conn_set_user(conn, &lives[number], free_life));
    CHECK_EQ(lives[number].opened++, 0);
    meddle(conn);
}

static void on_message(ahoy_conn conn, const void *data, size_t len, void *user) {
    (void)data, (void)len;
    CHECK_EQ(((life *)user)->opened, 1);
    CHECK_EQ(((life *)user)->closed, 0);
    meddle(conn);
}

static void on_end(ahoy_conn conn, void *user) {
    CHECK_EQ(((life *)user)->opened, 1);
    CHECK_EQ(((life *)user)->closed, 0);
    meddle(conn);
    CHECK_OK(ahoy_conn_close(conn)); /* somebody must */
}

static void on_close(ahoy_conn conn, ahoy_status reason, void *user) {
    life *life = user;
    CHECK(reason == AHOY_OK || reason == AHOY_ERR_EOF || reason == AHOY_ERR_RESET);
    CHECK_EQ(life->opened, 1);
    CHECK_EQ(life->closed++, 0);
    CHECK_EQ(life->freed, 0);
    CHECK_OK(ahoy_conn_close(conn)); /* closing it again changes nothing */
    closed++;
}

/* A new connection: its peer's socket. */
static int open_one(void) {
    int pair[2];
    ahoy_conn conn;
    ahoy_status status;
    /* No more than the server takes, however slow it is: nothing may be refused here. */
    while (created - closed > ALIVE_MAX) wait_moment();
    created++;
    if (next_random() % 16 == 0) return dial_url(url);
    stream_pair(pair);
    /* Bytes, or the end, may be there before the server knows the socket. */
    if (next_random() % 4 == 0) send_all(pair[1], "early", 5);
    if (next_random() % 16 == 0) CHECK(shutdown(pair[1], SHUT_WR) == 0);
    while ((status = ahoy_server_adopt(server, pair[0], &conn)) == AHOY_ERR_AGAIN) wait_moment();
    CHECK_OK(status);
    meddle(conn);
    return pair[1];
}

/* What a peer does to the connection before it leaves. The other side may be gone: errors are fine. */
static void misbehave(int fd) {
    uint64_t random = next_random();
    if (random % 2) (void)!send(fd, "hello", 5, MSG_NOSIGNAL);
    if (random % 8 < 3) shutdown(fd, random % 8 == 0 ? SHUT_RDWR : SHUT_WR);
}

/* Opens its share of the connections, some at once, and leaves them in another order. */
static void *run(void *arg) {
    long share = *(long *)arg;
    while (share > 0) {
        int peers[AT_ONCE], count = 0;
        while (count < AT_ONCE && count < share) peers[count++] = open_one();
        for (int i = 0; i < count; i++) misbehave(peers[(i * 37 + 5) % count]);
        for (int i = 0; i < count; i++) close(peers[i]); /* unread bytes make a reset of this */
        share -= count;
    }
    return NULL;
}

int main(void) {
    deadline_seconds(140);
    pthread_t threads[THREADS];
    long share = rounds(CONNECTIONS) / THREADS;
    total = share * THREADS;
    lives = calloc((size_t)total, sizeof *lives);
    CHECK(lives != NULL);

    server = start(OPTIONS(.listen = abstract_url(), .workers = 2, .user = &server,
                           .on_open = on_open, .on_message = on_message, .on_end = on_end,
                           .on_close = on_close));
    CHECK_OK(ahoy_server_address(server, 0, url, sizeof url));
    for (int i = 0; i < THREADS; i++) CHECK(!pthread_create(&threads[i], NULL, run, &share));
    for (int i = 0; i < THREADS; i++) CHECK(!pthread_join(threads[i], NULL));
    WAIT_UNTIL(closed == total);
    WAIT_UNTIL(stats_of(server).closed == (uint64_t)total);
    CHECK_EQ(stats_of(server).opened, total);
    WAIT_UNTIL(stats_of(server).connections == 0);
    ahoy_server_free(server);

    CHECK_EQ(opened, total);
    CHECK_EQ(closed, total);
    CHECK_EQ(freed, total);
    for (long i = 0; i < total; i++) CHECK_EQ(lives[i].freed, 1);
    free(lives);
    return 0;
}
